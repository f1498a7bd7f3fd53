"""From an offset to the bytes of an answer: rows of the views, bodies of the segment files, one message.

Every body is checked against its crc before it is served: what does not match is never sent. Bodies that
stand close together are read at once; a message is put together by one join, because building it as a
protobuf message would copy each body twice more.

Many may follow the same partition: what the first of them gets at its end is kept until the next entry is
applied, and the others get the same bytes. Whether they may is asked for each of them, before.
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
# What a message is besides bodies: about as much for each batch.
_ROW_BYTES = 128


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


@dataclass(slots=True)
class Selection:
    """Consecutive batches of a place, from the one that holds `offset` on. False where there are none.

    `message` is their FetchResponse once it was made, and right only while `applied_index` is the machine's.
    """

    place: Place
    offset: int
    located: Sequence[Located]
    applied_index: int  # when they were selected
    body_bytes: int
    records: int
    message: bytes | None = None

    def __bool__(self) -> bool:
        return bool(self.located)

    @property
    def size(self) -> int:
        """How many bytes the message takes, about."""
        return self.body_bytes + _ROW_BYTES * len(self.located)

    @property
    def next_offset(self) -> int:
        """The offset after the last batch."""
        return self.located[-1][1].next_offset

    def count(self) -> None:
        """They have gone to a reader: whole batches, as they were given."""
        traffic = self.place.topic.traffic
        traffic.bytes_out += self.body_bytes
        traffic.records_out += self.records


class Reader:
    """Serves reads from this node's applied state."""

    def __init__(self, machine: LogMachine, log: Log, executor: Executor) -> None:
        self._machine = machine
        self._log = log
        self._executor = executor
        # What was read last at the end of a partition, if it is small: one for all, so it is bounded.
        self._newest: Selection | None = None

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

    def select(self, place: Place, offset: int, max_bytes: int) -> Selection:
        """Return the batches from the one that holds `offset` on; none at the tail.

        Raises Refusal where nothing can be read there, now or next, as check_offset; or Damaged.
        """
        newest = self._newest
        if newest is not None and self._is_same(newest, place, offset) and newest.body_bytes <= max_bytes:
            return newest
        self.check_offset(place, offset)
        located: Sequence[Located] = ()
        if offset < place.partition.next_offset:
            located = self._machine.views.rows(*place.key, offset, max_bytes, MAX_BATCHES)
            if not located:
                raise self._out_of_range(place, offset)  # what was agreed upon is not all that is gone here
        return self._selection(place, offset, located)

    def _selection(self, place: Place, offset: int, located: Sequence[Located]) -> Selection:
        body_bytes = sum(row.body_size for _, row in located)
        records = sum(row.count for _, row in located)
        return Selection(place, offset, located, self._machine.applied_index, body_bytes, records)

    def _is_same(self, newest: Selection, place: Place, offset: int) -> bool:
        """Whether `newest` is what would be selected, since nothing was applied after it and it fits."""
        return (
            newest.applied_index == self._machine.applied_index
            and newest.offset == offset
            and newest.place.number == place.number
            and newest.place.topic is place.topic
        )

    def _out_of_range(self, place: Place, offset: int) -> Refusal:
        earliest, latest = self.earliest(place), place.partition.next_offset
        problem = f"{place.topic.name}/{place.number}: offset: expected {earliest} to {latest}, got {offset}"
        return Refusal(Reason.OFFSET_OUT_OF_RANGE, problem, earliest=earliest, latest=latest)

    async def message(self, selected: Selection) -> bytes:
        """Return a serialized FetchResponse with these batches.

        Raises Refusal, where they have gone since, or Damaged.
        """
        if selected.message is not None and selected.applied_index == self._machine.applied_index:
            return selected.message
        place, located = selected.place, selected.located
        tail = service_pb2.FetchResponse(
            high_watermark=place.partition.next_offset,
            start_offset=place.partition.start_offset,
            applied_index=self._machine.applied_index,
        ).SerializeToString()
        is_recent = not located or located[0][0] == self._machine.active_base
        if is_recent and selected.body_bytes <= _INLINE_BYTES and len(located) <= _INLINE_BATCHES:
            message = self._assemble(located, tail)
            self._keep(selected, message)
            return message
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._executor, self._assemble, located, tail)
        except OutOfLog as error:  # retention was faster
            raise self._out_of_range(place, located[0][1].base_offset) from error

    def _keep(self, selected: Selection, message: bytes) -> None:
        """For others who follow the same partition, where it is all that there is."""
        reaches_end = selected and selected.next_offset == selected.place.partition.next_offset
        if reaches_end and selected.applied_index == self._machine.applied_index:
            selected.message = message
            self._newest = selected

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
