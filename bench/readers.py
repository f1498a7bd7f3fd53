"""The next record at the tail, through the client that the users of each side have.

Each reader has connections of its own. It has what is written after it was made.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeAlias

from nats.js import api

from bench.peers.nats_client import connected
from quorumlog.client import AsyncClient

Read: TypeAlias = Callable[[], Awaitable[bytes | None]]
_PATIENCE_S = 30.0
_numbers = itertools.count()


@asynccontextmanager
async def _quorumlog(addresses: Sequence[str], target: str) -> AsyncIterator[Read]:
    """`target` is a topic. The client chooses a node."""
    async with (
        AsyncClient(list(addresses), connect_timeout_ms=20_000) as client,
        client.consumer(target, start="latest") as consumer,
    ):

        async def read() -> bytes | None:
            return (await consumer.getone()).value

        yield read


@asynccontextmanager
async def _nats(addresses: Sequence[str], target: str) -> AsyncIterator[Read]:
    """`target` is a stream and its subject. A push consumer need not ask; servers are taken in turn."""
    async with connected(rotated(addresses, next(_numbers))) as stream:
        config = api.ConsumerConfig(ack_policy=api.AckPolicy.NONE, deliver_policy=api.DeliverPolicy.NEW)
        pushed = await stream.subscribe(target, stream=target, config=config)

        async def read() -> bytes:
            return (await pushed.next_msg(timeout=_PATIENCE_S)).data

        yield read


_READERS: dict[str, Callable[[Sequence[str], str], AbstractAsyncContextManager[Read]]] = {
    "quorumlog": _quorumlog,
    "nats": _nats,
}


def rotated(addresses: Sequence[str], turn: int) -> list[str]:
    """Return all of them, beginning with another one in each turn."""
    first = turn % len(addresses)
    return [*addresses[first:], *addresses[:first]]


def reader(kind: str, addresses: Sequence[str], target: str) -> AbstractAsyncContextManager[Read]:
    """Return connections of its own, and what reads over them, one record at a time."""
    return _READERS[kind](addresses, target)
