"""The producer without I/O: what to send next, and what an answer, a lost connection or a deadline means.

    add(), add_values()  ->  PartitionStream per (topic, partition)  ->  next_request()  ->  the shell sends
    on_response(), on_lost()  <-  what the shell received

- Sends at once when idle: a partition with nothing under way gives up its open batch to the next request.
  What gathers while a request is in flight goes together; full batches do not wait for it.
- Bounded: `room` is False above `buffer_bytes`; at most MAX_REQUESTS requests and, per partition, WINDOW
  batches are under way.
- Each record ends once: acknowledged, refused, or failed at its delivery timeout, which says whether it may
  have been appended.

The clock and randomness are arguments; producer.py is the shell.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from quorumlog.client import errors
from quorumlog.client.batches import (
    RECORD_OVERHEAD_BYTES,
    BatchMetadata,
    Headers,
    PendingBatch,
)
from quorumlog.client.deliveries import OnDelivery
from quorumlog.client.errors import Attempt, QuorumlogError
from quorumlog.client.options import check_numbers
from quorumlog.client.partitioner import Partitioner
from quorumlog.client.retries import MAX_ATTEMPTS_KEPT, Backoff, unique
from quorumlog.client.stream import Identity, PartitionStream
from quorumlog.client.translate import from_failure
from quorumlog.client.wire import produce_request, topic_batch
from quorumlog.proto import batch_pb2, entry_pb2, service_pb2
from quorumlog.proto.batch import MAX_RECORD_BYTES

KIB = 1024
MIB = 1024 * KIB

MAX_REQUESTS = 8  # under way at once: enough to fill a 1 ms round trip, few enough to repeat after a failure
REQUEST_BYTES = MIB  # a request takes no further batch above this

# A body may take 8 MiB at most, and one record of 1 MiB may come on top of what a batch already holds.
LARGEST_BATCH_BYTES = 4 * MIB

MAX_FAILED_KEPT = 10_000  # batches, for a user who never flushes; beyond it only the count goes on

CODECS = {
    None: batch_pb2.CODEC_NONE,
    "none": batch_pb2.CODEC_NONE,
    "lz4": batch_pb2.CODEC_LZ4,
    "zstd": batch_pb2.CODEC_ZSTD,
}


@dataclass(frozen=True, slots=True)
class ProducerOptions:
    """How a producer behaves; the defaults are right for most."""

    delivery_timeout_ms: int = 120_000  # from send() to acknowledgement, all retries included
    max_batch_size: int = (
        MIB  # what a record costs falls up to here; a read of one record gives its whole batch
    )
    buffer_memory: int = 32 * MIB
    compression_type: str | None = None  # None | "lz4" | "zstd"
    enable_idempotence: bool = True
    max_record_size: int = MAX_RECORD_BYTES
    linger_ms: int = 0  # how long a record may wait for others, where nothing is under way
    # The core needs none of these: they are the shell's.
    partitioner: Partitioner | None = None
    on_delivery: OnDelivery | None = None
    key_serializer: Callable[[Any], bytes] | None = None
    value_serializer: Callable[[Any], bytes] | None = None

    def __post_init__(self) -> None:
        if self.compression_type not in CODECS:
            raise errors.UnknownOption(
                f"compression_type: expected None, 'lz4' or 'zstd', got {self.compression_type!r}"
            )
        least = {"delivery_timeout_ms": 1, "buffer_memory": 1, "max_record_size": 1, "linger_ms": 0}
        check_numbers(self, {"max_batch_size": 1, **least})
        if self.max_batch_size > LARGEST_BATCH_BYTES:
            raise errors.UnknownOption(
                f"max_batch_size: expected 1 to {LARGEST_BATCH_BYTES}, got {self.max_batch_size}"
            )


@dataclass(slots=True)
class Request:
    """Batches that travel together; answers come in the order of the requests."""

    correlation: int
    batches: list[PendingBatch]
    sent_s: float


@dataclass(slots=True)
class ProducerCore:
    """Invariants:

    - `in_flight` holds the requests whose answers are awaited, oldest first.
    - `_active` holds exactly the streams that have work; those served last stand last.
    - `buffered_bytes` is the sum of the sizes of all batches that are not done.
    """

    options: ProducerOptions
    random: Callable[[], float]
    backoff: Backoff = field(default_factory=Backoff)
    in_flight: deque[Request] = field(default_factory=deque)
    buffered_bytes: int = 0
    not_before_s: float = 0.0  # nothing is sent sooner, after a failure
    redirect: QuorumlogError | None = None  # set by an answer that says that another node leads
    _failed: deque[PendingBatch] = field(default_factory=deque)  # since take_undelivered()
    _failed_more: int = 0  # records beyond those
    fatal: QuorumlogError | None = None  # set when nothing can be sent any more
    _identity: Identity | None = None
    _streams: dict[tuple[str, int], PartitionStream] = field(default_factory=dict)
    _active: dict[tuple[str, int], PartitionStream] = field(default_factory=dict)
    _failures: int = 0  # in a row
    _attempts: deque[Attempt] = field(default_factory=lambda: deque(maxlen=MAX_ATTEMPTS_KEPT))
    _next_correlation: int = 1

    @property
    def room(self) -> bool:
        """True when more records may be added. One record of any size always fits an empty buffer."""
        return self.buffered_bytes < self.options.buffer_memory

    @property
    def idle(self) -> bool:
        """True when every record has ended."""
        return not self._active

    def hasten(self) -> None:
        """Let nothing that is here linger: somebody waits for it."""
        if self.options.linger_ms:
            for stream in self._active.values():
                stream.close_open()

    @property
    def needs_identity(self) -> bool:
        """True when some partition waits for a producer id that on_identity() must bring."""
        return any(self._wants_identity(stream) for stream in self._active.values())

    def batches(self) -> Iterator[PendingBatch]:
        """Iterate over the batches that are not done."""
        for stream in self._active.values():
            waiting = [*stream.window, *stream.closed, *([stream.open] if stream.open else [])]
            yield from (batch for batch in waiting if not batch.done)

    def add(
        self,
        topic: str,
        partition: int,
        value: bytes | None,
        key: bytes | None,
        headers: Headers,
        timestamp_ms: int,
        now_s: float,
    ) -> tuple[PendingBatch, int]:
        """Take a record; return its batch and its position there. Raises RecordTooLarge."""
        size = len(value or b"") + len(key or b"")
        if headers:
            size += sum(len(name.encode()) + len(content) for name, content in headers)
        self._check_size(size)
        size += RECORD_OVERHEAD_BYTES
        stream = self._stream(topic, partition)
        if stream.open is not None and stream.open.size + size > self.options.max_batch_size:
            stream.close_open()
        if stream.open is None:
            stream.open = self._counted(PendingBatch(topic, partition, self._deadline_s(now_s), self._codec))
        batch = stream.open
        self.buffered_bytes += size
        return batch, batch.add(value, key, headers, timestamp_ms, size)

    def add_values(
        self, topic: str, partition: int, values: Sequence[bytes], size: int, timestamp_ms: int, now_s: float
    ) -> PendingBatch:
        """Take values of one batch, `size` bytes together; see split_values()."""
        stream = self._stream(topic, partition)
        stream.close_open()
        counted = size + len(values) * RECORD_OVERHEAD_BYTES
        batch = PendingBatch.of_values(
            topic, partition, self._deadline_s(now_s), self._codec, values, counted, timestamp_ms
        )
        stream.closed.append(self._counted(batch))
        self.buffered_bytes += counted
        return batch

    def next_request(self, now_s: float, timeout_ms: int = 0) -> bytes | None:
        """Return the ProduceRequest to send now, if any. It counts as sent."""
        if now_s < self.not_before_s or len(self.in_flight) >= MAX_REQUESTS:
            return None
        taken: list[PendingBatch] = []
        pieces: list[bytes] = []
        size = 0
        for key, stream in list(self._active.items()):
            if size >= REQUEST_BYTES:
                break
            if not stream.ready or not self._identified(stream):
                continue
            if self.options.linger_ms and now_s < self._lingers_until_s(stream):
                continue
            batch, wire = _take(stream)
            taken.append(batch)
            pieces += wire
            size += len(batch.body)
            del self._active[key]  # to the end: every partition gets its turn
            self._active[key] = stream
        if not taken:
            return None
        request = Request(self._next_correlation, taken, now_s)
        self._next_correlation += 1
        self.in_flight.append(request)
        return produce_request(pieces, request.correlation, timeout_ms)

    def on_identity(self, producer_id: int, epoch: int) -> None:
        """Take the producer id that OpenProducer gave."""
        self._identity = Identity(producer_id, epoch)

    def on_response(self, response: service_pb2.ProduceResponse, now_s: float, address: str) -> None:
        """Take in the answer to the oldest request. Raises ValueError where it is not its answer."""
        request = self.in_flight[0] if self.in_flight else None
        if request is None or response.correlation != request.correlation:
            raise ValueError(f"answer {response.correlation}: no such request is the next to be answered")
        if len(response.results) != len(request.batches):
            raise ValueError(f"expected {len(request.batches)} results, got {len(response.results)}")
        self.in_flight.popleft()
        policy = policy_name(response.sync_policy)
        for batch, result in zip(request.batches, response.results, strict=True):
            stream = self._streams[batch.topic, batch.partition]
            if result.HasField("failure"):
                self._on_refusal(stream, batch, from_failure(result.failure), now_s, address)
            else:
                self._failures = 0
                self.not_before_s = 0.0
                stream.acknowledged(batch, _metadata(batch, result, policy))
            self._retire_if_done(stream)

    def on_lost(self, error: QuorumlogError, now_s: float, *, let_in: bool = True) -> None:
        """Take note that the connection is gone: what was in flight may or may not have been applied.

        `let_in`: False where the node has refused the stream: then surely not.
        """
        if isinstance(error, errors.LogFailed):  # nothing will answer any more
            self._end(error)
            return
        requests, self.in_flight = self.in_flight, deque()
        # A denial comes at the beginning, too: nothing on the stream was done.
        denied = isinstance(error, errors.PermissionDenied) or not let_in
        for number, request in enumerate(requests):
            for batch in request.batches:
                stream = self._streams[batch.topic, batch.partition]
                stranger = isinstance(error, errors.Unsupported)  # no node: another endpoint will know it
                if denied or (number == 0 and isinstance(error, errors.InvalidRequest) and not stranger):
                    stream.refused(batch, error)  # what a node refuses as a whole would be refused for ever
                else:
                    stream.lost(batch)
                self._retire_if_done(stream)
        self.on_failure(error, now_s)

    def on_failure(self, error: QuorumlogError, now_s: float) -> None:
        """Take note of a failed attempt: keep its cause for the final error, pause before the next."""
        self._attempts.extend(error.attempts)
        self._failures += 1
        followable = isinstance(error, errors.NotLeader) and error.leader_address and self._failures <= 2
        pause_s = 0.0 if followable else self.backoff.pause_s(self._failures, self.random)
        self.not_before_s = now_s + pause_s

    def expire(self, now_s: float) -> None:
        """Fail what is past its delivery timeout."""
        attempts = unique(list(self._attempts))
        for stream in list(self._active.values()):
            stream.expire(now_s, attempts)
            self._retire_if_done(stream)

    def _end(self, error: QuorumlogError) -> None:
        """Nothing can be sent any more."""
        self.fatal = error
        self.in_flight.clear()
        self.fail_all(error)

    def fail_all(self, error: QuorumlogError) -> None:
        """Fail everything that has not ended: the producer is closed without flushing, or fenced."""
        for stream in list(self._active.values()):
            stream.fail_all(error)
            self._retire_if_done(stream)

    def take_undelivered(self) -> tuple[int, list[QuorumlogError]]:
        """Return how many records failed without anybody being told, and the first ten reasons; once."""
        failed, self._failed = self._failed, deque()
        more, self._failed_more = self._failed_more, 0
        untold = [batch for batch in failed if batch.told < batch.count]
        count = sum(batch.count - batch.told for batch in untold) + more
        return count, [batch.error for batch in untold[:10] if batch.error is not None]

    def next_event_s(self, now_s: float) -> float:
        """Return when to look again though nothing arrives: a delivery deadline or the end of a pause.

        A pause that is over is no event: until an answer comes there is nothing to do.
        """
        oldest = (stream.oldest for stream in self._active.values())
        deadlines = [batch.deadline_s for batch in oldest if batch is not None]
        pause = [self.not_before_s] if self._active and self.not_before_s > now_s else []
        lingering = [until_s for until_s in self._lingering() if until_s > now_s]
        return min(deadlines + pause + lingering, default=float("inf"))

    def _lingering(self) -> list[float]:
        if not self.options.linger_ms:
            return []
        return [self._lingers_until_s(stream) for stream in self._active.values()]

    def _lingers_until_s(self, stream: PartitionStream) -> float:
        """Return until when what would leave next waits for more records."""
        batch = stream.next_if_open
        if batch is None:
            return float("-inf")
        opened_s = batch.deadline_s - self.options.delivery_timeout_ms / 1000
        return opened_s + self.options.linger_ms / 1000

    def _check_size(self, size: int) -> None:
        if size > self.options.max_record_size:
            raise errors.RecordTooLarge(
                f"record: at most {self.options.max_record_size} bytes of key, value and headers, got {size}"
            )

    @property
    def _codec(self) -> batch_pb2.Codec:
        return CODECS[self.options.compression_type]

    def _deadline_s(self, now_s: float) -> float:
        return now_s + self.options.delivery_timeout_ms / 1000

    def _stream(self, topic: str, partition: int) -> PartitionStream:
        key = topic, partition
        stream = self._streams.get(key)
        if stream is None:
            stream = PartitionStream(topic, partition, idempotent=self.options.enable_idempotence)
            self._streams[key] = stream
        self._active.setdefault(key, stream)
        return stream

    def _counted(self, batch: PendingBatch) -> PendingBatch:
        batch.on_done.append(lambda: self._on_done(batch))
        return batch

    def _on_done(self, batch: PendingBatch) -> None:
        self.buffered_bytes -= batch.size
        if batch.error is None:
            return
        self._failed.append(batch)
        if len(self._failed) > MAX_FAILED_KEPT:
            oldest = self._failed.popleft()
            self._failed_more += oldest.count - oldest.told

    def _retire_if_done(self, stream: PartitionStream) -> None:
        if not stream.has_work:
            self._active.pop((stream.topic, stream.partition), None)

    def _wants_identity(self, stream: PartitionStream) -> bool:
        stream.renew_before_overflow()
        usable = self._identity is not None and self._identity != stream.retired
        return stream.identity is None and not usable

    def _identified(self, stream: PartitionStream) -> bool:
        if self._wants_identity(stream):
            return False
        stream.identity = stream.identity or self._identity
        return True

    def _on_refusal(
        self, stream: PartitionStream, batch: PendingBatch, error: QuorumlogError, now_s: float, address: str
    ) -> None:
        error.attempts = (Attempt(address, error.message),)
        stream.refused(batch, error)
        if isinstance(error, errors.ProducerFenced):
            self._end(error)
        elif error.retriable:
            self.on_failure(error, now_s)
        if isinstance(error, errors.NotLeader | errors.NoLeader | errors.ShuttingDown):
            self.redirect = error


def _take(stream: PartitionStream) -> tuple[PendingBatch, list[bytes]]:
    batch = stream.take()
    assert stream.identity is not None
    header = batch.wire_header(stream.identity.producer_id, stream.identity.epoch)
    return batch, topic_batch(batch.topic, batch.partition, header, batch.body)


def _metadata(batch: PendingBatch, result: service_pb2.ProduceResult, policy: str) -> BatchMetadata:
    return BatchMetadata(
        batch.topic,
        batch.partition,
        result.base_offset,
        batch.count,
        result.append_time_ms,
        result.raft_index,
        result.raft_term,
        result.duplicate,
        policy,
    )


def policy_name(policy: entry_pb2.SyncPolicy) -> str:
    """Return "always", "interval" or "os"."""
    return entry_pb2.SyncPolicy.Name(policy).removeprefix("SYNC_").lower()
