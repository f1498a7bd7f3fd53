"""What the machine itself can do, measured in the same run: no result counts without it."""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio

from bench import machine
from bench.echo import FLOOD_BYTES
from bench.measure import closed_loop
from bench.result import Limit

_REPEATS = 5
_SYNCS = 50
_ROUND_TRIPS = 500
_FLOOD = 1000
_PAGE = os.urandom(4096)
_PAYLOAD = bytes(100)
_BARE = "import sys, grpc.aio, uvloop; print(flush=True); sys.stdin.read()"  # it ends when its stdin does


@dataclass(frozen=True, slots=True)
class Limits:
    """Medians. gRPC is grpc.aio on uvloop, this process and another one."""

    fdatasync_ms: float  # after 4 KiB into a preallocated file
    round_trip_ms: float  # 100 bytes over loopback, two processes
    memcpy_mb_per_s: float
    grpc_unary_ms: float  # 100 bytes, one at a time
    grpc_unary_per_s: float  # 100 bytes, 64 at once
    grpc_stream_ms: float  # 100 bytes to and fro on one stream
    grpc_stream_mb_per_s: float  # a server's stream of messages of 256 KiB
    interpreter_ms: float  # the start of a process of Python that imports what every node needs
    interpreter_mb: float  # its RssAnon

    def awaited(self, sync_ms: float) -> Limit:
        """What an acknowledged write takes at least, in ms: a client's round trip, a peer's, and a sync."""
        return Limit(sync_ms + 2 * self.round_trip_ms, "fdatasync + 2 loopback round trips")

    def changeover(self, sync_ms: float) -> Limit:
        """How long writes stand still at least when the leader changes, in ms: a vote is durable, too."""
        return Limit(2 * self.awaited(sync_ms).value, "a vote and a write: each fdatasync + 2 round trips")

    def started(self) -> Limit:
        """What any process of ours takes to start, in ms."""
        return Limit(self.interpreter_ms, "start of Python with grpc and uvloop")

    def memory(self) -> Limit:
        """What any process of ours holds, in MB."""
        return Limit(self.interpreter_mb, "RssAnon of Python with grpc and uvloop")

    def calls(self) -> Limit:
        """Calls a second of one process."""
        return Limit(self.grpc_unary_per_s, "gRPC unary calls/s, 64 at once, one client process")

    def call(self) -> Limit:
        """One call, in ms."""
        return Limit(self.grpc_unary_ms, "gRPC unary call")

    def records(self, size: int) -> Limit:
        """Records of `size` bytes a second over one gRPC stream."""
        return Limit(self.grpc_stream_mb_per_s * 1e6 / size, "gRPC stream, messages of 256 KiB")


async def measured(directory: Path) -> Limits:
    """Take all of them: some ten seconds."""
    async with _echo() as ports, grpc.aio.insecure_channel(f"127.0.0.1:{ports['grpc']}") as channel:
        unary: Any = channel.unary_unary("/echo/Unary")
        single = await closed_loop(lambda: unary(_PAYLOAD), _ROUND_TRIPS)
        interpreters = [await _interpreter() for _ in range(_REPEATS)]
        many = [(await closed_loop(lambda: unary(_PAYLOAD), 4000, at_once=64)).per_s for _ in range(_REPEATS)]
        return Limits(
            fdatasync_ms=fdatasync_ms(directory),
            round_trip_ms=await _round_trip_ms(ports["tcp"]),
            memcpy_mb_per_s=_memcpy_mb_per_s(),
            grpc_unary_ms=single.median_ms,
            grpc_unary_per_s=statistics.median(many),
            grpc_stream_ms=await _stream_ms(channel),
            grpc_stream_mb_per_s=statistics.median([await _flood_mb_per_s(channel) for _ in range(_REPEATS)]),
            interpreter_ms=statistics.median(started_ms for started_ms, _ in interpreters),
            interpreter_mb=statistics.median(held_mb for _, held_mb in interpreters),
        )


@asynccontextmanager
async def _echo() -> AsyncIterator[dict[str, int]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.echo", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield json.loads(await process.stdout.readline())
    finally:
        process.stdin.close()
        await process.wait()


async def _interpreter() -> tuple[float, float]:
    """Milliseconds from its start until it has imported all, and its RssAnon in MB."""
    began = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _BARE), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert await process.stdout.readline()
        return (time.perf_counter() - began) * 1000, machine.anonymous_mb(process.pid)
    finally:
        process.stdin.close()
        await process.wait()


def fdatasync_ms(directory: Path) -> float:
    """Median milliseconds of fdatasync after 4 KiB into a preallocated file."""
    with tempfile.NamedTemporaryFile(dir=directory) as file:
        descriptor = file.fileno()
        os.posix_fallocate(descriptor, 0, _SYNCS * len(_PAGE))
        os.fsync(descriptor)
        times = []
        for number in range(_SYNCS):
            os.pwrite(descriptor, _PAGE, number * len(_PAGE))
            began = time.perf_counter()
            os.fdatasync(descriptor)
            times.append(time.perf_counter() - began)
    return statistics.median(times) * 1000


async def _round_trip_ms(port: int) -> float:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def there_and_back() -> None:
        writer.write(_PAYLOAD)
        await reader.readexactly(len(_PAYLOAD))

    loop = await closed_loop(there_and_back, _ROUND_TRIPS)
    writer.close()
    await writer.wait_closed()
    return loop.median_ms


def _memcpy_mb_per_s() -> float:
    """Into memory that is there already: 16 MiB, more than a cache holds."""
    source, target = memoryview(os.urandom(16 << 20)), memoryview(bytearray(16 << 20))
    times = []
    for _ in range(20):
        began = time.perf_counter()
        target[:] = source
        times.append(time.perf_counter() - began)
    return len(source) / statistics.median(times) / 1e6


async def _stream_ms(channel: grpc.aio.Channel) -> float:
    call: Any = channel.stream_stream("/echo/Stream")()

    async def there_and_back() -> None:
        await call.write(_PAYLOAD)
        await call.read()

    loop = await closed_loop(there_and_back, _ROUND_TRIPS)
    await call.done_writing()
    return loop.median_ms


async def _flood_mb_per_s(channel: grpc.aio.Channel) -> float:
    began = time.perf_counter()
    size = 0
    call: Any = channel.unary_stream("/echo/Flood")
    async for message in call(str(_FLOOD).encode()):
        size += len(message)
    assert size == _FLOOD * FLOOD_BYTES
    return size / (time.perf_counter() - began) / 1e6
