"""Commands for tests of the state machine, and a machine over a real log to give them to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from quorumlog.node.machine import LogMachine
from quorumlog.node.results import CommandResult
from quorumlog.proto import batch_pb2, entry_pb2
from quorumlog.proto.batch import encode_values
from quorumlog.proto.entry import command_fragment, entry_parts
from quorumlog.storage.format import KIND_COMMANDS, KIND_NO_OP, STARTS_SEGMENT
from quorumlog.storage.frame import Frame
from quorumlog.storage.log import Log, LogIdentity, LogOptions

IDENTITY = LogIdentity(bytes(16), 0)

Operations = tuple[tuple[entry_pb2.Operation, ...], tuple[bytes, ...]]  # of one command, and its bodies


def create(name: str, partitions: int = 1) -> Operations:
    """Create a topic."""
    creation = entry_pb2.CreateTopic(name=name, partitions=partitions)
    return (entry_pb2.Operation(create_topic=creation),), ()


def delete(topic_id: int) -> Operations:
    """Delete a topic."""
    return (entry_pb2.Operation(delete_topic=entry_pb2.DeleteTopic(topic_id=topic_id)),), ()


def open_producer(producer_id: int = 0) -> Operations:
    """Open a producer."""
    opening = entry_pb2.OpenProducer(producer_id=producer_id)
    return (entry_pb2.Operation(open_producer=opening),), ()


def set_policy(policy: entry_pb2.SyncPolicy) -> Operations:
    """Set the sync policy."""
    return (entry_pb2.Operation(set_sync_policy=entry_pb2.SetSyncPolicy(policy=policy)),), ()


def append(
    topic_id: int,
    values: Sequence[bytes] = (b"value",),
    *,
    partition: int = 0,
    producer: tuple[int, int, int] = (0, 0, 0),
) -> Operations:
    """Append a batch; `producer` is id, epoch and sequence."""
    header, body = encode_values(values, timestamp_ms=1)
    header.producer_id, header.producer_epoch, header.sequence = producer
    return (append_operation(topic_id, partition, header),), (body,)


def append_operation(topic_id: int, partition: int, header: batch_pb2.BatchHeader) -> entry_pb2.Operation:
    """The operation of an append."""
    return entry_pb2.Operation(append=entry_pb2.Append(topic_id=topic_id, partition=partition, batch=header))


def together(*commands: Operations) -> Operations:
    """All operations of these commands as one command."""
    operations = tuple(operation for each, _ in commands for operation in each)
    return operations, tuple(body for _, bodies in commands for body in bodies)


class MachineOnLog:
    """A machine over a log in a directory, fed with entries that a test makes; segments are sealed."""

    def __init__(self, directory: Path, *, segment_entries: int = 100_000) -> None:
        options = LogOptions(segment_bytes=1 << 20, segment_entries=segment_entries, reserve_bytes=1 << 16)
        self.log = Log.open(directory, IDENTITY, options=options)
        self.machine = LogMachine(self.log.views)
        self.frames: list[Frame] = []
        base, state = self.log.load_state()
        self.machine.restore(base, state)
        for index in range(base, self.log.last_index + 1):
            self._apply(self.log.read(index))

    def entry(self, *commands: Operations, time_ms: int = 1_000, level: int = 1) -> Sequence[CommandResult]:
        """Append and apply an entry of these commands."""
        fragments = [command_fragment(entry_pb2.Command(operations=each)) for each, _ in commands]
        bodies = [body for _, bodies in commands for body in bodies]
        return self._new(KIND_COMMANDS, entry_parts(time_ms, level, fragments, bodies))

    def one(self, command: Operations, time_ms: int = 1_000) -> CommandResult:
        """Append and apply an entry of one command; return its result."""
        (result,) = self.entry(command, time_ms=time_ms)
        return result

    def no_op(self) -> None:
        """Append and apply a leader's first entry."""
        self._new(KIND_NO_OP, [b""])

    def take(self, frame: Frame) -> Sequence[CommandResult]:
        """Append and apply an entry that was made elsewhere."""
        self.log.ensure_space(frame.size, frame.starts_segment)
        self.log.append([frame])
        self.log.sync()
        self.frames.append(frame)
        return self._apply(frame)

    def read(self, topic_id: int, partition: int, offset: int, max_rows: int = 100) -> list[bytes]:
        """Return the bodies from an offset on, as a reader finds them."""
        located = self.machine.views.rows(topic_id, partition, offset, 1 << 20, max_rows)
        return [self.log.read_body(base, row.position, row.body_size) for base, row in located]

    def _new(self, kind: int, parts: Sequence[bytes]) -> Sequence[CommandResult]:
        flags = STARTS_SEGMENT if self.log.should_roll(sum(map(len, parts))) else 0
        index = self.log.last_index + 1
        return self.take(Frame.build(index, 1, kind, parts, flags, self.log.last_chain))

    def _apply(self, frame: Frame) -> Sequence[CommandResult]:
        if frame.starts_segment:
            sealable = self.machine.begin_segment(frame.index)
            if sealable is not None:
                self.log.seal(sealable.base, sealable.view, sealable.state)
                self.machine.sealed(sealable.base)
        return self.machine.apply(frame)


@contextmanager
def machine_on_log(directory: Path, *, segment_entries: int = 100_000) -> Iterator[MachineOnLog]:
    """A MachineOnLog that is closed in the end."""
    made = MachineOnLog(directory, segment_entries=segment_entries)
    try:
        yield made
    finally:
        made.log.close()
