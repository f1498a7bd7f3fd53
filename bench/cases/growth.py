"""Pipelined throughput with more nodes, and with more partitions. opening.py has it in a long log."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from bench.cases.pipelined import payloads, produce, published
from bench.measure import Sample
from bench.peers.nats import NatsCluster
from bench.result import Result
from bench.run import Run, Sides
from bench.sides import Side
from quorumlog.client.producer import AsyncProducer

_CALLS = 20  # of 10,000 records
_VALUES = payloads(100, compressible=False)


async def nodes(run: Run) -> Sequence[Result]:
    """1, 3 and 5: replication is as many, and so are a peer's servers and replicas."""
    return [await _nodes(run, count) for count in (1, 3, 5)]


async def _nodes(run: Run, count: int) -> Result:
    async with run.sides("nats", count=count) as sides, sides.ours.client.producer() as producer:
        topic = await sides.ours.target()

        async def once(side: Side) -> Sample:
            if isinstance(side, NatsCluster):
                return await published(side, _VALUES)
            return await _once(producer, topic)

        series = await run.alternate(sides, once)
        what = "100 B, batches of 1 MiB, pipelined from one client"
        name, limit = f"growth-nodes-{count}", run.limits.records(100)
        return run.result(name, "records/s", "higher", series, sides, what, limit=limit)


async def partitions(run: Run) -> Sequence[Result]:
    """1, 100 and 1,000 on three nodes: each batch goes to the next partition."""
    async with run.ours() as ours, ours.client.producer() as producer:
        topics = {count: await ours.target(count) for count in (1, 100, 1000)}
        works = {str(count): partial(_once, producer, topic) for count, topic in topics.items()}
        series = await run.in_turn(works)
        limit = run.limits.records(100)
        return [
            run.result(
                f"growth-partitions-{count}",
                "records/s",
                "higher",
                {ours.name: series[str(count)]},
                Sides(ours),
                f"100 B, batches of 1 MiB over {count} partitions in turn, pipelined from one client",
                limit=limit,
            )
            for count in topics
        ]


async def _once(producer: AsyncProducer, topic: str) -> Sample:
    return Sample(_CALLS * len(_VALUES) / await produce(producer, topic, _VALUES, _CALLS))
