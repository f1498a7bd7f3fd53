"""AsyncProducer: the thin shell around ProducerCore. One task writes, one reads; the core decides."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Generic

import grpc.aio

from quorumlog.client import errors
from quorumlog.client.batches import BatchMetadata, Headers, PendingBatch, RecordMetadata
from quorumlog.client.connection import NO_FORWARD, Connection, being_cancelled, lost
from quorumlog.client.core import ProducerCore, ProducerOptions
from quorumlog.client.deliveries import BatchDelivery, Delivery, OnDelivery, ended, tell, tell_of_one
from quorumlog.client.endpoints import Target
from quorumlog.client.errors import Attempt, QuorumlogError
from quorumlog.client.outgoing import HeadersArgument, ProducerRecord, check_timestamp, preparation
from quorumlog.client.partitioner import GivenPartitioner, StickyPartitioner
from quorumlog.client.records import K, V
from quorumlog.client.splitting import split_values
from quorumlog.client.tracing import trace_injector
from quorumlog.client.translate import from_rpc
from quorumlog.proto import service_pb2

log = logging.getLogger("quorumlog.client")

# What leaving a `with` block by an exception waits for what was submitted, before it says what was lost.
ABORT_FLUSH_S = 5.0
PLACES_NAMED = 5  # partitions, in what is said then
ACCEPTED = "x-accepted"  # initial metadata of a stream that was let in; node/call.py says it
# A leader that does not answer for so long may be asleep: then the others have elected another.
SUSPECT_S = 1.0


class AsyncProducer(Generic[K, V]):
    """Sends records. Made by AsyncClient.producer(); use it with `async with`, which flushes.

        metadata = await producer.send("orders", b"value")     # acknowledged
        delivery = await producer.submit("orders", b"value")   # accepted: await it later, or flush()

    Idempotent: a record is appended once, whatever was re-sent. Records of one partition stay in order.
    """

    def __init__(self, connection: Connection, options: ProducerOptions) -> None:
        self._connection = connection
        self._options = options
        self._core = ProducerCore(options, connection.random)
        self._partitioners: dict[str, StickyPartitioner | GivenPartitioner] = {}
        self._prepare = preparation(options.key_serializer, options.value_serializer, trace_injector())
        self._wake = asyncio.Event()
        self._room: deque[asyncio.Future[None]] = deque()
        self._writer: asyncio.Task[None] | None = None
        self._reader: asyncio.Task[None] | None = None
        self._call: Any = None
        self._target: Target | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_s = 0.0
        self._looking: asyncio.Task[None] | None = None  # for another leader
        self._looked_s = 0.0
        self._closed = False

    async def __aenter__(self) -> AsyncProducer[K, V]:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            await self.close()
        else:
            await self._abort(error)

    # Sending.

    async def send(
        self,
        topic: str,
        value: V | None = None,
        key: K | None = None,
        headers: HeadersArgument = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
    ) -> RecordMetadata:
        """Send a record and return its place once it is acknowledged.

        A value of None is a tombstone. Without `partition` the key's murmur2 hash decides, as Kafka's
        clients do; without a key, records go to one partition at a time. Raises InvalidRequest (unknown
        topic, record too large), DeliveryTimeout (says whether it may have been appended).
        """
        return await (await self.submit(topic, value, key, headers, partition, timestamp_ms))

    async def submit(
        self,
        topic: str,
        value: V | None = None,
        key: K | None = None,
        headers: HeadersArgument = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
        on_delivery: OnDelivery | None = None,
    ) -> Delivery:
        """Accept a record into the buffer, waiting for room there, and return its delivery.

        Await that (or ask for its result(), without asyncio) for its place. What became of those that nobody
        asks for is raised by flush() and close(). `on_delivery` is called
        with (error, metadata), one of which says how it went: see client.producer().
        """
        if self._prepare is not None:
            value, key, headers = self._prepare(value, key, headers)
        _check_bytes("value", value)
        _check_bytes("key", key)
        checked_headers = _headers(headers)
        if timestamp_ms is not None:
            check_timestamp(timestamp_ms)
        try:
            await self._enter()
            chosen = await self._partition(topic, key, partition)  # type: ignore[arg-type] # bytes by now
            stamp = _now_ms() if timestamp_ms is None else timestamp_ms
            batch, position = self._core.add(
                topic,
                chosen,
                value,  # type: ignore[arg-type]
                key,  # type: ignore[arg-type]
                checked_headers,
                stamp,
                time.monotonic(),
            )
        finally:
            self._give_room()
        if position == 0:
            self._batch_opened(topic, batch)
        if on_delivery is not None:
            tell_of_one(on_delivery, batch, position)
        self._wake.set()
        return Delivery(batch, position)

    async def send_many(
        self,
        topic: str,
        values: Sequence[V],
        partition: int | None = None,
        timestamp_ms: int | None = None,
    ) -> list[BatchMetadata]:
        """Send plain values fast, in order, and return where they stand once all are acknowledged.

        Without `partition` each batch goes to one partition, the next batch to the next. Keys, headers and
        times of their own, and the trace that is active, are what send_records() is for.
        """
        deliveries = await self.submit_many(topic, values, partition, timestamp_ms)
        return [await delivery for delivery in deliveries]

    async def submit_many(
        self,
        topic: str,
        values: Sequence[V],
        partition: int | None = None,
        timestamp_ms: int | None = None,
    ) -> list[BatchDelivery]:
        """Accept plain values into the buffer, waiting for room there, and return their deliveries."""
        stamp = _now_ms() if timestamp_ms is None else timestamp_ms
        serialize = self._options.value_serializer
        contents: Any = values if serialize is None else [serialize(value) for value in values]
        deliveries = []
        for piece, size in split_values(
            contents, self._options.max_batch_size, self._options.max_record_size
        ):
            try:
                await self._enter()
                chosen = await self._partition(topic, None, partition)
                batch = self._core.add_values(topic, chosen, piece, size, stamp, time.monotonic())
            finally:
                self._give_room()
            self._batch_opened(topic, batch)
            self._wake.set()
            deliveries.append(BatchDelivery(batch))
        return deliveries

    async def send_records(self, topic: str, records: Iterable[ProducerRecord[K, V]]) -> list[RecordMetadata]:
        """Send records, each with its own key, headers, partition and time, in order.

        Returns where each stands once all are acknowledged.
        """
        return [await delivery for delivery in await self.submit_records(topic, records)]

    async def submit_records(self, topic: str, records: Iterable[ProducerRecord[K, V]]) -> list[Delivery]:
        """Accept records into the buffer, waiting for room there, and return their deliveries."""
        return [await self.submit(topic, *record) for record in records]

    async def flush(self, timeout_ms: int | None = None) -> None:
        """Wait until everything accepted so far is acknowledged.

        Raises DeliveryFailed if anything was not delivered, since the last flush, and nobody awaited it;
        DeliveryTimeout if `timeout_ms` passes (what is under way goes on).
        """
        batches = list(self._core.batches())
        self._core.hasten()
        self._wake.set()
        try:
            async with asyncio.timeout(None if timeout_ms is None else timeout_ms / 1000):
                for batch in batches:
                    await ended(batch)
        except TimeoutError:
            left = sum(batch.count for batch in batches if not batch.done)
            raise errors.DeliveryTimeout(
                f"{left} records are still under way after {timeout_ms} ms"
            ) from None
        self._raise_undelivered()

    async def close(self) -> None:
        """Flush, then stop. Raises as flush() does."""
        if self._closed:
            return
        try:
            await self.flush()
        finally:
            await self._stop()

    @property
    def pending(self) -> int:
        """Records that are accepted and neither acknowledged nor failed."""
        return sum(batch.count for batch in self._core.batches())

    # Room, partitions.

    async def _enter(self) -> None:
        """Wait until there is room, behind those who wait already."""
        self._check_open()
        if self._room or not self._core.room:
            await self._wait_for_room()
            self._check_open()

    async def _wait_for_room(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._room.append(waiter)
        try:
            await asyncio.wait_for(waiter, self._options.delivery_timeout_ms / 1000)
        except TimeoutError:
            raise errors.BufferTimeout(
                f"no room in the buffer of {self._options.buffer_memory} bytes for "
                f"{self._options.delivery_timeout_ms} ms: nothing is being acknowledged"
            ) from None
        finally:
            if waiter in self._room:
                self._room.remove(waiter)

    def _give_room(self) -> None:
        """Let the next one in, in the order in which they came; once it is in, it lets in the one after."""
        while self._room and (self._core.room or self._closed):
            waiter = self._room.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    async def _partition(self, topic: str, key: bytes | None, partition: int | None) -> int:
        count = self._connection.known_partitions(topic)
        if count is None:
            count = await self._connection.partitions(topic)
        if partition is None:
            return self._partitioner(topic).choose(key, count)
        if not 0 <= partition < count:
            raise errors.UnknownPartition(f"{topic} has partitions 0 to {count - 1}, got {partition}")
        return partition

    def _partitioner(self, topic: str) -> StickyPartitioner | GivenPartitioner:
        if topic not in self._partitioners:
            given = self._options.partitioner
            first = int(self._connection.random() * 1000)
            self._partitioners[topic] = GivenPartitioner(given) if given else StickyPartitioner(first)
        return self._partitioners[topic]

    def _batch_opened(self, topic: str, batch: PendingBatch) -> None:
        self._partitioner(topic).batch_opened(batch)
        batch.on_done.append(lambda: self._batch_done(topic, batch))
        on_delivery = self._options.on_delivery
        if on_delivery is not None:
            batch.on_done.append(lambda: tell(on_delivery, batch, range(batch.count)))

    def _batch_done(self, topic: str, batch: PendingBatch) -> None:
        if batch.result is not None:
            self._connection.saw(batch.result.raft_index)
        elif isinstance(batch.error, errors.UnknownTopic | errors.UnknownPartition):
            self._connection.forget_topic(topic)
        self._give_room()

    # The writer.

    async def _write_for_ever(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            self._core.expire(time.monotonic())
            self._arm()
            try:
                await self._write_all()
            except QuorumlogError as error:  # only OpenProducer's: the reader deals with a stream's
                log.debug("producer: %s", error)
                now_s = time.monotonic()
                self._core.on_failure(error, now_s)
                if not error.retriable:
                    self._core.fail_all(error)
                elif self._core.not_before_s <= now_s:  # no pause, whose end would wake us
                    self._wake.set()
                self._arm()

    async def _write_all(self) -> None:
        while not self._core.idle and time.monotonic() >= self._core.not_before_s:
            if self._core.needs_identity:
                await self._open_producer()
            call = self._call or await self._open_stream()
            request = self._core.next_request(time.monotonic(), self._connection.options.attempt_timeout_ms)
            if request is None:
                break
            if not await _written(call, request):
                break  # the reader learns why, and tells the core
        self._arm()

    async def _open_producer(self) -> None:
        request = service_pb2.OpenProducerRequest()
        timeout_s = self._connection.options.attempt_timeout_ms / 1000
        answer = await self._connection.call(
            lambda stubs: stubs.log.OpenProducer, request, write=True, timeout_s=timeout_s
        )
        self._core.on_identity(answer.producer_id, answer.epoch)

    async def _open_stream(self) -> Any:
        options = self._connection.options
        target = self._connection.endpoints.for_write(time.monotonic(), options.route)
        metadata = NO_FORWARD if target.no_forward else None
        self._target = target
        call = self._call = self._connection.stubs(target.address).produce_stream(metadata=metadata)
        let_in = True
        if not self._core.options.enable_idempotence:
            let_in = await _let_in(call, options.attempt_timeout_ms / 1000)
        # Not before: what the reader learns of a refusal is meant for a request that is under way.
        self._reader = asyncio.get_running_loop().create_task(self._read_for_ever(call, target, let_in))
        return call

    # The reader.

    async def _read_for_ever(self, call: Any, target: Target, let_in: bool) -> None:
        try:
            while (response := await call.read()) is not grpc.aio.EOF:
                self._take_in(response, target)
            error: QuorumlogError = lost(target.address, "the node ended the stream")
        except grpc.aio.AioRpcError as failure:
            error = from_rpc(failure, target.address)
        except ValueError as failure:
            error = lost(target.address, str(failure))
        except _Redirected as redirected:
            error = redirected.error
        except asyncio.CancelledError:
            if being_cancelled():
                raise
            error = lost(target.address, "the stream was cancelled")  # not by us
        self._drop_stream(call, error, let_in=let_in)

    def _take_in(self, response: service_pb2.ProduceResponse, target: Target) -> None:
        self._core.on_response(response, time.monotonic(), target.address)
        redirect, self._core.redirect = self._core.redirect, None
        if redirect is not None and (target.no_forward or isinstance(redirect, errors.ShuttingDown)):
            raise _Redirected(redirect)
        if redirect is None:
            self._connection.good(target)
        self._wake.set()

    def _drop_stream(self, call: Any, error: QuorumlogError, *, let_in: bool = True) -> None:
        """Give up a stream: what was under way on it will be sent again, elsewhere or later.

        `let_in`: False where the node has refused it, so that nothing on it was done.
        """
        if self._call is not call:
            return
        assert self._target is not None
        log.debug("producer: stream to %s lost: %s", self._target.address, error)
        self._connection.bad(self._target, error)
        self._connection.discover()
        self._call, self._target = None, None
        call.cancel()
        self._core.on_lost(error, time.monotonic(), let_in=let_in)
        self._wake.set()

    # Time.

    def _arm(self) -> None:
        """Wake the writer when a pause ends, a delivery times out, or an answer is overdue."""
        now_s = time.monotonic()
        at_s = min(self._core.next_event_s(now_s), self._overdue_s(), self._suspect_s())
        if at_s == float("inf"):
            return
        loop = asyncio.get_running_loop()
        at = loop.time() + max(0.001, at_s - now_s)
        if self._alarm is not None:
            if self._alarm_s <= at:
                return
            self._alarm.cancel()
        self._alarm, self._alarm_s = loop.call_at(at, self._ring), at

    def _ring(self) -> None:
        self._alarm = None
        self._suspect()
        if self._overdue_s() <= time.monotonic() and self._call is not None and self._target is not None:
            cause = f"no answer within {self._connection.options.attempt_timeout_ms} ms"
            reader = self._reader
            self._drop_stream(
                self._call, errors.OutcomeUnknown(cause, attempts=[Attempt(self._target.address, cause)])
            )
            if reader is not None:
                reader.cancel()
        self._wake.set()

    def _suspect(self) -> None:
        """A node that is silent for SUSPECT_S may be asleep: ask the others whether somebody else leads.

        What may have been applied is sent again then, which only an idempotent producer may do lightly.
        """
        if self._target is None or self._suspect_s() > time.monotonic():
            return
        self._looked_s = time.monotonic()
        if self._looking is None or self._looking.done():
            self._looking = asyncio.get_running_loop().create_task(self._look(self._call, self._target))

    async def _look(self, call: Any, target: Target) -> None:
        leader = await self._connection.leader_besides(target.address)
        is_silent = self._core.in_flight and self._core.in_flight[0].sent_s + SUSPECT_S <= time.monotonic()
        if leader is None or self._call is not call or not is_silent:
            return
        cause = f"silent for {SUSPECT_S:g} s, and {leader} leads now"
        reader = self._reader
        self._drop_stream(call, errors.OutcomeUnknown(cause, attempts=[Attempt(target.address, cause)]))
        self._connection.endpoints.leads(leader)
        if reader is not None:
            reader.cancel()

    def _suspect_s(self) -> float:
        """When to suspect whom we write to, if nothing comes."""
        is_leader = self._target is not None and self._target.no_forward
        if not self._core.in_flight or not is_leader or not self._core.options.enable_idempotence:
            return float("inf")
        return max(self._core.in_flight[0].sent_s, self._looked_s) + SUSPECT_S

    def _overdue_s(self) -> float:
        if not self._core.in_flight:
            return float("inf")
        return self._core.in_flight[0].sent_s + self._connection.options.attempt_timeout_ms / 1000

    # The end.

    def _check_open(self) -> None:
        if self._core.fatal is not None:
            raise self._core.fatal
        if self._closed or self._connection.closed:
            raise errors.ClientClosed("the producer is closed")
        if self._writer is None:
            self._writer = asyncio.get_running_loop().create_task(self._write_for_ever())
            self._writer.add_done_callback(self._writer_ended)
            self._connection.producers.add(self)

    def _writer_ended(self, task: asyncio.Task[None]) -> None:
        """Only a bug ends the writer before close(): then say so to everyone, rather than hang."""
        if not task.cancelled() and (bug := task.exception()) is not None:
            self._core.fatal = QuorumlogError(f"the producer failed: {bug!r}")
            self._core.fatal.__cause__ = bug
            self._core.fail_all(self._core.fatal)

    def _raise_undelivered(self) -> None:
        count, reasons = self._core.take_undelivered()
        if count:
            raise errors.DeliveryFailed(count, reasons)

    async def _abort(self, cause: BaseException) -> None:
        """Leave by an exception: give what is under way a moment, and say what was not delivered."""
        batches = list(self._core.batches())
        self._core.hasten()
        self._wake.set()
        try:
            async with asyncio.timeout(ABORT_FLUSH_S):
                for batch in batches:
                    await ended(batch)
        except TimeoutError:
            pass
        finally:  # also where a second Ctrl-C ends the waiting
            if note := self._undelivered_note():
                log.warning("%s", note)
                cause.add_note(note)
            await self._stop()

    def _undelivered_note(self) -> str:
        failed, reasons = self._core.take_undelivered()
        pending = Counter[str]()
        for batch in self._core.batches():
            pending[f"{batch.topic}/{batch.partition}"] += batch.count
        parts = []
        if failed:
            parts.append(str(errors.DeliveryFailed(failed, reasons)))
        if pending:
            places = ", ".join(f"{place}: {count}" for place, count in pending.most_common(PLACES_NAMED))
            more = f" and {len(pending) - PLACES_NAMED} more" if len(pending) > PLACES_NAMED else ""
            parts.append(f"{pending.total()} records were given up unacknowledged ({places}{more})")
        return "; ".join(parts)

    async def _stop(self) -> None:
        self._closed = True
        self._connection.producers.discard(self)
        self._core.fail_all(errors.ClientClosed("the producer was closed"))
        self._give_room()
        if self._alarm is not None:
            self._alarm.cancel()
        tasks = [task for task in (self._writer, self._reader, self._looking) if task is not None]
        for task in tasks:
            task.cancel()
        if self._call is not None:
            self._call.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # A call keeps its connection open for as long as somebody knows it.
        self._call = self._reader = self._writer = None


class _Redirected(Exception):
    """The node says that another one leads."""

    def __init__(self, error: QuorumlogError) -> None:
        super().__init__(str(error))
        self.error = error


async def _let_in(call: Any, timeout_s: float) -> bool:
    """Return True when the node has let the stream in, or said nothing for so long; False: it has refused it.

    gRPC forgets why a stream was refused where a write comes between, and then nobody knows whether what was
    written was applied. Who repeats without duplicates need not know, and does not wait.
    """
    try:
        async with asyncio.timeout(timeout_s):
            if ACCEPTED in (await call.initial_metadata() or ()):
                return True
            await call.code()  # what came was a refusal, whose status is only now on its way to us
    except TimeoutError:
        return True
    except grpc.aio.AioRpcError:
        return False
    return False


async def _written(call: Any, request: bytes) -> bool:
    try:
        await call.write(request)
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
        return False
    except asyncio.CancelledError:
        if being_cancelled():
            raise
        return False  # the call was cancelled, not this task
    return True


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _check_bytes(name: str, value: object) -> None:
    if value is not None and not isinstance(value, bytes):
        kind = type(value).__name__
        raise TypeError(f"{name}: expected bytes or None, got {kind}; encode it, or give a {name}_serializer")


def _headers(headers: HeadersArgument) -> Headers:
    if not headers:
        return ()
    pairs = tuple(headers.items() if isinstance(headers, Mapping) else headers)
    for pair in pairs:
        if not (isinstance(pair, tuple) and len(pair) == 2):
            raise TypeError(f"headers: expected (name, bytes) pairs, got {pair!r}")
        if not isinstance(pair[0], str) or not isinstance(pair[1], bytes):
            raise TypeError(f"headers: expected (str, bytes), got {pair!r}")
    return pairs
