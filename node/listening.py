"""The client port: what a connection may be, and how much one connection, or all, may take."""

from __future__ import annotations

import logging
import resource
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import grpc

from quorumlog.node.access import Guard
from quorumlog.node.channels import MESSAGE_BYTES_MAX
from quorumlog.node.config import Config
from quorumlog.node.outbound import cut_connection
from quorumlog.node.tls import Certificates
from quorumlog.node.values import Address

logger = logging.getLogger(__name__)

# A call's metadata: ours is a few words, a tracing system's some more. Beyond the second it ends the stream.
_METADATA_BYTES = 16 * 1024
_METADATA_BYTES_MAX = 32 * 1024
# Streams of one connection; a client with more calls under way waits, or opens another connection.
_STREAMS_PER_CONNECTION = 1024
# What gRPC takes of a stream's messages before its reader has room; the rest counts in outbound.py.
_BUFFERED_BYTES = 16 * 1024
# TLS and HTTP/2's first words: who has not said them by then holds a connection for nothing.
_HANDSHAKE_MS = 5_000
# New calls then go over a new connection, which shows its certificate again; those under way go on.
_CONNECTION_AGE_MS = 3_600_000
# What else a node keeps open: segments, peers, channels, the interpreter's own.
_OTHER_DESCRIPTORS = 1024


class Server(Protocol):
    """What a node needs of grpc.aio.Server, or of what takes its place within a program."""

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Serve these methods too."""

    async def start(self) -> None:
        """Let calls in."""

    async def stop(self, grace: float | None) -> None:
        """Let no more in; end those under way after so many seconds."""


@dataclass(frozen=True, slots=True)
class ClientPort:
    """Where clients come in; nothing is served before `server` is started."""

    server: Server
    address: Address  # advertised
    cut: Callable[[str], None]  # ends the connection of a peer, as its calls name it; from any thread


def open_port(config: Config, guard: Guard | None, certificates: Certificates | None) -> ClientPort:
    """Return gRPC's server, bound and not started. Raises OSError."""
    server = grpc.aio.server(
        interceptors=[guard] if guard is not None else [],
        options=_options(config.limits.connections),
        maximum_concurrent_rpcs=config.limits.concurrent_calls,
    )
    listen = config.client.listen
    try:
        if certificates is None:
            port = server.add_insecure_port(str(listen))
        else:
            port = server.add_secure_port(str(listen), certificates.server_credentials())
    except RuntimeError as error:
        raise OSError(f"client.listen: {listen} cannot be bound: {error}") from error
    if certificates is None and not (listen.is_loopback and config.peer.listen.is_loopback):
        logger.warning("there is no TLS: whoever reaches %s or %s is believed", listen, config.peer.listen)
    advertised = config.client.advertised
    address = advertised.with_port(port) if advertised.port == 0 else advertised
    return ClientPort(server, address, partial(cut_connection, port=port))


def raise_descriptor_limit(connections: int) -> None:
    """Let the process open as many files as the system allows, and say where that is too few."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
        except (ValueError, OSError) as error:
            logger.warning("the limit of open files cannot be raised from %d to %d: %s", soft, hard, error)
    if soft != resource.RLIM_INFINITY and soft < connections + _OTHER_DESCRIPTORS:
        logger.warning(
            "%d files may be open, which is too few for limits.connections (%d) and %d others",
            soft, connections, _OTHER_DESCRIPTORS,
        )  # fmt: skip


def _options(connections: int) -> tuple[tuple[str, int], ...]:
    return (
        ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
        ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
        ("grpc.max_metadata_size", _METADATA_BYTES),
        ("grpc.absolute_max_metadata_size", _METADATA_BYTES_MAX),
        ("grpc.http2.write_buffer_size", _BUFFERED_BYTES),
        ("grpc.max_concurrent_streams", _STREAMS_PER_CONNECTION),
        ("grpc.max_allowed_incoming_connections", connections),
        ("grpc.server_handshake_timeout_ms", _HANDSHAKE_MS),
        ("grpc.max_connection_age_ms", _CONNECTION_AGE_MS),
        # Two nodes given the same port are a mistake, which the kernel shall report and not balance.
        ("grpc.so_reuseport", 0),
        # Nodes ping each other every second (channels.py); a client may, too. Who pings more often than this
        # is sent away after two warnings.
        ("grpc.http2.min_ping_interval_without_data_ms", 500),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 500),
        ("grpc.keepalive_permit_without_calls", 1),
        # A client that vanished without a word is noticed, and its calls end.
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        # A connection without calls is not kept for ever: ten thousand of them would be.
        ("grpc.max_connection_idle_ms", 600_000),
    )
