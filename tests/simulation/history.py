"""What was sent, answered, applied and read, compared at once with what may be. The judge of every run.

It keeps the log as it was first applied by anybody: raft index -> term, chain, results; and for each
partition the values by offset. Against that stands, by the catalogue's numbers:

    I1  acknowledged: the value is in the log, at its offset; at the end every node
        serves it                                                        acknowledged, run.Audit
    I2  an entry, and an offset, have one content, on every node,
        at every time                                                    applied, read
    I3  what was refused for good is nowhere; nothing is read that
        was not sent                                                     refused, applied
    I4  offsets rise without gaps                                        applied, read
    I5  a read shows a prefix that is committed: exactly what the index
        it states covers; at least what its session has seen; a
        linearizable one all that was acknowledged or seen before it     read
    I6  one leader per term, whose log holds all that was committed
        before; terms and votes are not forgotten                        leads, hard_state_*
    I7  equal entries, equal results, equal state                        applied, run.Audit
    I8  a value is there once                                            applied
    I9  a node stops only for what was done to its disk, and its code
        says for what                                                    node.Node
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from quorumlog.client.batches import BatchMetadata
from quorumlog.client.errors import OffsetOutOfRange
from quorumlog.node.results import Appended, CommandResult
from quorumlog.proto import entry_pb2, service_pb2
from quorumlog.proto.batch import decode_batch
from quorumlog.proto.entry import parse_entry
from quorumlog.storage.format import KIND_COMMANDS
from quorumlog.storage.frame import Frame

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster
    from tests.simulation.node import Node

Place = tuple[int, int]  # topic id, partition


class Violation(AssertionError):
    """Something that was promised does not hold."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry as it was first applied."""

    term: int
    chain: int
    results: Sequence[CommandResult]


@dataclass(slots=True)
class Partition:
    """The values of a partition by offset, and how far it reached at which raft index."""

    values: list[bytes] = field(default_factory=list)
    indexes: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    start_indexes: list[int] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    seen_end: int = 0  # acknowledged or read by somebody: no linearizable read may show less

    def end_at(self, index: int) -> int:
        number = bisect_right(self.indexes, index)
        return self.ends[number - 1] if number else 0

    def start_at(self, index: int) -> int:
        """Return the first offset that can be read once that entry is applied."""
        number = bisect_right(self.start_indexes, index)
        return self.starts[number - 1] if number else 0


