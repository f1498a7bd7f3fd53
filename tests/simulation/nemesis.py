"""What goes wrong, and when: drawn from the seed, each run its own mix.

A mix names the kinds of fault that it is made of, with weights; the seed scales each weight, drops some
kinds, and draws how often anything happens. (Where every run has a little of everything, some defects are
never found: they need much of one thing and nothing else.) Each fault ends by itself after a while; processes
that end are started again, as a supervisor would.
"""

from __future__ import annotations

import errno
import itertools
import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from quorumlog.raft.errors import EXIT_SYNC_FAILED
from tests.simulation.node import EXIT_OTHER
from tests.simulation.operations import Operator
from tests.support.simulated_disk import UNLIMITED

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster
    from tests.simulation.node import Node

Weights = Mapping[str, float]

# What a majority of machines may do to itself at any moment without losing what was acknowledged.
RESTART_S: Final = 0.1  # what a supervisor takes when nothing is wrong any more
PROCESS: Final[Weights] = {"kill": 3, "kill-in-step": 3, "pause": 2, "sleepwalk": 1, "stop": 1}
NETWORK: Final[Weights] = {
    "break": 3, "half-open": 2, "partition": 2, "one-way": 2, "bridge": 1, "isolate-leader": 2, "lag": 2,
}  # fmt: skip
POWER: Final[Weights] = {"power": 3, "power-all": 1}
DISK: Final[Weights] = {
    "slow-disk": 2,
    "fsync-error": 1,
    "write-error": 0.5,
    "full-disk": 1,
    "short-writes": 0.5,
}
MEMBERS: Final[Weights] = {"transfer": 1, "wipe": 0.3, "replace": 0.3, "grow": 0.2, "shrink": 0.2}
CLIENTS: Final[Weights] = {"client-cut": 1, "client-reset": 1}

MIXES: Final[Mapping[str, Weights]] = {
    "calm": {"break": 1, "client-reset": 1},
    "crashes": {"kill": 4, "kill-in-step": 4, "restart-all": 1, "client-reset": 1},
    "power": {"power": 4, "power-all": 2, "kill": 1},
    "power-all": {"power-all": 3, "restart-all": 1, "slow-disk": 2},
    "slow-disks": {"slow-disk": 5, "break": 1, "kill": 1, "isolate-leader": 1, "power": 1},
    "lone-copies": {"lone-copy": 4, "isolate-leader": 2, "slow-disk": 2, "transfer": 0.5},
    "disk-errors": {"fsync-error": 3, "write-error": 2, "full-disk": 3, "short-writes": 1, "power": 1},
    "one-sided": {"one-way": 5, "half-open": 3, "break": 1},
    "partitions": {"partition": 3, "bridge": 2, "isolate-leader": 3, "break": 1, "lag": 1},
    "late": {"half-open": 5, "break": 3, "lag": 3, "pause": 2, "slow-link": 2},
    "pauses": {"pause": 4, "sleepwalk": 3, "isolate-leader": 1, "slow-disk": 2, "kill": 1},
    "restarts": {"restart-all": 3, "stop": 3, "stop-all": 1, "kill": 1},
    "clocks": {"clock-jump": 5, "kill": 1, "isolate-leader": 1, "break": 1},
    "exile": {"exile-leader": 3, "power": 1, "break": 0.5},
    "retention": {"isolate-leader": 2, "exile-node": 2, "kill": 2, "power": 1, "break": 1, "kill-in-step": 1},
    "members": {
        "replace": 4,
        "wipe": 4,
        "grow": 2,
        "shrink": 2,
        "transfer": 2,
        "kill": 2,
        "isolate-leader": 1,
    },
    "transfers": {"transfer": 5, "kill": 1, "break": 1, "lag": 1, "slow-disk": 1, "pause": 1},
    "wiped": {"wipe": 2, "wipe-the-witness": 4, "power": 1, "isolate-leader": 1, "kill": 1},
    "everything": {**PROCESS, **NETWORK, **POWER, **DISK, **CLIENTS, **MEMBERS, "clock-jump": 1},
}


