"""One node: its parts put together, started in order, and stopped in order.

    start   data directory -> log -> state machine -> engine -> gRPC server -> SERVING
    stop    leadership handed over -> NOT_SERVING -> streams end, calls under way finish -> engine (sync,
            close) -> exit

`build` makes everything that can fail for a reason of its own; `Node.start` opens the doors.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from grpc_reflection.v1alpha import reflection

from quorumlog.node import log_service, topics_service
from quorumlog.node.access import Guard
from quorumlog.node.call import LEADER
from quorumlog.node.calls import Calls
from quorumlog.node.channels import Channels
from quorumlog.node.cluster_service import ClusterService
from quorumlog.node.config import Config
from quorumlog.node.consistency import Freshness
from quorumlog.node.consuming import Consuming
from quorumlog.node.directory import NodeDirectory, open_directory
from quorumlog.node.errors import Metadata
from quorumlog.node.grants import Grants
from quorumlog.node.health import SERVICE_NAME as HEALTH_NAME
from quorumlog.node.health import Health
from quorumlog.node.host import Host
from quorumlog.node.listening import ClientPort, Server, open_port
from quorumlog.node.log_service import LogService
from quorumlog.node.machine import LogMachine
from quorumlog.node.outbound import Outbound
from quorumlog.node.produce_stream import ProduceStreams
from quorumlog.node.producing import Producing
from quorumlog.node.reading import Reader
from quorumlog.node.reasons import Reason, Refusal
from quorumlog.node.routing import Router
from quorumlog.node.status import NAME as CLUSTER_NAME
from quorumlog.node.status import Statuses
from quorumlog.node.tails import Tails
from quorumlog.node.tls import Certificates
from quorumlog.node.topics_service import TopicsService
from quorumlog.node.values import Address
from quorumlog.raft.engine import Engine, EngineConfig
from quorumlog.raft.errors import Busy, NotConfirmed, NotLeader, TransferFailed
from quorumlog.raft.hardstate import HardState
from quorumlog.raft.retention import RetentionLimits
from quorumlog.storage.files import OsFiles
from quorumlog.storage.log import Log, LogIdentity, LogOptions

if TYPE_CHECKING:
    from quorumlog.node.web import Web

logger = logging.getLogger(__name__)

# Bodies are read away from the loop: a cold disk takes milliseconds. More threads share one interpreter.
_READ_THREADS = 2
# A stop waits so long for another leader: with one that is level it takes a few round trips, and where none
# is, an election after the stop is no worse.
_HAND_OVER_S = 1.0
# Between two looks whether it leads.
_LED_S = 1.0
# A write waits for a leader as long as two elections in a row may take.
_ELECTIONS = 2

MakeEngine = Callable[[Config, LogMachine, Log, NodeDirectory, Address], Engine]


class Door:
    """call.Gate: open until the node stops; every answer says who leads, where that is known."""

    def __init__(self, engine: Engine, outbound: Outbound) -> None:
        self.outbound = outbound
        self.calls = Calls()
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


class Members:
    """Who takes part: what the engine says, once there is one. The server is made before it."""

    engine: Engine | None = None

    def has(self, node_id: str) -> bool:
        """Whether a node is a member, or a learner, now."""
        return self.engine is not None and node_id in self.engine.members


@dataclass(frozen=True, slots=True)
class Parts:
    """What a node consists of."""

    engine: Engine
    server: Server
    channels: Channels
    consuming: Consuming
    streams: ProduceStreams
    health: Health
    statuses: Statuses
    door: Door
    readers: ThreadPoolExecutor
    web: Web | None  # None: nothing is served over HTTP


class Node:
    """A node that can be started once and stopped once."""

    def __init__(self, config: Config, parts: Parts, client_address: Address) -> None:
        self._config = config
        self._parts = parts
        self._sweeping: asyncio.Task[None] | None = None
        self.client_address = client_address  # advertised

    @property
    def peer_address(self) -> str:
        """Where peers are heard."""
        return self._parts.engine.peer_address

    @property
    def members(self) -> frozenset[str]:
        """The ids of all that take part, as this node's log says."""
        return frozenset(self._parts.engine.members)

    @property
    def http_address(self) -> str:
        """Where the status page is, as it is advertised; empty: nowhere."""
        return self._parts.statuses.http_address

    async def start(self) -> None:
        """Take part in the cluster, then serve clients. Raises OSError where a port cannot be had."""
        web = self._parts.web
        if web is not None:
            await web.start()
        await self._parts.health.start()
        await self._parts.engine.start()
        await self._parts.server.start()
        self._sweeping = asyncio.ensure_future(self._parts.door.outbound.sweep())
        await self._parts.health.serving()
        logger.info("serving clients at %s, peers at %s", self.client_address, self.peer_address)
        if web is not None:
            web.ready()
            logger.info("the status page is at %s", web.url)

    async def until_leading(self) -> None:
        """Return when this node leads and has applied all that was acknowledged before it did.

        For a cluster of one: that is soon, unless the disk fails.
        """
        while True:
            try:
                index = await self._parts.engine.read_index(_LED_S)
                await self._parts.engine.wait_applied(index, _LED_S)
            except (NotConfirmed, Busy, TimeoutError):
                continue  # a long segment is replayed in steps
            return

    async def stop(self) -> None:
        """Hand over, stop accepting, let calls finish within the grace, then sync and close the log."""
        logger.info("stopping")
        parts = self._parts
        if parts.web is not None:
            parts.web.draining()
        await self._hand_over()
        parts.door.close()
        await parts.health.stop()
        parts.consuming.stop()
        parts.streams.stop()
        await parts.server.stop(self._config.limits.shutdown_grace_s)
        if self._sweeping is not None:
            self._sweeping.cancel()
        if parts.web is not None:
            await parts.web.stop()
        await parts.channels.close()
        await parts.engine.stop()
        parts.readers.shutdown()
        logger.info("stopped")

    async def _hand_over(self) -> None:
        """Let another node lead before this one goes: writes then pause for a moment, not for an election."""
        engine = self._parts.engine
        if not engine.is_leader or len(engine.members) < 2:
            return
        try:
            leader_id = await engine.transfer_leadership(None, _HAND_OVER_S)
        except (NotLeader, TransferFailed) as error:
            logger.info("stopping without a successor: %s", error)
        else:
            logger.info("%s leads now", leader_id)


