"""Reads at random offsets: they shall not take longer in a long log, nor far from its end."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import grpc.aio
from nats.js import JetStreamContext

from bench.measure import Sample, closed_loop
from bench.peers.nats import NatsCluster
from bench.peers.nats_client import connected
from bench.result import Result
from bench.run import AllSeries, Once, Run, Sides
from bench.sides import Ours, Side, log_stub
from quorumlog.proto import service_pb2

_SMALL = 100_000
_LARGE = 10_000_000
_READS = 400
_BATCH_BYTES = 64 * 1024  # a read gives a whole batch: full ones would measure the copying of 1 MiB
_AT_A_TIME = 10_000


async def random_reads(run: Run) -> Sequence[Result]:
    """Two topics in one log, of which one has a hundred times as many records; peers have the small one."""
    async with AsyncExitStack() as stack:
        sides = await stack.enter_async_context(run.sides("nats"))
        ours = sides.ours
        topics = {count: await _filled(ours, count) for count in (_SMALL, _LARGE)}
        await ours.settled()
        follower = (await ours.followers())[0]
        channel = grpc.aio.insecure_channel(follower.client_address)
        reader = log_stub(await stack.enter_async_context(channel))
        works: dict[str, Once] = {
            str(count): partial(_read, reader, topic, count) for count, topic in topics.items()
        }
        for side in sides.peers:
            works[side.name] = await _of_peer(stack, side)
        series = await run.in_turn(works)
        small = {ours.name: series[str(_SMALL)], **{side.name: series[side.name] for side in sides.peers}}
        large = {ours.name: series[str(_LARGE)]}
        alone = Sides(ours, absent=["peers are asked for the small log only: they take minutes to fill this"])
        return [
            _result(run, sides, "random-reads-1e5", _SMALL, small),
            _result(run, alone, "random-reads-1e7", _LARGE, large),
        ]


def _result(run: Run, sides: Sides, case: str, count: int, series: AllSeries) -> Result:
    what = (
        f"a log of {count:,} records of 100 B in batches of 64 KiB, Fetch of one batch at a random offset, "
        f"from a follower, one at a time, {_READS} per repeat; value is the median latency, first_tenth_ms "
        "and last_tenth_ms those of reads near the log's beginning and end; NATS: a direct get of one "
        "message by its sequence, from any replica"
    )
    return run.result(case, "ms", "lower", series, sides, what, limit=run.limits.call())


async def _filled(ours: Ours, count: int) -> str:
    topic = await ours.target()
    values = [bytes(100)] * _AT_A_TIME
    async with ours.client.producer(max_batch_size=_BATCH_BYTES) as producer:
        for _ in range(count // _AT_A_TIME):
            await producer.submit_many(topic, values)
    return topic


async def _of_peer(stack: AsyncExitStack, side: Side) -> Once:
    """Fill a stream, and return what reads it over a connection of its own."""
    assert isinstance(side, NatsCluster)
    subject = await side.target()
    await side.fill(bytes(100), _SMALL)
    await side.settled()
    stream = await stack.enter_async_context(connected(await side.addresses()))
    return partial(_get, stream, subject)


async def _get(stream: JetStreamContext, name: str) -> Sample:
    async def get() -> None:
        sequence = random.randrange(_SMALL) + 1  # a stream counts from 1
        message = await stream.get_msg(name, sequence, direct=True)
        assert message.seq == sequence, message

    return (await closed_loop(get, _READS)).latency()


async def _read(reader: Any, topic: str, count: int) -> Sample:
    times_s: list[float] = []
    tenths: dict[int, list[float]] = {}
    for _ in range(_READS):
        offset = random.randrange(count)
        request = service_pb2.FetchRequest(topic=topic, offset=offset, max_bytes=1)
        began_s = time.perf_counter()
        answer = await reader.Fetch(request)
        took_s = time.perf_counter() - began_s
        batch = answer.batches[0]
        assert batch.base_offset <= offset < batch.base_offset + batch.header.count
        times_s.append(took_s)
        tenths.setdefault(offset * 10 // count, []).append(took_s)
    median_ms = {tenth: statistics.median(some) * 1000 for tenth, some in tenths.items()}
    figures = {"first_tenth_ms": median_ms[0], "last_tenth_ms": median_ms[9]}
    return Sample(statistics.median(times_s) * 1000, times_s, figures)
