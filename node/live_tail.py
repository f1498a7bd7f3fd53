"""The live tail of a topic, for people: server-sent events with the newest records, as JSON.

What a look costs is bounded, however fast the topic grows: an event every PACE_S with at most EVENT_RECORDS
records, each cut to a preview. What would not fit is counted as skipped, and never read. Batches are decoded
here, and only here, away from the loop, and only small ones.

    event: records    data: {"records": [...], "skipped": 0}    id: the offsets to go on from
    event: refused    data: {"reason": ..., "message": ...}      the last one
"""

from __future__ import annotations

import asyncio
import codecs
import heapq
import json
import re
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Executor
from typing import Any, Final

from quorumlog.node.errors import refused_for
from quorumlog.node.reading import Located, Place, Reader
from quorumlog.node.reasons import Reason, Refusal
from quorumlog.node.tails import Tails
from quorumlog.proto import service_pb2
from quorumlog.proto.batch import BatchError, Record, decode_batch

MAX_TAILS: Final = 8  # at once
MAX_PARTITIONS: Final = 16  # of one tail: each is waited for by a task, and read by itself
EVENT_RECORDS: Final = 50
PACE_S: Final = 0.5
LIFE_S: Final = 600.0  # a browser comes again by itself, and goes on where it was
SILENCE_S: Final = 15.0  # then a comment says that we are there; proxies end what is silent
_READ_BYTES: Final = 256 * 1024
_BATCH_BYTES: Final = 1024 * 1024  # a batch beyond, packed or unpacked, is only said to be there
_VALUE_BYTES: Final = 1024
_KEY_BYTES: Final = 256
_HEADERS: Final = 8

_BINARY = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")

Json = dict[str, Any]


