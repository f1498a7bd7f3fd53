"""Does faults to a target, holds them, undoes them, and notes when each was there.

A fault is a method that is a context manager: it is there inside the block. What it chooses (which node, how
slow) is drawn from the step's own seed, and said in `detail`.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Final

import grpc

from quorumlog.proto import service_pb2, service_pb2_grpc
from tests.chaos.files import SEGMENT_HEADER_BYTES
from tests.chaos.history import Fault
from tests.chaos.plan import Step
from tests.chaos.target import Target
from tests.support.waiting import UNIT_S

_LOOK_S: Final = 0.05
_LEADER_WAIT_S: Final = 10.0
_ADMIN_S: Final = 60.0
_REPAIR_S: Final = 60.0


class Nemesis:
    """`wait(seconds)` waits, and lets the run look after its load meanwhile."""

    def __init__(self, target: Target, wait: Callable[[float], None], say: Callable[[str], None]) -> None:
        self._target = target
        self._wait = wait
        self._say = say
        self._dice = random.Random(0)
        self._detail: list[str] = []

    def do(self, step: Step) -> list[Fault]:
        """Do one step; returns its faults, the one on top last."""
        self._dice = random.Random(step.seed)
        self._detail = []
        faults = []
        with ExitStack() as undone:
            began_s = time.monotonic()
            undone.enter_context(self._fault(step.kind))
            detail = ", ".join(self._detail)
            self._say(f"{step.kind} ({detail}) for {step.hold_s:g} s")
            if step.on_top:
                self._wait(step.hold_s / 4)
                faults.append(self._on_top(step, detail))
            self._wait(step.hold_s)
        faults.insert(0, Fault(step.kind, began_s, time.monotonic(), detail))
        return faults

    def _on_top(self, step: Step, below: str) -> Fault:
        self._detail = []
        began_s = time.monotonic()
        with self._fault(step.on_top):
            detail = ", ".join(self._detail)
            self._say(f"... and {step.on_top} ({detail})")
            self._wait(step.hold_s / 2)
        # Named apart: a gap under a bad network is another thing than one under a good one.
        return Fault(f"{step.on_top}+{step.kind}", began_s, time.monotonic(), f"{detail}; {below}")

    def _fault(self, kind: str) -> AbstractContextManager[None]:
        fault: Callable[[], AbstractContextManager[None]] = getattr(self, kind)
        return fault()

    # Whom.

    def _leader(self) -> str:
        """The leader; where there is none for a while, any node."""
        deadline_s = time.monotonic() + _LEADER_WAIT_S
        while (leader := self._target.leader()) is None and time.monotonic() < deadline_s:
            self._wait(_LOOK_S)
        chosen = leader or self._dice.choice(list(self._target.nodes))
        self._detail.append(chosen if leader else f"{chosen}, no leader is known")
        return chosen

    def _followers(self, count: int = 1) -> list[str]:
        leader = self._target.leader()
        chosen = self._dice.sample([node for node in self._target.nodes if node != leader], count)
        self._detail += chosen
        return chosen

    def _majority(self) -> list[str]:
        nodes = list(self._target.nodes)
        chosen = sorted(self._dice.sample(nodes, len(nodes) // 2 + 1))
        self._detail += chosen
        return chosen

    # Processes.

    @contextmanager
    def _killed(self, nodes: list[str]) -> Iterator[None]:
        self._target.kill(nodes)
        yield
        self._target.start(nodes)

    @contextmanager
    def _stopped(self, nodes: list[str]) -> Iterator[None]:
        self._target.stop(nodes)
        yield
        self._target.start(nodes)

    @contextmanager
    def _paused(self, nodes: list[str]) -> Iterator[None]:
        self._target.pause(nodes)
        try:
            yield
        finally:
            self._target.resume(nodes)

    def kill_leader(self) -> AbstractContextManager[None]:
        return self._killed([self._leader()])

    def kill_follower(self) -> AbstractContextManager[None]:
        return self._killed(self._followers())

    def kill_majority(self) -> AbstractContextManager[None]:
        return self._killed(self._majority())

    def kill_all(self) -> AbstractContextManager[None]:
        return self._killed(list(self._target.nodes))

    def pause_leader(self) -> AbstractContextManager[None]:
        return self._paused([self._leader()])

    def pause_follower(self) -> AbstractContextManager[None]:
        return self._paused(self._followers())

    def pause_majority(self) -> AbstractContextManager[None]:
        return self._paused(self._majority())

    def stop_leader(self) -> AbstractContextManager[None]:
        return self._stopped([self._leader()])

    def restart_all(self) -> AbstractContextManager[None]:
        return self._stopped(list(self._target.nodes))

    @contextmanager
    def rolling_restart(self) -> Iterator[None]:
        """Each node in turn, the next one when the last one serves and is known to follow."""
        for node in self._target.nodes:
            self._target.stop([node])
            self._target.start([node])
            self._target.wait_for_leader()
        yield

    # Network.

    @contextmanager
    def _disconnected(self, node: str) -> Iterator[None]:
        self._target.disconnect(node)
        try:
            yield
        finally:
            self._target.reconnect(node)

    def disconnect_leader(self) -> AbstractContextManager[None]:
        return self._disconnected(self._leader())

    def disconnect_follower(self) -> AbstractContextManager[None]:
        return self._disconnected(self._followers()[0])

    @contextmanager
    def _dropped(self, links: list[tuple[str, str]]) -> Iterator[None]:
        self._target.drop(links)
        try:
            yield
        finally:
            self._target.heal_network()

    def partition_leader(self) -> AbstractContextManager[None]:
        leader = self._leader()
        return self._dropped([link for link in self._target.links() if leader in link])

    def partition_halves(self) -> AbstractContextManager[None]:
        """Any minority from the rest."""
        nodes = list(self._target.nodes)
        side = set(self._dice.sample(nodes, (len(nodes) - 1) // 2))
        self._detail += sorted(side)
        return self._dropped(
            [link for link in self._target.links() if (link[0] in side) != (link[1] in side)]
        )

    def one_way_to_leader(self) -> AbstractContextManager[None]:
        leader = self._leader()
        return self._dropped([link for link in self._target.links() if link[1] == leader])

    def one_way_from_leader(self) -> AbstractContextManager[None]:
        leader = self._leader()
        return self._dropped([link for link in self._target.links() if link[0] == leader])

    def partial_partition(self) -> AbstractContextManager[None]:
        """Two followers do not hear each other; both hear the leader."""
        one, other = self._followers(2)
        return self._dropped([(one, other), (other, one)])

    def bridge(self) -> AbstractContextManager[None]:
        """The leader and one follower do not hear each other; the rest hears both."""
        leader, follower = self._leader(), self._followers()[0]
        return self._dropped([(leader, follower), (follower, leader)])

    @contextmanager
    def flapping_link(self) -> Iterator[None]:
        """One node's links come and go, one second each."""
        node = self._dice.choice(list(self._target.nodes))
        self._detail.append(node)
        links = [link for link in self._target.links() if node in link]
        for _ in range(3):
            self._target.drop(links)
            self._wait(1.0)
            self._target.heal_network()
            self._wait(1.0)
        yield

    @contextmanager
    def _degraded(self, kind: str, links: list[tuple[str, str]]) -> Iterator[None]:
        self._detail.append(self._target.degrade(kind, self._dice.random(), links))
        try:
            yield
        finally:
            self._target.heal_network()

    def delay(self) -> AbstractContextManager[None]:
        return self._degraded("delay", self._target.links())

    def jitter(self) -> AbstractContextManager[None]:
        return self._degraded("jitter", self._target.links())

    def loss(self) -> AbstractContextManager[None]:
        return self._degraded("loss", self._target.links())

    def reorder(self) -> AbstractContextManager[None]:
        return self._degraded("reorder", self._target.links())

    def duplicate(self) -> AbstractContextManager[None]:
        return self._degraded("duplicate", self._target.links())

    def slow_follower_link(self) -> AbstractContextManager[None]:
        follower = self._followers()[0]
        return self._degraded(
            "slow_follower_link", [link for link in self._target.links() if link[1] == follower]
        )

    # Disks.

    @contextmanager
    def fill_disk(self) -> Iterator[None]:
        """All the room is taken, again and again while it holds: the node may free some by itself."""
        node = self._target.small_disk
        self._detail.append(f"{node}, the leader is {self._target.leader()}")
        self._target.fill_disk()
        try:
            yield
        finally:
            self._target.free_disk()

    @contextmanager
    def bit_flip(self) -> Iterator[None]:
        """One bit of a sealed segment changes; the node has to find it and fetch the file anew."""
        node = self._dice.choice(list(self._target.nodes))
        sealed = _sealed(self._target.disk(node) / "group-0" / "log")
        if not sealed:
            self._detail.append("nothing is sealed yet")
            yield
            return
        victim = self._dice.choice(sealed)
        position = self._dice.randrange(SEGMENT_HEADER_BYTES, victim.stat().st_size)
        self._detail.append(f"{node}, {victim.name} at {position}")
        before = _byte_at(victim, position)
        with victim.open("r+b") as file:
            file.seek(position)
            file.write(bytes([before ^ (1 << self._dice.randrange(8))]))
        yield
        deadline_s = time.monotonic() + _REPAIR_S * UNIT_S
        while _byte_at(victim, position) != before:
            assert time.monotonic() < deadline_s, f"{node}: {victim.name} is not repaired"
            self._wait(0.2)

    # Administration.

    def _admin(
        self, call: Callable[[service_pb2_grpc.ClusterStub], object], refused_means_done: str = ""
    ) -> None:
        """Ask any node until it is done; each says why not, and that passes while the cluster changes."""
        deadline_s = time.monotonic() + _ADMIN_S * UNIT_S
        nodes = itertools.cycle(self._target.nodes)
        while True:
            try:
                call(self._target.replica(next(nodes)).cluster)
                return
            except grpc.RpcError as error:
                if refused_means_done and refused_means_done in (error.details() or ""):
                    return  # an earlier attempt of ours did it, whose answer was lost
                if time.monotonic() > deadline_s:
                    raise
            self._wait(0.2)

    @contextmanager
    def transfer_leadership(self) -> Iterator[None]:
        """To a follower, again and again while it holds."""
        for _ in range(3):
            target = self._followers()[0]
            request = service_pb2.TransferLeadershipRequest(target=target, timeout_ms=5000)
            self._admin(lambda stub, request=request: stub.TransferLeadership(request, timeout=6 * UNIT_S))
            self._wait(0.3)
        yield

    @contextmanager
    def _removed(self, node: str) -> Iterator[None]:
        self._remove(node)
        yield
        self._add(node)

    def _remove(self, node: str) -> None:
        request = service_pb2.RemoveMemberRequest(node_id=node, timeout_ms=10_000)
        self._admin(lambda stub: stub.RemoveMember(request, timeout=11 * UNIT_S), "no member")

    def _add(self, node: str) -> None:
        address = self._target.peers[node]
        request = service_pb2.AddMemberRequest(node_id=node, peer_address=address, timeout_ms=20_000)
        self._admin(lambda stub: stub.AddMember(request, timeout=21 * UNIT_S), "is a member")

    def remove_and_add_follower(self) -> AbstractContextManager[None]:
        return self._removed(self._followers()[0])

    def remove_and_add_leader(self) -> AbstractContextManager[None]:
        return self._removed(self._leader())

    @contextmanager
    def wipe_follower(self) -> Iterator[None]:
        """A node loses its disk: it comes back empty, and is removed and added again."""
        node = self._followers()[0]
        self._target.kill([node])
        self._target.wipe(node)
        yield
        self._remove(node)
        self._target.start([node])
        self._add(node)


def _sealed(log: Path) -> list[Path]:
    """The log files that are final: those whose successor's state is there."""
    states = {path.stem for path in log.glob("*.state")}
    logs = sorted(log.glob("*[0-9].log"))
    return [path for path, after in itertools.pairwise(logs) if after.stem in states]


def _byte_at(path: Path, position: int) -> int:
    """A byte of a file, which another one may have replaced."""
    with path.open("rb") as file:
        file.seek(position)
        return file.read(1)[0]
