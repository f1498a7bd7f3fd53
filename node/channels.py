"""gRPC channels to other nodes' client addresses, kept open and shared by all calls.

A channel reconnects by itself. The options below make it notice a dead or unreachable node within about
three seconds, which a forwarded call would otherwise wait out until its deadline.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeAlias

import grpc

# Both directions: a batch of 8 MiB, or an entry's worth of small ones, and its protobuf around it.
MESSAGE_BYTES_MAX = 20 * 1024 * 1024
# One per member, and some for members that came back under another address.
_CHANNELS_MAX = 32

_OPTIONS = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    # Peers are reached directly: a proxy variable in the environment is meant for other traffic.
    ("grpc.enable_http_proxy", 0),
    ("grpc.keepalive_time_ms", 1_000),
    ("grpc.keepalive_timeout_ms", 2_000),  # a busy machine is late at times
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 1_000),  # also the time given to one attempt
    ("grpc.max_reconnect_backoff_ms", 1_000),
)


# A channel whose certificate was replaced: somebody may have it in hand to begin a call; streams may go on.
_IN_HAND_S = 10.0
_RETIRING_S = 3600.0

# The certificates' generation, and what to show.
Credentials: TypeAlias = Callable[[], tuple[int, grpc.ChannelCredentials]]


class Channels:
    """One channel per address, the least recently used closed beyond a bound."""

    def __init__(self, credentials: Credentials | None = None) -> None:
        """Without credentials channels speak plain text."""
        self._credentials = credentials
        self._generation = 0
        self._shown: grpc.ChannelCredentials | None = None
        self._by_address: dict[str, grpc.aio.Channel] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._retiring: dict[asyncio.Task[None], grpc.aio.Channel] = {}

    def to(self, address: str) -> grpc.aio.Channel:
        """Return the channel to `host:port`."""
        self._renew()
        channel = self._by_address.pop(address, None)
        if channel is None:
            channel = self._opened(address)
        self._by_address[address] = channel
        if len(self._by_address) > _CHANNELS_MAX:
            self._close(self._by_address.pop(next(iter(self._by_address))))
        return channel

    async def ready(self, address: str, timeout_s: float) -> grpc.aio.Channel | None:
        """Return the channel once it is connected; None: it was not in time, and nothing was sent."""
        channel = self.to(address)
        if channel.get_state(try_to_connect=True) is grpc.ChannelConnectivity.READY:
            return channel
        try:
            async with asyncio.timeout(timeout_s):
                await channel.channel_ready()
        except TimeoutError:
            return None
        return channel

    async def close(self) -> None:
        """Close all channels; calls on them end."""
        for channel in self._by_address.values():
            self._close(channel)
        self._by_address.clear()
        for task, channel in list(self._retiring.items()):
            task.cancel()
            self._close(channel)
        await asyncio.gather(*self._closing)

    def _opened(self, address: str) -> grpc.aio.Channel:
        if self._shown is None:
            return grpc.aio.insecure_channel(address, options=_OPTIONS)
        return grpc.aio.secure_channel(address, self._shown, options=_OPTIONS)

    def _renew(self) -> None:
        """Let new calls go over new channels once the certificates were replaced; old calls finish."""
        if self._credentials is None:
            return
        generation, shown = self._credentials()
        if generation == self._generation:
            return
        self._generation, self._shown = generation, shown
        for channel in self._by_address.values():
            self._retire(channel)
        self._by_address.clear()

    def _retire(self, channel: grpc.aio.Channel) -> None:
        async def let_go() -> None:
            await asyncio.sleep(_IN_HAND_S)
            await channel.close(_RETIRING_S)

        task = asyncio.ensure_future(let_go())
        self._retiring[task] = channel
        task.add_done_callback(lambda done: self._retiring.pop(done, None))

    def _close(self, channel: grpc.aio.Channel) -> None:
        task = asyncio.ensure_future(channel.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
