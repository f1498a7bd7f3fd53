"""AsyncConsumer: one stream per partition into a bounded buffer, from whichever replica answers."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, TypeAlias

import grpc.aio

from quorumlog.client import errors
from quorumlog.client.batches import BatchMetadata, RecordMetadata
from quorumlog.client.connection import Connection, being_cancelled, lost
from quorumlog.client.cursor import Cursor
from quorumlog.client.endpoints import Target
from quorumlog.client.errors import QuorumlogError
from quorumlog.client.records import Record, RecordBatch
from quorumlog.client.retries import Retry
from quorumlog.client.starts import Start, parse_start
from quorumlog.client.translate import from_rpc
from quorumlog.proto import service_pb2

Consistency: TypeAlias = Literal["session", "committed", "linearizable"]
Token: TypeAlias = "int | RecordMetadata | BatchMetadata | None"
Place: TypeAlias = tuple[str, int]  # topic, partition

# A stream that is not read holds memory on its node, which drops it after 30 s by default.
_HOLD_STREAM_S = 10.0

CONSISTENCIES = {
    "committed": service_pb2.CONSISTENCY_COMMITTED,
    "session": service_pb2.CONSISTENCY_SESSION,
    "linearizable": service_pb2.CONSISTENCY_LINEARIZABLE,
}


def consistency_of(name: Consistency) -> service_pb2.Consistency:
    """Return the wire's word. Raises UnknownOption."""
    if name not in CONSISTENCIES:
        raise errors.UnknownOption(f"consistency: expected one of {', '.join(CONSISTENCIES)}, got {name!r}")
    return CONSISTENCIES[name]


@dataclass(frozen=True, slots=True)
class ConsumerOptions:
    """Where a consumer reads, from what on, and how much it may buffer."""

    partitions: Sequence[int] | None = None  # None: all
    start: Start = "earliest"
    end: Literal["latest"] | Mapping[Place, int] | None = None  # None: follow
    from_node: str | None = None  # a node id or address; None: any replica
    consistency: Consistency = "session"
    after: Token = None  # at least this write is seen, beside this client's own
    max_buffered_bytes: int = 16 * 1024 * 1024
    max_fetch_bytes: int = 1024 * 1024

    def __post_init__(self) -> None:
        parse_start(self.start)
        consistency_of(self.consistency)
        if not (self.end is None or self.end == "latest" or isinstance(self.end, Mapping)):
            raise errors.UnknownOption(f"end: expected None, 'latest' or a mapping, got {self.end!r}")


@dataclass(slots=True)
class Buffer:
    """What has been fetched and not yet been unpacked. Bounded: readers wait while it is full."""

    limit: int
    size: int = 0
    items: deque[tuple[Cursor, service_pb2.FetchResponse, int]] = field(default_factory=deque)
    changed: asyncio.Event = field(default_factory=asyncio.Event)  # something came, ended or failed
    room: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, cursor: Cursor, response: service_pb2.FetchResponse) -> None:
        """Add an answer; `room` says whether its reader may go on."""
        size = sum(len(batch.body) for batch in response.batches)
        self.items.append((cursor, response, size))
        self._resize(size)
        self.changed.set()

    def take(self) -> tuple[Cursor, service_pb2.FetchResponse] | None:
        """Return the oldest answer, if any."""
        if not self.items:
            return None
        cursor, response, size = self.items.popleft()
        self._resize(-size)
        return cursor, response

    def drop(self, cursor: Cursor) -> None:
        """Forget what came for a cursor."""
        dropped = sum(size for each, _, size in self.items if each is cursor)
        self.items = deque(item for item in self.items if item[0] is not cursor)
        self._resize(-dropped)

    def _resize(self, by: int) -> None:
        self.size += by
        if self.size < self.limit:
            self.room.set()
        else:
            self.room.clear()


