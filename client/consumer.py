"""AsyncConsumer: one stream per partition into a bounded buffer, from whichever replica answers."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from types import TracebackType
from typing import Any, Generic, Literal, TypeAlias, cast

import grpc.aio

from quorumlog.client import errors
from quorumlog.client.batches import BatchMetadata, RecordMetadata
from quorumlog.client.connection import Connection, being_cancelled, lost
from quorumlog.client.cursor import Cursor
from quorumlog.client.deserializing import Deserializing
from quorumlog.client.endpoints import Target
from quorumlog.client.errors import DeserializationFailed, QuorumlogError
from quorumlog.client.offsets import look_up
from quorumlog.client.options import check_numbers
from quorumlog.client.places import Place, TopicPartition
from quorumlog.client.records import K, Record, RecordBatch, V
from quorumlog.client.retries import Retry
from quorumlog.client.reverse_cursor import ReverseCursor
from quorumlog.client.sources import Source
from quorumlog.client.starts import EARLIEST, LATEST, Moment, Start, StartAt, parse_moment, parse_start
from quorumlog.client.translate import from_rpc
from quorumlog.proto import service_pb2

Consistency: TypeAlias = Literal["session", "committed", "linearizable"]
Token: TypeAlias = "int | RecordMetadata | BatchMetadata | None"
End: TypeAlias = "Start | Mapping[Place, int] | None"
AnyCursor: TypeAlias = "Cursor | ReverseCursor"

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
    end: End = None  # None: follow; in reverse: what is there now
    from_node: str | None = None  # "any", "leader", "nearest", a node id or address; None: any
    consistency: Consistency = "session"
    after: Token = None  # at least this write is seen, beside this client's own
    max_buffered_bytes: int = 16 * 1024 * 1024
    max_fetch_bytes: int = 1024 * 1024
    reverse: bool = False  # the newest first, each partition for itself
    key_deserializer: Callable[[bytes], Any] | None = None
    value_deserializer: Callable[[bytes], Any] | None = None

    def __post_init__(self) -> None:
        parse_start(self.start)
        consistency_of(self.consistency)
        if self.end is not None and not isinstance(self.end, Mapping):
            parse_start(self.end, name="end")
        check_numbers(self, {"max_buffered_bytes": 1, "max_fetch_bytes": 1})


@dataclass(slots=True)
class Buffer:
    """What has been fetched and not yet been unpacked. Bounded: readers wait while it is full."""

    limit: int
    size: int = 0
    items: deque[tuple[AnyCursor, service_pb2.FetchResponse, int]] = field(default_factory=deque)
    changed: asyncio.Event = field(default_factory=asyncio.Event)  # something came, ended or failed
    room: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, cursor: AnyCursor, response: service_pb2.FetchResponse) -> None:
        """Add an answer; `room` says whether its reader may go on."""
        size = sum(len(batch.body) for batch in response.batches)
        self.items.append((cursor, response, size))
        self._resize(size)
        self.changed.set()

    def take(self) -> tuple[AnyCursor, service_pb2.FetchResponse] | None:
        """Return the oldest answer, if any."""
        if not self.items:
            return None
        cursor, response, size = self.items.popleft()
        self._resize(-size)
        return cursor, response

    def drop(self, cursor: AnyCursor) -> None:
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


class AsyncConsumer(Generic[K, V]):
    """Reads records in the order of their offsets, partition by partition. Made by AsyncClient.consumer().

        async with client.consumer("orders") as consumer:
            async for record in consumer:
                ...

    Reads any replica and goes on at the next offset on another one when a node goes away. Raises
    UnknownTopic, OffsetOutOfRange, DataDamaged; ConnectionFailed when no node answers any more;
    DeserializationFailed for a record that its deserializer cannot read: reading on goes behind it.
    """

    def __init__(self, connection: Connection, topics: Sequence[str], options: ConsumerOptions) -> None:
        self._connection = connection
        self._topics = tuple(topics)
        self._options = options
        self._source = Source(connection, options.from_node)
        self._deserializing: Deserializing[K, V] | None = None  # None: the fast path
        if options.key_deserializer is not None or options.value_deserializer is not None:
            self._deserializing = Deserializing(options.key_deserializer, options.value_deserializer)
        self._cursors: dict[Place, AnyCursor] = {}
        self._paused: set[Place] = set()
        self._readers: dict[Place, asyncio.Task[None]] = {}
        self._failures: deque[tuple[Place, QuorumlogError]] = deque()
        self._buffer = Buffer(options.max_buffered_bytes)
        self._buffer.room.set()
        self._batches: Iterator[RecordBatch] = iter(())
        self._records: Iterator[Record[K, V]] = iter(())
        self._last: int | None = (
            None  # offset of their last one; None: none are left, or nobody asks for them
        )
        self._unreadable: DeserializationFailed | None = None  # to be raised when what came before is taken
        self._cursor: AnyCursor | None = None
        self._starting = asyncio.Lock()
        self._started = False
        self._closed = False

    async def __aenter__(self) -> AsyncConsumer[K, V]:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def start(self) -> None:
        """Find where to start and begin to read. The first read does it where it was not called."""
        async with self._starting:
            self._check_open()
            if self._started:
                return
            places = [place for topic in self._topics for place in await self._places_of(topic)]
            await self._assign(places)
            self._started = True

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

    def __aiter__(self) -> AsyncConsumer[K, V]:
        return self

    async def __anext__(self) -> Record[K, V]:
        while True:
            for record in self._records:
                assert self._cursor is not None
                self._cursor.delivered = record.offset + 1
                return record
            self._raise_unreadable()
            batch = await self._next_batch(None)
            if batch is None:
                raise StopAsyncIteration
            self._begin(batch)

    async def getone(self) -> Record[K, V]:
        """Return the next record. Raises ClientClosed behind the last one, where there is an end."""
        try:
            return await self.__anext__()
        except StopAsyncIteration:
            raise errors.ClientClosed("the consumer has read up to its end") from None

    async def getmany(self, timeout_ms: int = 0, max_records: int = 500) -> list[Record[K, V]]:
        """Return at most `max_records`, waiting up to `timeout_ms` for the first; [] if there is none."""
        await self._ensure_started()
        self._raise_unreadable()
        records = self._take_ready(max_records)
        if records:
            return records
        batch = await self._next_batch(timeout_ms / 1000)
        if batch is not None:
            self._begin(batch)
        return self._take_ready(max_records)

    async def getbatch(self, timeout_ms: int | None = None) -> RecordBatch | None:
        """Return the next batch of columns, or None at the end or when nothing came within `timeout_ms`.

        Its columns hold bytes: deserializers are for records.
        """
        batch = await self._next_batch(None if timeout_ms is None else timeout_ms / 1000)
        if batch is not None and self._cursor is not None:
            self._cursor.all_delivered()
        return batch

    async def batches(self) -> AsyncIterator[RecordBatch]:
        """Iterate over batches of columns: the fast way to read, without an object per record."""
        while (batch := await self.getbatch()) is not None:
            yield batch

    # Places. Methods that take places mean all that are assigned where none is given.

    async def assignment(self) -> list[TopicPartition]:
        """Return the (topic, partition) pairs that are read."""
        await self._ensure_started()
        return [TopicPartition(*place) for place in self._cursors]

    async def assign(self, places: Iterable[Place]) -> None:
        """Read these (topic, partition) pairs from now on, and no others.

        What is read already goes on where it is; what is new begins at `start`. Raises UnknownTopic,
        UnknownPartition, and then nothing has changed.
        """
        async with self._starting:
            self._check_open()
            await self._assign(list(places))
            self._started = True

    async def position(self, topic: str, partition: int) -> int:
        """Return the offset of the next record for the user.

        In reverse, when all is read, it is one less than the last offset (so -1 before offset 0).
        """
        return (await self._cursor_of(topic, partition)).next_offset

    async def highwater(self, topic: str, partition: int) -> int:
        """Return the offset after the last readable record, as the replica last said; 0 before it did."""
        return (await self._cursor_of(topic, partition)).high_watermark

    async def high_watermark(self, topic: str, partition: int) -> int:
        """Return the same as highwater()."""
        return await self.highwater(topic, partition)

    @property
    def finished(self) -> bool:
        """True when everything up to the end was given to the user; never where there is no end."""
        done = bool(self._cursors) and all(cursor.finished for cursor in self._cursors.values())
        return done and not self._buffer.items and not self._has_some_at_hand

    @property
    def _has_some_at_hand(self) -> bool:
        """True while records of the batch that was unpacked last were not given to the user."""
        return (
            self._last is not None and self._cursor is not None and self._cursor.delivered != self._last + 1
        )

    async def seek(self, topic: str, partition: int, offset: Start) -> None:
        """Go on at an offset, or at anything that `start` may be: "latest", -100, "-1h", a datetime.

        In reverse, an offset is the next one read; with the others, what lies before them is read.
        """
        place = topic, partition
        old = await self._cursor_of(topic, partition)
        where = parse_start(offset, name="offset")
        (found,), applied_index = await self._look_up(topic, [(partition, where)])
        if self._options.reverse and where.offset is not None:
            found += 1
        await self._stop_reader(place)
        self._replace(place, self._moved(old, found, max(applied_index, old.applied_index), where))
        self._read_on(place)

    async def seek_to_beginning(self, *places: Place) -> None:
        """Go on at the first readable record."""
        for place in await self._chosen(places):
            await self.seek(*place, "earliest")

    async def seek_to_end(self, *places: Place) -> None:
        """Go on behind the last readable record."""
        for place in await self._chosen(places):
            await self.seek(*place, "latest")

    async def pause(self, *places: Place) -> None:
        """Give no records of these until resume(). Nothing of them is held meanwhile: it is read again."""
        for place in await self._chosen(places):
            self._paused.add(place)
            await self._stop_reader(place)
            old = self._cursors[place]
            at = old.next_offset + 1 if self._options.reverse else old.next_offset
            self._replace(place, self._moved(old, at, old.applied_index, None))

    async def resume(self, *places: Place) -> None:
        """Go on with what pause() has halted, at the next record."""
        for place in await self._chosen(places):
            if place in self._paused:
                self._paused.discard(place)
                self._read_on(place)

    async def paused(self) -> list[TopicPartition]:
        """Return what is halted."""
        return [TopicPartition(*place) for place in await self._chosen(()) if place in self._paused]

    # Offsets of the log, with this consumer's consistency and from where it reads.

    async def beginning_offsets(self, *places: Place) -> dict[TopicPartition, int]:
        """Return the first readable offset of each."""
        return await self._offsets(dict.fromkeys(await self._chosen(places), EARLIEST))

    async def end_offsets(self, *places: Place) -> dict[TopicPartition, int]:
        """Return the offset after the last readable record of each."""
        return await self._offsets(dict.fromkeys(await self._chosen(places), LATEST))

    async def offsets_for_times(self, times: Mapping[Place, Moment]) -> dict[TopicPartition, int]:
        """Return the first offset of each that was appended at or after its time, or its end.

        A time is a datetime, milliseconds since 1970, or how long ago: a timedelta or "-1h30m".
        """
        return await self._offsets({place: parse_moment(time) for place, time in times.items()})

    # What follows is not for callers.

    async def _ensure_started(self) -> None:
        if not self._started:
            await self.start()
        self._check_open()

    def _check_open(self) -> None:
        if self._closed:
            raise errors.ClientClosed("the consumer is closed")

    async def _cursor_of(self, topic: str, partition: int) -> AnyCursor:
        await self._ensure_started()
        self._check_assigned((topic, partition))
        return self._cursors[topic, partition]

    async def _chosen(self, places: Iterable[Place]) -> list[Place]:
        """Return the given places, or all that are read."""
        await self._ensure_started()
        chosen = [(topic, partition) for topic, partition in places] or list(self._cursors)
        for place in chosen:
            self._check_assigned(place)
        return chosen

    def _check_assigned(self, place: Place) -> None:
        if place not in self._cursors:
            raise errors.UnknownPartition(f"{place[0]}/{place[1]} is not read by this consumer")

    def _records_of(self, batch: RecordBatch) -> Iterator[Record[K, V]]:
        if self._deserializing is None:
            return cast("Iterator[Record[K, V]]", batch.records())  # K and V are bytes
        return self._deserializing.records(batch.records())

    def _raise_unreadable(self) -> None:
        if self._unreadable is not None:
            error, self._unreadable = self._unreadable, None
            raise error

    def _take_ready(self, max_records: int) -> list[Record[K, V]]:
        """Return what needs no waiting, from as many batches as are there."""
        taken: list[Record[K, V]] = []
        while len(taken) < max_records:
            before = len(taken)
            try:
                taken.extend(islice(self._records, max_records - before))
            except DeserializationFailed as error:
                if not taken:
                    raise
                self._unreadable = error  # what stands before it is given first
            if len(taken) > before and self._cursor is not None:
                self._cursor.delivered = taken[-1].offset + 1
            if self._unreadable is not None:
                break
            if len(taken) < max_records:
                batch = self._unpack_next()
                if batch is None:
                    break
                self._begin(batch)
        return taken

    async def _next_batch(self, timeout_s: float | None) -> RecordBatch | None:
        """Return the next batch, or None at the end or when the time is up."""
        await self._ensure_started()
        if not self._cursors:
            raise errors.UnknownOption(
                "consumer: there is nothing to read: name a topic, or assign() partitions"
            )
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while (batch := self._unpack_next()) is None:
            self._check_open()
            self._raise_failure()
            if all(cursor.finished for cursor in self._cursors.values()):
                self._connection.consumers.discard(self)  # nothing is left to be closed
                return None
            if not await self._something_changes(deadline):
                return None
        return batch

    def _begin(self, batch: RecordBatch) -> None:
        """Give the records of a batch from now on."""
        self._records = self._records_of(batch)
        self._last = batch.base_offset + batch.columns.offset_deltas[batch.last - 1]

    def _unpack_next(self) -> RecordBatch | None:
        self._last = None  # who asks for more has had, or left, all of the batch at hand
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
        if deadline is None:
            await self._buffer.changed.wait()
            return True
        left_s = deadline - time.monotonic()
        if left_s <= 0:
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

    # Where to start and end.

    async def _assign(self, places: list[Place]) -> None:
        chosen = list(dict.fromkeys((topic, partition) for topic, partition in places))
        new = [place for place in chosen if place not in self._cursors]
        cursors: dict[Place, AnyCursor] = {}
        for topic in dict.fromkeys(topic for topic, _ in new):
            cursors |= await self._cursors_of(topic, [each for name, each in new if name == topic])
        for place in [each for each in self._cursors if each not in chosen]:
            await self._stop_reader(place)
            self._drop(place)
            del self._cursors[place]
            self._paused.discard(place)
        self._cursors = {place: cursors.get(place) or self._cursors[place] for place in chosen}
        for place in new:
            self._read_on(place)

    async def _places_of(self, topic: str) -> list[Place]:
        if self._options.partitions is not None:
            return [(topic, partition) for partition in self._options.partitions]
        return [
            (topic, partition) for partition in range(await self._connection.partitions(topic, fresh=True))
        ]

    async def _cursors_of(self, topic: str, partitions: list[int]) -> dict[Place, AnyCursor]:
        count = await self._connection.partitions(topic, fresh=True)
        for partition in partitions:
            if not 0 <= partition < count:
                raise errors.UnknownPartition(f"{topic} has partitions 0 to {count - 1}, got {partition}")
        start = parse_start(self._options.start)
        ends = {partition: self._end_of(topic, partition) for partition in partitions}
        wanted = [(partition, start) for partition in partitions]
        wanted += [(partition, end) for partition, end in ends.items() if end is not None]
        if self._options.reverse:
            wanted += [(partition, LATEST) for partition in partitions]
        offsets, applied_index = await self._look_up(topic, wanted)
        found = iter(offsets)
        firsts = [next(found) for _ in partitions]
        lasts = [None if end is None else next(found) for end in ends.values()]
        if self._options.reverse:  # nothing can be read from behind the end
            lasts = [
                latest if last is None else min(last, latest)
                for last, latest in zip(lasts, found, strict=True)
            ]
        return {
            (topic, partition): self._cursor_at(topic, partition, first, last, applied_index)
            for partition, first, last in zip(partitions, firsts, lasts, strict=True)
        }

    def _cursor_at(
        self, topic: str, partition: int, first: int, last: int | None, applied_index: int
    ) -> AnyCursor:
        # Whoever is read from next must know the topic and these offsets, too.
        moves = parse_start(self._options.start).offset is None
        if self._options.reverse:
            assert last is not None
            newest = max(first, last)
            return ReverseCursor(
                topic, partition, newest, first, applied_index=applied_index, may_begin_later=moves
            )
        return Cursor(topic, partition, first, last, applied_index=applied_index, may_begin_later=moves)

    def _end_of(self, topic: str, partition: int) -> StartAt | None:
        end = self._options.end
        if isinstance(end, Mapping):
            offset = end.get((topic, partition))
            return None if offset is None else StartAt(offset=offset)
        return None if end is None else parse_start(end, name="end")

    async def _look_up(self, topic: str, wanted: Sequence[tuple[int, StartAt]]) -> tuple[list[int], int]:
        """Return the offsets, and the raft index that they reflect."""
        committed = self._options.consistency == "committed"  # whatever the replica has, also of the topic
        described_at = 0 if committed else self._connection.described_at(topic)
        known = all(where.offset is not None for _, where in wanted)
        node = "" if known else await self._source.chosen()
        offsets, index = await look_up(self._connection, topic, wanted, self._session(described_at), node)
        return offsets, max(described_at, index)

    async def _offsets(self, wanted: Mapping[Place, StartAt]) -> dict[TopicPartition, int]:
        found: dict[TopicPartition, int] = {}
        for topic in dict.fromkeys(topic for topic, _ in wanted):
            asked = [(partition, where) for (name, partition), where in wanted.items() if name == topic]
            offsets, _ = await self._look_up(topic, asked)
            found |= {
                TopicPartition(topic, partition): offset
                for (partition, _), offset in zip(asked, offsets, strict=True)
            }
        return {TopicPartition(*place): found[TopicPartition(*place)] for place in wanted}

    def _moved(self, old: AnyCursor, offset: int, applied_index: int, where: StartAt | None) -> AnyCursor:
        """Return a cursor that goes on elsewhere; `where`: what the user gave, None: nothing new."""
        begins_later = old.may_begin_later if where is None else where.offset is None
        if isinstance(old, ReverseCursor):
            moved: AnyCursor = ReverseCursor(
                old.topic, old.partition, max(offset, old.end), old.end, may_begin_later=old.may_begin_later
            )
        else:
            moved = Cursor(old.topic, old.partition, offset, old.end, may_begin_later=begins_later)
        moved.applied_index, moved.high_watermark = applied_index, old.high_watermark
        return moved

    def _replace(self, place: Place, cursor: AnyCursor) -> None:
        self._drop(place)
        self._cursors[place] = cursor

    def _drop(self, place: Place) -> None:
        """Forget what was fetched, and why it could not be."""
        cursor = self._cursors[place]
        self._buffer.drop(cursor)
        self._failures = deque(each for each in self._failures if each[0] != place)
        if self._cursor is cursor:
            self._batches, self._records, self._unreadable, self._last = iter(()), iter(()), None, None

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
        if not self._closed and place not in self._paused:
            self._connection.consumers.add(self)
            loop = asyncio.get_running_loop()
            self._readers[place] = loop.create_task(self._read(place, self._cursors[place]))

    async def _stop_reader(self, place: Place) -> None:
        reader = self._readers.pop(place, None)
        if reader is not None:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    async def _read(self, place: Place, cursor: AnyCursor) -> None:
        """Read one partition up to its end; over as many streams as it takes."""
        options = self._connection.options
        retry = self._new_retry()
        while not cursor.exhausted:
            target: Target | None = None
            fetched = cursor.fetched
            try:
                target = Target(await self._source.address(), no_forward=False)
                if isinstance(cursor, ReverseCursor):
                    await self._read_back(cursor, target, options.attempt_timeout_ms / 1000)
                else:
                    await self._read_stream(cursor, target, options.attempt_timeout_ms / 1000)
            except QuorumlogError as error:
                if isinstance(error, errors.OffsetOutOfRange) and cursor.begin_later(error.earliest):
                    continue
                if cursor.fetched != fetched:
                    retry = self._new_retry()  # it had worked: this is a new trouble
                self._source.failed()
                if target is not None:
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

    async def _read_back(self, cursor: ReverseCursor, target: Target, timeout_s: float) -> None:
        """Ask for one answer after the other, each with what stands before the last."""
        fetch = self._connection.stubs(target.address).log.Fetch
        while not cursor.exhausted:
            await self._buffer.room.wait()
            request = service_pb2.FetchRequest(
                topic=cursor.topic,
                partition=cursor.partition,
                offset=cursor.ask_from(),
                max_bytes=self._options.max_fetch_bytes,
                **self._session(cursor.applied_index),
            )
            try:
                response = await fetch(request, timeout=timeout_s)
            except grpc.aio.AioRpcError as error:
                raise from_rpc(error, target.address) from error
            except asyncio.CancelledError:
                if being_cancelled():
                    raise
                raise lost(target.address, "the call was cancelled") from None
            self._connection.good(target)
            if cursor.arrived(response, self._options.max_fetch_bytes):
                self._buffer.put(cursor, response)

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
