"""Consume: from the start as fast as it goes, and at the tail as soon as a record is there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, aclosing

from nats.js import JetStreamContext, api

from bench import machine
from bench.measure import Sample, Series, open_loop
from bench.peers.nats import NatsCluster
from bench.peers.nats_client import connected
from bench.result import Result
from bench.run import Run, Sides
from bench.sides import Ours, Side
from bench.stamps import age_s, stamp
from quorumlog.command.local_nodes import LocalNode

_RECORDS = 500_000
_NATS_RECORDS = 20_000
_NATS_FETCH = 500
_SIZE = 100
_PER_S = 200.0
_SECONDS = 2.0


async def from_start(run: Run) -> Sequence[Result]:
    """As records, as batches, and with nothing in the page cache."""
    async with run.sides("nats") as sides:
        topic = await sides.ours.target()
        async with sides.ours.client.producer() as producer:
            await producer.send_many(topic, [bytes(_SIZE)] * _RECORDS)
        follower = (await sides.ours.followers())[0]
        await _fill(sides)

        async def once(side: Side) -> Sample:
            if isinstance(side, NatsCluster):
                return await _pulled(side)
            return await _records(sides.ours, topic, follower)

        async def cold() -> Sample:
            machine.drop_cached(follower.data)
            return await _records(sides.ours, topic, follower)

        what = f"100 B, batches of 1 MiB, one consumer, {_RECORDS:,} per repeat"
        results = [_throughput(run, "consume-follower", await run.alternate(sides, once), sides, what)]
        alone = Sides(sides.ours)
        batches = await run.repeat(lambda: _batches(sides.ours, topic, follower))
        what_batches = f"{what}, as batches of columns"
        results.append(
            _throughput(run, "consume-follower-batches", {"quorumlog": batches}, alone, what_batches)
        )
        colds = {"quorumlog": await run.repeat(cold)}
        what_cold = f"{what}, page cache dropped"
        results.append(_throughput(run, "consume-follower-cold", colds, alone, what_cold))
        return results


def _throughput(run: Run, case: str, series: dict[str, Series], sides: Sides, what: str) -> Result:
    limit = run.limits.records(_SIZE)
    where = f"{what}; from a follower, from the start"
    return run.result(case, "records/s", "higher", series, sides, where, limit=limit)


async def _records(ours: Ours, topic: str, follower: LocalNode) -> Sample:
    began, seen = time.perf_counter(), 0
    async with ours.client.consumer(topic, end="latest", from_node=follower.node_id) as consumer:
        while records := await consumer.getmany(timeout_ms=10_000, max_records=10_000):
            seen += len(records)
    assert seen == _RECORDS, seen
    return Sample(seen / (time.perf_counter() - began))


async def _batches(ours: Ours, topic: str, follower: LocalNode) -> Sample:
    began, seen = time.perf_counter(), 0
    async with ours.client.consumer(topic, end="latest", from_node=follower.node_id) as consumer:
        async for batch in consumer.batches():
            seen += len(batch.values)
    assert seen == _RECORDS, seen
    return Sample(seen / (time.perf_counter() - began))


async def _fill(sides: Sides) -> None:
    """Write what the peers' consumers are to read."""
    for side in sides.peers:
        assert isinstance(side, NatsCluster)
        await side.target()
        await side.fill(bytes(_SIZE), _NATS_RECORDS)


async def _pulled(side: NatsCluster) -> Sample:
    """Without acknowledging each: faster than what most users do, and nearer to what we do."""
    async with connected(await side.addresses()) as stream:
        config = api.ConsumerConfig(ack_policy=api.AckPolicy.NONE)
        pull = await stream.pull_subscribe(side.stream, stream=side.stream, config=config)
        began, seen = time.perf_counter(), 0
        while seen < _NATS_RECORDS:
            seen += len(await pull.fetch(min(_NATS_FETCH, _NATS_RECORDS - seen), timeout=10))
        elapsed_s = time.perf_counter() - began
        await pull.unsubscribe()
        return Sample(seen / elapsed_s)


# The tail.


async def tail(run: Run) -> Sequence[Result]:
    """From send() to record in hand."""
    async with AsyncExitStack() as stack:
        sides = await stack.enter_async_context(run.sides("nats"))
        topic = await sides.ours.target()
        producer = await stack.enter_async_context(sides.ours.client.producer())
        follower = (await sides.ours.followers())[0]

        async def once(side: Side) -> Sample:
            if isinstance(side, NatsCluster):
                return await _tail_of_nats(side)
            consumer = sides.ours.client.consumer(
                topic, start="latest", from_node=follower.node_id, consistency="committed"
            )
            async with consumer:
                values = (record.value async for record in consumer)
                return await _timed(values, lambda payload: producer.send(topic, payload))

        series = await run.alternate(sides, once)
        what = (
            f"100 B, one producer at {_PER_S:g}/s for {_SECONDS:g} s (open loop), one consumer of a follower "
            "at the tail; value is the median latency from when a record should be sent to when it is in hand"
        )
        limit = run.awaited_limit()
        return [run.result("consume-tail", "ms", "lower", series, sides, what, limit=limit)]


async def _timed(values: AsyncIterator[bytes | None], write: Callable[[bytes], Awaitable[object]]) -> Sample:
    """Write stamps at the fixed rate, and take the time of each when it arrives."""
    count = round(_PER_S * _SECONDS)
    times_s: list[float] = []

    async def read() -> None:
        async with aclosing(values) as arriving:  # type: ignore[type-var]
            async for value in arriving:
                times_s.append(age_s(value))
                if len(times_s) == count:
                    return

    reading = asyncio.create_task(read())
    began_s = time.perf_counter() + 0.05
    stamps = (stamp(began_s + number / _PER_S) for number in range(count))
    await open_loop(lambda: write(next(stamps)), per_s=_PER_S, seconds=_SECONDS, began_s=began_s)
    await asyncio.wait_for(reading, 30)
    times_s.sort()
    return Sample(times_s[len(times_s) // 2] * 1000, times_s)


async def _tail_of_nats(side: NatsCluster) -> Sample:
    async with connected(await side.addresses()) as stream:
        config = api.ConsumerConfig(ack_policy=api.AckPolicy.NONE, deliver_policy=api.DeliverPolicy.NEW)
        pull = await stream.pull_subscribe(side.stream, stream=side.stream, config=config)
        sample = await _timed(_one_by_one(pull), lambda payload: stream.publish(side.stream, payload))
        await pull.unsubscribe()
        return sample


async def _one_by_one(pull: JetStreamContext.PullSubscription) -> AsyncIterator[bytes | None]:
    while True:
        for message in await pull.fetch(1, timeout=30):
            yield message.data