def make_engine(
    config: Config,
    machine: LogMachine,
    log: Log,
    directory: NodeDirectory,
    client_address: Address,
    *,
    certificates: Certificates | None,
    fatal: Callable[[int, str], None] | None = None,
) -> Engine:
    """Return the replicating engine of this node; it is not started.

    `fatal` is called in place of ending the process, where that is not the node's: no peers are heard then.
    """
    hard_state = HardState(OsFiles(), directory.group / "term", log_is_empty=log.last_index == 0)
    engine_config = EngineConfig(
        node_id=config.node_id,
        members={node_id: str(address) for node_id, address in config.members.items()},
        cluster_id=config.cluster_id,
        directory_id=directory.directory_id,
        listen=str(config.peer.listen) if fatal is None else "",
        client_address=str(client_address),
        election_timeout_s_min=config.raft.election_timeout_s_min,
        election_timeout_s_max=config.raft.election_timeout_s_max,
        heartbeat_s=config.raft.heartbeat_s,
        retention=RetentionLimits(config.log.retention_bytes, config.log.retention_age_s),
        scrub_bytes_per_s=config.log.scrub_bytes_per_s,
        scrub_period_s=config.log.scrub_period_s,
        tls=certificates,
    )
    return Engine(engine_config, log, machine, hard_state, fatal=fatal)


