"""From an offset to the bytes of an answer: rows of the views, bodies of the segment files, one message.

Every body is checked against its crc before it is served: what does not match is never sent. Bodies that
stand close together are read at once; a message is put together by one join, because building it as a
protobuf message would copy each body twice more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

from quorumlog.node.machine import LogMachine, unknown_partition
from quorumlog.node.reasons import Reason, Refusal
from quorumlog.node.topics import Partition, Topic, check_name
from quorumlog.proto import service_pb2
from quorumlog.proto.checksum import crc32c
from quorumlog.proto.varint import varint
from quorumlog.storage.errors import Damaged, OutOfLog
from quorumlog.storage.log import Log
from quorumlog.storage.view import BatchRow

DEFAULT_BYTES = 1024 * 1024  # where gRPC's throughput peaks
MAX_BYTES = 8 * 1024 * 1024  # as much as one batch may need anyway
# 8 us of Python each: a message of tiny batches keeps the interpreter for about 4 ms.
MAX_BATCHES = 512
# Reading across a gap costs less than another system call (about 4 us) up to here.
_GAP_BYTES = 16 * 1024
# What was just written is in the page cache, and so much is read sooner than threads are changed.
_INLINE_BYTES = 64 * 1024
_INLINE_BATCHES = 16

_BATCHES_TAG = b"\x0a"  # FetchResponse.batches, length-delimited
_BODY_TAG = b"\x22"  # FetchedBatch.body, length-delimited; its last field

Located = tuple[int, BatchRow]  # base of the segment, batch


@dataclass(frozen=True, slots=True)
class Place:
    """A partition of a topic that exists."""

    topic: Topic
    number: int

    @property
    def partition(self) -> Partition:
        """How far it reaches, now."""
        return self.topic.partitions[self.number]

    @property
    def key(self) -> tuple[int, int]:
        """Topic id and partition."""
        return self.topic.topic_id, self.number


class Reader:
    """Serves reads from this node's applied state."""

    def __init__(self, machine: LogMachine, log: Log, executor: Executor) -> None:
        self._machine = machine
        self._log = log
        self._executor = executor

    def topic(self, name: str) -> Topic:
        """Return the topic. Raises Refusal: BAD_NAME, UNKNOWN_TOPIC."""
        topic = self._machine.topics.named(name)
        if topic is not None:
            return topic
        bad_name = check_name(name)
        if bad_name is not None:
            raise Refusal.of(bad_name)
        raise Refusal(Reason.UNKNOWN_TOPIC, f"topic {name} does not exist", topic=name)

    def place(self, name: str, partition: int) -> Place:
        """Return the partition. Raises Refusal: BAD_NAME, UNKNOWN_TOPIC, UNKNOWN_PARTITION."""
        topic = self.topic(name)
        if partition >= len(topic.partitions):
            raise Refusal.of(unknown_partition(topic, partition))
        return Place(topic, partition)

    def check_offset(self, place: Place, offset: int) -> None:
        """Raise Refusal where nothing can be read there, now or next: the tail itself is fine."""
        self.check_topic(place)
        if not place.partition.start_offset <= offset <= place.partition.next_offset:
            raise self._out_of_range(place, offset)

    def check_topic(self, place: Place) -> None:
        """Raise Refusal where the topic is there no more."""
        if self._machine.topics.with_id(place.topic.topic_id) is None:
            raise Refusal(
                Reason.UNKNOWN_TOPIC, f"topic {place.topic.name} was deleted", topic=place.topic.name
            )

    def earliest(self, place: Place) -> int:
        """Return the first offset that can be read here. Raises Damaged.

        After a log began anew it may lie above what was agreed upon as of then, for a moment.
        """
        return max(place.partition.start_offset, self._machine.views.earliest_offset(*place.key))

    def select(self, place: Place, offset: int, max_bytes: int) -> list[Located]:
        """Return the batches from the one that holds `offset` on; none at the tail.

        Raises Refusal, where they are gone, or Damaged.
        """
        if offset >= place.partition.next_offset:
            return []
        selected = list(self._machine.views.rows(*place.key, offset, max_bytes, MAX_BATCHES))
        if not selected:
            raise self._out_of_range(place, offset)  # what was agreed upon is not all that is gone here
        return selected

    def _out_of_range(self, place: Place, offset: int) -> Refusal:
        earliest, latest = self.earliest(place), place.partition.next_offset
        problem = f"{place.topic.name}/{place.number}: offset: expected {earliest} to {latest}, got {offset}"
        return Refusal(Reason.OFFSET_OUT_OF_RANGE, problem, earliest=earliest, latest=latest)

    async def message(self, place: Place, selected: Sequence[Located]) -> bytes:
        """Return a serialized FetchResponse with these batches.

        Raises Refusal, where they have gone since, or Damaged.
        """
        tail = service_pb2.FetchResponse(
            high_watermark=place.partition.next_offset,
            start_offset=place.partition.start_offset,
            applied_index=self._machine.applied_index,
        ).SerializeToString()
        size = sum(row.body_size for _, row in selected)
        is_recent = not selected or selected[0][0] == self._machine.active_base
        if is_recent and size <= _INLINE_BYTES and len(selected) <= _INLINE_BATCHES:
            return self._assemble(selected, tail)
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._executor, self._assemble, selected, tail)
        except OutOfLog as error:  # retention was faster
            raise self._out_of_range(place, selected[0][1].base_offset) from error

    def _assemble(self, selected: Sequence[Located], tail: bytes) -> bytes:
        pieces: list[bytes] = []
        for base, run in _runs(selected):
            start = run[0].position
            data = self._log.read_body(base, start, run[-1].position + run[-1].body_size - start)
            for row in run:
                body = data[row.position - start : row.position - start + row.body_size]
                self._check(base, row, body)
                pieces += _fetched(row, body)
        pieces.append(tail)
        return b"".join(pieces)

    def _check(self, base: int, row: BatchRow, body: bytes) -> None:
        if len(body) != row.body_size:
            reason = f"body: expected {row.body_size} bytes, got {len(body)}"
        elif (actual := crc32c(body)) != row.body_crc:
            reason = f"body crc: expected {row.body_crc:#010x}, got {actual:#010x}"
        else:
            return
        damage = Damaged(f"{base:020}.log", row.position, row.raft_index, reason)
        self._log.report(damage)
        raise damage


def bounded_bytes(asked: int) -> int:
    """Return how many bytes of bodies a message may hold, from what the caller asked for."""
    return min(asked, MAX_BYTES) if asked else DEFAULT_BYTES


def _runs(selected: Sequence[Located]) -> Iterator[tuple[int, list[BatchRow]]]:
    """Split into runs of batches that are read at once: of one segment, rising, with small gaps."""
    run: list[BatchRow] = []
    run_base = end = 0
    for base, row in selected:
        if run and (base != run_base or not end <= row.position <= end + _GAP_BYTES):
            yield run_base, run
            run = []
        run.append(row)
        run_base, end = base, row.position + row.body_size
    if run:
        yield run_base, run


def _fetched(row: BatchRow, body: bytes) -> tuple[bytes, bytes, bytes, bytes, bytes, bytes]:
    """Return the wire bytes of one FetchResponse.batches: tag, size, FetchedBatch (its body comes last)."""
    head = service_pb2.FetchedBatch(
        base_offset=row.base_offset, append_time_ms=row.append_time_ms, header=row.header()
    ).SerializeToString()
    body_size = varint(len(body))
    size = len(head) + len(_BODY_TAG) + len(body_size) + len(body)
    return _BATCHES_TAG, varint(size), head, _BODY_TAG, body_size, body
