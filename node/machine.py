"""The state machine: what the log's entries add up to. The same on every node, by construction.

    frame -> EntryHeader -> commands -> operations
    each command: check every operation, then perform them all, or none (the result says why)

It knows topics (topics.py), producers (producers.py), the sync policy, and feeds the views, which map offsets
to bytes. It reads no clock, draws nothing at random and learns nothing from I/O: the place of a batch's body
is computed from the sizes of what came before. So equal entries give equal results, equal views and, byte
for byte, equal snapshots.

Operations on topics, producers and settings stand alone in their command; appends may be many. Within a
command each append is checked as if those before it were done.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from quorumlog.node.producers import Producers, Sequenced, Staged
from quorumlog.node.reasons import Reason, Refused
from quorumlog.node.results import (
    Appended,
    CommandResult,
    LogStartMoved,
    OperationResult,
    PolicySet,
    ProducerOpened,
    TopicCreated,
    TopicDeleted,
)
from quorumlog.node.tails import PartitionKey
from quorumlog.node.topics import Topic, Topics
from quorumlog.proto import batch_pb2, entry_pb2
from quorumlog.proto.entry import command_fragment, parse_entry
from quorumlog.raft.machine import Sealable
from quorumlog.storage.format import (
    FRAME_HEADER_BYTES,
    KIND_COMMANDS,
    KIND_MEMBERSHIP,
    KIND_NO_OP,
    SEGMENT_HEADER_BYTES,
)
from quorumlog.storage.frame import Frame
from quorumlog.storage.view import ActiveView, BatchRow
from quorumlog.storage.views import Views

logger = logging.getLogger(__name__)

# What this build can apply. It rises with every kind of operation that older builds do not know; entries of
# a higher level are written only after all members have agreed to it, and stop whoever does not know them. So
# does an operation that is not known: MoveLogStart has no level of its own, since no release is without it.
FEATURE_LEVEL = 1


class UnknownEntry(Exception):
    """A newer quorumlog wrote this entry: going on would give another state than the others have."""


class LogMachine:
    """raft.machine.Machine over storage's views. Used on one thread.

    - `applied_index` entries are in the state; `time_ms`, that of the last of them, never falls.
    - A partition's next offset is what the active view says, too.
    """

    def __init__(self, views: Views) -> None:
        self.views = views
        self.topics = Topics()
        self.producers = Producers()
        self.applied_index = 0
        self.time_ms = 0
        self.membership = b""
        self.log_start = 0
        self._sync_policy: int = entry_pb2.SYNC_ALWAYS
        self._feature_level = FEATURE_LEVEL
        self._position = SEGMENT_HEADER_BYTES  # of the next frame, in the active segment's file
        self._active = ActiveView(1)
        self._changed: set[PartitionKey] = set()

    # What the engine calls --------------------------------------------------------------------

    @property
    def sync_policy(self) -> int:
        """See Machine."""
        return self._sync_policy

    def entry_prefix(self, now_ms: int) -> tuple[int, int]:
        """See Machine."""
        return max(now_ms, self.time_ms), self._feature_level

    def restore(self, base: int, state: bytes | None) -> None:
        """See Machine. Raises UnknownEntry where a newer build wrote the state."""
        snapshot = (
            entry_pb2.StateSnapshot.FromString(state) if state is not None else entry_pb2.StateSnapshot()
        )
        if snapshot.feature_level > FEATURE_LEVEL:
            raise _unknown_level("state", snapshot.feature_level)
        assert snapshot.raft_index == base - 1, (
            f"state: expected that of {base - 1}, got {snapshot.raft_index}"
        )
        self.applied_index = base - 1
        self.time_ms = snapshot.time_ms
        self.membership = snapshot.membership
        self.log_start = snapshot.log_start
        self._sync_policy = snapshot.sync_policy
        self._feature_level = snapshot.feature_level or FEATURE_LEVEL
        self._changed.update(self.topics.keys())  # who waits is to look again, at a topic that is gone, too
        self.topics.load(snapshot.topics)
        self._changed.update(self.topics.keys())
        self.producers.load(snapshot.producers, snapshot.next_producer_id or 1)
        self.views.clear()
        self._begin_view(base)

    def begin_segment(self, base: int) -> Sealable | None:
        """See Machine."""
        assert base == self.applied_index + 1, f"segment {base} begins after entry {self.applied_index}"
        finished = self._active
        if finished.base == base:
            return None
        self._begin_view(base)
        return Sealable(finished.base, finished, base, self.snapshot())

    def move_log_start(self, base: int) -> bytes:
        """See Machine. The offsets are those of the sealed view, so that no applier needs a file for them."""
        starts: dict[int, list[int]] = {}
        for (topic_id, _), next_offset in self.views.ends_before(base):
            starts.setdefault(topic_id, []).append(next_offset)
        move = entry_pb2.MoveLogStart(
            raft_index=base,
            topics=[
                entry_pb2.TopicStart(topic_id=topic_id, start_offsets=offsets)
                for topic_id, offsets in starts.items()
                if any(offsets) and self.topics.with_id(topic_id) is not None
            ],
        )
        return command_fragment(entry_pb2.Command(operations=[entry_pb2.Operation(move_log_start=move)]))

    def sealed(self, base: int) -> None:
        """See Machine."""
        self.views.sealed(base)

    def apply(self, frame: Frame) -> Sequence[CommandResult]:
        """See Machine. Raises UnknownEntry, or an assertion: the node stops."""
        assert frame.index == self.applied_index + 1, f"entry {frame.index} after {self.applied_index}"
        results: Sequence[CommandResult] = ()
        if frame.kind == KIND_COMMANDS:
            results = self._apply_commands(frame)
        elif frame.kind == KIND_MEMBERSHIP:
            self.membership = bytes(frame.payload())
        elif frame.kind != KIND_NO_OP:
            raise UnknownEntry(f"entry {frame.index}: kind {frame.kind:#x}, which this build does not know")
        self._position += frame.size
        self.applied_index = frame.index
        return results

    @property
    def active_base(self) -> int:
        """Raft index of the first entry of the segment that is being applied."""
        return self._active.base

    # What the services call -------------------------------------------------------------------

    def take_changed(self) -> set[PartitionKey]:
        """Return the partitions that grew, or whose topic was deleted, since the last call."""
        changed, self._changed = self._changed, set()
        return changed

    def snapshot(self) -> bytes:
        """Return the state as of `applied_index`, a StateSnapshot: the same bytes on every node."""
        head = entry_pb2.StateSnapshot(
            raft_index=self.applied_index,
            time_ms=self.time_ms,
            feature_level=self._feature_level,
            sync_policy=entry_pb2.SyncPolicy.Name(self._sync_policy),
            next_producer_id=self.producers.next_producer_id,
            topics=self.topics.states(),
            membership=self.membership,
            log_start=self.log_start,
        )
        # protobuf merges what is written one after another, so an unchanged producer's bytes are used again.
        return b"".join([head.SerializeToString(deterministic=True), *self.producers.fragments()])

    # Inside -----------------------------------------------------------------------------------

    def _begin_view(self, base: int) -> None:
        view = ActiveView(base)
        for topic in self.topics:
            for number, partition in enumerate(topic.partitions):
                view.ensure(topic.topic_id, number, partition.next_offset)
        self._active = view
        self._position = SEGMENT_HEADER_BYTES
        self.views.begin(view)

    def _apply_commands(self, frame: Frame) -> list[CommandResult]:
        header, body_position = parse_entry(frame.parts[0])
        if header.feature_level > FEATURE_LEVEL:
            raise _unknown_level(f"entry {frame.index}", header.feature_level)
        # The leader's clock may have been set back, or be behind an earlier leader's: time never falls here.
        self.time_ms = max(self.time_ms, header.time_ms)
        entry = _Entry(frame.index, self._position + FRAME_HEADER_BYTES + body_position)
        results = [self._apply_command(command, entry) for command in header.commands]
        end = self._position + frame.size
        assert entry.position == end, (
            f"entry {frame.index}: bodies end at {entry.position}, the frame at {end}"
        )
        return results

    def _apply_command(self, command: entry_pb2.Command, entry: _Entry) -> CommandResult:
        operations = command.operations
        kind = operations[0].WhichOneof("operation") if len(operations) == 1 else "append"
        if kind == "append":
            return self._apply_appends([_append_in(operation, entry) for operation in operations], entry)
        result = self._apply_alone(operations[0], kind, entry)
        self.producers.forget_least_used()
        return result if isinstance(result, Refused) else (result,)

    def _apply_alone(
        self, operation: entry_pb2.Operation, kind: str | None, entry: _Entry
    ) -> OperationResult | Refused:
        match kind:
            case "create_topic":
                return self._create_topic(operation.create_topic, entry)
            case "delete_topic":
                return self._delete_topic(operation.delete_topic.topic_id)
            case "open_producer":
                return self._open_producer(operation.open_producer.producer_id)
            case "set_sync_policy":
                return self._set_sync_policy(operation.set_sync_policy.policy)
            case "move_log_start":
                return self._move_log_start(operation.move_log_start)
            case _:
                raise UnknownEntry(f"entry {entry.index}: an operation that this build does not know")

    def _apply_appends(self, appends: Sequence[entry_pb2.Append], entry: _Entry) -> CommandResult:
        # Every body takes its place in the entry, whether its command is refused or not.
        positions = [entry.take(append.batch.body_size) for append in appends]
        staged: Staged = {}
        repeats: list[Appended | None] = []
        for append in appends:
            checked = self._check_append(append, staged)
            if isinstance(checked, Refused):
                return checked
            repeats.append(checked)
        results: list[OperationResult] = []
        for append, position, repeat in zip(appends, positions, repeats, strict=True):
            if repeat is None:
                results.append(self._append(append, position, entry.index))
            else:
                self.producers.record_repeat(append.batch.producer_id)
                results.append(repeat)
        self.producers.forget_least_used()
        return tuple(results)

    def _check_append(self, append: entry_pb2.Append, staged: Staged) -> Appended | Refused | None:
        topic = self.topics.with_id(append.topic_id)
        if topic is None:
            return Refused(Reason.UNKNOWN_TOPIC, f"topic id {append.topic_id}: deleted, or never created")
        if append.partition >= len(topic.partitions):
            return unknown_partition(topic, append.partition)
        if append.batch.producer_id == 0:
            return None
        return self.producers.check_append(_sequenced(append), staged)

    def _append(self, append: entry_pb2.Append, position: int, index: int) -> Appended:
        batch = append.batch
        topic = self._topic(append)
        partition = topic.partitions[append.partition]
        appended = Appended(partition.next_offset, self.time_ms, index)
        row = BatchRow.of(batch, index, appended.base_offset, self.time_ms, position)
        self._active.add(append.topic_id, append.partition, row)
        partition.next_offset += batch.span
        topic.traffic.bytes_in += batch.body_size
        if batch.producer_id:
            self.producers.record_append(_sequenced(append), appended)
        self._changed.add((append.topic_id, append.partition))
        return appended

    def _topic(self, append: entry_pb2.Append) -> Topic:
        topic = self.topics.with_id(append.topic_id)
        assert topic is not None, "the append was checked"
        return topic

    def _create_topic(self, creation: entry_pb2.CreateTopic, entry: _Entry) -> TopicCreated | Refused:
        refused = self.topics.check_creation(entry.index, creation.name, creation.partitions)
        if refused is not None:
            return refused
        topic = self.topics.create(entry.index, creation.name, creation.partitions, self.time_ms)
        for number in range(len(topic.partitions)):
            self._active.ensure(topic.topic_id, number)
        return TopicCreated(topic.topic_id)

    def _delete_topic(self, topic_id: int) -> TopicDeleted | Refused:
        if self.topics.with_id(topic_id) is None:
            return Refused(Reason.UNKNOWN_TOPIC, f"topic id {topic_id}: deleted, or never created")
        topic = self.topics.delete(topic_id)
        self.producers.delete_topic(topic_id)
        self._active.remove_topic(topic_id)
        self._changed.update((topic_id, number) for number in range(len(topic.partitions)))
        return TopicDeleted(topic_id)

    def _open_producer(self, producer_id: int) -> ProducerOpened | Refused:
        refused = self.producers.check_opening(producer_id)
        if refused is not None:
            return refused
        producer = self.producers.open(producer_id)
        return ProducerOpened(producer.producer_id, producer.epoch)

    def _move_log_start(self, move: entry_pb2.MoveLogStart) -> LogStartMoved | Refused:
        if not self.log_start < move.raft_index <= self._active.base:
            problem = (
                f"log start: expected {self.log_start + 1} to {self._active.base}, got {move.raft_index}"
            )
            return Refused(Reason.BAD_REQUEST, problem)
        self.log_start = move.raft_index
        self.topics.move_starts(move.topics)
        return LogStartMoved(move.raft_index)

    def _set_sync_policy(self, policy: int) -> PolicySet | Refused:
        if policy not in entry_pb2.SyncPolicy.values():
            return Refused(Reason.BAD_REQUEST, f"sync policy: unknown: {policy}")
        self._sync_policy = policy
        return PolicySet(policy)


class _Entry:
    """The entry that is being applied: its index, and where the next body stands in the segment's file."""

    __slots__ = ("index", "position")

    def __init__(self, index: int, position: int) -> None:
        self.index = index
        self.position = position

    def take(self, size: int) -> int:
        """Return the place of a body of that size; the next one follows it."""
        position = self.position
        self.position += size
        return position


def unknown_partition(topic: Topic, partition: int) -> Refused:
    """Return the refusal for a partition that a topic does not have."""
    problem = f"topic {topic.name}: partitions are 0 to {len(topic.partitions) - 1}, got {partition}"
    return Refused(Reason.UNKNOWN_PARTITION, problem)


def _unknown_level(where: str, level: int) -> UnknownEntry:
    return UnknownEntry(f"{where}: feature level: expected at most {FEATURE_LEVEL}, got {level}")


def _append_in(operation: entry_pb2.Operation, entry: _Entry) -> entry_pb2.Append:
    kind = operation.WhichOneof("operation")
    if kind != "append":
        # Whoever proposes puts other operations into commands of their own.
        raise UnknownEntry(f"entry {entry.index}: {kind} beside other operations in one command")
    return operation.append


def _sequenced(append: entry_pb2.Append) -> Sequenced:
    batch: batch_pb2.BatchHeader = append.batch
    return Sequenced(
        batch.producer_id,
        batch.producer_epoch,
        batch.sequence,
        batch.count,
        (append.topic_id, append.partition),
    )
