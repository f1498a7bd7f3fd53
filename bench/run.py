"""What a case works with: a directory, clusters, repeats that alternate, and the machine's limits."""

from __future__ import annotations

import itertools
import shutil
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from bench import machine
from bench.limits import Limits, fdatasync_ms
from bench.measure import Sample, Series
from bench.peers.etcd import EtcdCluster
from bench.peers.nats import NatsCluster
from bench.peers.processes import Missing
from bench.result import Better, Limit, Result
from bench.sides import Ours, Side, our_side

# Name, as in PEERS=, and its sides by their names: how each is made in a directory, of so many nodes.
PEERS: dict[str, dict[str, Callable[[Path, int], Any]]] = {
    "etcd": {"etcd": EtcdCluster},
    "nats": {"nats": NatsCluster, "nats-sync": partial(NatsCluster, sync=True)},
}

Once: TypeAlias = Callable[[], Awaitable[Sample]]
AllSeries: TypeAlias = dict[str, Series]
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Sides:
    """All that do the same work: ours first."""

    ours: Ours
    peers: Sequence[Side] = ()
    absent: Sequence[str] = ()  # why some peers do not take part

    def __iter__(self) -> Iterator[Side]:
        return iter((self.ours, *self.peers))


@dataclass(frozen=True)
class Run:
    """One run of `make bench`."""

    directory: Path
    limits: Limits
    repeats: int
    peers: Sequence[str] = tuple(PEERS)
    began_s: float = field(default_factory=time.monotonic)
    # Of this case, before each repeat: disks that are shared have other minutes, some ten times slower.
    syncs_ms: list[float] = field(default_factory=list)

    def say(self, text: str) -> None:
        """Tell on stderr how far it is."""
        print(f"{time.monotonic() - self.began_s:6.0f} s  {text}", file=sys.stderr, flush=True)

    @asynccontextmanager
    async def ours(self, count: int = 3) -> AsyncIterator[Ours]:
        """Start a cluster of ours in a directory of its own, and remove both afterwards."""
        directory = self._new_directory()
        try:
            async with our_side(directory, count) as ours:
                yield ours
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    @asynccontextmanager
    async def sides(self, *wanted: str, count: int = 3) -> AsyncIterator[Sides]:
        """Start ours, and of the wanted peers those that can be had here, each of `count` nodes."""
        peers: list[Side] = []
        absent: list[str] = []
        async with AsyncExitStack() as stack:
            ours = await stack.enter_async_context(self.ours(count))
            for name in wanted:
                if name not in self.peers:
                    absent.append(f"{name} left out")
                    continue
                for side, make in PEERS[name].items():
                    directory = self._new_directory()
                    stack.callback(shutil.rmtree, directory, ignore_errors=True)
                    try:
                        peers.append(await stack.enter_async_context(make(directory, count)))
                    except Missing as missing:
                        absent.append(f"{side} left out: {missing}")
            yield Sides(ours, peers, absent)

    async def alternate(self, sides: Iterable[Side], once: Callable[[Side], Awaitable[Sample]]) -> AllSeries:
        """Let the sides do the same work in turn; by their names."""
        return await self.in_turn({side.name: partial(once, side) for side in sides})

    async def repeat(self, once: Once) -> Series:
        """Let one side work."""
        return (await self.in_turn({"": once}))[""]

    async def in_turn(self, works: Mapping[str, Once]) -> AllSeries:
        """Do each once to warm up, then for the repeats, in turn."""
        series = {name: Series() for name in works}
        for repeat in range(self.repeats + 1):
            self.syncs_ms.append(fdatasync_ms(self.directory))
            for name, once in works.items():
                sample = await once()
                if repeat:
                    series[name].add(sample)
        return series

    def result(
        self,
        case: str,
        unit: str,
        better: Better,
        series: AllSeries,
        sides: Sides,
        conditions: str,
        *,
        limit: Limit | None = None,
        figures: dict[str, Any] | None = None,
    ) -> Result:
        """Put together what the sides did."""
        peers = {name: each for name, each in series.items() if name != sides.ours.name}
        ours = series[sides.ours.name]
        figures = {"fdatasync_ms": self.sync_ms, **(figures or {})}
        about = [conditions, sides.ours.conditions, f"{len(ours.values)} repeats", machine.described()]
        about += [each.conditions for each in sides.peers if each.name in series] + list(sides.absent)
        return Result(case, unit, better, ours, "; ".join(about), peers, limit, figures)

    @property
    def sync_ms(self) -> float:
        """The median of fdatasync during this case."""
        return statistics.median(self.syncs_ms or [self.limits.fdatasync_ms])

    def awaited_limit(self) -> Limit:
        """What an acknowledged write took at least during this case, in ms."""
        return self.limits.awaited(self.sync_ms)

    def changeover_limit(self) -> Limit:
        """How long writes must stand still at least when the leader changes, in ms."""
        return self.limits.changeover(self.sync_ms)

    def _new_directory(self) -> Path:
        return self.directory / f"c{next(_numbers)}"
