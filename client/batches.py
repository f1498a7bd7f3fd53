"""A batch on its way: records gathered for one partition, then encoded, sent, and acknowledged or failed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, TypeAlias, cast

from quorumlog.client.errors import QuorumlogError
from quorumlog.client.outgoing import check_timestamp
from quorumlog.proto import batch_pb2
from quorumlog.proto.batch import Record, encode_batch, encode_values

Headers: TypeAlias = tuple[tuple[str, bytes], ...]

# Beside its bytes a buffered record costs list slots and bytes objects; counted so that a buffer of empty
# records is bounded too.
RECORD_OVERHEAD_BYTES = 64


class RecordMetadata(NamedTuple):
    """Where an acknowledged record stands. Give it as `after=` to a consumer to read your own write."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int  #: the leader's time when it was appended
    raft_index: int  #: the session token
    raft_term: int
    duplicate: bool  #: a re-send of what had been appended before
    sync_policy: str  #: what the acknowledgement was given under: "always", "interval" or "os"


@dataclass(frozen=True, slots=True)
class BatchMetadata:
    """Where `count` acknowledged records stand: at offset, offset + 1, ..."""

    topic: str
    partition: int
    offset: int
    count: int
    timestamp_ms: int
    raft_index: int
    raft_term: int
    duplicate: bool
    sync_policy: str

    def record(self, position: int) -> RecordMetadata:
        """Return the metadata of the record at `position` in the batch."""
        return RecordMetadata(
            self.topic,
            self.partition,
            self.offset + position,
            self.timestamp_ms,
            self.raft_index,
            self.raft_term,
            self.duplicate,
            self.sync_policy,
        )


class State(Enum):
    """A batch's way: GATHERING -> SENT -> DONE, or back from SENT to WAITING after a failure."""

    GATHERING = "gathering"  # never sent
    SENT = "sent"  # under way
    WAITING = "waiting"  # to be sent again
    DONE = "done"  # acknowledged or failed


class PendingBatch:
    """Records of one partition that share one fate.

    - Records are added only before it is sealed; sealed bytes never change, whatever is re-sent.
    - `ambiguous` once an attempt ended without saying whether it was applied.
    - It is done once, with a result or an error; `on_done` callbacks run then.
    """

    __slots__ = (
        "_body",
        "_header",
        "_headers",
        "_keys",
        "_timestamps",
        "_values",
        "ambiguous",
        "codec",
        "count",
        "deadline_s",
        "error",
        "on_done",
        "partition",
        "result",
        "sequence",
        "size",
        "state",
        "told",
        "topic",
    )

    def __init__(self, topic: str, partition: int, deadline_s: float, codec: batch_pb2.Codec) -> None:
        self.topic = topic
        self.partition = partition
        self.deadline_s = deadline_s
        self.codec = codec
        self.state = State.GATHERING
        self.ambiguous = False
        self.sequence = 0
        self.count = 0
        self.size = 0  # bytes counted against the buffer
        self.result: BatchMetadata | None = None
        self.error: QuorumlogError | None = None
        self.on_done: list[Callable[[], None]] = []
        self.told = 0  # records of which somebody was told that they failed, so that flush() need not
        self._values: Sequence[bytes | None] = []
        self._keys: list[bytes | None] = []
        self._timestamps: list[int] = []
        self._headers: dict[int, Headers] = {}
        self._header: batch_pb2.BatchHeader | None = None
        self._body = b""

    @classmethod
    def of_values(
        cls,
        topic: str,
        partition: int,
        deadline_s: float,
        codec: batch_pb2.Codec,
        values: Sequence[bytes],
        size: int,
        timestamp_ms: int,
    ) -> PendingBatch:
        """Return a full batch of plain values, without an object per record. Raises InvalidRequest."""
        check_timestamp(timestamp_ms)
        batch = cls(topic, partition, deadline_s, codec)
        batch._values = values
        batch._timestamps = [timestamp_ms]
        batch.count = len(values)
        batch.size = size
        return batch

    @property
    def done(self) -> bool:
        """True once it is acknowledged or has failed."""
        return self.state is State.DONE

    def add(
        self, value: bytes | None, key: bytes | None, headers: Headers, timestamp_ms: int, size: int
    ) -> int:
        """Add a record and return its position."""
        assert self._header is None
        assert isinstance(self._values, list)
        position = self.count
        self._values.append(value)
        self._keys.append(key)
        self._timestamps.append(timestamp_ms)
        if headers:
            self._headers[position] = headers
        self.count += 1
        self.size += size
        return position

    def seal(self) -> None:
        """Encode what was gathered. The client has checked sizes, so that this cannot fail."""
        if self._header is None:
            self._header, self._body = self._encode()
            self._values, self._keys, self._timestamps, self._headers = (), [], [], {}

    def wire_header(self, producer_id: int, epoch: int) -> batch_pb2.BatchHeader:
        """Return the header with the producer's place in it; the body stays as it is."""
        assert self._header is not None
        self._header.producer_id = producer_id
        self._header.producer_epoch = epoch
        self._header.sequence = self.sequence
        return self._header

    @property
    def body(self) -> bytes:
        """The sealed body."""
        return self._body

    def finish(self, result: BatchMetadata | None, error: QuorumlogError | None) -> None:
        """Set the outcome, drop the bytes, and tell who waits."""
        assert not self.done
        assert (result is None) != (error is None)
        self.state = State.DONE
        self.result, self.error = result, error
        self._body = b""
        self._values = ()
        callbacks, self.on_done = self.on_done, []
        for callback in callbacks:
            callback()

    def _encode(self) -> tuple[batch_pb2.BatchHeader, bytes]:
        first = self._timestamps[0]
        if not self._keys:  # of_values
            return encode_values(
                cast(Sequence[bytes], self._values), first, self.codec, max_record_bytes=UNLIMITED
            )
        values = [value for value in self._values if value is not None]
        plain = not self._headers and len(values) == self.count
        if plain and not any(key is not None for key in self._keys) and _all_equal(self._timestamps):
            return encode_values(values, first, self.codec, max_record_bytes=UNLIMITED)
        records = [
            Record(value, self._keys[position], self._headers.get(position, ()), self._timestamps[position])
            for position, value in enumerate(self._values)
        ]
        return encode_batch(records, self.codec, max_record_bytes=UNLIMITED)


# Records are checked against the configured limit when they are handed in.
UNLIMITED = 1 << 31


def _all_equal(numbers: Sequence[int]) -> bool:
    return numbers[0] == numbers[-1] and all(number == numbers[0] for number in numbers)
