"""A process of clients: `python -m bench.worker JOB`. It ends when its stdin does.

JOB      {"job": "write", "kind", "addresses", "target", "connections"}
         {"job": "tail", "kind", "addresses", "target", "consumers"}
-> {}    when everything is connected
order    write: {"count", "most_s"}, of each connection, one at a time
         tail: {"count"}, records for each consumer
answer   {"began_s", "ended_s", "times_s": [...]}; the clock is the machine's, the same for all processes
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeAlias

import uvloop

from bench.measure import closed_loop
from bench.readers import Read, reader
from bench.stamps import age_s
from bench.writers import Write, writer

Work: TypeAlias = Callable[[dict[str, Any]], Awaitable[list[float]]]
_PAYLOAD = bytes(100)


@asynccontextmanager
async def _writing(job: dict[str, Any]) -> AsyncIterator[Work]:
    async with AsyncExitStack() as stack:
        opened = [writer(job["kind"], job["addresses"], job["target"]) for _ in range(job["connections"])]
        writes = [await stack.enter_async_context(each) for each in opened]
        for write in writes:
            await write(_PAYLOAD)

        async def work(order: dict[str, Any]) -> list[float]:
            times = await asyncio.gather(*(_write(write, order) for write in writes))
            return [each for some in times for each in some]

        yield work


async def _write(write: Write, order: dict[str, Any]) -> list[float]:
    return (await closed_loop(lambda: write(_PAYLOAD), order["count"], most_s=order["most_s"])).times_s


@asynccontextmanager
async def _reading(job: dict[str, Any]) -> AsyncIterator[Work]:
    async with AsyncExitStack() as stack:
        opened = [reader(job["kind"], job["addresses"], job["target"]) for _ in range(job["consumers"])]
        reads = [await stack.enter_async_context(each) for each in opened]

        async def work(order: dict[str, Any]) -> list[float]:
            times = await asyncio.gather(*(_ages_s(read, order["count"]) for read in reads))
            return [each for some in times for each in some]

        yield work


async def _ages_s(read: Read, count: int) -> list[float]:
    return [age_s(await read()) for _ in range(count)]


_JOBS = {"write": _writing, "tail": _reading}


async def _serve(job: dict[str, Any]) -> None:
    async with _JOBS[job["job"]](job) as work:
        print("{}", flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            began_s = time.perf_counter()
            times_s = await work(json.loads(line))
            answer = {"began_s": began_s, "ended_s": time.perf_counter(), "times_s": times_s}
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    uvloop.run(_serve(json.loads(sys.argv[1])))
