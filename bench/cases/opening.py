"""From a node's start to its first answer, with logs of 1 and 10 GiB; and how fast a long one is written."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

import grpc.aio

from bench import machine
from bench.cases.pipelined import payloads, produce
from bench.measure import Sample, Series
from bench.result import Result
from bench.run import Run, Sides
from bench.sides import Ours, log_stub
from quorumlog.client.producer import AsyncProducer
from quorumlog.command.local_nodes import LocalNode
from quorumlog.proto import service_pb2

_GIB = 1 << 30
_SPARE_BYTES = 10 * _GIB  # left free for everybody else
_CALLS = 5  # of 10,000 records of 1 KiB, per repeat: some 50 MiB
_BURST = 2
_LOOK_AGAIN_S = 0.002
_STOPPED_S = 60.0

Stop = Callable[[], Awaitable[None]]


async def one_gib(run: Run) -> Sequence[Result]:
    """1 GiB."""
    return await _opened(run, 1)


async def ten_gib(run: Run) -> Sequence[Result]:
    """10 GiB, where there is room; and the throughput at the log's beginning and end."""
    if machine.free_bytes(run.directory) < 10 * _GIB + _SPARE_BYTES:
        run.say("  no room for 10 GiB: left out")
        return []
    return await _opened(run, 10)


async def _opened(run: Run, gib: int) -> Sequence[Result]:
    """One node alone: three would write three times as much for the same answer."""
    async with run.ours(1) as ours, ours.client.producer() as producer:
        sides, node, topic = Sides(ours), ours.nodes.nodes[0], await ours.target()
        values = payloads(1024, compressible=False)

        async def write() -> Sample:
            return Sample(_CALLS * len(values) / await produce(producer, topic, values, _CALLS))

        at_start = await run.repeat(write)
        while (await _log_bytes(ours)) < gib * _GIB:
            await write()
        run.say(f"  a log of {gib} GiB is there")
        at_end = await run.repeat(write)
        opening = _Opening(ours, node, topic)

        async def stop() -> None:
            node.terminate()
            assert await node.ended(_STOPPED_S)

        async def crash() -> None:
            await producer.submit_many(topic, values * _BURST)  # what is under way tears the log's end
            node.kill()
            assert await node.ended(_STOPPED_S)

        clean = await run.repeat(lambda: opening.measure(stop))
        cold = await run.repeat(lambda: opening.measure(stop, cold=True))
        killed = await run.repeat(lambda: opening.measure(crash, producer=producer))
        what = (
            f"one node, a log of {gib} GiB; from the start of the process to its first answered read of the "
            "oldest record; newest_ms: until the newest was read too (the node elects itself before that)"
        )
        figures = {"cold_ms": cold.value}
        name = f"{gib}g"
        results = [
            run.result(
                f"open-{name}-clean",
                "ms",
                "lower",
                {ours.name: clean},
                sides,
                f"{what}; after SIGTERM; cold_ms: with the page cache dropped",
                limit=run.limits.started(),
                figures=figures,
            ),
            run.result(
                f"open-{name}-killed",
                "ms",
                "lower",
                {ours.name: killed},
                sides,
                f"{what}; after SIGKILL with records under way",
                limit=run.limits.started(),
            ),
        ]
        if gib > 1:
            results.append(_growth(run, sides, at_start, at_end, gib))
        return results


def _growth(run: Run, sides: Sides, at_start: Series, at_end: Series, gib: int) -> Result:
    what = f"1 KiB, pipelined, one node, its log {gib} GiB long; at_start: the same when it was empty"
    figures = {"at_start": at_start.value, "to_start": at_end.value / at_start.value}
    name, series = f"growth-after-{gib}g", {sides.ours.name: at_end}
    limit = run.limits.records(1024)
    return run.result(name, "records/s", "higher", series, sides, what, limit=limit, figures=figures)


class _Opening:
    """Stops and starts a node, and asks it."""

    def __init__(self, ours: Ours, node: LocalNode, topic: str) -> None:
        self._ours = ours
        self._node = node
        self._topic = topic

    async def measure(
        self, stop: Stop, *, cold: bool = False, producer: AsyncProducer | None = None
    ) -> Sample:
        """Return milliseconds from start to first answer. What the producer still has is written then."""
        newest = (await self._ours.client.end_offsets(self._topic))[0] - 1
        await stop()
        if cold:
            machine.drop_cached(self._node.data)
        began_s = time.perf_counter()
        self._node.start()
        await self._answered(0)
        opened_s = time.perf_counter() - began_s
        await self._answered(newest)
        newest_s = time.perf_counter() - began_s
        memory_mb = machine.anonymous_mb(self._node.pid)
        if producer is not None:
            await producer.flush()
        await self._ours.settled()
        figures = {"newest_ms": newest_s * 1000, "anonymous_mb": memory_mb}
        return Sample(opened_s * 1000, [opened_s], figures)

    async def _answered(self, offset: int) -> None:
        """Ask until it answers; a channel that was refused once would wait, so each attempt has its own."""
        request = service_pb2.FetchRequest(topic=self._topic, offset=offset, max_bytes=1)
        async with asyncio.timeout(_STOPPED_S):
            while not await self._is_answered(request):
                self._node.check()
                await asyncio.sleep(_LOOK_AGAIN_S)

    async def _is_answered(self, request: service_pb2.FetchRequest) -> bool:
        host, _, port = self._node.client_address.rpartition(":")
        try:
            _, writer = await asyncio.open_connection(host, int(port))
            writer.close()
            async with grpc.aio.insecure_channel(self._node.client_address) as channel:
                answer = await log_stub(channel).Fetch(request)
        except (OSError, grpc.aio.AioRpcError):
            return False
        return len(answer.batches) > 0


async def _log_bytes(ours: Ours) -> int:
    status = await ours.client.status()
    return max(node.log_bytes for node in status.nodes)