class AsyncConsumer:
    """Reads records in the order of their offsets, partition by partition. Made by AsyncClient.consumer().

        async with client.consumer("orders") as consumer:
            async for record in consumer:
                ...

    Reads any replica and goes on at the next offset on another one when a node goes away. Raises
    UnknownTopic, OffsetOutOfRange, DataDamaged; ConnectionFailed when no node answers any more.
    """

    def __init__(self, connection: Connection, topics: Sequence[str], options: ConsumerOptions) -> None:
        if not topics:
            raise errors.UnknownOption("consumer: expected at least one topic")
        self._connection = connection
        self._topics = tuple(topics)
        self._options = options
        self._spread = int(connection.random() * 1000)  # so that consumers do not all read the same node
        self._node = ""
        self._cursors: dict[Place, Cursor] = {}
        self._readers: dict[Place, asyncio.Task[None]] = {}
        self._failures: deque[tuple[Place, QuorumlogError]] = deque()
        self._buffer = Buffer(options.max_buffered_bytes)
        self._buffer.room.set()
        self._batches: Iterator[RecordBatch] = iter(())
        self._records: Iterator[Record] = iter(())
        self._cursor: Cursor | None = None
        self._starting = asyncio.Lock()
        self._closed = False

    async def __aenter__(self) -> AsyncConsumer:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def start(self) -> None:
        """Find where to start and begin to read. The first read does it where it was not called."""
        async with self._starting:
            if self._closed:
                raise errors.ClientClosed("the consumer is closed")
            if self._cursors:
                return
            if self._options.from_node:
                self._node = await self._connection.address_of(self._options.from_node)
            cursors = [await self._cursors_of(topic) for topic in self._topics]
            self._cursors = {place: cursor for each in cursors for place, cursor in each.items()}
        self._connection.consumers.add(self)
        for place in self._cursors:
            self._read_on(place)

    async def close(self) -> None:
        """Stop reading."""
        self._closed = True
        self._connection.consumers.discard(self)
        self._buffer.changed.set()
        readers, self._readers = list(self._readers.values()), {}
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)

    # Reading.

    def __aiter__(self) -> AsyncConsumer:
        return self

    async def __anext__(self) -> Record:
        for record in self._records:
            assert self._cursor is not None
            self._cursor.delivered = record.offset + 1
            return record
        batch = await self._next_batch(None)
        if batch is None:
            raise StopAsyncIteration
        self._records = batch.records()
        return await self.__anext__()

    async def getone(self) -> Record:
        """Return the next record. Raises ClientClosed behind the last one, where there is an end."""
        try:
            return await self.__anext__()
        except StopAsyncIteration:
            raise errors.ClientClosed("the consumer has read up to its end") from None

    async def getmany(self, timeout_ms: int = 0, max_records: int = 500) -> list[Record]:
        """Return at most `max_records`, waiting up to `timeout_ms` for the first; [] if there is none."""
        await self._ensure_started()
        records = self._take_ready(max_records)
        if records:
            return records
        batch = await self._next_batch(timeout_ms / 1000)
        if batch is not None:
            self._records = batch.records()
        return self._take_ready(max_records)

    async def getbatch(self, timeout_ms: int | None = None) -> RecordBatch | None:
        """Return the next batch of columns, or None at the end or when nothing came within `timeout_ms`."""
        batch = await self._next_batch(None if timeout_ms is None else timeout_ms / 1000)
        if batch is not None and self._cursor is not None:
            self._cursor.delivered = self._cursor.position
        return batch

    async def batches(self) -> AsyncIterator[RecordBatch]:
        """Iterate over batches of columns: the fast way to read, without an object per record."""
        while (batch := await self.getbatch()) is not None:
            yield batch

    # Places.

    async def assignment(self) -> list[Place]:
        """Return the (topic, partition) pairs that are read."""
        await self._ensure_started()
        return list(self._cursors)

    async def position(self, topic: str, partition: int) -> int:
        """Return the offset of the next record for the user."""
        return (await self._cursor_of(topic, partition)).delivered

    async def high_watermark(self, topic: str, partition: int) -> int:
        """Return the offset after the last readable record, as the replica last said; 0 before it did."""
        return (await self._cursor_of(topic, partition)).high_watermark

    @property
    def finished(self) -> bool:
        """True when everything up to the end was given to the user; never where there is no end."""
        done = bool(self._cursors) and all(cursor.finished for cursor in self._cursors.values())
        return done and not self._buffer.items

    async def seek(self, topic: str, partition: int, offset: int) -> None:
        """Go on at an offset."""
        if offset < 0:
            raise errors.UnknownOption(f"offset: expected at least 0, got {offset}")
        old = await self._cursor_of(topic, partition)
        place = topic, partition
        await self._stop_reader(place)
        self._buffer.drop(old)
        if self._cursor is old:
            self._batches, self._records = iter(()), iter(())
        self._cursors[place] = Cursor(topic, partition, offset, old.end, applied_index=old.applied_index)
        self._read_on(place)

    # What follows is not for callers.

    async def _ensure_started(self) -> None:
        if not self._cursors:
            await self.start()
        if self._closed:
            raise errors.ClientClosed("the consumer is closed")

    async def _cursor_of(self, topic: str, partition: int) -> Cursor:
        await self._ensure_started()
        try:
            return self._cursors[topic, partition]
        except KeyError:
            raise errors.UnknownPartition(f"{topic}/{partition} is not read by this consumer") from None

    def _take_ready(self, max_records: int) -> list[Record]:
        """Return what needs no waiting, from as many batches as are there."""
        taken: list[Record] = []
        while len(taken) < max_records:
            before = len(taken)
            for record in self._records:
                taken.append(record)
                if len(taken) == max_records:
                    break
            if len(taken) > before and self._cursor is not None:
                self._cursor.delivered = taken[-1].offset + 1
            if len(taken) < max_records:
                batch = self._unpack_next()
                if batch is None:
                    break
                self._records = batch.records()
        return taken

    async def _next_batch(self, timeout_s: float | None) -> RecordBatch | None:
        """Return the next batch, or None at the end or when the time is up."""
        await self._ensure_started()
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while (batch := self._unpack_next()) is None:
            if self._closed:
                raise errors.ClientClosed("the consumer is closed")
            self._raise_failure()
            if all(cursor.finished for cursor in self._cursors.values()):
                self._connection.consumers.discard(self)  # nothing is left to be closed
                return None
            if not await self._something_changes(deadline):
                return None
        return batch

    def _unpack_next(self) -> RecordBatch | None:
        for batch in self._batches:
            return batch
        while (item := self._buffer.take()) is not None:
            self._cursor = item[0]
            self._batches = item[0].unpack(item[1])
            for batch in self._batches:
                return batch
        return None

    async def _something_changes(self, deadline: float | None) -> bool:
        self._buffer.changed.clear()
        left_s = None if deadline is None else deadline - time.monotonic()
        if left_s is not None and left_s <= 0:
            # Give readers a turn: with a timeout of 0 what has arrived meanwhile still counts.
            await asyncio.sleep(0)
            return self._buffer.changed.is_set()
        try:
            async with asyncio.timeout(left_s):
                await self._buffer.changed.wait()
        except TimeoutError:
            return False
        return True

    def _raise_failure(self) -> None:
        """Raise what ended a reader; it reads on when the user comes back."""
        if self._failures:
            place, error = self._failures.popleft()
            self._read_on(place)
            raise error

    # Where to start.

    async def _cursors_of(self, topic: str) -> dict[Place, Cursor]:
        partitions = await self._partitions_of(topic)
        at = parse_start(self._options.start)
        queries = [query for partition in partitions for query in at.queries(partition)]
        if self._options.end == "latest":
            queries += [service_pb2.OffsetQuery(partition=partition, latest=True) for partition in partitions]
        answers, applied_index = await self._offsets(topic, queries)
        ends = answers[-len(partitions) :] if self._options.end == "latest" else []
        each = len(at.queries(0))
        cursors = {}
        for number, partition in enumerate(partitions):
            position = at.resolve(answers[number * each : (number + 1) * each])
            end = ends[number] if ends else self._given_end(topic, partition)
            # Whoever is read from next must know the topic and these offsets, too.
            cursors[topic, partition] = Cursor(
                topic,
                partition,
                position,
                end,
                applied_index=applied_index,
                may_begin_later=at.offset is None,
            )
        return cursors

    async def _partitions_of(self, topic: str) -> list[int]:
        count = await self._connection.partitions(topic, fresh=True)
        chosen = list(range(count)) if self._options.partitions is None else list(self._options.partitions)
        for partition in chosen:
            if not 0 <= partition < count:
                raise errors.UnknownPartition(f"{topic} has partitions 0 to {count - 1}, got {partition}")
        return chosen

    def _given_end(self, topic: str, partition: int) -> int | None:
        return self._options.end.get((topic, partition)) if isinstance(self._options.end, Mapping) else None

    async def _offsets(self, topic: str, queries: list[service_pb2.OffsetQuery]) -> tuple[list[int], int]:
        """Return the answers, and the raft index that they reflect."""
        committed = self._options.consistency == "committed"  # whatever the replica has, also of the topic
        described_at = 0 if committed else self._connection.described_at(topic)
        if not queries:
            return [], described_at
        request = service_pb2.ListOffsetsRequest(topic=topic, queries=queries, **self._session(described_at))
        answer = await self._connection.call(lambda stubs: stubs.log.ListOffsets, request, node=self._node)
        return [each.offset for each in answer.answers], max(described_at, answer.applied_index)

    def _session(self, applied_index: int) -> dict[str, Any]:
        """Return the fields that say how much the replica must have applied."""
        after = self._options.after
        token = 0 if after is None else after if isinstance(after, int) else after.raft_index
        if self._options.consistency == "session":
            token = max(token, self._connection.session)
        token = max(token, applied_index)
        if self._options.consistency == "linearizable":
            return {"consistency": CONSISTENCIES["linearizable"], "min_raft_index": token}
        consistency = CONSISTENCIES["session" if token else "committed"]
        return {"consistency": consistency, "min_raft_index": token}

    # The readers.

    def _read_on(self, place: Place) -> None:
        if not self._closed:
            loop = asyncio.get_running_loop()
            self._readers[place] = loop.create_task(self._read(place, self._cursors[place]))

    async def _stop_reader(self, place: Place) -> None:
        reader = self._readers.pop(place, None)
        if reader is not None:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    async def _read(self, place: Place, cursor: Cursor) -> None:
        """Read one partition up to its end; over as many streams as it takes."""
        options = self._connection.options
        retry = self._new_retry()
        while not cursor.exhausted:
            endpoints = self._connection.endpoints
            address = self._node or endpoints.for_read(time.monotonic(), self._spread)
            target = Target(address, no_forward=False)
            fetched = cursor.fetched
            try:
                await self._read_stream(cursor, target, options.attempt_timeout_ms / 1000)
            except QuorumlogError as error:
                if isinstance(error, errors.OffsetOutOfRange) and cursor.begin_later(error.earliest):
                    continue
                if cursor.fetched > fetched:
                    retry = self._new_retry()  # it had worked: this is a new trouble
                self._connection.bad(target, error)
                pause_s = retry.after(error, time.monotonic())
                if pause_s is None:
                    self._failures.append((place, retry.verdict(error, write=False)))
                    break
                self._connection.discover()
                await asyncio.sleep(pause_s)
        self._buffer.changed.set()

    def _new_retry(self) -> Retry:
        deadline_s = time.monotonic() + self._connection.options.request_timeout_ms / 1000
        return Retry(deadline_s, self._connection.random)

    async def _read_stream(self, cursor: Cursor, target: Target, first_timeout_s: float) -> None:
        request = service_pb2.ConsumeRequest(
            topic=cursor.topic,
            partition=cursor.partition,
            offset=cursor.fetched,
            max_bytes=self._options.max_fetch_bytes,
            **self._session(cursor.applied_index),
        )
        await self._buffer.room.wait()
        call = self._connection.stubs(target.address).log.Consume(request)
        try:
            await self._read_answers(call, cursor, target)
        except grpc.aio.AioRpcError as error:
            raise from_rpc(error, target.address) from error
        except asyncio.CancelledError:
            if being_cancelled():
                raise
            raise lost(target.address, "the stream was cancelled") from None
        finally:
            call.cancel()

    async def _room_soon(self) -> bool:
        """Return True when the buffer has room, False when the user takes nothing for a while."""
        if self._buffer.room.is_set():
            return True
        try:
            async with asyncio.timeout(_HOLD_STREAM_S):
                await self._buffer.room.wait()
        except TimeoutError:
            return False
        return True

    async def _read_answers(self, call: Any, cursor: Cursor, target: Target) -> None:
        while not cursor.exhausted:
            if not await self._room_soon():
                return  # the node would drop a reader that takes nothing: another stream goes on from here
            response = await call.read()
            if response is grpc.aio.EOF:
                raise lost(target.address, "the node ended the stream")
            cursor.arrived(response)
            self._connection.good(target)
            self._buffer.put(cursor, response)
