"""nats-py, connected as a user would, and told to come back at once where its server goes away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import nats
from nats.js import JetStreamContext, api
from nats.js.errors import TooManyStalledMsgsError

# nats-py's default pause is 2 s, which would be most of a failover.
_RECONNECT_S = 0.05


async def _ignore(_error: Exception) -> None:
    """A lost connection is seen by whoever uses it; nats-py would print it, too."""


@asynccontextmanager
async def connected(addresses: Sequence[str], timeout_s: float = 30.0) -> AsyncIterator[JetStreamContext]:
    """Yield the streams of a connection to the first address that answers; the others are for later."""
    client = await nats.connect(
        [f"nats://{address}" for address in addresses],
        dont_randomize=True,
        reconnect_time_wait=_RECONNECT_S,
        max_reconnect_attempts=-1,
        error_cb=_ignore,
    )
    try:
        yield client.jetstream(timeout=timeout_s)
    finally:
        await client.close()


async def publish_async(stream: JetStreamContext, subject: str, payload: bytes) -> asyncio.Future[api.PubAck]:
    """Publish once there is room for it, and return what becomes of it.

    nats-py says TooManyStalledMsgsError also where it is cancelled while it waits: a run would go on.
    """
    try:
        return await stream.publish_async(subject, payload)
    except TooManyStalledMsgsError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise asyncio.CancelledError from None
        raise
