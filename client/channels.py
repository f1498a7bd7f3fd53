"""gRPC channels, one per address, and the stubs on them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc.aio
from grpc_health.v1 import health_pb2_grpc

from quorumlog.client.errors import UnknownOption
from quorumlog.client.tls import Stamp, Tls
from quorumlog.proto import service_pb2, service_pb2_grpc

MAX_MESSAGE_BYTES = 20 * 1024 * 1024  # a batch of 8 MiB fits an answer of several; the same at the server

_PRODUCE_STREAM = "/quorumlog.v1.Log/ProduceStream"

_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # gRPC's own pauses of 1 s to 2 min between connection attempts would be most of a failover.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # Two clients in one process shall not share a connection: each has its own flow-control window.
    ("grpc.use_local_subchannel_pool", 1),
    # A node whose network is cut says nothing: pings notice it within 5 s. Nodes permit two a second.
    ("grpc.keepalive_time_ms", 3_000),
    ("grpc.keepalive_timeout_ms", 2_000),
    ("grpc.http2.max_pings_without_data", 0),
    # Nodes are reached directly: a proxy variable in the environment is meant for other traffic.
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),  # retries are decided here, where it is known what may be repeated
)


@dataclass(frozen=True, slots=True)
class Stubs:
    """What one node can be asked."""

    address: str
    log: Any
    topics: Any
    cluster: Any
    health: Any
    produce_stream: Any  # Log.ProduceStream, whose requests are given as bytes: see wire.py


# What opens a channel to an address, in place of gRPC: an embedded log's.
OpenChannel: TypeAlias = Callable[[str], Any]

# A channel whose certificate was replaced: somebody may have its stubs in hand; streams on it may go on.
_IN_HAND_S = 10.0
_RETIRING_S = 3600.0
# How often the TLS files are looked at.
_LOOK_AGAIN_S = 1.0


class Channels:
    """Opens a channel when an address is first used, and keeps it. Use from one event loop only."""

    def __init__(
        self, user_agent: str, tls: Tls | None = None, open_channel: OpenChannel | None = None
    ) -> None:
        """Raises UnknownOption where the TLS files cannot be read."""
        self._open_channel = open_channel
        self._options = [*_OPTIONS, ("grpc.primary_user_agent", user_agent)]
        self._tls = tls
        self._looked_s = time.monotonic()
        self._stamp: Stamp | None = None  # of the files that `_credentials` were made of
        self._credentials: grpc.ChannelCredentials | None = None
        if tls is not None:
            self._stamp, self._credentials = tls.stamp(), tls.credentials()
        self._channels: dict[str, tuple[Any, Stubs]] = {}
        self._retiring: dict[asyncio.Task[None], grpc.aio.Channel] = {}

    def stubs(self, address: str) -> Stubs:
        """Return the stubs for an address; connecting happens with the first call."""
        self._renew()
        if address not in self._channels:
            channel = self._opened(address)
            stubs = Stubs(
                address,
                service_pb2_grpc.LogStub(channel),  # type: ignore[no-untyped-call]
                service_pb2_grpc.TopicsStub(channel),  # type: ignore[no-untyped-call]
                service_pb2_grpc.ClusterStub(channel),  # type: ignore[no-untyped-call]
                health_pb2_grpc.HealthStub(channel),
                channel.stream_stream(
                    _PRODUCE_STREAM, response_deserializer=service_pb2.ProduceResponse.FromString
                ),
            )
            self._channels[address] = channel, stubs
        return self._channels[address][1]

    async def close(self) -> None:
        """Close all channels; calls on them end as cancelled."""
        channels = [channel for channel, _ in self._channels.values()]
        for task, channel in list(self._retiring.items()):
            task.cancel()
            channels.append(channel)
        self._channels = {}
        for channel in channels:
            await channel.close()

    def _opened(self, address: str) -> Any:
        if self._open_channel is not None:
            return self._open_channel(address)
        if self._credentials is None:
            return grpc.aio.insecure_channel(address, options=self._options)
        return grpc.aio.secure_channel(address, self._credentials, options=self._options)

    def _renew(self) -> None:
        """Let new calls go over new channels once the TLS files were replaced; old calls finish."""
        now_s = time.monotonic()
        if self._tls is None or now_s - self._looked_s < _LOOK_AGAIN_S:
            return
        self._looked_s = now_s
        try:
            stamp = self._tls.stamp()
            if stamp == self._stamp:
                return
            self._credentials = self._tls.credentials()
        except UnknownOption:
            return  # they are being replaced at this moment
        self._stamp = stamp
        for channel, _ in self._channels.values():
            self._retire(channel)
        self._channels = {}

    def _retire(self, channel: grpc.aio.Channel) -> None:
        async def let_go() -> None:
            await asyncio.sleep(_IN_HAND_S)
            await channel.close(_RETIRING_S)

        task = asyncio.ensure_future(let_go())
        self._retiring[task] = channel
        task.add_done_callback(lambda done: self._retiring.pop(done, None))
