"""Idempotent producers: which sequence each stream expects, and what a repeat is answered with.

A stream is one producer's appends to one partition. Rules:
- Every record of a stream has a number; a batch states the number of its first. It is appended where that
  is the number expected next; an exact repeat of one of the last few batches gets the first result; all
  else is out of sequence. So a producer may send again after any failure, and nothing is there twice.
- A producer has an epoch. Opening it again raises the epoch; appends under older ones are refused, and each
  stream begins again at 0 under the new one.
- Producers and streams are bounded; the least recently used producer is forgotten first. Use is counted
  in apply order, so every replica forgets the same one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

from quorumlog.node.reasons import Reason, Refused
from quorumlog.node.results import Appended
from quorumlog.proto import entry_pb2

RECENT_BATCHES = 5  # as in Kafka: a client keeps at most so many unacknowledged batches per partition
MAX_PRODUCERS = 10_000
MAX_STREAMS = 32_768  # about 1 KiB each with its recent batches: 32 MiB when full
MAX_STREAMS_PER_PRODUCER = 8_192  # so that one client cannot push out all others
MAX_SEQUENCE = 2**32 - 1
MAX_EPOCH = 2**32 - 1

StreamKey: TypeAlias = tuple[int, int]  # topic id, partition


@dataclass(frozen=True, slots=True)
class Produced:
    """One batch that a repeat can be answered from."""

    sequence: int
    count: int
    base_offset: int
    time_ms: int
    raft_index: int


@dataclass(slots=True)
class Stream:
    """One producer's appends to one partition."""

    epoch: int
    next_sequence: int = 0
    recent: list[Produced] = field(default_factory=list)  # oldest first, at most RECENT_BATCHES


@dataclass(slots=True)
class Producer:
    """One producer. `fragment` caches its bytes in a snapshot until it changes."""

    producer_id: int
    epoch: int
    streams: dict[StreamKey, Stream] = field(default_factory=dict)
    fragment: bytes | None = None


@dataclass(frozen=True, slots=True)
class Sequenced:
    """What an append says of its producer."""

    producer_id: int
    epoch: int
    sequence: int
    count: int
    key: StreamKey


# (producer id, stream) -> sequence expected after the operations before, in the same command.
Staged: TypeAlias = dict[tuple[int, StreamKey], int]


class Producers:
    """All producers that are remembered, the least recently used first."""

    def __init__(self) -> None:
        self._by_id: OrderedDict[int, Producer] = OrderedDict()  # in order of use
        self._stream_count = 0
        self.next_producer_id = 1

    def __len__(self) -> int:
        return len(self._by_id)

    def check_opening(self, producer_id: int) -> Refused | None:
        """Return why this producer cannot be opened, or None. Id 0 asks for a new one."""
        if producer_id == 0:
            return None
        producer = self._by_id.get(producer_id)
        if producer is None:
            return _unknown(producer_id)
        if producer.epoch == MAX_EPOCH:
            return Refused(Reason.BAD_REQUEST, f"producer {producer_id}: out of epochs; open a new producer")
        return None

    def open(self, producer_id: int) -> Producer:
        """Return a new producer, or a known one under its next epoch."""
        if producer_id:
            producer = self._use(producer_id)
            producer.epoch += 1
            producer.fragment = None
        else:
            producer = Producer(self.next_producer_id, 0)
            self._by_id[producer.producer_id] = producer
            self.next_producer_id += 1
        return producer

    def check_append(self, append: Sequenced, staged: Staged) -> Appended | Refused | None:
        """Return the first result of a repeat, why the append is refused, or None where it is next."""
        producer = self._by_id.get(append.producer_id)
        if producer is None:
            return _unknown(append.producer_id)
        if append.epoch != producer.epoch:
            return _wrong_epoch(append, producer)
        stream = producer.streams.get(append.key)
        if stream is None and len(producer.streams) >= MAX_STREAMS_PER_PRODUCER:
            problem = f"at most {MAX_STREAMS_PER_PRODUCER} partitions per producer"
            return Refused(Reason.BAD_REQUEST, f"producer {append.producer_id}: {problem}")
        current = stream is not None and stream.epoch == append.epoch
        expected = staged.get((append.producer_id, append.key), -1)
        if expected < 0:
            expected = stream.next_sequence if stream is not None and current else 0
        if append.sequence != expected:
            repeated = _repeated(stream.recent, append) if stream is not None and current else None
            return repeated or _out_of_sequence(append, expected)
        if append.sequence + append.count > MAX_SEQUENCE:
            return Refused(
                Reason.BAD_BATCH, "sequence: above 32 bits; open a new epoch of the producer first"
            )
        staged[(append.producer_id, append.key)] = append.sequence + append.count
        return None

    def record_append(self, append: Sequenced, appended: Appended) -> None:
        """Remember an append that `check_append` found to be next."""
        producer = self._use(append.producer_id)
        stream = producer.streams.get(append.key)
        if stream is None:
            stream = producer.streams[append.key] = Stream(append.epoch)
            self._stream_count += 1
        elif stream.epoch != append.epoch:
            stream.epoch = append.epoch
            stream.recent.clear()
        stream.next_sequence = append.sequence + append.count
        if len(stream.recent) == RECENT_BATCHES:
            del stream.recent[0]
        stream.recent.append(
            Produced(
                append.sequence, append.count, appended.base_offset, appended.time_ms, appended.raft_index
            )
        )
        producer.fragment = None

    def record_repeat(self, producer_id: int) -> None:
        """A repeat was answered: that is use, too."""
        self._use(producer_id)

    def delete_topic(self, topic_id: int) -> None:
        """Forget the streams to a topic that is gone."""
        for producer in self._by_id.values():
            gone = [key for key in producer.streams if key[0] == topic_id]
            for key in gone:
                del producer.streams[key]
            if gone:
                self._stream_count -= len(gone)
                producer.fragment = None

    def forget_least_used(self) -> None:
        """Keep to the bounds. Called between commands: within one, whatever it was checked against stays."""
        while len(self._by_id) > MAX_PRODUCERS or self._stream_count > MAX_STREAMS:
            _, forgotten = self._by_id.popitem(last=False)
            self._stream_count -= len(forgotten.streams)

    def load(self, states: Iterable[entry_pb2.ProducerState], next_producer_id: int) -> None:
        """Take the producers of a snapshot, in place of what is here."""
        self._by_id = OrderedDict((state.producer_id, _from_state(state)) for state in states)
        self._stream_count = sum(len(producer.streams) for producer in self._by_id.values())
        self.next_producer_id = next_producer_id

    def fragments(self) -> list[bytes]:
        """Return serialized StateSnapshots, each of one producer: joined, they are one snapshot.

        Only what changed since the last call is serialized, which bounds the pause at a segment's end.
        """
        for producer in self._by_id.values():
            if producer.fragment is None:
                snapshot = entry_pb2.StateSnapshot(producers=[_to_state(producer)])
                producer.fragment = snapshot.SerializeToString(deterministic=True)
        return [producer.fragment for producer in self._by_id.values() if producer.fragment is not None]

    def _use(self, producer_id: int) -> Producer:
        self._by_id.move_to_end(producer_id)
        return self._by_id[producer_id]


