"""How long nobody can write when the leader is killed, and when it hands over."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TypeAlias

from bench.measure import Sample, Series
from bench.result import Result
from bench.run import Run
from bench.sides import Side
from bench.writers import Write, writer

_TIMES = 30
_PEERS_EVERY = 6  # peers do it five times: theirs takes up to ten seconds each
_AFTER = 20  # acknowledgements that show that writing goes on
_ATTEMPT_S = 0.25  # of a peer's client, which would wait for seconds where nobody leads; ours has its own
_PAYLOAD = bytes(100)

# Given the leader's name; returns what undoes it.
Interruption: TypeAlias = Callable[[Side, str], Awaitable[Callable[[], None]]]


class Probe:
    """A client that writes one record after the other, and notes when each was acknowledged."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._acknowledged = asyncio.Event()
        self.acknowledged_s: list[float] = []

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await self._write(_PAYLOAD)
            self.acknowledged_s.append(time.perf_counter())
            self._acknowledged.set()

    async def more(self, count: int) -> None:
        """Wait for so many more acknowledgements."""
        wanted = len(self.acknowledged_s) + count
        while len(self.acknowledged_s) < wanted:
            self._acknowledged.clear()
            await self._acknowledged.wait()

    def gap_s(self, since_s: float) -> float:
        """The longest time without an acknowledgement since then."""
        times_s = [since_s, *(each for each in self.acknowledged_s if each > since_s)]
        return max(later - earlier for earlier, later in itertools.pairwise(times_s))


@asynccontextmanager
async def probing(write: Write) -> AsyncIterator[Probe]:
    """Write while the block runs."""
    probe = Probe(write)
    task = asyncio.create_task(probe.run())
    try:
        yield probe
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def killed(run: Run) -> Sequence[Result]:
    """kill -9; the node is started again afterwards."""
    what = "the leader is killed with SIGKILL"
    return [await _gaps(run, "failover", what, _kill)]


async def transferred(run: Run) -> Sequence[Result]:
    """As before maintenance."""
    return [await _gaps(run, "transfer", "the leader is asked to hand over", _transfer)]


async def _kill(side: Side, leader: str) -> Callable[[], None]:
    await side.kill(leader)
    return lambda: side.start(leader)


async def _transfer(side: Side, _leader: str) -> Callable[[], None]:
    await side.transfer()
    return lambda: None


async def _gaps(run: Run, case: str, what: str, interrupt: Interruption) -> Result:
    async with AsyncExitStack() as stack:
        sides = await stack.enter_async_context(run.sides("etcd", "nats"))
        writes: dict[str, Write] = {}
        for side in sides:
            target = await side.target()
            opened = writer(side.kind, await side.addresses(), target, attempt_s=_ATTEMPT_S)
            writes[side.name] = await stack.enter_async_context(opened)
        series = {side.name: Series() for side in sides}
        for number in range(_TIMES):
            for side in sides:
                if side is sides.ours or number % _PEERS_EVERY == 0:
                    series[side.name].add(await _gap(side, writes[side.name], interrupt))
        conditions = (
            f"{what} while one client writes 100 B, one after the other; the longest time between two "
            f"acknowledgements, {_TIMES} times, peers {-(-_TIMES // _PEERS_EVERY)} times"
        )
        limit = run.changeover_limit()
        return run.result(case, "ms", "lower", series, sides, conditions, limit=limit)


async def _gap(side: Side, write: Write, interrupt: Interruption) -> Sample:
    await side.settled()
    async with probing(write) as probe:
        await probe.more(_AFTER)
        before = await side.leader()
        began_s = time.perf_counter()
        undo = await interrupt(side, before)
        await probe.more(_AFTER)
        gap_s = probe.gap_s(began_s)
    undo()
    assert await side.leader() != before, f"{before} still leads"
    return Sample(gap_s * 1000, [gap_s])
