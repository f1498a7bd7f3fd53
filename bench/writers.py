"""One acknowledged write, through the client that the users of each side have."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeAlias

from quorumlog.client import AsyncClient

Write: TypeAlias = Callable[[bytes], Awaitable[object]]
_numbers = itertools.count()


@asynccontextmanager
async def _quorumlog(addresses: Sequence[str], target: str) -> AsyncIterator[Write]:
    """`target` is a topic."""
    async with (
        AsyncClient(list(addresses), connect_timeout_ms=20_000) as client,
        client.producer() as producer,
    ):

        async def write(payload: bytes) -> object:
            return await producer.send(target, payload)

        yield write


@asynccontextmanager
async def _etcd(addresses: Sequence[str], target: str) -> AsyncIterator[Write]:
    """`target` begins the key, of which each write has its own."""
    from bench.peers.etcd_client import EtcdClient

    async with EtcdClient(addresses[0]) as client:

        async def write(payload: bytes) -> object:
            await client.put(f"{target}/{next(_numbers)}".encode(), payload)
            return None

        yield write


@asynccontextmanager
async def _nats(addresses: Sequence[str], target: str) -> AsyncIterator[Write]:
    """`target` is a subject."""
    from bench.peers.nats_client import connected

    async with connected(addresses) as stream:

        async def write(payload: bytes) -> object:
            return await stream.publish(target, payload)

        yield write


_WRITERS: dict[str, Callable[[Sequence[str], str], AbstractAsyncContextManager[Write]]] = {
    "quorumlog": _quorumlog,
    "etcd": _etcd,
    "nats": _nats,
}


def writer(kind: str, addresses: Sequence[str], target: str) -> AbstractAsyncContextManager[Write]:
    """Return a connection of its own, and what writes over it."""
    return _WRITERS[kind](addresses, target)
