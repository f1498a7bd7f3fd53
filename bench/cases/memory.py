"""Anonymous memory of the largest node: idle, under full load, and with many partitions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, TypeAlias

from nats.js import api

from bench import machine
from bench.cases.pipelined import payloads, produce, published
from bench.measure import Sample, closed_loop
from bench.peers.nats import NatsCluster
from bench.peers.nats_client import connected
from bench.result import Result
from bench.run import Run, Sides
from bench.sides import Ours, Side
from bench.writers import writer

_IDLE_S = 1.0
_LOOK_S = 0.02
_PARTITIONS = 1000
_CALLS = 10  # of 10,000 records
_FETCH = 500
_PUTS, _AT_ONCE, _MOST_S = 20_000, 64, 2.0

Load: TypeAlias = Callable[[], Coroutine[Any, Any, float]]  # records/s


async def idle(run: Run) -> Sequence[Result]:
    """Just started, and nobody asks anything."""
    async with run.sides("etcd", "nats") as sides:

        async def once(side: Side) -> Sample:
            await asyncio.sleep(_IDLE_S)
            return Sample(_largest(side.pids))

        series = await run.alternate(sides, once)
        what = "RssAnon of the largest node, just started and idle"
        return [run.result("memory-idle", "MB", "lower", series, sides, what, limit=run.limits.memory())]


async def loaded(run: Run) -> Sequence[Result]:
    """Written to as fast as one process can, while that is consumed."""
    async with AsyncExitStack() as stack:
        sides = await stack.enter_async_context(run.sides("etcd", "nats"))
        values = payloads(1024, compressible=False)
        loads = {side.name: await _load(stack, side, values) for side in sides}

        async def once(side: Side) -> Sample:
            return await _largest_during(side.pids, loads[side.name])

        series = await run.alternate(sides, once)
        what = (
            "RssAnon of the largest node at its largest; 1 KiB pipelined by one client, and consumed from a "
            "follower; NATS: publish_async and a pull consumer; etcd: puts, 64 at once, not consumed"
        )
        limit = run.limits.memory()
        return [run.result("memory-load", "MB", "lower", series, sides, what, limit=limit)]


async def _largest_during(pids: Sequence[int], load: Load) -> Sample:
    largest_mb = 0.0
    async with asyncio.TaskGroup() as group:
        work = group.create_task(load())
        while not work.done():
            largest_mb = max(largest_mb, _largest(pids))
            await asyncio.wait((work,), timeout=_LOOK_S)
    return Sample(largest_mb, figures={"records_per_s": work.result()})


async def _load(stack: AsyncExitStack, side: Side, values: Sequence[bytes]) -> Load:
    """Return what writes; what reads works until the stack is left."""
    if isinstance(side, Ours):
        return await _load_of_ours(stack, side, values)
    if isinstance(side, NatsCluster):
        return await _load_of_nats(stack, side, values)
    opened = writer(side.kind, await side.addresses(), await side.target())
    write = await stack.enter_async_context(opened)

    async def load() -> float:
        return (await closed_loop(lambda: write(values[0]), _PUTS, at_once=_AT_ONCE, most_s=_MOST_S)).per_s

    return load


@asynccontextmanager
async def _beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Work until the block ends, and be gone then: connections are closed afterwards."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        while not task.done():  # nats-py may take a cancellation for a message that did not come
            task.cancel()
            await asyncio.wait((task,), timeout=_LOOK_S)
        await asyncio.gather(task, return_exceptions=True)


async def _load_of_ours(stack: AsyncExitStack, ours: Ours, values: Sequence[bytes]) -> Load:
    topic = await ours.target()
    producer = await stack.enter_async_context(ours.client.producer())
    follower = (await ours.followers())[0]
    consumer = await stack.enter_async_context(ours.client.consumer(topic, from_node=follower.node_id))

    async def consume() -> None:
        async for _batch in consumer.batches():
            pass

    await stack.enter_async_context(_beside(consume()))

    async def load() -> float:
        return _CALLS * len(values) / await produce(producer, topic, values, _CALLS)

    return load


async def _load_of_nats(stack: AsyncExitStack, side: NatsCluster, values: Sequence[bytes]) -> Load:
    subject = await side.target()
    stream = await stack.enter_async_context(connected(await side.addresses()))
    config = api.ConsumerConfig(ack_policy=api.AckPolicy.NONE)
    pull = await stream.pull_subscribe(subject, stream=subject, config=config)

    async def consume() -> None:
        while True:
            with suppress(TimeoutError):  # nothing is written meanwhile: it is another side's turn
                await pull.fetch(_FETCH)

    await stack.enter_async_context(_beside(consume()))

    async def load() -> float:
        return (await published(side, values)).value

    return load


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
        limit = run.limits.memory()
        return [
            run.result(
                "memory-partitions", "MB", "lower", series, Sides(ours), what, limit=limit, figures=figures
            )
        ]


def _largest(pids: Sequence[int]) -> float:
    return max(machine.anonymous_mb(pid) for pid in pids)
