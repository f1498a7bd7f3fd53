"""Produce from one process as fast as it goes: what is awaited is room in the buffer, and all in the end."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

from bench import machine
from bench.measure import Sample
from bench.peers.nats import NatsCluster
from bench.peers.nats_client import connected, publish_async
from bench.result import Result
from bench.run import Run
from bench.sides import Side
from quorumlog.client.producer import AsyncProducer

_AT_A_TIME = 10_000  # values in one call of submit_many
_NATS_RECORDS = 20_000  # or what it takes in _NATS_S
_NATS_S = 2.0


def payloads(size: int, *, compressible: bool) -> list[bytes]:
    """Return values for one call: zeros would flatter a codec, noise would make it pointless."""
    if not compressible:
        return [os.urandom(size) for _ in range(_AT_A_TIME)]
    words = [f"{word}:{random.Random(word).random():.12f} ".encode() for word in range(200)]
    chosen = random.Random(1)
    lines = (b"".join(chosen.choices(words, k=size // 12)) for _ in range(_AT_A_TIME))
    return [line[:size] for line in lines]


async def produce(producer: AsyncProducer, topic: str, values: Sequence[bytes], calls: int) -> float:
    """Submit the values so many times; return seconds until the last one is acknowledged."""
    began = time.perf_counter()
    for _ in range(calls):
        await producer.submit_many(topic, values)
    await producer.flush()
    return time.perf_counter() - began


async def small(run: Run) -> Sequence[Result]:
    """100 B."""
    return await _pipelined(run, "produce-pipelined-100", 100, 500_000, None)


async def large(run: Run) -> Sequence[Result]:
    """1 KiB."""
    return await _pipelined(run, "produce-pipelined-1k", 1024, 100_000, None)


async def small_lz4(run: Run) -> Sequence[Result]:
    """100 B, compressed by the producer."""
    return await _pipelined(run, "produce-pipelined-100-lz4", 100, 500_000, "lz4")


async def large_lz4(run: Run) -> Sequence[Result]:
    """1 KiB, compressed by the producer."""
    return await _pipelined(run, "produce-pipelined-1k-lz4", 1024, 100_000, "lz4")


async def _pipelined(run: Run, case: str, size: int, count: int, codec: str | None) -> Sequence[Result]:
    values = payloads(size, compressible=codec is not None)
    async with AsyncExitStack() as stack:
        sides = await stack.enter_async_context(run.sides("nats"))
        topic = await sides.ours.target()
        producer = await stack.enter_async_context(sides.ours.client.producer(compression_type=codec))

        async def once(side: Side) -> Sample:
            if isinstance(side, NatsCluster):
                return await published(side, values)
            return await _produced(producer, topic, values, count, side.pids)

        series = await run.alternate(sides, once)
        content = "text of which a codec makes less" if codec else "random bytes"
        what = (
            f"{size} B ({content}), batches of 1 MiB, codec {codec or 'none'}, one client process, "
            f"pipelined, {count:,} per repeat; CPU in seconds per million records"
        )
        limit = run.limits.records(size)
        return [run.result(case, "records/s", "higher", series, sides, what, limit=limit)]


async def _produced(
    producer: AsyncProducer, topic: str, values: Sequence[bytes], count: int, pids: Sequence[int]
) -> Sample:
    before = [machine.cpu_s(pid) for pid in (*pids, os.getpid())]
    elapsed_s = await produce(producer, topic, values, count // len(values))
    after = [machine.cpu_s(pid) for pid in (*pids, os.getpid())]
    used = [(later - earlier) / count * 1e6 for earlier, later in zip(before, after, strict=True)]
    names = [f"cpu_s_n{number + 1}" for number in range(len(pids))] + ["cpu_s_client"]
    mb_per_s = count * len(values[0]) / elapsed_s / 1e6
    return Sample(count / elapsed_s, figures={"mb_per_s": mb_per_s, **dict(zip(names, used, strict=True))})


async def published(side: NatsCluster, values: Sequence[bytes]) -> Sample:
    """Publish the values in turn to the newest stream, as fast as it goes; the value is records/s."""
    async with connected(await side.addresses()) as stream:
        await stream.publish(side.stream, values[0])
        futures: list[asyncio.Future[Any]] = []
        began = time.perf_counter()
        while len(futures) < _NATS_RECORDS and time.perf_counter() < began + _NATS_S:
            payload = values[len(futures) % len(values)]
            futures.append(await publish_async(stream, side.stream, payload))
        await asyncio.gather(*futures)
        return Sample(len(futures) / (time.perf_counter() - began))
