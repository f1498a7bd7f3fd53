"""One node: its parts put together, started in order, and stopped in order.

    start   data directory -> log -> state machine -> engine -> gRPC server -> SERVING
    stop    NOT_SERVING -> streams end, calls under way finish -> engine (sync, close) -> exit

`build` makes everything that can fail for a reason of its own; `Node.start` opens the doors.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import grpc
from grpc_reflection.v1alpha import reflection

from quorumlog.node import cluster_service, log_service, topics_service
from quorumlog.node.call import LEADER
from quorumlog.node.channels import MESSAGE_BYTES_MAX, Channels
from quorumlog.node.cluster_service import ClusterService
from quorumlog.node.config import Config
from quorumlog.node.consistency import Freshness
from quorumlog.node.consuming import Consuming
from quorumlog.node.directory import NodeDirectory, open_directory
from quorumlog.node.errors import Metadata
from quorumlog.node.health import SERVICE_NAME as HEALTH_NAME
from quorumlog.node.health import Health
from quorumlog.node.log_service import LogService
from quorumlog.node.machine import LogMachine
from quorumlog.node.produce_stream import ProduceStreams
from quorumlog.node.producing import Producing
from quorumlog.node.reading import Reader
from quorumlog.node.reasons import Reason, Refusal
from quorumlog.node.routing import Router
from quorumlog.node.tails import Tails
from quorumlog.node.tls import peer_contexts
from quorumlog.node.topics_service import TopicsService
from quorumlog.node.values import Address
from quorumlog.raft.engine import Engine, EngineConfig
from quorumlog.raft.hardstate import HardState
from quorumlog.storage.files import OsFiles
from quorumlog.storage.log import Log, LogIdentity, LogOptions
from quorumlog.storage.views import Views

logger = logging.getLogger(__name__)

# Bodies are read away from the loop: a cold disk takes milliseconds. More threads share one interpreter.
_READ_THREADS = 2
# A write waits for a leader as long as two elections in a row may take.
_ELECTIONS = 2

_SERVER_OPTIONS = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    # Two nodes given the same port are a mistake, which the kernel shall report and not balance.
    ("grpc.so_reuseport", 0),
    # Nodes ping each other every second (channels.py); a client may, too.
    ("grpc.http2.min_ping_interval_without_data_ms", 500),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 500),
    ("grpc.keepalive_permit_without_calls", 1),
    # A client that vanished without a word is noticed, and its calls end.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # A connection without calls is not kept for ever: ten thousand of them would be.
    ("grpc.max_connection_idle_ms", 600_000),
)

MakeEngine = Callable[[Config, LogMachine, Log, NodeDirectory, Address], Engine]


class Door:
    """call.Gate: open until the node stops; every answer says who leads, where that is known."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._open = True

    def close(self) -> None:
        """Admit nobody any more."""
        self._open = False

    def admit(self) -> None:
        """See Gate."""
        if not self._open:
            raise Refusal(Reason.SHUTTING_DOWN, "this node is shutting down; go on at another")

    def trailers(self) -> Metadata:
        """See Gate."""
        address = self._engine.leader_client_address
        return ((LEADER, f"{self._engine.leader_id} {address}"),) if address is not None else ()


@dataclass(frozen=True, slots=True)
class Parts:
    """What a node consists of."""

    engine: Engine
    grpc_server: grpc.aio.Server
    channels: Channels
    consuming: Consuming
    streams: ProduceStreams
    health: Health
    door: Door
    readers: ThreadPoolExecutor


class Node:
    """A node that can be started once and stopped once."""

    def __init__(self, config: Config, parts: Parts, client_address: Address) -> None:
        self._config = config
        self._parts = parts
        self.client_address = client_address  # advertised

    @property
    def peer_address(self) -> str:
        """Where peers are heard."""
        return self._parts.engine.peer_address

    async def start(self) -> None:
        """Take part in the cluster, then serve clients. Raises OSError where the peer port cannot be had."""
        await self._parts.health.start()
        await self._parts.engine.start()
        await self._parts.grpc_server.start()
        await self._parts.health.serving()
        logger.info("serving clients at %s, peers at %s", self.client_address, self.peer_address)

    async def stop(self) -> None:
        """Stop accepting, let calls finish within the grace, end streams, then sync and close the log."""
        logger.info("stopping")
        parts = self._parts
        parts.door.close()
        await parts.health.stop()
        parts.consuming.stop()
        parts.streams.stop()
        await parts.grpc_server.stop(self._config.limits.shutdown_grace_s)
        await parts.channels.close()
        await parts.engine.stop()
        parts.readers.shutdown()
        logger.info("stopped")


