"""Scripts: a cluster that a test plays with step by step, for what random runs do not see or show too late.

The same simulation as that of the random runs: engine, transport, disks, network and time; with a state
machine that only remembers, commands of any size, and a hand on every message (`network.intercept`), session
and disk.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, MutableSet, Sequence
from dataclasses import dataclass
from typing import Any

from quorumlog.proto import entry_pb2
from quorumlog.proto.entry import command_fragment, parse_entry
from quorumlog.proto.peer_pb2 import PeerMessage
from quorumlog.raft.errors import EXIT_BUG, NotProposed
from quorumlog.raft.machine import Sealable
from quorumlog.raft.proposal import Committed, Proposal
from quorumlog.raft.proposals import Outcome
from quorumlog.storage import format as layout
from quorumlog.storage.frame import Frame
from quorumlog.storage.log import LogOptions
from quorumlog.storage.view import ActiveView
from tests.simulation import cluster as simulated
from tests.simulation import node as simulated_node
from tests.simulation.history import History
from tests.simulation.network import Conditions
from tests.support.simulated_disk import PowerCut

Faults = Conditions


class RecordingMachine:
    """Applies by remembering: (index, term, kind, payload), and a result per command."""

    def __init__(self, node: Node) -> None:
        self.base = 1
        self.time_ms = 0
        self.sync_policy: int = entry_pb2.SYNC_ALWAYS
        self.membership = b""
        self.log_start = 0
        self.sealed_bases: list[int] = []
        self._node = node
        self._segment = 1

    def restore(self, base: int, state: bytes | None) -> None:
        self.base = self._segment = base
        time_ms, log_start, self.membership = (state or b"0 0 ").split(b" ", 2)
        self.time_ms, self.log_start = int(time_ms), int(log_start)

    def begin_segment(self, base: int) -> Sealable | None:
        previous, self._segment = self._segment, base
        state = b"%d %d %s" % (self.time_ms, self.log_start, self.membership)
        view = ActiveView(previous)
        view.last_append_time_ms = self.time_ms
        return Sealable(previous, view, base, state)

    def sealed(self, base: int) -> None:
        self.sealed_bases.append(base)

    def apply(self, frame: Frame) -> Sequence[object]:
        results = self._apply(frame)
        self._node.cluster.note(self._node, frame)
        return results

    def _apply(self, frame: Frame) -> Sequence[object]:
        if frame.kind == layout.KIND_MEMBERSHIP:
            self.membership = bytes(frame.payload())
        if frame.kind != layout.KIND_COMMANDS:
            return ()
        header, _ = parse_entry(frame.payload())
        self.time_ms = max(self.time_ms, header.time_ms)
        for command in header.commands:
            self.log_start = max(self.log_start, command.operations[0].move_log_start.raft_index)
        return [f"{frame.index}.{number}" for number in range(len(header.commands))]

    def move_log_start(self, base: int) -> bytes:
        operation = entry_pb2.Operation(move_log_start=entry_pb2.MoveLogStart(raft_index=base))
        return command_fragment(entry_pb2.Command(operations=[operation]))

    def entry_prefix(self, now_ms: int) -> tuple[int, int]:
        return max(now_ms, self.time_ms), 1


class Node(simulated_node.Node):
    """A node with a hand on its machine and its configuration."""

    cluster: Cluster

    def __init__(self, cluster: Cluster, name: str) -> None:
        super().__init__(cluster, name)
        self.directory_id = name.encode().rjust(16, b"-")
        self.members = {other: f"{other}:1" for other in cluster.names}
        self._last_machine: RecordingMachine | None = None

    def start(self) -> bool:
        """Start; what keeps it from starting is raised."""
        self.powered = True
        return super().start()

    def _refused(self, exit_code: int, error: Exception) -> bool:
        self._ended(power_loss=False)
        raise error

    def _judge(self, exit_code: int, message: str) -> None:
        """Scripts look at exit codes themselves; an invariant that does not hold ends them."""
        self.exit_code = exit_code
        if exit_code == EXIT_BUG:
            self.cluster.fail(f"{self.name} found a bug in itself: {message}")

    def after_each(self) -> None:
        if self.process is not None and self.disk.is_dead:
            raise PowerCut
        super().after_each()

    @property
    def clock_ahead_s(self) -> float:
        return self.wall_offset_s

    @clock_ahead_s.setter
    def clock_ahead_s(self, seconds: float) -> None:
        self.wall_offset_s = seconds

    @property
    def machine(self) -> Any:
        """Of this life, or of the last one."""
        return self._last_machine

    def make_machine(self, log: Any) -> Any:
        self._last_machine = RecordingMachine(self)
        return self._last_machine


@dataclass(frozen=True, slots=True)
class Connection:
    """A session of two nodes: each has a number of its own for it."""

    numbers: Mapping[str, int]


class Directions(MutableSet[tuple[str, str]]):
    """The blocked directions, as a set."""

    def __init__(self, cluster: Cluster) -> None:
        self._network = cluster.network

    def __contains__(self, direction: object) -> bool:
        return direction in self._network.blocked_since

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(sorted(self._network.blocked_since))

    def __len__(self) -> int:
        return len(self._network.blocked_since)

    def add(self, direction: tuple[str, str]) -> None:
        self._network.block([direction])

    def discard(self, direction: tuple[str, str]) -> None:
        self._network.unblock([direction])


class ScriptHistory(History):
    """Looks at leaders, and at terms and votes; entries are the cluster's to compare."""

    _cluster: Cluster

    def leads(self, node: Any, term: int) -> None:
        if self._cluster.judges_all:
            super().leads(node, term)


