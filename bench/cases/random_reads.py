"""Reads at random offsets: they shall not take longer in a long log, nor far from its end."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import grpc.aio

from bench.measure import Sample, Series
from bench.result import Result
from bench.run import Run, Sides
from bench.sides import Ours, log_stub
from quorumlog.proto import service_pb2

_SMALL = 100_000
_LARGE = 10_000_000
_READS = 400
_BATCH_BYTES = 64 * 1024  # a read gives a whole batch: full ones would measure the copying of 1 MiB
_AT_A_TIME = 10_000


async def random_reads(run: Run) -> Sequence[Result]:
    """Two topics in one log, of which one has a hundred times as many records."""
    sizes = {"random-reads-1e5": _SMALL, "random-reads-1e7": _LARGE}
    async with run.ours() as ours:
        topics = {case: await _filled(ours, count) for case, count in sizes.items()}
        await ours.settled()
        follower = (await ours.followers())[0]
        async with grpc.aio.insecure_channel(follower.client_address) as channel:
            reader = log_stub(channel)
            series = await run.in_turn(
                {case: partial(_read, reader, topics[case], count) for case, count in sizes.items()}
            )
        return [_result(run, ours, case, count, series[case]) for case, count in sizes.items()]


def _result(run: Run, ours: Ours, case: str, count: int, series: Series) -> Result:
    what = (
        f"a log of {count:,} records of 100 B in batches of 64 KiB, Fetch of one batch at a random offset, "
        f"from a follower, one at a time, {_READS} per repeat; value is the median latency, first_tenth_ms "
        "and last_tenth_ms those of reads near the log's beginning and end"
    )
    series_by_side = {ours.name: series}
    limit = run.limits.call()
    return run.result(case, "ms", "lower", series_by_side, Sides(ours), what, limit=limit)


async def _filled(ours: Ours, count: int) -> str:
    topic = await ours.target()
    values = [bytes(100)] * _AT_A_TIME
    async with ours.client.producer(max_batch_size=_BATCH_BYTES) as producer:
        for _ in range(count // _AT_A_TIME):
            await producer.submit_many(topic, values)
    return topic


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