def make_engine(
    config: Config, machine: LogMachine, log: Log, directory: NodeDirectory, client_address: Address
) -> Engine:
    """Return the replicating engine of this node; it is not started."""
    accept, dial = peer_contexts(config.tls) if config.tls is not None else (None, None)
    hard_state = HardState(OsFiles(), directory.group / "term", log_is_empty=log.last_index == 0)
    engine_config = EngineConfig(
        node_id=config.node_id,
        members={node_id: str(address) for node_id, address in config.members.items()},
        cluster_id=config.cluster_id,
        directory_id=directory.directory_id,
        listen=str(config.peer.listen),
        client_address=str(client_address),
        election_timeout_s_min=config.raft.election_timeout_s_min,
        election_timeout_s_max=config.raft.election_timeout_s_max,
        heartbeat_s=config.raft.heartbeat_s,
        server_tls=accept,
        client_tls=dial,
    )
    return Engine(engine_config, log, machine, hard_state)


async def build(config: Config, make: MakeEngine = make_engine) -> Node:
    """Open the data and put a node together; the client port is bound, nothing is served yet.

    Raises DirectoryRefused, storage.errors.StorageError, raft.errors.DamagedHardState, ConfigError, OSError.
    """
    server = grpc.aio.server(options=_SERVER_OPTIONS, maximum_concurrent_rpcs=config.limits.concurrent_calls)
    client_address = _bind(server, config)
    directory = open_directory(config.data, config.node_id, config.cluster)
    log = _open_log(config, directory)
    try:
        machine = LogMachine(Views(log))
        engine = make(config, machine, log, directory, client_address)
    except BaseException:
        log.close()
        raise
    return Node(config, _assemble(config, server, engine, machine, log, client_address), client_address)


def _bind(server: grpc.aio.Server, config: Config) -> Address:
    """Bind the client port; return the advertised address, in which a port 0 has become the real one."""
    listen, advertised = config.client.listen, config.client.advertised
    try:
        port = server.add_insecure_port(str(listen))
    except RuntimeError as error:
        raise OSError(f"client.listen: {listen} cannot be bound: {error}") from error
    return advertised.with_port(port) if advertised.port == 0 else advertised


def _open_log(config: Config, directory: NodeDirectory) -> Log:
    options = LogOptions(segment_bytes=config.log.segment_bytes, segment_entries=config.log.segment_entries)
    return Log.open(directory.group, LogIdentity(config.cluster_id, 0), OsFiles(), options)


def _assemble(
    config: Config,
    server: grpc.aio.Server,
    engine: Engine,
    machine: LogMachine,
    log: Log,
    client_address: Address,
) -> Parts:
    channels, tails, door, health = Channels(), Tails(), Door(engine), Health(engine)
    readers = ThreadPoolExecutor(_READ_THREADS, thread_name_prefix="read")
    reader = Reader(machine, log, readers)
    freshness = Freshness(engine)
    leader_wait_s = _ELECTIONS * config.raft.election_timeout_s_max
    timeout_s = config.limits.produce_timeout_s
    router = Router(engine, channels, leader_wait_s)
    producing = Producing(engine, machine, reader, config.limits)
    streams = ProduceStreams(engine, producing, router, leader_wait_s)
    consuming = Consuming(machine, reader, freshness, tails)
    engine.on_applied.append(lambda: tails.applied(machine.take_changed()))
    services = (
        LogService(engine, router, producing, streams, consuming, timeout_s),
        TopicsService(engine, machine, router, reader, freshness, timeout_s),
        ClusterService(engine, machine, router, channels, config, str(client_address)),
    )
    server.add_generic_rpc_handlers([service.handler(door) for service in services])
    health.add_to(server)
    names = (log_service.NAME, topics_service.NAME, cluster_service.NAME, HEALTH_NAME)
    reflection.enable_server_reflection((*names, reflection.SERVICE_NAME), server)
    return Parts(engine, server, channels, consuming, streams, health, door, readers)


async def stop_requested(signals: tuple[int, ...]) -> None:
    """Return when the process gets one of these signals."""
    loop = asyncio.get_running_loop()
    requested = asyncio.Event()
    for number in signals:
        loop.add_signal_handler(number, requested.set)
    await requested.wait()