class Nemesis:
    """See the module. `faults` counts what was done, by kind."""

    def __init__(self, cluster: Cluster, mix: str, seconds: float) -> None:
        self.cluster = cluster
        self.mix = mix
        self.faults: Counter[str] = Counter()
        self.random = cluster.random
        self._end = cluster.events.now + seconds
        self._stopped = False
        self._kinds: dict[str, Callable[[], bool]] = {
            name.removeprefix("_do_").replace("_", "-"): getattr(self, name)
            for name in dir(self)
            if name.startswith("_do_")
        }
        self._weights = self._drawn(MIXES[mix])
        self._pause_s = math.exp(self.random.uniform(math.log(0.4), math.log(4.0)))
        self.operator = Operator(cluster)
        self._longest_s = self.random.choice((0.5, 2.0, 6.0))
        cluster.on_ended = self._ended
        cluster.trace(f"nemesis: mix {mix}, a fault each {self._pause_s:.2f} s, {self._weights}")
        self._next()

    def _drawn(self, weights: Weights) -> dict[str, float]:
        drawn = {kind: weight * 2 ** self.random.uniform(-2, 2) for kind, weight in weights.items()}
        kept = {
            kind: weight for kind, weight in drawn.items() if len(weights) < 4 or self.random.random() < 0.75
        }
        return kept or drawn

    def _next(self) -> None:
        self.cluster.events.after(self.random.expovariate(1 / self._pause_s), self._strike)

    def _strike(self) -> None:
        if self._stopped:
            return
        kinds, weights = list(self._weights), list(self._weights.values())
        kind = self.random.choices(kinds, weights)[0]
        if self._kinds[kind]():
            self.faults[kind] += 1
        self._next()

    def stop(self) -> None:
        """All faults end: lines and disks are as they should be, and everybody runs, or will in a moment."""
        self._stopped = True
        cluster = self.cluster
        cluster.trace("nemesis: everything heals")
        cluster.heal()
        for node in cluster.nodes.values():
            self._mend_disk(node)
            if not node.running and node.name in cluster.names:
                node.start()

    @property
    def pauses_end(self) -> float:
        """When the last pause is over."""
        return max(node.loop.paused_until for node in self.cluster.nodes.values())

    @property
    def done(self) -> bool:
        """Has what the operator began come to its end?"""
        return not self.operator.is_busy

    # Tools

    def _while(self) -> float:
        """How long a fault lasts: mostly short, at times long."""
        return math.exp(self.random.uniform(math.log(0.03), math.log(self._longest_s)))

    def _later(self, delay: float, undo: Callable[[], None]) -> None:
        self.cluster.events.after(delay, lambda: None if self._stopped else undo())

    def _node(self) -> Node:
        return self.cluster.nodes[self.random.choice(self.cluster.names)]

    def _victim(self) -> Node | None:
        """A running node; often the leader, around whom most things happen."""
        leader = self.cluster.leader
        node = leader if leader is not None and self.random.random() < 0.4 else self._node()
        return node if node.running else None

    def _pair(self) -> tuple[str, str]:
        one, other = self.random.sample(self.cluster.names, 2)
        return one, other

    def _ended(self, node: Node) -> None:
        """A process has ended, by whatever: its supervisor starts it again."""
        if self._stopped and node.is_stopping:  # it was asked before everything healed
            self.cluster.events.after(RESTART_S, lambda: self._start(node))
        else:
            self._later(self._while(), lambda: self._start(node))

    def _start(self, node: Node) -> None:
        if not node.running and node.name in self.cluster.names:
            node.start()

    def _block(self, directions: list[tuple[str, str]], seconds: float) -> bool:
        directions = sorted(set(directions))
        self.cluster.trace(f"nemesis: blocked for {seconds:.2f} s: {directions}")
        self.cluster.block(directions)
        self._later(seconds, lambda: self.cluster.network.unblock(directions))
        return bool(directions)

    def _both_ways(self, one: str, other: str) -> list[tuple[str, str]]:
        return [(one, other), (other, one)]

    # Processes

    def _do_kill(self) -> bool:
        node = self._victim()
        if node is not None:
            node.kill()
        return node is not None

    def _do_kill_in_step(self) -> bool:
        """It dies within one of its next operations on the disk, which is then done in part."""
        node = self._victim()
        if node is None:
            return False
        node.disk.kill_at(self.random.randint(1, 40), self.random)
        return True

    def _do_restart_all(self) -> bool:
        for node in self.cluster.nodes.values():
            if node.running:
                node.kill()
        return True

    def _do_stop(self) -> bool:
        node = self._victim()
        if node is not None:
            node.stop()
        return node is not None

    def _do_stop_all(self) -> bool:
        for node in self.cluster.nodes.values():
            if node.running:
                node.stop()
        return True

    def _do_pause(self) -> bool:
        node = self._victim()
        if node is not None:
            node.pause(self._while())
        return node is not None

    def _do_sleepwalk(self) -> bool:
        """Row 21: a leader sleeps, is replaced, wakes up cut off, and finds answers to its old questions."""
        leader = self.cluster.leader
        if leader is None or self.cluster.blocked:
            return False
        seconds = self.random.uniform(1.0, 2.5)
        self.cluster.network.lag[leader.name] = (0.05, 0.15)
        self._later(0.3, lambda: self.cluster.network.lag.pop(leader.name, None) and None)
        self._later(0.3, lambda: leader.pause(seconds))
        others = [name for name in self.cluster.names if name != leader.name]
        self._later(self.random.uniform(0.5, 0.7), lambda: self._part([leader.name], others, seconds + 0.6))
        return True

    # Power

    def _do_power(self) -> bool:
        node = self._victim()
        if node is not None:
            node.kill(power_loss=True)
        return node is not None

    def _do_power_all(self) -> bool:
        for node in self.cluster.nodes.values():
            if node.running:
                node.kill(power_loss=True)
        return True

    def _do_lone_copy(self) -> bool:
        """Row 19: those whose disks are behind lose power, and are the next majority.

        What was acknowledged must be durable at one of them: the others, which have all, are cut off.
        """
        names = self.cluster.names
        if self.cluster.blocked:
            return False
        ahead = self.random.sample(names, (len(names) - 1) // 2)
        behind = [name for name in names if name not in ahead]
        for name in behind:
            self.cluster.nodes[name].disk_delay = (0.2, self.random.choice((0.5, 1.5)))
        after_s = self.random.uniform(0.3, 1.5)
        if self.random.random() < 0.4:  # what they find when they are back is in the page cache only
            self._later(after_s, lambda: self._restart(behind))
            after_s += self.random.uniform(0.05, 0.5)
        self._later(after_s, lambda: self._cut_off(ahead, behind))
        return True

    def _restart(self, names: list[str]) -> None:
        for name in names:
            node = self.cluster.nodes[name]
            if node.running:
                node.kill()
            if not node.running:
                node.start()

    def _cut_off(self, ahead: list[str], behind: list[str]) -> None:
        for name in behind:
            node = self.cluster.nodes[name]
            node.disk_delay = None
            if node.running:
                node.kill(power_loss=True)
            if not node.running:
                node.start()
        self._part(ahead, behind, 3.0)

    # Network

    def _do_break(self) -> bool:
        one, other = self._pair()
        self.cluster.network.break_between(one, other)
        return True

    def _do_half_open(self) -> bool:
        """One end gives the connection up; what it had sent comes late, beside the next connection."""
        one, other = self._pair()
        self.cluster.network.break_between(one, other, half_open_s=self.random.uniform(0.01, 2.0))
        return True

    def _do_partition(self) -> bool:
        names = self.cluster.names
        side = self.random.sample(names, self.random.randint(1, len(names) // 2))
        others = [name for name in names if name not in side]
        pairs = [self._both_ways(one, other) for one in side for other in others]
        return self._block([direction for pair in pairs for direction in pair], self._while())

    def _do_one_way(self) -> bool:
        """From one node nothing arrives: at one other, or at all of them; or the other way round."""
        one, other = self._pair()
        others = (
            [other] if self.random.random() < 0.5 else [name for name in self.cluster.names if name != one]
        )
        out = self.random.random() < 0.5
        return self._block([(one, each) if out else (each, one) for each in others], self._while())

    def _do_bridge(self) -> bool:
        """Two sides that reach each other through one node only."""
        names = self.random.sample(self.cluster.names, len(self.cluster.names))
        middle = len(names) // 2
        pairs = itertools.product(names[:middle], names[middle + 1 :])
        return self._block([way for pair in pairs for way in self._both_ways(*pair)], self._while())

    def _do_isolate_leader(self) -> bool:
        return self._isolate_leader(self._while())

    def _do_exile_leader(self) -> bool:
        """Minutes, in which the others go on, and drop what he lacks."""
        return self._isolate_leader(self.random.uniform(20.0, 150.0))

    def _do_exile_node(self) -> bool:
        """One node is away for so long that the others drop what it lacks."""
        name = self._node().name
        if self.cluster.blocked:
            return False
        others = [other for other in self.cluster.names if other != name]
        ways = [way for other in others for way in self._both_ways(name, other)]
        return self._block(ways, self.random.uniform(5.0, 40.0))

    def _isolate_leader(self, seconds: float) -> bool:
        leader = self.cluster.leader
        if leader is None or self.cluster.blocked:
            return False
        others = [name for name in self.cluster.names if name != leader.name]
        return self._block([way for name in others for way in self._both_ways(leader.name, name)], seconds)

    def _do_lag(self) -> bool:
        name, low = self._node().name, self.random.uniform(0.0, 0.1)
        self.cluster.network.lag[name] = (low, low + self.random.uniform(0.0, 0.2))
        self._later(self._while(), lambda: self.cluster.network.lag.pop(name, None) and None)
        return True

    def _do_slow_link(self) -> bool:
        pair = self._pair()
        self.cluster.network.slow[pair] = self.random.uniform(2e4, 1e6)
        self._later(self._while(), lambda: self.cluster.network.slow.pop(pair, None) and None)
        return True

    # Clients

    def _do_client_cut(self) -> bool:
        name = self._node().name
        self.cluster.calls.cut.add(name)
        self._later(self._while(), lambda: self.cluster.calls.cut.discard(name))
        return True

    def _do_client_reset(self) -> bool:
        node = self._node()
        if node.running:
            self.cluster.calls.reset(node)
        return node.running

    # Members: one change at a time, as an operator does it, and one lost disk at a time

    def _do_transfer(self) -> bool:
        """Leadership is handed to somebody, or to nobody in particular."""
        target = self.random.choice(["", *self.cluster.names])
        return self.operator.begin(self.operator.transfer(target))

    def _do_replace(self) -> bool:
        """A node is removed; it comes back with an empty disk."""
        return self.operator.begin(self.operator.replace(self._node()))

    def _do_wipe(self) -> bool:
        """A disk dies. What comes back under the node's name counts for nothing until it is added."""
        if self.operator.is_busy:
            return False
        node = self._node()
        node.wipe()
        node.start()
        return self.operator.begin(self.operator.replace(node, self._while()))

    def _do_wipe_the_witness(self) -> bool:
        """A disk dies while those who have what it had are cut off: the others and it are no majority."""
        names = self.cluster.names
        if self.operator.is_busy or self.cluster.blocked:
            return False
        behind = self.random.sample(names, (len(names) - 1) // 2)
        ahead = [name for name in names if name not in behind]
        witness = self.cluster.nodes[self.random.choice(ahead)]
        self._part(behind, ahead, 5.0)
        self._later(self.random.uniform(0.3, 2.0), lambda: self._wipe(witness, behind, ahead))
        return self.operator.begin(self.operator.replace(witness, 6.0))

    def _wipe(self, witness: Node, behind: list[str], ahead: list[str]) -> None:
        rest = [name for name in ahead if name != witness.name]
        self._part(rest, [*behind, witness.name], 3.0)
        self.cluster.network.unblock(
            [way for a in behind for b in [witness.name] for way in self._both_ways(a, b)]
        )
        witness.wipe()
        witness.start()

    def _part(self, side: list[str], other_side: list[str], seconds: float) -> None:
        self._block([way for a in side for b in other_side for way in self._both_ways(a, b)], seconds)

    def _do_grow(self) -> bool:
        if self.operator.is_busy or len(self.cluster.names) > 5:
            return False
        return self.operator.begin(self.operator.add(self.cluster.grow()))

    def _do_shrink(self) -> bool:
        if len(self.cluster.names) < 4:
            return False
        return self.operator.begin(self.operator.remove_for_good(self._node()))

    # Disks and clocks

    def _do_slow_disk(self) -> bool:
        node, slowest = self._node(), self.random.choice((0.05, 0.2, 0.5, 1.0, 3.0))
        node.disk_delay = (slowest / 4, slowest)
        self._later(2 * self._while(), lambda: setattr(node, "disk_delay", None))
        return True

    def _do_fsync_error(self) -> bool:
        return self._fail_disk(self.random.choice(("fdatasync", "fsync", "sync_directory")), errno.EIO)

    def _do_write_error(self) -> bool:
        return self._fail_disk("pwritev", errno.EIO)

    def _fail_disk(self, operation: str, error: int) -> bool:
        node = self._victim()
        if node is None:
            return False
        node.allowed_exits.add(EXIT_SYNC_FAILED)
        node.disk.fail(operation, error, after=self.random.randint(0, 5))
        return True

    def _do_full_disk(self) -> bool:
        node = self._victim()
        if node is None:
            return False
        node.allowed_exits.add(EXIT_OTHER)
        node.disk.capacity = node.disk.used() + self.random.choice((0, 5_000, 60_000, 200_000))
        self._later(2 * self._while(), lambda: self._mend_disk(node))
        return True

    def _do_short_writes(self) -> bool:
        node = self._node()
        node.disk.short_writes = self.random
        self._later(self._while(), lambda: setattr(node.disk, "short_writes", None))
        return True

    def _mend_disk(self, node: Node) -> None:
        node.disk.capacity = UNLIMITED
        node.disk.short_writes = None
        node.disk.faults.clear()
        node.disk.spare()
        node.disk_delay = None

    def _do_clock_jump(self) -> bool:
        node = self._node()
        node.wall_offset_s += self.random.choice((-3600.0, 3600.0, self.random.uniform(-0.2, 0.2), -30.0))
        return True
