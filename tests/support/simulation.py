"""A cluster of replicas in one process: virtual time, network, threads and disks, all from one seed.

Whole replicas (our admission, progress, durability and journal, with pysyncobj inside) run on simulated
disks. Messages of a connection come in order and are lost when it breaks; a kill loses what was in memory; a
power loss also loses what was not synced, page by page. `Cluster.check()` compares what every node applied.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from quorumlog.proto import entry_pb2
from quorumlog.proto.checksum import Buffer
from quorumlog.proto.entry import command_fragment, parse_entry
from quorumlog.proto.peer_pb2 import PeerMessage
from quorumlog.raft import core
from quorumlog.raft.errors import EXIT_BUG, NotProposed
from quorumlog.raft.hardstate import HardState
from quorumlog.raft.machine import Sealable
from quorumlog.raft.proposal import Committed, Proposal
from quorumlog.raft.proposals import Outcome
from quorumlog.raft.replica import Fatal, Replica, ReplicaConfig
from quorumlog.storage import format as layout
from quorumlog.storage.frame import Frame
from quorumlog.storage.log import Log, LogIdentity, LogOptions
from quorumlog.storage.view import ActiveView
from tests.support.simulated_disk import SimulatedDisk

IDENTITY = LogIdentity(b"simulated-cluste", 0)
TICK_S = 0.02
GROUP = Path("/data/group-0")


class Events:
    """Virtual time: what is to happen, in order."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def after(self, delay: float, event: Callable[[], None]) -> None:
        self.at(self.now + delay, event)

    def at(self, moment: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (moment, next(self._order), event))

    def run_until(self, moment: float) -> None:
        while self._queue and self._queue[0][0] <= moment:
            self.now, _, event = heapq.heappop(self._queue)
            event()
        self.now = moment

    def clock(self) -> float:
        return self.now


class RecordingMachine:
    """Applies by remembering: (index, term, kind, payload), and a result per command."""

    def __init__(self) -> None:
        self.base = 1
        self.applied: dict[int, tuple[int, int, bytes]] = {}
        self.time_ms = 0
        self.sync_policy: int = entry_pb2.SYNC_ALWAYS
        self.sealed_bases: list[int] = []
        self._segment = 1

    def restore(self, base: int, state: bytes | None) -> None:
        self.base = self._segment = base
        self.time_ms = int(state) if state else 0

    def begin_segment(self, base: int) -> Sealable | None:
        previous, self._segment = self._segment, base
        return Sealable(previous, ActiveView(previous), base, b"%d" % self.time_ms)

    def sealed(self, base: int) -> None:
        self.sealed_bases.append(base)

    def apply(self, frame: Frame) -> Sequence[object]:
        self.applied[frame.index] = (frame.term, frame.kind, bytes(frame.payload()))
        if frame.kind == layout.KIND_NO_OP:
            return ()
        header, _ = parse_entry(frame.payload())
        self.time_ms = max(self.time_ms, header.time_ms)
        return [f"{frame.index}.{number}" for number in range(len(header.commands))]

    def entry_prefix(self, now_ms: int) -> tuple[int, int]:
        return max(now_ms, self.time_ms), 1


@dataclass
class Connection:
    """One session between two nodes: messages of each direction arrive in order, or not at all."""

    number: int
    alive: bool = True


@dataclass
class Faults:
    """How the world behaves: delays in seconds (low, high)."""

    network_delay: tuple[float, float] = (0.0005, 0.003)
    disk_delay: tuple[float, float] = (0.0003, 0.002)
    reconnect_delay: tuple[float, float] = (0.02, 0.2)


