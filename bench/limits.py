"""What the machine itself can do, measured in the same run: no result counts without it."""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
import time
from pathlib import Path

REPEATS = 100
PAGE = os.urandom(4096)


def fdatasync_ms(directory: Path) -> float:
    """Median milliseconds of fdatasync after 4 KiB into a preallocated file."""
    with tempfile.NamedTemporaryFile(dir=directory) as file:
        descriptor = file.fileno()
        os.posix_fallocate(descriptor, 0, REPEATS * len(PAGE))
        os.fsync(descriptor)
        times = []
        for number in range(REPEATS):
            os.pwrite(descriptor, PAGE, number * len(PAGE))
            began = time.perf_counter()
            os.fdatasync(descriptor)
            times.append(time.perf_counter() - began)
    return statistics.median(times) * 1000


async def round_trip_ms() -> float:
    """Median milliseconds of 100 bytes to and fro over a loopback stream, both ends on this loop."""
    ended = asyncio.Event()

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data)
        writer.close()
        ended.set()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        writer.write(bytes(100))
        await reader.readexactly(100)
        times.append(time.perf_counter() - began)
    writer.close()
    await ended.wait()
    server.close()
    return statistics.median(times) * 1000
