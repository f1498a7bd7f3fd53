"""Many clients: writers in processes of their own, and consumers at the tail."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

from bench.measure import Sample, open_loop
from bench.result import Result
from bench.run import Run
from bench.sides import Side
from bench.stamps import stamp
from bench.workers import Workers, workers
from bench.writers import Write, writer

_PROCESSES = 8
_CONNECTIONS = 8
_EACH = 100
_MOST_S = 2.0

_READING = 4
_CONSUMERS = 25
_PER_S = 50.0
_SECONDS = 3.0


async def connections(run: Run) -> Sequence[Result]:
    """Each connection awaits its own produce."""
    async with AsyncExitStack() as stack:
        sides = await stack.enter_async_context(run.sides("etcd", "nats"))
        writing: dict[str, Workers] = {}
        for side in sides:
            job: dict[str, object] = {"job": "write", "kind": side.kind, "target": await side.target()}
            job |= {"addresses": await side.addresses(), "connections": _CONNECTIONS}
            writing[side.name] = await stack.enter_async_context(workers(_PROCESSES, job))

        async def once(side: Side) -> Sample:
            return _together(await writing[side.name].all({"count": _EACH, "most_s": _MOST_S}))

        series = await run.alternate(sides, once)
        what = (
            f"100 B, {_PROCESSES} client processes with {_CONNECTIONS} connections each, one produce at a "
            f"time on each, at most {_EACH} or {_MOST_S:g} s per repeat"
        )
        limit = run.limits.calls()
        return [run.result("produce-connections", "produces/s", "higher", series, sides, what, limit=limit)]


def _together(answers: Sequence[dict[str, Any]]) -> Sample:
    times_s = [time_s for answer in answers for time_s in answer["times_s"]]
    began_s = min(answer["began_s"] for answer in answers)
    ended_s = max(answer["ended_s"] for answer in answers)
    return Sample(len(times_s) / (ended_s - began_s), times_s)


async def tails(run: Run) -> Sequence[Result]:
    """All consumers follow the same topic, each over connections of its own, on whichever node it chose."""
    async with AsyncExitStack() as stack:
        sides = await stack.enter_async_context(run.sides("nats"))
        writes: dict[str, Write] = {}
        reading: dict[str, Workers] = {}
        for side in sides:
            target, addresses = await side.target(), await side.addresses()
            writes[side.name] = await stack.enter_async_context(writer(side.kind, addresses, target))
            job: dict[str, object] = {"job": "tail", "kind": side.kind, "target": target}
            job |= {"addresses": addresses, "consumers": _CONSUMERS}
            reading[side.name] = await stack.enter_async_context(workers(_READING, job))

        async def once(side: Side) -> Sample:
            return await _followed(writes[side.name], reading[side.name])

        series = await run.alternate(sides, once)
        what = (
            f"100 B, one producer at {_PER_S:g}/s for {_SECONDS:g} s (open loop), {_READING * _CONSUMERS} "
            f"consumers at the tail in {_READING} processes, on all nodes; value is the median "
            "latency to each of them; NATS: a push consumer and a connection for each"
        )
        limit = run.awaited_limit()
        return [run.result("consume-tail-100", "ms", "lower", series, sides, what, limit=limit)]


async def _followed(write: Write, reading: Workers) -> Sample:
    """Write stamps at the fixed rate; every consumer says how old each was when it had it."""
    count = round(_PER_S * _SECONDS)
    async with asyncio.TaskGroup() as group:
        answers = group.create_task(reading.all({"count": count}))
        began_s = time.perf_counter() + 0.1
        stamps = (stamp(began_s + number / _PER_S) for number in range(count))
        await open_loop(lambda: write(next(stamps)), per_s=_PER_S, seconds=_SECONDS, began_s=began_s)
    together = _together(answers.result())
    times_s = sorted(together.times_s)
    return Sample(times_s[len(times_s) // 2] * 1000, times_s, {"deliveries_per_s": together.value})