class Worker:
    """raft.replica.Worker in virtual time, one piece after the other."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._free_at = 0.0

    def submit(self, work: Callable[[], None], done: Callable[[BaseException | None], None]) -> None:
        node, life = self._node, self._node.life
        start = max(self._free_at, node.cluster.events.now)
        self._free_at = start + node.cluster.draw(node.disk_delay or node.cluster.faults.disk_delay)
        # The data may reach the disk early or late in the interval; the answer comes at its end.
        node.cluster.events.at(self._free_at, lambda: node.if_alive(life, lambda: self._finish(work, done)))

    def _finish(self, work: Callable[[], None], done: Callable[[BaseException | None], None]) -> None:
        error: BaseException | None = None
        try:
            work()
        except Exception as caught:  # noqa: BLE001 (whatever it is, it is handed on)
            error = caught
        done(error)


class Node:
    """A replica with its disk; it can be killed, lose power, pause and come back."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster = cluster
        self.name = name
        self.disk = SimulatedDisk()
        self.life = 0
        self.replica: Replica | None = None
        self.machine = RecordingMachine()
        self.disk_delay: tuple[float, float] | None = None
        self.exit_code: int | None = None
        self._tick_scheduled = False
        self._paused_until = 0.0

    # life

    @property
    def running(self) -> bool:
        return self.replica is not None

    def start(self) -> None:
        assert self.replica is None
        self.life += 1
        self.exit_code = None
        self._tick_scheduled = False
        self.machine = RecordingMachine()
        log = Log.open(GROUP, IDENTITY, self.disk, self.cluster.log_options)
        hard_state = HardState(self.disk, GROUP / "term", log_is_empty=log.last_index == 0)
        peers = tuple(name for name in self.cluster.names if name != self.name)
        self.replica = Replica(
            ReplicaConfig(self.name, peers),
            log,
            hard_state,
            self.machine,
            self,
            Worker(self),
            Worker(self),
            clock=self.cluster.events.clock,
            wall_clock_ms=lambda: int(self.cluster.events.now * 1000),
            wake=self._wake,
            wake_after=self._wake_after,
        )
        self._timer(self.life)

    def kill(self, *, power_loss: bool = False) -> None:
        """Stop at once; a power loss also takes what was not synced."""
        assert self.replica is not None
        self.replica = None
        self.disk = self.disk.after_power_loss(self.cluster.random) if power_loss else self.disk.after_kill()
        self.cluster.drop_connections(self.name)

    def pause(self, seconds: float) -> None:
        self._paused_until = self.cluster.events.now + seconds

    # raft.replica.Network

    def send(self, peer_id: str, message: PeerMessage, attachment: Sequence[Buffer] = ()) -> None:
        raw = message.SerializeToString()
        data = b"".join(bytes(piece) for piece in attachment) or None
        self.cluster.transmit(self.name, peer_id, raw, data)

    def has_room(self, peer_id: str) -> bool:
        return self.cluster.connection(self.name, peer_id) is not None

    # events

    def if_alive(self, life: int, event: Callable[[], None]) -> None:
        """Run an event of this life; a paused node gets it later."""
        if life != self.life or self.replica is None:
            return
        if self.cluster.events.now < self._paused_until:
            self.cluster.events.at(self._paused_until, lambda: self.if_alive(life, event))
            return
        try:
            event()
        except Fatal as error:
            if error.exit_code == EXIT_BUG:
                raise
            self.exit_code = error.exit_code
            self.kill()

    def _wake(self) -> None:
        if not self._tick_scheduled:
            self._tick_scheduled = True
            life = self.life
            self.cluster.events.after(0.0, lambda: self.if_alive(life, self._tick))

    def _wake_after(self, delay_s: float) -> None:
        life = self.life
        self.cluster.events.after(delay_s, lambda: self.if_alive(life, self._wake))

    def _tick(self) -> None:
        self._tick_scheduled = False
        assert self.replica is not None
        self.replica.tick()
        self.cluster.note(self)

    def _timer(self, life: int) -> None:
        if life == self.life and self.replica is not None:
            self._wake()
            self.cluster.events.after(TICK_S, lambda: self._timer(life))


