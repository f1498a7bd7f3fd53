"""The topics of the state machine: names, ids and how far each partition reaches.

Rules:
- A topic's id is the raft index of the entry that created it, so ids rise and are never used again.
- Offsets of a partition run from start_offset (first readable) to next_offset (given to the next record).
- The numbers of topics and partitions are bounded: every segment's view lists each partition.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from quorumlog.node.reasons import Reason, Refused
from quorumlog.proto import entry_pb2

# Kafka's rule and length: no separators, so that a name is safe in a URL, a metric and a file name.
_NAME = re.compile(r"[A-Za-z0-9._-]{1,249}")
MAX_NAME_LENGTH = 249
MAX_PARTITIONS_PER_TOPIC = 1_000
# Each costs 200 B here and 48 B in the view of every segment: 20,000 are 4 MB of memory.
MAX_PARTITIONS = 20_000


def check_name(name: str) -> Refused | None:
    """Return why `name` cannot be a topic's name, or None. Says the name itself only where that is safe."""
    if _NAME.fullmatch(name) and name not in (".", ".."):
        return None
    shown = repr(name) if len(name) <= 64 else f"{len(name)} characters"
    expected = f"1 to {MAX_NAME_LENGTH} of letters, digits, '.', '_', '-', and neither '.' nor '..'"
    return Refused(Reason.BAD_NAME, f"topic name: expected {expected}, got {shown}")


@dataclass(slots=True)
class Partition:
    """How far one partition reaches."""

    start_offset: int
    next_offset: int


@dataclass(slots=True)
class Traffic:
    """What went in and out of one topic here, since the node started. Not state: each node has its own."""

    bytes_in: int = 0  # bodies applied, those that a start replays included
    bytes_out: int = 0  # bodies given to readers
    records_out: int = 0


@dataclass(slots=True)
class Topic:
    """One topic; only the state machine changes it."""

    topic_id: int
    name: str
    created_ms: int
    partitions: list[Partition]
    traffic: Traffic = field(default_factory=Traffic, compare=False)


class Topics:
    """All topics, by id and by name."""

    def __init__(self) -> None:
        self._by_id: dict[int, Topic] = {}  # ascending: ids only rise
        self._by_name: dict[str, Topic] = {}
        self._partition_count = 0

    def __iter__(self) -> Iterator[Topic]:
        return iter(self._by_id.values())

    def keys(self) -> Iterator[tuple[int, int]]:
        """Yield topic id and number of every partition."""
        for topic in self:
            for number in range(len(topic.partitions)):
                yield topic.topic_id, number

    def with_id(self, topic_id: int) -> Topic | None:
        """Return the topic, or None where it never was or has been deleted."""
        return self._by_id.get(topic_id)

    def named(self, name: str) -> Topic | None:
        """Return the topic of that name, or None."""
        return self._by_name.get(name)

    def by_name(self) -> list[Topic]:
        """Return all topics, ascending by name."""
        return sorted(self._by_id.values(), key=lambda topic: topic.name)

    def check_creation(self, topic_id: int, name: str, partitions: int) -> Refused | None:
        """Return why such a topic cannot be made, or None."""
        bad_name = check_name(name)
        if bad_name is not None:
            return bad_name
        if not 1 <= partitions <= MAX_PARTITIONS_PER_TOPIC:
            problem = f"partitions: expected 1 to {MAX_PARTITIONS_PER_TOPIC}, got {partitions}"
            return Refused(Reason.BAD_REQUEST, problem)
        existing = self._by_name.get(name)
        if existing is not None:
            return Refused(
                Reason.TOPIC_EXISTS, f"topic {name} exists", (("topic_id", str(existing.topic_id)),)
            )
        if self._partition_count + partitions > MAX_PARTITIONS:
            problem = f"partitions: the cluster holds {self._partition_count} of at most {MAX_PARTITIONS}"
            return Refused(Reason.BAD_REQUEST, f"{problem}, {partitions} more do not fit")
        if topic_id in self._by_id:
            return Refused(Reason.BAD_REQUEST, "an entry creates one topic: its raft index is the topic's id")
        return None

    def create(self, topic_id: int, name: str, partitions: int, created_ms: int) -> Topic:
        """Add a topic that `check_creation` has no objection to."""
        return self._add(Topic(topic_id, name, created_ms, [Partition(0, 0) for _ in range(partitions)]))

    def delete(self, topic_id: int) -> Topic:
        """Remove a topic that exists."""
        topic = self._by_id.pop(topic_id)
        del self._by_name[topic.name]
        self._partition_count -= len(topic.partitions)
        return topic

    def load(self, states: Iterable[entry_pb2.TopicState]) -> None:
        """Take the topics of a snapshot, in place of what is here.

        A topic that stays is the same object: readers that wait at its end hold it.
        """
        before = dict(self._by_id)
        self._by_id.clear()
        self._by_name.clear()
        self._partition_count = 0
        for state in states:
            topic = before.get(state.topic_id) or Topic(state.topic_id, state.name, state.created_ms, [])
            topic.partitions = [Partition(each.start_offset, each.next_offset) for each in state.partitions]
            self._add(topic)

    def move_starts(self, starts: Iterable[entry_pb2.TopicStart]) -> None:
        """What stands before these offsets is not readable any more; a start never goes back."""
        for each in starts:
            topic = self._by_id.get(each.topic_id)
            if topic is not None:  # else it was deleted meanwhile
                for partition, start in zip(topic.partitions, each.start_offsets, strict=False):
                    assert start <= partition.next_offset, f"topic {each.topic_id}: {start} for {partition}"
                    partition.start_offset = max(partition.start_offset, start)

    def states(self) -> list[entry_pb2.TopicState]:
        """Return what a snapshot holds of the topics, ascending by id."""
        return [_state(topic) for topic in self]

    def _add(self, topic: Topic) -> Topic:
        last = next(reversed(self._by_id), 0)
        assert topic.topic_id > last, f"topic ids rise: {topic.topic_id} after {last}"
        assert topic.name not in self._by_name, f"one topic per name: {topic.name}"
        self._by_id[topic.topic_id] = topic
        self._by_name[topic.name] = topic
        self._partition_count += len(topic.partitions)
        return topic


def _state(topic: Topic) -> entry_pb2.TopicState:
    partitions = [
        entry_pb2.PartitionState(start_offset=each.start_offset, next_offset=each.next_offset)
        for each in topic.partitions
    ]
    return entry_pb2.TopicState(
        topic_id=topic.topic_id, name=topic.name, partitions=partitions, created_ms=topic.created_ms
    )
