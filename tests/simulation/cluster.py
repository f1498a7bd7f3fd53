"""A simulated cluster: nodes, network, clients' calls and the history of it all, on one clock, from one seed.

Scripts use it directly (`run_until`, `isolate`, `propose`, ...); random runs (run.py) let a nemesis do so.
"""

from __future__ import annotations

import itertools
import random
import traceback
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from quorumlog.raft import core
from quorumlog.raft.retention import KEEP_EVERYTHING
from quorumlog.storage.log import LogOptions
from tests.simulation.api import Calls
from tests.simulation.events import Events
from tests.simulation.history import History, Violation
from tests.simulation.loop import SimulatedLoop
from tests.simulation.network import Conditions, Network
from tests.simulation.node import Node
from tests.simulation.process import install, stage

if TYPE_CHECKING:
    from quorumlog.raft.proposals import Outcome

SMALL_LOG = LogOptions(segment_bytes=64 << 10, segment_entries=200, reserve_bytes=64 << 10)


class Cluster:
    """See the module.

    - All that is random is drawn from `random`, in an order that the seed alone decides.
    - The first violation ends the run: `run` raises it.
    """

    def __init__(
        self,
        count: int = 3,
        seed: int = 0,
        conditions: Conditions | None = None,
        options: LogOptions | None = None,
        *,
        traced: bool = False,
    ) -> None:
        install()  # again each time: another simulation in this process may have put its own clock there
        self.seed = seed
        self.random = random.Random(seed)
        self.is_traced = traced
        self.lines: list[str] = []
        self.violation: Violation | None = None
        self.loops: list[SimulatedLoop] = []  # of clients
        self.events = Events()
        self.conditions = conditions or Conditions()
        self.log_options = options or SMALL_LOG
        self.retention = KEEP_EVERYTHING
        self.tick_s = 0.05
        self.on_ended: Callable[[Node], None] = lambda node: None
        self.linearizable: Sequence[str] = ("linearizable",)
        self.names = [f"n{number + 1}" for number in range(count)]
        self.nodes: dict[str, Node] = {}
        self.network = Network(self)
        self.network.trace_messages = traced
        self.history = History(self)
        self.calls = Calls(self)
        for name in self.names:
            self.nodes[name] = self.make_node(name)
        stage.clusters.append(self)

    def __repr__(self) -> str:
        return f"Cluster(seed={self.seed})"

    def make_node(self, name: str) -> Node:
        return Node(self, name)

    # Running

    def start(self, names: Iterable[str] | None = None) -> None:
        for name in names or self.names:
            self.nodes[name].start()

    def run(self, seconds: float) -> None:
        """Let so much time pass. Raises Violation."""
        self.events.run_until(self.events.now + seconds)
        if self.violation is not None:
            raise self.violation

    def run_until(self, condition: Callable[[], bool], seconds: float = 30.0) -> None:
        """Run until the condition holds. Fails after `seconds` of simulated time."""
        end = self.events.now + seconds
        while not condition():
            if self.events.now >= end:
                raise Violation(f"not within {seconds} simulated seconds (seed {self.seed})")
            self.run(0.01)

    def draw(self, interval: tuple[float, float]) -> float:
        return self.random.uniform(*interval)

    def trace(self, line: str) -> None:
        """Note what happened: part of the digest, and of the trace where one is wanted."""
        self.events.note(line)
        self.tell(line)

    def tell(self, line: str) -> None:
        """Note what only the trace wants to know."""
        if self.is_traced:
            self.lines.append(f"{self.events.now - 1000.0:10.4f}  {line}")

    def fail(self, problem: str) -> None:
        """Something that was promised does not hold: the run ends here."""
        if self.violation is None:
            self.trace(f"VIOLATION: {problem}")
            self.violation = Violation(f"{problem} (seed {self.seed})")
            self.events.stop()

    def fail_with(self, node: Node, error: Exception) -> None:
        """A node raised what it never should."""
        self.fail(f"{node.name}: {error!r}\n" + "".join(traceback.format_exception(error)))

    def grow(self) -> Node:
        """One more machine, with nothing on it; it is no member yet."""
        name = f"n{len(self.nodes) + 1}"
        self.names.append(name)
        self.nodes[name] = self.make_node(name)
        return self.nodes[name]

    def members(self) -> list[Node]:
        """The nodes that the leader counts as members, or all while nobody leads."""
        leader = self.leader
        if leader is None:
            return list(self.nodes.values())
        return [node for name, node in self.nodes.items() if name in leader.engine.members]

    def close(self) -> None:
        """End every process and client, as they are."""
        for node in self.nodes.values():
            node.loop.die()
        for loop in self.loops:
            loop.die()
        if self in stage.clusters:
            stage.clusters.remove(self)

    # Looking

    @property
    def leader(self) -> Node | None:
        """The leader of the highest term that serves, if there is one."""
        leaders = [
            node for node in self.nodes.values() if node.replica is not None and node.replica.is_leader
        ]
        return max(leaders, key=lambda node: node.engine.term, default=None)

    def await_leader(self) -> Node:
        self.run_until(lambda: self.leader is not None)
        leader = self.leader
        assert leader is not None
        return leader

    def converged(self) -> bool:
        """Does every running member hold and apply the same log to its end, all of it durable?"""
        replicas = [node.replica for node in self.members() if node.replica is not None]
        ends = {(r.core.applied_index, r.journal.last_index, r.log.durable_index) for r in replicas}
        return len(ends) == 1 and len(set(next(iter(ends)))) == 1

    # Breaking

    @property
    def blocked(self) -> list[tuple[str, str]]:
        return sorted(self.network.blocked_since)

    def block(self, directions: Iterable[tuple[str, str]]) -> None:
        """From now on nothing arrives in these directions; it is held back."""
        self.network.block(directions)

    def isolate(self, name: str) -> None:
        """Cut a node off from the others, both ways."""
        others = [other for other in self.names if other != name]
        self.block([(name, other) for other in others] + [(other, name) for other in others])

    def part(self, side: Sequence[str]) -> None:
        """Cut between `side` and all others, both ways."""
        for one, other in itertools.product(side, [name for name in self.names if name not in side]):
            self.block([(one, other), (other, one)])

    def heal(self) -> None:
        """All lines are as they should be."""
        self.network.unblock(list(self.blocked))
        self.network.slow.clear()
        self.network.lag.clear()
        self.calls.cut.clear()


def role_of(node: Node) -> int:
    """Return core.LEADER, CANDIDATE or FOLLOWER."""
    assert node.replica is not None
    return node.replica.core.role


__all__ = ["Cluster", "Conditions", "Node", "Outcome", "core", "role_of"]