class Cluster:
    """Nodes, the network between them, and what may never be violated.

    - one value per raft index, on every node, ever (`applied`)
    - one leader per term
    - what was acknowledged is applied at that index with that value
    """

    def __init__(
        self, count: int = 3, seed: int = 0, faults: Faults | None = None, options: LogOptions | None = None
    ) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.events = Events()
        core.install_time(self.events.clock, self.random)
        self.faults = faults or Faults()
        self.log_options = options or LogOptions(segment_bytes=64 << 10, segment_entries=200)
        self.names = [f"n{number + 1}" for number in range(count)]
        self.nodes = {name: Node(self, name) for name in self.names}
        self.applied: dict[int, tuple[int, int, bytes]] = {}
        self.leaders: dict[int, str] = {}
        self.acknowledged: dict[int, list[bytes]] = {}
        self.outcomes: list[Outcome | NotProposed] = []
        self.blocked: set[tuple[str, str]] = set()  # directions in which nothing arrives
        self.trace: list[str] = []
        self._connections: dict[frozenset[str], Connection] = {}
        self._numbers = itertools.count(1)
        self._arrivals: dict[tuple[str, str], float] = {}
        self._values = itertools.count()
        self.intercept: Callable[[str, str, PeerMessage], bool] | None = None  # True: lose this message

    def __repr__(self) -> str:
        return f"Cluster(seed={self.seed})"

    # running

    def start(self, names: Iterable[str] | None = None) -> None:
        for name in names or self.names:
            self.nodes[name].start()
        self._connect_all()

    def run(self, seconds: float) -> None:
        self.events.run_until(self.events.now + seconds)

    def run_until(self, condition: Callable[[], bool], seconds: float = 30.0) -> None:
        """Run until the condition holds. Fails after `seconds` of virtual time."""
        end = self.events.now + seconds
        while not condition():
            assert self.events.now < end, f"not within {seconds} virtual seconds (seed {self.seed})"
            self.run(0.01)

    def draw(self, interval: tuple[float, float]) -> float:
        return self.random.uniform(*interval)

    # looking

    @property
    def leader(self) -> Node | None:
        """The leader of the highest term that serves, if there is one."""
        leaders = [
            node for node in self.nodes.values() if node.replica is not None and node.replica.is_leader
        ]
        return max(leaders, key=lambda node: node.replica.core.term if node.replica else 0, default=None)

    def await_leader(self) -> Node:
        self.run_until(lambda: self.leader is not None)
        leader = self.leader
        assert leader is not None
        return leader

    def note(self, node: Node) -> None:
        """After every tick: record what was applied and who leads, and compare."""
        replica = node.replica
        assert replica is not None
        if replica.core.role == core.LEADER:
            known = self.leaders.setdefault(replica.core.term, node.name)
            assert known == node.name, (
                f"two leaders in term {replica.core.term}: {known}, {node.name} ({self})"
            )
        for index, entry in node.machine.applied.items():
            known_entry = self.applied.setdefault(index, entry)
            assert known_entry == entry, f"{node.name} applied another entry {index} ({self})"
        node.machine.applied.clear()

    def converged(self) -> bool:
        """Does every running node hold and apply the same log to its end?"""
        replicas = [node.replica for node in self.nodes.values() if node.replica is not None]
        ends = {(r.core.applied_index, r.journal.last_index, r.log.durable_index) for r in replicas}
        return len(ends) == 1 and len(set(next(iter(ends)))) == 1

    def check(self) -> None:
        """Everything acknowledged is applied, at its index, with its value."""
        for index, values in self.acknowledged.items():
            assert index in self.applied, f"acknowledged entry {index} is nowhere ({self})"
            payload = self.applied[index][2]
            for value in values:
                assert value in payload, f"acknowledged {value!r} is not in entry {index} ({self})"

    # working

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

    # network

    def connection(self, one: str, other: str) -> Connection | None:
        return self._connections.get(frozenset((one, other)))

    def transmit(self, sender: str, receiver: str, raw: bytes, attachment: bytes | None) -> None:
        connection = self.connection(sender, receiver)
        if connection is None or (sender, receiver) in self.blocked:
            return
        if self.intercept is not None and self.intercept(sender, receiver, PeerMessage.FromString(raw)):
            return
        arrival = max(
            self.events.now + self.draw(self.faults.network_delay),
            self._arrivals.get((sender, receiver), 0.0),
        )
        self._arrivals[sender, receiver] = arrival
        node, life = self.nodes[receiver], self.nodes[receiver].life

        def arrive() -> None:
            if connection.alive and (sender, receiver) not in self.blocked:
                assert node.replica is not None
                node.replica.receive(sender, connection.number, PeerMessage.FromString(raw), attachment)

        self.events.at(arrival, lambda: node.if_alive(life, arrive))

    def connect(self, one: str, other: str) -> None:
        first, second = self.nodes[one], self.nodes[other]
        cut = (one, other) in self.blocked and (other, one) in self.blocked
        if self.connection(one, other) or not (first.running and second.running) or cut:
            return
        connection = Connection(next(self._numbers))
        self._connections[frozenset((one, other))] = connection
        for node, peer in ((first, other), (second, one)):
            assert node.replica is not None
            node.replica.peer_connected(peer, connection.number)

    def disconnect(self, one: str, other: str) -> None:
        """The connection breaks; what is in flight is lost; it is dialled again."""
        connection = self._connections.pop(frozenset((one, other)), None)
        if connection is None:
            return
        connection.alive = False
        for name, peer in ((one, other), (other, one)):
            replica = self.nodes[name].replica
            if replica is not None:
                replica.peer_disconnected(peer, connection.number)
        self._redial(one, other)

    def drop_connections(self, name: str) -> None:
        for other in self.names:
            if other != name:
                self.disconnect(name, other)

    def isolate(self, name: str) -> None:
        """Cut a node off, both ways; connections look alive until they break."""
        for other in self.names:
            if other != name:
                self.blocked |= {(name, other), (other, name)}
                self.disconnect(name, other)

    def heal(self) -> None:
        self.blocked.clear()

    def _redial(self, one: str, other: str) -> None:
        def dial() -> None:
            self.connect(one, other)
            if self.connection(one, other) is None:
                self._redial(one, other)

        self.events.after(self.draw(self.faults.reconnect_delay), dial)

    def _connect_all(self) -> None:
        for one, other in itertools.combinations(self.names, 2):
            self.connect(one, other)
            if self.connection(one, other) is None:
                self._redial(one, other)
