"""The cases: each takes a cluster and returns its figures. Replication 3, sync `always`, one machine."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from quorumlog.client import AsyncClient
from quorumlog.client.local_nodes import LocalNodes

REPEATS = 5
_names = itertools.count(1)


@dataclass
class Result:
    """One case: the median of its repeats, with the smallest and largest."""

    case: str
    unit: str
    conditions: str
    values: list[float] = field(default_factory=list)
    p50_ms: float | None = None
    p99_ms: float | None = None

    @property
    def value(self) -> float:
        return sorted(self.values)[len(self.values) // 2]


@dataclass(frozen=True)
class Setting:
    """What a case works on."""

    nodes: LocalNodes
    client: AsyncClient

    async def topic(self) -> str:
        """A new topic of one partition."""
        return (await self.client.create_topic(f"bench-{next(_names)}-{time.time_ns()}", 1)).name

    async def followers(self) -> list[str]:
        status = await self.client.status()
        return [node.node_id for node in status.nodes if node.node_id != status.leader_id]


def percentile(times: list[float], share: float) -> float:
    """Milliseconds."""
    return sorted(times)[min(len(times) - 1, int(len(times) * share))] * 1000


async def produce_awaited(setting: Setting) -> Result:
    """One produce at a time, each awaited."""
    result = Result("produce-awaited", "produces/s", "100 B, one at a time, 300 per repeat")
    times: list[float] = []
    async with setting.client.producer() as producer:
        topic = await setting.topic()
        for repeat in range(REPEATS + 1):
            began = time.perf_counter()
            for _ in range(300):
                start = time.perf_counter()
                await producer.send(topic, bytes(100))
                if repeat:
                    times.append(time.perf_counter() - start)
            if repeat:  # the first one warms up
                result.values.append(300 / (time.perf_counter() - began))
    result.p50_ms, result.p99_ms = percentile(times, 0.5), percentile(times, 0.99)
    return result


async def produce_concurrent(setting: Setting) -> Result:
    """64 coroutines on one client, each awaiting its own."""
    result = Result("produce-concurrent", "produces/s", "100 B, 64 coroutines, 6,400 per repeat")
    async with setting.client.producer() as producer:
        topic = await setting.topic()

        async def one() -> None:
            for _ in range(100):
                await producer.send(topic, bytes(100))

        for repeat in range(REPEATS + 1):
            began = time.perf_counter()
            await asyncio.gather(*(one() for _ in range(64)))
            if repeat:
                result.values.append(6400 / (time.perf_counter() - began))
    return result


async def _pipelined(setting: Setting, size: int, count: int) -> Result:
    result = Result(f"produce-pipelined-{size}", "records/s", f"{size} B, send_many, {count} per repeat")
    values = [bytes(size)] * 10_000
    async with setting.client.producer() as producer:
        topic = await setting.topic()
        for repeat in range(REPEATS + 1):
            began = time.perf_counter()
            for _ in range(count // len(values)):
                await producer.submit_many(topic, values)
            await producer.flush()
            if repeat:
                result.values.append(count / (time.perf_counter() - began))
    return result


async def produce_pipelined_100(setting: Setting) -> Result:
    """As fast as one process can, small records."""
    return await _pipelined(setting, 100, 500_000)


async def produce_pipelined_1024(setting: Setting) -> Result:
    """As fast as one process can, 1 KiB records."""
    return await _pipelined(setting, 1024, 50_000)


async def consume_follower(setting: Setting) -> Result:
    """From the start, one process, page cache warm."""
    count = 500_000
    result = Result("consume-follower", "records/s", f"100 B, from the start, {count} per repeat")
    topic = await setting.topic()
    async with setting.client.producer() as producer:
        await producer.send_many(topic, [bytes(100)] * count)
    (follower, *_) = await setting.followers()
    for repeat in range(REPEATS + 1):
        began, seen = time.perf_counter(), 0
        async with setting.client.consumer(topic, end="latest", from_node=follower) as consumer:
            while records := await consumer.getmany(timeout_ms=10_000, max_records=10_000):
                seen += len(records)
        assert seen == count, seen
        if repeat:
            result.values.append(count / (time.perf_counter() - began))
    return result


async def failover(setting: Setting) -> Result:
    """The leader killed (-9) to the next acknowledged write; it is started again each time."""
    result = Result("failover", "ms", "kill -9 of the leader to the next acknowledged write, 10 kills")
    topic = await setting.topic()
    async with setting.client.producer() as producer:
        for _ in range(10):
            await producer.send(topic, b"before")
            leader = setting.nodes.node((await setting.client.status()).leader_id)
            leader.kill()
            began = time.perf_counter()
            await producer.send(topic, b"after")
            result.values.append((time.perf_counter() - began) * 1000)
            await leader.ended(10)
            leader.start()
            await _level(setting)
    result.p50_ms = percentile([value / 1000 for value in result.values], 0.5)
    result.p99_ms = max(result.values)
    return result


async def _level(setting: Setting) -> None:
    """Wait until every node answers and has applied what the leader has."""
    async with asyncio.timeout(60):
        while True:
            status = await setting.client.status()
            applied = {node.applied_index for node in status.nodes if node.reachable}
            if len(status.nodes) == 3 and all(node.reachable for node in status.nodes) and len(applied) == 1:
                return
            await asyncio.sleep(0.05)


CASES: dict[str, Callable[[Setting], Awaitable[Result]]] = {
    "produce-awaited": produce_awaited,
    "produce-concurrent": produce_concurrent,
    "produce-pipelined-100": produce_pipelined_100,
    "produce-pipelined-1024": produce_pipelined_1024,
    "consume-follower": consume_follower,
    "failover": failover,
}
