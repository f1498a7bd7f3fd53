"""A process that only answers, for the limits: gRPC and plain TCP on loopback. Ends with its stdin.

Prints {"grpc": port, "tcp": port}. Methods: /echo/Unary and /echo/Stream send back what came; /echo/Flood
sends messages of FLOOD_BYTES, as many as the request says.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
import uvloop

FLOOD_BYTES = 256 * 1024  # the size of our full batches


async def _unary(request: bytes, _context: Any) -> bytes:
    return request


async def _stream(requests: AsyncIterator[bytes], _context: Any) -> AsyncIterator[bytes]:
    async for request in requests:
        yield request


async def _flood(request: bytes, _context: Any) -> AsyncIterator[bytes]:
    message = bytes(FLOOD_BYTES)
    for _ in range(int(request)):
        yield message


class _Echo(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)


async def _serve() -> None:
    handlers: dict[str, Any] = {
        "Unary": grpc.unary_unary_rpc_method_handler(_unary),
        "Stream": grpc.stream_stream_rpc_method_handler(_stream),
        "Flood": grpc.unary_stream_rpc_method_handler(_flood),
    }
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("echo", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    tcp = await asyncio.get_running_loop().create_server(_Echo, "127.0.0.1", 0)
    print(json.dumps({"grpc": port, "tcp": tcp.sockets[0].getsockname()[1]}), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    tcp.close()
    await server.stop(0)


if __name__ == "__main__":
    uvloop.run(_serve())