class LiveTails:
    """All tails of one node."""

    def __init__(self, reader: Reader, tails: Tails, executor: Executor) -> None:
        self._reader = reader
        self._tails = tails
        self._executor = executor
        self._count = 0
        self._stopping = False

    def stop(self) -> None:
        """End all of them; Tails.end wakes those that wait."""
        self._stopping = True

    def open(
        self, places: Sequence[Place], last: int, resume: str | None, check: Callable[[], None]
    ) -> AsyncIterator[bytes]:
        """Return the events from the `last` records on; `resume` is the id of the last event that arrived.

        `check` raises Refusal as soon as the records may be shown no longer. Raises Refusal.
        """
        if len(places) > MAX_PARTITIONS:
            problem = f"more than {MAX_PARTITIONS} partitions: choose one"
            raise Refusal(Reason.BAD_REQUEST, problem)
        if self._count >= MAX_TAILS:
            raise Refusal(Reason.BUSY, f"{self._count} live tails are open here")
        each = -(-last // len(places))
        positions = [
            max(place.partition.start_offset, place.partition.next_offset - each) for place in places
        ]
        for number, offset in _resumed(resume, len(places)):
            place = places[number]
            if place.partition.start_offset <= offset <= place.partition.next_offset:
                positions[number] = offset
        return self._events(places, positions, check)

    async def _events(
        self, places: Sequence[Place], positions: list[int], check: Callable[[], None]
    ) -> AsyncIterator[bytes]:
        self._count += 1
        deadline = asyncio.get_running_loop().time() + LIFE_S
        try:
            yield b"retry: 2000\n\n"
            while not self._stopping and asyncio.get_running_loop().time() < deadline:
                check()
                records, skipped = await self._next(places, positions)
                if records:
                    yield _event("records", {"records": records, "skipped": skipped}, positions)
                    await asyncio.sleep(PACE_S)
                elif not await self._changed(places, positions):
                    yield b":\n\n"
        except Exception as error:  # noqa: BLE001 - the boundary: errors.py knows each, or logs it
            refused = refused_for(error)
            yield _event("refused", {"reason": refused.reason.value, "message": refused.message}, ())
        finally:
            self._count -= 1

    async def _changed(self, places: Sequence[Place], positions: Sequence[int]) -> bool:
        """Return True when one of the partitions has grown, False after a silence."""
        waiting = [asyncio.ensure_future(self._tails.wait(place.key, SILENCE_S)) for place in places]
        try:
            await asyncio.sleep(0)  # all wait now: whatever comes from here on wakes one of them
            if any(place.partition.next_offset > at for place, at in zip(places, positions, strict=True)):
                return True
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
        return any(task.result() for task in done)

    async def _next(self, places: Sequence[Place], positions: list[int]) -> tuple[list[Json], int]:
        """Return the newest records, oldest first, and how many were passed over; move `positions`."""
        by_partition: list[list[Json]] = []
        skipped = 0
        share = max(1, EVENT_RECORDS // len(places))
        for number, place in enumerate(places):
            self._reader.check_topic(place)
            end = place.partition.next_offset
            first = max(positions[number], end - share)
            if first >= end:
                continue
            first = max(first, self._reader.earliest(place))
            skipped += first - positions[number]
            found, positions[number] = await self._read(place, first, share)
            by_partition.append(found)
        # By time, but never against the order of a partition, whatever its producers' clocks say.
        return list(heapq.merge(*by_partition, key=lambda record: record["time_ms"])), skipped

    async def _read(self, place: Place, first: int, count: int) -> tuple[list[Json], int]:
        """Return at most `count` records from `first` on, and the offset behind them."""
        selected = self._reader.select(place, first, _READ_BYTES)
        if not selected:
            return [], first
        oldest = selected.located[0]
        if oldest[1].body_size > _BATCH_BYTES:
            return [_unread(place, oldest)], oldest[1].next_offset
        message = await self._reader.message(selected)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, _decoded, place.number, message, first, count)


def _decoded(partition: int, message: bytes, first: int, count: int) -> tuple[list[Json], int]:
    records: list[Json] = []
    behind = first
    for batch in service_pb2.FetchResponse.FromString(message).batches:
        if len(records) >= count:
            break
        base, header = batch.base_offset, batch.header
        try:
            columns = decode_batch(header, batch.body, max_batch_bytes=_BATCH_BYTES)
        except BatchError as error:
            note = f"{header.count} records that are not shown: {error}"
            records.append(_note(partition, base, batch.append_time_ms, note))
            behind = base + header.span
            continue
        offsets = [base + delta for delta in columns.offset_deltas]
        for position, offset in enumerate(offsets):
            if offset >= first and len(records) < count:
                records.append(_shown(partition, offset, columns.record(position)))
                behind = offset + 1
        if behind > offsets[-1]:
            behind = base + header.span
    return records, behind


def _shown(partition: int, offset: int, record: Record) -> Json:
    return {
        "partition": partition,
        "offset": offset,
        "time_ms": record.timestamp_ms,
        "key": preview(record.key, _KEY_BYTES),
        "value": preview(record.value, _VALUE_BYTES),
        "headers": [
            [name[:_KEY_BYTES], preview(value, _KEY_BYTES)] for name, value in record.headers[:_HEADERS]
        ],
    }


def _unread(place: Place, located: Located) -> Json:
    row = located[1]
    note = f"{row.count} records in {row.body_size} bytes, too many to be shown here"
    return _note(place.number, row.base_offset, row.append_time_ms, note)


def _note(partition: int, offset: int, time_ms: int, note: str) -> Json:
    return {"partition": partition, "offset": offset, "time_ms": time_ms, "note": note}


def preview(data: bytes | None, limit: int) -> Json | None:
    """Return the beginning of a key or value as text where it is text, else as hexadecimal digits."""
    if data is None:
        return None
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(data[:limit], final=len(data) <= limit)
    except UnicodeDecodeError:
        text = "\0"
    if _BINARY.search(text):
        return {"hex": data[: limit // 8].hex(" "), "size": len(data)}
    return {"text": text, "size": len(data), "cut": len(data) > limit}


def _event(name: str, data: Json, positions: Sequence[int]) -> bytes:
    lines = [f"event: {name}", f"data: {json.dumps(data)}"]
    if positions:
        lines.append(f"id: {','.join(map(str, positions))}")
    return ("\n".join(lines) + "\n\n").encode()


def _resumed(event_id: str | None, count: int) -> list[tuple[int, int]]:
    """Return partition and offset of what an event's id says; nothing where it is none of ours."""
    offsets = (event_id or "").split(",")
    if len(offsets) != count or not all(offset.isdecimal() for offset in offsets):
        return []
    return [(number, int(offset)) for number, offset in enumerate(offsets)]
