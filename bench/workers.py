"""Clients in processes of their own, which do as they are told: see worker.py."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

_LINE_BYTES = 64 * 1024 * 1024  # of an answer: it has every operation's time


@dataclass(frozen=True, slots=True)
class Worker:
    """One process. Orders and answers are lines of JSON."""

    process: asyncio.subprocess.Process

    async def answer(self) -> Any:
        """Return its next line. Raises EOFError where it has ended."""
        assert self.process.stdout is not None
        line = await self.process.stdout.readline()
        if not line:
            raise EOFError("a worker has ended: what it printed says why")
        return json.loads(line)

    async def order(self, what: Mapping[str, object]) -> Any:
        """Return its answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(what).encode() + b"\n")
        return await self.answer()


class Workers:
    """Some of them, told the same."""

    def __init__(self, workers: list[Worker]) -> None:
        self._workers = workers

    async def all(self, order: Mapping[str, object]) -> list[Any]:
        """Give all of them an order at once, and return their answers."""
        return list(await asyncio.gather(*(worker.order(order) for worker in self._workers)))


@asynccontextmanager
async def workers(count: int, job: Mapping[str, object]) -> AsyncIterator[Workers]:
    """Start `count` processes for a job, wait until they are ready, and end them afterwards."""
    async with AsyncExitStack() as stack:
        started = [await stack.enter_async_context(_started(job)) for _ in range(count)]
        for worker in started:
            await worker.answer()
        yield Workers(started)


@asynccontextmanager
async def _started(job: Mapping[str, object]) -> AsyncIterator[Worker]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.worker", json.dumps(job)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=_LINE_BYTES,
    )
    assert process.stdin is not None
    try:
        yield Worker(process)
    finally:
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), 10)
        except TimeoutError:
            process.kill()
            await process.wait()
