"""One acknowledged write, through the client that the users of each side have.

It is tried until it is acknowledged. Our client does that by itself; for the others it is done here, at
another node where there is a choice.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import TypeAlias

import grpc.aio
from nats.errors import Error as NatsError
from nats.js.errors import Error as StreamError

from bench.peers.etcd_client import EtcdClient
from bench.peers.nats_client import connected
from quorumlog.client import AsyncClient

Write: TypeAlias = Callable[[bytes], Awaitable[object]]
_PAUSE_S = 0.01
_PATIENCE_S = 30.0
_numbers = itertools.count()


@asynccontextmanager
async def _quorumlog(addresses: Sequence[str], target: str, _attempt_s: float) -> AsyncIterator[Write]:
    """`target` is a topic. The client has its own ways to notice a node that does not answer."""
    async with (
        AsyncClient(list(addresses), connect_timeout_ms=20_000) as client,
        client.producer() as producer,
    ):
        yield lambda payload: producer.send(target, payload)


@asynccontextmanager
async def _etcd(addresses: Sequence[str], target: str, attempt_s: float) -> AsyncIterator[Write]:
    """`target` begins the key, of which each write has its own."""
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(EtcdClient(address)) for address in addresses]
        turn = 0

        async def write(payload: bytes) -> None:
            nonlocal turn
            key = f"{target}/{next(_numbers)}".encode()
            while True:
                asked = turn
                try:
                    return await clients[asked % len(clients)].put(key, payload, attempt_s)
                except grpc.aio.AioRpcError:
                    turn = max(turn, asked + 1)
                    await asyncio.sleep(_PAUSE_S)

        yield write


@asynccontextmanager
async def _nats(addresses: Sequence[str], target: str, attempt_s: float) -> AsyncIterator[Write]:
    """`target` is a subject; nats-py finds another server by itself."""
    async with connected(addresses) as stream:

        async def write(payload: bytes) -> object:
            while True:
                try:
                    return await stream.publish(target, payload, timeout=attempt_s)
                except (NatsError, StreamError, TimeoutError):
                    await asyncio.sleep(_PAUSE_S)

        yield write


_WRITERS: dict[str, Callable[[Sequence[str], str, float], AbstractAsyncContextManager[Write]]] = {
    "quorumlog": _quorumlog,
    "etcd": _etcd,
    "nats": _nats,
}


def writer(
    kind: str, addresses: Sequence[str], target: str, *, attempt_s: float = _PATIENCE_S
) -> AbstractAsyncContextManager[Write]:
    """Return connections of its own, and what writes over them; `attempt_s`: then it is tried again."""
    return _WRITERS[kind](addresses, target, attempt_s)
