"""Acknowledged writes of 100 B, each awaited by who made it: one at a time, 64 at once, at a rate."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from bench.measure import Sample, closed_loop, open_loop
from bench.result import Result
from bench.run import Run, Sides
from bench.sides import Side
from bench.writers import Write, writer

PAYLOAD = bytes(100)
_PEERS = ("etcd", "nats")
_COUNT = 300
_AT_ONCE = 64
_PER_S = 100.0  # well below what each side can do one at a time
_SECONDS = 2.0


@asynccontextmanager
async def connected(sides: Sides) -> AsyncIterator[dict[str, Write]]:
    """One client of each side, by the side's name."""
    async with AsyncExitStack() as stack:
        writes = {}
        for side in sides:
            target = await side.target()
            opened = writer(side.kind, await side.addresses(), target)
            writes[side.name] = await stack.enter_async_context(opened)
        yield writes


async def awaited(run: Run) -> Sequence[Result]:
    """One at a time, on a cluster that has nothing else to do."""
    async with run.sides(*_PEERS) as sides, connected(sides) as writes:

        async def once(side: Side) -> Sample:
            return (await closed_loop(lambda: writes[side.name](PAYLOAD), _COUNT)).latency()

        series = await run.alternate(sides, once)
        what = f"100 B, batch 1, one client, one at a time, {_COUNT} per repeat; value is the median latency"
        limit = run.awaited_limit()
        return [run.result("produce-awaited", "ms", "lower", series, sides, what, limit=limit)]


async def at_rate(run: Run) -> Sequence[Result]:
    """At a fixed rate, counted from when each should have been sent."""
    async with run.sides(*_PEERS) as sides, connected(sides) as writes:

        async def once(side: Side) -> Sample:
            write = writes[side.name]
            return (await open_loop(lambda: write(PAYLOAD), per_s=_PER_S, seconds=_SECONDS)).latency()

        series = await run.alternate(sides, once)
        what = f"100 B, one client, open loop at {_PER_S:g}/s for {_SECONDS:g} s; value is the median latency"
        limit = run.awaited_limit()
        return [run.result("produce-at-rate", "ms", "lower", series, sides, what, limit=limit)]


async def concurrent(run: Run) -> Sequence[Result]:
    """Coroutines on one client, each awaiting its own."""
    async with run.sides(*_PEERS) as sides, connected(sides) as writes:

        async def once(side: Side) -> Sample:
            write = writes[side.name]
            loop = await closed_loop(lambda: write(PAYLOAD), 6400, at_once=_AT_ONCE, most_s=2.0)
            return loop.throughput()

        series = await run.alternate(sides, once)
        what = (
            f"100 B, one client, {_AT_ONCE} coroutines each awaiting its own, at most 6,400 or 2 s per repeat"
        )
        limit = run.limits.calls()
        return [run.result("produce-concurrent", "produces/s", "higher", series, sides, what, limit=limit)]