async def build(config: Config, make: MakeEngine | None = None, port: ClientPort | None = None) -> Node:
    """Open the data and put a node together; the client port is bound, nothing is served yet.

    `make` gives another engine than the usual one, `port` another way in than a socket.

    Raises DirectoryRefused, storage.errors.StorageError, raft.errors.DamagedHardState, ConfigError, OSError.
    """
    certificates = None
    if config.tls is not None:
        certificates = Certificates(config.tls, config.cluster, config.node_id)
    members = Members()
    grants = Grants(config.grants)
    guard = Guard(config.cluster, grants, members.has) if certificates is not None else None
    listening = port is None
    port = port or open_port(config, guard, certificates)
    if listening:
        _reflect(port.server)
    directory = open_directory(config.data, config.node_id, config.cluster)
    log = _open_log(config, directory)
    try:
        machine = LogMachine(log.views)  # those that the log tells of what is dropped or replaced
        make = make or partial(make_engine, certificates=certificates)
        engine = make(config, machine, log, directory, port.address)
        members.engine = engine
        channels = Channels(certificates.channel_credentials if certificates is not None else None)
        parts = _assemble(config, port, engine, machine, log, channels, certificates, grants)
    except BaseException:
        log.close()
        raise
    return Node(config, parts, port.address)


def _reflect(server: Server) -> None:
    """Let tools such as grpcurl ask what can be called."""
    names = (log_service.NAME, topics_service.NAME, CLUSTER_NAME, HEALTH_NAME, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)


def _open_log(config: Config, directory: NodeDirectory) -> Log:
    options = LogOptions(segment_bytes=config.log.segment_bytes, segment_entries=config.log.segment_entries)
    return Log.open(directory.group, LogIdentity(config.cluster_id, 0), OsFiles(), options)


def _assemble(
    config: Config,
    port: ClientPort,
    engine: Engine,
    machine: LogMachine,
    log: Log,
    channels: Channels,
    certificates: Certificates | None,
    grants: Grants,
) -> Parts:
    outbound = Outbound(config.limits.write_timeout_s, port.cut)
    tails, door, health = Tails(), Door(engine, outbound), Health(engine)
    readers = ThreadPoolExecutor(_READ_THREADS, thread_name_prefix="read")
    reader = Reader(machine, log, readers)
    leader_wait_s = _ELECTIONS * config.raft.election_timeout_s_max
    freshness = Freshness(engine, leader_wait_s)
    timeout_s = config.limits.produce_timeout_s
    router = Router(engine, channels, leader_wait_s)
    producing = Producing(engine, machine, reader, config.limits)
    streams = ProduceStreams(engine, producing, router, leader_wait_s)
    consuming = Consuming(machine, reader, freshness, tails, outbound)
    engine.on_applied.append(lambda: tails.applied(machine.take_changed()))
    engine.is_awaited = lambda: tails.is_awaited
    host = Host(config.data, certificates)
    statuses = Statuses(engine, machine, channels, config, str(port.address), host)
    services = (
        LogService(engine, router, producing, streams, consuming, timeout_s),
        TopicsService(engine, machine, router, reader, freshness, timeout_s),
        ClusterService(engine, router, statuses, config),
    )
    port.server.add_generic_rpc_handlers([service.handler(door) for service in services])
    health.add_to(port.server)
    web = None
    if config.http is not None:
        from quorumlog.node.web import Web  # here, since a node without it need not hold it in memory

        serving = (engine, machine, statuses, door.calls, reader, tails, readers, certificates, grants)
        web = Web(config, config.http, *serving)
    return Parts(engine, port.server, channels, consuming, streams, health, statuses, door, readers, web)


async def stop_requested(signals: tuple[int, ...]) -> None:
    """Return when the process gets one of these signals."""
    loop = asyncio.get_running_loop()
    requested = asyncio.Event()
    for number in signals:
        loop.add_signal_handler(number, requested.set)
    await requested.wait()
