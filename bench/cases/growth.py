"""Pipelined throughput with more nodes, and with more partitions. opening.py has it in a long log."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from bench.cases.pipelined import payloads, produce
from bench.measure import Sample
from bench.result import Result
from bench.run import Run, Sides
from quorumlog.client.producer import AsyncProducer

_CALLS = 20  # of 10,000 records
_VALUES = payloads(100, compressible=False)


async def nodes(run: Run) -> Sequence[Result]:
    """1, 3 and 5: replication is as many."""
    results = []
    for count in (1, 3, 5):
        async with run.ours(count) as ours, ours.client.producer() as producer:
            topic = await ours.target()
            series = {ours.name: await run.repeat(partial(_once, producer, topic))}
            what = "100 B, batches of 1 MiB, pipelined from one client"
            name = f"growth-nodes-{count}"
            limit = run.limits.records(100)
            results.append(run.result(name, "records/s", "higher", series, Sides(ours), what, limit=limit))
    return results


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