class Cluster(simulated.Cluster):
    """See the module.

    - one value per raft index, on every node, ever (`applied`)
    - one leader per term, with all that is committed (the history)
    - what was acknowledged is applied at that index with that value (`check`)
    """

    nodes: dict[str, Node]  # type: ignore[assignment]

    def __init__(
        self,
        count: int = 3,
        seed: int = 0,
        faults: Conditions | None = None,
        options: LogOptions | None = None,
    ) -> None:
        self.applied: dict[int, tuple[int, int, bytes]] = {}
        self.acknowledged: dict[int, list[bytes]] = {}
        self.outcomes: list[Outcome | NotProposed] = []
        self.judges_all = True
        self._values = itertools.count()
        super().__init__(
            count, seed, faults, options or LogOptions(segment_bytes=64 << 10, segment_entries=200)
        )
        self.tick_s = 0.02
        self.history = ScriptHistory(self)

    def make_node(self, name: str) -> Node:
        return Node(self, name)

    # Looking

    def note(self, node: Node, frame: Frame) -> None:
        """An entry was applied."""
        if not self.judges_all:
            return
        entry = frame.term, frame.kind, bytes(frame.payload())
        known = self.applied.setdefault(frame.index, entry)
        assert known == entry, f"{node.name} applied another entry {frame.index} ({self})"

    def forget(self) -> None:
        """What happened so far is held against nobody."""
        self.applied.clear()
        self.acknowledged.clear()
        self.history = ScriptHistory(self)

    def forgive(self) -> None:
        """Go on after a violation."""
        self.violation = None
        self.events.go_on()

    def check(self) -> None:
        """Everything acknowledged is applied, at its index, with its value."""
        for index, values in self.acknowledged.items():
            assert index in self.applied, f"acknowledged entry {index} is nowhere ({self})"
            payload = self.applied[index][2]
            for value in values:
                assert value in payload, f"acknowledged {value!r} is not in entry {index} ({self})"

    # Working

    def propose(self, node: Node, size: int = 100, timeout_s: float = 5.0) -> list[Outcome]:
        """Propose one command of `size` bytes at a node; the returned list gets its outcome."""
        value = b"value-%d;" % next(self._values)
        body = value + bytes(max(0, size - len(value)))
        fragment = command_fragment(entry_pb2.Command(operations=[entry_pb2.Operation()]))
        outcomes: list[Outcome] = []

        def resolve(outcome: Outcome) -> None:
            outcomes.append(outcome)
            self.outcomes.append(outcome)
            if isinstance(outcome, Committed):
                self.acknowledged.setdefault(outcome.index, []).append(value)

        assert node.replica is not None
        try:
            node.replica.propose(Proposal(fragment, (body,)), timeout_s, resolve)
        except NotProposed as error:
            self.outcomes.append(error)
        return outcomes

    # Sessions and lines

    @property
    def intercept(self) -> Callable[[str, str, PeerMessage], bool] | None:
        """Asked for each message of a session; True: it is lost."""
        return self.network.intercept

    @intercept.setter
    def intercept(self, intercept: Callable[[str, str, PeerMessage], bool] | None) -> None:
        self.network.intercept = intercept

    @property
    def blocked(self) -> Any:
        return Directions(self)

    @blocked.setter
    def blocked(self, directions: Any) -> None:
        """For `blocked |= ...`, which has done it."""

    def connection(self, one: str, other: str) -> Connection | None:
        """The session between two nodes, where both have it."""
        numbers = {}
        for name, peer in ((one, other), (other, one)):
            replica = self.nodes[name].replica
            number = replica.peers.sessions.get(peer) if replica is not None else None
            if number is None:
                return None
            numbers[name] = number
        return Connection(numbers)

    def session(self, at: str, peer: str) -> int:
        """The number that a node gave to its session with a peer."""
        connection = self.connection(at, peer)
        assert connection is not None, f"{at} and {peer} have no session"
        return connection.numbers[at]

    def disconnect(self, one: str, other: str) -> None:
        """The connection breaks, and both know it at once; it is dialled again."""
        for end in self.network.between(one, other):
            end.loop.execute(end.lost, ())

    def isolate(self, name: str) -> None:
        """Cut a node off, both ways; its connections break."""
        super().isolate(name)
        for other in self.names:
            if other != name:
                self.disconnect(name, other)


__all__ = ["Cluster", "Connection", "Faults", "Node", "RecordingMachine"]