class History:
    """See the module."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.entries: dict[int, Entry] = {}
        self.last_index = 0
        self.partitions: dict[Place, Partition] = {}
        self.topics: dict[str, int] = {}
        self.sent: set[bytes] = set()
        self.in_log: set[bytes] = set()
        self.refused_values: set[bytes] = set()
        self.acknowledged_count = 0
        self.read_count = 0
        self.moves = 0  # of the log's start
        self.unknown_count = 0
        self.leaders: dict[int, str] = {}
        self._hard_states: dict[bytes, tuple[int, str | None]] = {}
        self._time_ms = 0

    def fail(self, problem: str) -> None:
        self._cluster.fail(problem)
        raise Violation(problem)

    # What nodes do

    def applied(self, node: Node, frame: Frame, results: Sequence[CommandResult], time_ms: int) -> None:
        """A node applied an entry."""
        known = self.entries.get(frame.index)
        if known is None:
            self._first_applied(node, frame, results, time_ms)
        elif (known.term, known.chain) != (frame.term, frame.chain):
            self.fail(
                f"{node.name} applied another entry {frame.index}: term {frame.term}, "
                f"known is that of {known.term}"
            )
        elif known.results != results:
            self.fail(
                f"{node.name}: results of entry {frame.index} differ: {results}, known are {known.results}"
            )

    def _first_applied(
        self, node: Node, frame: Frame, results: Sequence[CommandResult], time_ms: int
    ) -> None:
        if frame.index != self.last_index + 1:
            self.fail(
                f"{node.name} applied entry {frame.index}, but nobody has applied {self.last_index + 1}"
            )
        if time_ms < self._time_ms:
            self.fail(f"time falls at entry {frame.index}: {time_ms} after {self._time_ms}")
        self._time_ms = time_ms
        self.last_index = frame.index
        self.entries[frame.index] = Entry(frame.term, frame.chain, results)
        self._cluster.events.note(f"{frame.index} {frame.term} {frame.chain}")
        if self._cluster.is_traced:
            self._cluster.tell(f"{node.name}: first to apply {frame.index} of term {frame.term}: {results}")
        if frame.kind == KIND_COMMANDS:
            self._take_commands(frame, results)

    def _take_commands(self, frame: Frame, results: Sequence[CommandResult]) -> None:
        payload = frame.payload()
        header, position = parse_entry(payload)
        for command, result in zip(header.commands, results, strict=True):
            for number, operation in enumerate(command.operations):
                kind = operation.WhichOneof("operation")
                if kind == "append":
                    size = operation.append.batch.body_size
                    if isinstance(result, tuple):
                        body = bytes(payload[position : position + size])
                        self._take_append(operation.append, body, result[number], frame.index)
                    position += size
                elif kind == "move_log_start" and isinstance(result, tuple):
                    self._take_starts(operation.move_log_start, frame.index)
                elif kind == "create_topic" and isinstance(result, tuple):
                    self.topics[operation.create_topic.name] = frame.index

    def _take_starts(self, move: entry_pb2.MoveLogStart, index: int) -> None:
        self.moves += 1
        for topic in move.topics:
            for number, start in enumerate(topic.start_offsets):
                partition = self.partitions.setdefault((topic.topic_id, number), Partition())
                partition.starts.append(max(start, partition.start_at(index)))
                partition.start_indexes.append(index)

    def _take_append(self, append: entry_pb2.Append, body: bytes, result: object, index: int) -> None:
        assert isinstance(result, Appended)
        if result.duplicate:
            return
        partition = self.partitions.setdefault((append.topic_id, append.partition), Partition())
        if result.base_offset != len(partition.values):
            self.fail(f"entry {index}: offset {result.base_offset} after {len(partition.values)} records")
        for value in decode_batch(append.batch, body).values:
            assert value is not None
            if value not in self.sent:
                self.fail(f"entry {index}: {value[:40]!r} was never sent")
            if value in self.in_log:
                self.fail(f"entry {index}: {value[:40]!r} is there twice")
            if value in self.refused_values:
                self.fail(f"entry {index}: {value[:40]!r} was refused for good")
            self.in_log.add(value)
            partition.values.append(value)
        partition.indexes.append(index)
        partition.ends.append(len(partition.values))

    def leads(self, node: Node, term: int) -> None:
        """A node became leader."""
        known = self.leaders.setdefault(term, node.name)
        if known != node.name:
            self.fail(f"two leaders in term {term}: {known} and {node.name}")
        index = self.last_index
        while index and self.entries[index].term >= term:
            index -= 1
        journal = node.engine.replica.journal
        if index > journal.last_index:
            self.fail(f"{node.name} leads term {term} and lacks the committed entry {index}")
        is_kept = index >= max(1, journal.first_index) and not node.is_damaged
        if is_kept and journal.frame_at(index).chain != self.entries[index].chain:
            self.fail(f"{node.name} leads term {term} with another log up to the committed entry {index}")

    def hard_state_loaded(self, node: Node, term: int, vote: str | None) -> None:
        """A node has read its term and vote."""
        known = self._hard_states.get(node.directory_id, (0, None))
        if term < known[0] or (term == known[0] and known[1] is not None and vote != known[1]):
            self.fail(f"{node.name} remembers term {term} and vote {vote}, it had saved {known}")

    def hard_state_saved(self, node: Node, term: int, vote: str | None) -> None:
        self._hard_states[node.directory_id] = (term, vote)

    # What clients see

    def sends(self, value: bytes) -> None:
        self.sent.add(value)

    def acknowledged(self, values: Sequence[bytes], result: BatchMetadata) -> None:
        """A batch's records were acknowledged."""
        self.acknowledged_count += len(values)
        partition = self.partitions[self.topics[result.topic], result.partition]
        found = partition.values[result.offset : result.offset + len(values)]
        if found != values:
            self.fail(f"acknowledged at {result.offset}: {_short(values)}, in the log are {_short(found)}")
        partition.seen_end = max(partition.seen_end, result.offset + len(values))

    def refused(self, values: Sequence[bytes]) -> None:
        """The client was told that these records are surely not appended."""
        for value in values:
            if value in self.in_log:
                self.fail(f"{value[:40]!r} was refused for good, and is in the log")
            self.refused_values.add(value)

    def floor(self, topic: str, partition: int) -> int:
        """Return what a linearizable read that begins now must show at least."""
        found = self.partitions.get((self.topics[topic], partition))
        return found.seen_end if found is not None else 0

    def read(
        self,
        who: str,
        topic: str,
        number: int,
        offset: int,
        response: service_pb2.FetchResponse,
        *,
        min_index: int = 0,
        floor: int = 0,
    ) -> None:
        """An answer to a fetch from `offset` on. `min_index` and `floor`: it must cover as much."""
        self.read_count += 1
        partition = self.partitions.setdefault((self.topics[topic], number), Partition())
        end = partition.end_at(response.applied_index)
        if response.applied_index > self.last_index or response.high_watermark != end:
            self.fail(
                f"{who}: the end is {response.high_watermark} at index {response.applied_index}; "
                f"it is {end}, and {self.last_index} is committed"
            )
        if response.start_offset != partition.start_at(response.applied_index):
            self.fail(
                f"{who}: the log starts at {response.start_offset} at index {response.applied_index}; "
                f"agreed is {partition.start_at(response.applied_index)}"
            )
        if response.applied_index < min_index:
            self.fail(f"{who}: a session at index {min_index} was answered at {response.applied_index}")
        if response.high_watermark < floor:
            self.fail(
                f"{who}: a linearizable read ends at {response.high_watermark}; {floor} was known before"
            )
        partition.seen_end = max(partition.seen_end, response.high_watermark)
        for batch in response.batches:
            if batch.base_offset > offset:
                self.fail(f"{who}: offset {offset} was next, {batch.base_offset} came")
            values = list(decode_batch(batch.header, batch.body).values)
            known = partition.values[batch.base_offset : batch.base_offset + len(values)]
            if values != known:
                self.fail(
                    f"{who}: read at {batch.base_offset}: {_short(values)}, in the log are {_short(known)}"
                )
            offset = batch.base_offset + len(values)
        if offset > end and response.batches:
            self.fail(f"{who}: read up to {offset}, the end is {end}")

    def out_of_range(self, who: str, topic: str, number: int, offset: int, error: OffsetOutOfRange) -> None:
        """A fetch was refused: the node has dropped that offset, or does not have it yet."""
        partition = self.partitions.setdefault((self.topics[topic], number), Partition())
        if error.earliest <= offset <= error.latest:
            self.fail(f"{who}: offset {offset} is refused, {error.earliest} to {error.latest} are there")
        if error.earliest > partition.start_at(self.last_index):
            self.fail(f"{who}: {error.earliest} is said to be the first offset, it is not agreed upon")
        if error.latest > len(partition.values):
            self.fail(f"{who}: the end is said to be {error.latest}, it is {len(partition.values)}")


def _short(values: Sequence[bytes | None]) -> list[bytes]:
    return [(value or b"")[:24] for value in values[:4]]
