"""gRPC channels, one per address, and the stubs on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import grpc.aio

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
    produce_stream: Any  # Log.ProduceStream, whose requests are given as bytes: see wire.py


class Channels:
    """Opens a channel when an address is first used, and keeps it. Use from one event loop only."""

    def __init__(self, user_agent: str) -> None:
        self._options = [*_OPTIONS, ("grpc.primary_user_agent", user_agent)]
        self._channels: dict[str, tuple[grpc.aio.Channel, Stubs]] = {}

    def stubs(self, address: str) -> Stubs:
        """Return the stubs for an address; connecting happens with the first call."""
        if address not in self._channels:
            channel = grpc.aio.insecure_channel(address, options=self._options)
            stubs = Stubs(
                address,
                service_pb2_grpc.LogStub(channel),  # type: ignore[no-untyped-call]
                service_pb2_grpc.TopicsStub(channel),  # type: ignore[no-untyped-call]
                service_pb2_grpc.ClusterStub(channel),  # type: ignore[no-untyped-call]
                channel.stream_stream(
                    _PRODUCE_STREAM, response_deserializer=service_pb2.ProduceResponse.FromString
                ),
            )
            self._channels[address] = channel, stubs
        return self._channels[address][1]

    async def close(self) -> None:
        """Close all channels; calls on them end as cancelled."""
        channels, self._channels = list(self._channels.values()), {}
        for channel, _ in channels:
            await channel.close()