def _unknown(producer_id: int) -> Refused:
    metadata = (("producer_id", str(producer_id)),)
    return Refused(Reason.UNKNOWN_PRODUCER, f"producer {producer_id}: never opened, or forgotten", metadata)


def _wrong_epoch(append: Sequenced, producer: Producer) -> Refused:
    metadata = (("epoch", str(producer.epoch)),)
    problem = f"producer {append.producer_id}: epoch {append.epoch}"
    if append.epoch < producer.epoch:
        return Refused(Reason.FENCED_PRODUCER, f"{problem} was replaced by {producer.epoch}", metadata)
    return Refused(
        Reason.UNKNOWN_PRODUCER, f"{problem} was never given, the last was {producer.epoch}", metadata
    )


def _out_of_sequence(append: Sequenced, expected: int) -> Refused:
    problem = f"producer {append.producer_id}: expected sequence {expected}, got {append.sequence}"
    return Refused(Reason.OUT_OF_SEQUENCE, problem, (("expected", str(expected)),))


def _repeated(recent: list[Produced], append: Sequenced) -> Appended | None:
    for batch in recent:
        if batch.sequence == append.sequence and batch.count == append.count:
            return Appended(batch.base_offset, batch.time_ms, batch.raft_index, duplicate=True)
    return None


def _from_state(state: entry_pb2.ProducerState) -> Producer:
    streams = {
        (each.topic_id, each.partition): Stream(
            each.epoch,
            each.next_sequence,
            [
                Produced(batch.sequence, batch.count, batch.base_offset, batch.time_ms, batch.raft_index)
                for batch in each.recent
            ],
        )
        for each in state.streams
    }
    return Producer(state.producer_id, state.epoch, streams)


def _to_state(producer: Producer) -> entry_pb2.ProducerState:
    streams = []
    for (topic_id, partition), stream in sorted(producer.streams.items()):
        recent = [
            entry_pb2.ProducedBatch(
                sequence=batch.sequence,
                count=batch.count,
                base_offset=batch.base_offset,
                time_ms=batch.time_ms,
                raft_index=batch.raft_index,
            )
            for batch in stream.recent
        ]
        streams.append(
            entry_pb2.ProducerStream(
                topic_id=topic_id,
                partition=partition,
                next_sequence=stream.next_sequence,
                recent=recent,
                epoch=stream.epoch,
            )
        )
    return entry_pb2.ProducerState(producer_id=producer.producer_id, epoch=producer.epoch, streams=streams)
