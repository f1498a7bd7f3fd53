"""What a node's process asks of the machine under it besides disk and network: clocks, randomness, threads.

`install` puts a stand-in for each where the real thing is looked up. A stand-in asks which loop is running:
in a simulated one it is the simulation's, anywhere else the real thing, so that other tests of the same
process are not touched. A script that calls into a replica from outside of any loop gets `stage.cluster`'s
clock.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from quorumlog.raft import core
from quorumlog.raft import engine as engine_module
from quorumlog.raft import transport as transport_module
from tests.simulation.events import Running, get_running
from tests.simulation.network import Acceptor, NodeLoop

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster


class Stage:
    """The clusters that are open; a script plays with the newest."""

    def __init__(self) -> None:
        self.clusters: list[Cluster] = []

    @property
    def cluster(self) -> Cluster | None:
        return self.clusters[-1] if self.clusters else None

    def clear(self) -> None:
        """End all of them: nothing of theirs is left waiting, and time is real again."""
        while self.clusters:
            self.clusters[-1].close()


stage = Stage()


class Randomness:
    """Stands for the module `random`; draws from the cluster's generator within a simulation."""

    def __getattr__(self, name: str) -> Any:
        loop = get_running()
        if isinstance(loop, NodeLoop):
            return getattr(loop.node.cluster.random, name)
        if loop is None and stage.cluster is not None:
            return getattr(stage.cluster.random, name)
        return getattr(random, name)


def monotonic() -> float:
    """Stands for time.monotonic."""
    events = Running.events
    if events is not None:
        return events.now
    if stage.cluster is not None and not isinstance(get_running(), asyncio.BaseEventLoop):
        return stage.cluster.events.now
    return time.monotonic()


def time_ns() -> int:
    """Stands for time.time_ns: each node has its own wall clock, which may be wrong and may jump."""
    loop = get_running()
    if isinstance(loop, NodeLoop):
        return loop.node.wall_clock_ns()
    if loop is None and stage.cluster is not None:
        return int(stage.cluster.events.now * 1e9)
    return time.time_ns()


class Worker:
    """raft's worker thread in simulated time: one piece of work after the other.

    A piece takes effect at one moment of the time that it takes, and is answered at its end: so data may be
    on the disk long before that is known.
    """

    def __init__(self, name: str, guard: Callable[[Callable[[], None]], None]) -> None:
        loop = get_running()
        assert isinstance(loop, NodeLoop)
        self._loop = loop
        self._guard = guard
        self._free_at = 0.0

    def submit(self, work: Callable[[], None], done: Callable[[BaseException | None], None]) -> None:
        node, now = self._loop.node, self._loop.time()
        start = max(self._free_at, now)
        self._free_at = end = start + node.cluster.draw(node.disk_delay or node.cluster.conditions.disk_delay)
        effect = end if node.cluster.random.random() < 0.5 else node.cluster.random.uniform(start, end)
        result: list[BaseException | None] = []
        self._loop.call_at(effect, self._work, work, result)
        self._loop.call_at(end, self._answer, work, done, result)

    def stop(self) -> None:
        """Nothing is left to be done: the engine has drained before."""

    def _work(self, work: Callable[[], None], result: list[BaseException | None]) -> None:
        if result:
            return  # done already: a pause that ended let the answer pass
        try:
            work()
        except Exception as error:  # noqa: BLE001 (whatever it is, the loop must hear of it)
            result.append(error)
        else:
            result.append(None)

    def _answer(
        self,
        work: Callable[[], None],
        done: Callable[[BaseException | None], None],
        result: list[BaseException | None],
    ) -> None:
        self._work(work, result)
        self._guard(partial(done, result[0]))


_RealWorker = engine_module._ThreadWorker
_RealAcceptor = transport_module.Acceptor


def _acceptor(make: Callable[[], Any], tls: Any) -> Any:
    return Acceptor(make, tls) if isinstance(get_running(), NodeLoop) else _RealAcceptor(make, tls)


def _worker(name: str, guard: Callable[[Callable[[], None]], None]) -> Any:
    return Worker(name, guard) if isinstance(get_running(), NodeLoop) else _RealWorker(name, guard)


def install() -> None:
    """Put the stand-ins in place."""
    clocks = SimpleNamespace(monotonic=monotonic, time_ns=time_ns)
    randomness = Randomness()
    engine_module.time = clocks  # type: ignore[assignment]
    engine_module._ThreadWorker = _worker  # type: ignore[assignment, misc]
    transport_module.Acceptor = _acceptor  # type: ignore[assignment, misc]
    transport_module.random = randomness  # type: ignore[assignment]
    core.install_time(monotonic, randomness)


__all__ = ["Worker", "install", "stage"]
