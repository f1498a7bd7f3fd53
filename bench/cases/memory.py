"""Anonymous memory of the largest node: idle, under full load, and with many partitions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack

from bench import machine
from bench.cases.pipelined import payloads, produce
from bench.measure import Sample
from bench.result import Result
from bench.run import Run, Sides
from bench.sides import Side

_IDLE_S = 1.0
_LOOK_S = 0.02
_PARTITIONS = 1000


async def idle(run: Run) -> Sequence[Result]:
    """Just started, and nobody asks anything."""
    async with run.sides("etcd", "nats") as sides:

        async def once(side: Side) -> Sample:
            await asyncio.sleep(_IDLE_S)
            return Sample(_largest(side.pids))

        series = await run.alternate(sides, once)
        what = "RssAnon of the largest node, just started and idle"
        return [run.result("memory-idle", "MB", "lower", series, sides, what)]


async def loaded(run: Run) -> Sequence[Result]:
    """Produced to as fast as one process can, while that is consumed from a follower."""
    async with AsyncExitStack() as stack:
        ours = await stack.enter_async_context(run.ours())
        topic = await ours.target()
        producer = await stack.enter_async_context(ours.client.producer())
        follower = (await ours.followers())[0]
        consumer = ours.client.consumer(topic, from_node=follower.node_id)
        await stack.enter_async_context(consumer)
        values = payloads(1024, compressible=False)
        seen = 0

        async def consume() -> None:
            nonlocal seen
            async for batch in consumer.batches():
                seen += len(batch)

        reading = asyncio.create_task(consume())
        stack.callback(reading.cancel)

        async def once() -> Sample:
            work = asyncio.create_task(produce(producer, topic, values, 10))
            largest_mb = 0.0
            while not work.done():
                largest_mb = max(largest_mb, _largest(ours.pids))
                await asyncio.wait((work,), timeout=_LOOK_S)
            return Sample(largest_mb, figures={"records_per_s": 10 * len(values) / work.result()})

        series = {ours.name: await run.repeat(once)}
        what = "RssAnon of the largest node at its largest; 1 KiB pipelined by one client, and consumed"
        return [run.result("memory-load", "MB", "lower", series, Sides(ours), what)]


async def partitions(run: Run) -> Sequence[Result]:
    """With records in each."""
    async with run.ours() as ours, ours.client.producer() as producer:
        began_s = time.perf_counter()
        topic = await ours.target(_PARTITIONS)
        created_s = time.perf_counter() - began_s

        async def once() -> Sample:
            for partition in range(_PARTITIONS):
                await producer.submit_many(topic, [bytes(100)] * 10, partition=partition)
            await producer.flush()
            return Sample(_largest(ours.pids))

        series = {ours.name: await run.repeat(once)}
        what = (
            f"RssAnon of the largest node; {_PARTITIONS:,} partitions, each written to; created_ms: the topic"
        )
        figures = {"created_ms": created_s * 1000}
        return [run.result("memory-partitions", "MB", "lower", series, Sides(ours), what, figures=figures)]


def _largest(pids: Sequence[int]) -> float:
    return max(machine.anonymous_mb(pid) for pid in pids)
