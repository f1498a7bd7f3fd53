"""A node: a process over a disk and a network, which can be killed, lose power, pause and come back.

It is put together as node/server.py does it, without gRPC: api.py brings calls to its services.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, NoReturn, cast

from quorumlog.node.cluster_service import ClusterService
from quorumlog.node.config import Limits
from quorumlog.node.consistency import Freshness
from quorumlog.node.consuming import Consuming
from quorumlog.node.log_service import LogService
from quorumlog.node.machine import LogMachine
from quorumlog.node.outbound import Outbound
from quorumlog.node.produce_stream import ProduceStreams
from quorumlog.node.producing import Producing
from quorumlog.node.reading import Reader
from quorumlog.node.results import CommandResult
from quorumlog.node.routing import Router
from quorumlog.node.status import Statuses
from quorumlog.node.tails import Tails
from quorumlog.node.topics_service import TopicsService
from quorumlog.raft.engine import Engine, EngineConfig, Role
from quorumlog.raft.errors import (
    EXIT_BUG,
    EXIT_DAMAGED,
    EXIT_SYNC_FAILED,
    DamagedHardState,
)
from quorumlog.raft.hardstate import HardState
from quorumlog.raft.replica import Fatal, Replica
from quorumlog.raft.retention import KEEP_EVERYTHING
from quorumlog.storage.errors import Damaged, NoSpace, SyncFailed
from quorumlog.storage.frame import Frame
from quorumlog.storage.log import Log, LogIdentity
from quorumlog.storage.views import Views
from tests.simulation.api import Channels
from tests.simulation.network import PORT, NodeLoop, ProcessExit
from tests.support.simulated_disk import PowerCut, SimulatedDisk

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster

IDENTITY: Final = LogIdentity(b"simulated-cluste", 0)
GROUP: Final = Path("/data/group-0")
CLIENT_PORT: Final = 9650
ELECTION_TIMEOUT_S_MAX: Final = 0.8
WRITE_TIMEOUT_S: Final = 5.0
EXIT_OTHER: Final = 1
LIMITS: Final = Limits(
    record_bytes=1 << 20,
    batch_bytes=8 << 20,
    concurrent_calls=1000,
    connections=1000,
    write_timeout_s=WRITE_TIMEOUT_S,
    produce_timeout_s=WRITE_TIMEOUT_S,
    shutdown_grace_s=1.0,
)


class ObservedMachine(LogMachine):
    """The real state machine; what it applies is shown to the history."""

    def __init__(self, views: Views, node: Node) -> None:
        super().__init__(views)
        self._node = node

    def apply(self, frame: Frame) -> Sequence[CommandResult]:
        results = super().apply(frame)
        self._node.cluster.history.applied(self._node, frame, results, self.time_ms)
        return results


class ObservedHardState(HardState):
    """The real term and vote; what is saved is shown to the history, and compared after each restart."""

    def __init__(self, node: Node, *, log_is_empty: bool) -> None:
        super().__init__(node.disk, GROUP / "term", log_is_empty=log_is_empty)
        self._node = node
        node.cluster.history.hard_state_loaded(node, self.term, self.vote)

    def save(self, term: int, vote: str | None) -> None:
        super().save(term, vote)
        self._node.cluster.history.hard_state_saved(self._node, term, vote)


class Process:
    """What runs between a start and an end."""

    def __init__(self, node: Node, loop: NodeLoop) -> None:
        self.loop = loop
        self.log = Log.open(GROUP, IDENTITY, node.disk, node.cluster.log_options)
        self.machine = node.make_machine(self.log)
        hard_state = ObservedHardState(node, log_is_empty=self.log.last_index == 0)
        self.engine = Engine(
            EngineConfig(
                node_id=node.name,
                members=node.members or {name: f"{name}:{PORT}" for name in node.cluster.names},
                cluster_id=IDENTITY.cluster_id,
                directory_id=node.directory_id,
                listen=f"{node.name}:{PORT}",
                client_address=f"{node.name}:{CLIENT_PORT}",
                election_timeout_s_max=ELECTION_TIMEOUT_S_MAX,
                retention=node.retention or node.cluster.retention,
                **node.settings,
            ),
            self.log,
            self.machine,
            hard_state,
            fatal=node.exits,
        )
        self.engine.on_role.append(node.on_role)
        if isinstance(self.machine, LogMachine):
            self._serve(node.cluster)

    def _serve(self, cluster: Cluster) -> None:
        engine, machine = self.engine, self.machine
        channels: Any = Channels(cluster.calls, self.loop)
        reader = Reader(machine, self.log, cast(Executor, None))
        self.outbound = Outbound(WRITE_TIMEOUT_S, lambda peer: None)
        freshness, self.tails = Freshness(engine, 2 * ELECTION_TIMEOUT_S_MAX), Tails()
        router = Router(engine, channels, 2 * ELECTION_TIMEOUT_S_MAX)
        producing = Producing(engine, machine, reader, LIMITS)
        self.streams = ProduceStreams(engine, producing, router, 2 * ELECTION_TIMEOUT_S_MAX)
        consuming = Consuming(machine, reader, freshness, self.tails, self.outbound)
        engine.on_applied.append(lambda: self.tails.applied(machine.take_changed()))
        engine.is_awaited = lambda: self.tails.is_awaited
        self.log_service = LogService(engine, router, producing, self.streams, consuming, WRITE_TIMEOUT_S)
        config: Any = SimpleNamespace(limits=LIMITS)
        statuses = Statuses(engine, machine, channels, config, "")
        self.cluster_service = ClusterService(engine, router, statuses, config)
        self.topics_service = TopicsService(engine, machine, router, reader, freshness, WRITE_TIMEOUT_S)
        self.consuming = consuming


class Node:
    """See the module. The data directory outlives processes; `life` counts them."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster = cluster
        self.name = name
        self.disk = SimulatedDisk(keeps_history=False)
        self.directory_id = cluster.random.randbytes(16)
        self.life = 0
        self.process: Process | None = None
        self.powered = True
        self.disk_delay: tuple[float, float] | None = None
        self.exit_code: int | None = None
        self.is_stopping = False  # its process was asked to end
        self.allowed_exits: set[int] = set()  # what was done to its disk is a reason for these
        self.is_damaged = False  # some of its bytes were flipped
        self.wall_offset_s = 0.0
        self.members: dict[str, str] = {}  # of its configuration file; empty: all nodes
        self.retention = KEEP_EVERYTHING  # its own; or the cluster's
        self.settings: dict[str, Any] = {}  # more of its EngineConfig
        self.loop = self._new_loop()
        self._exiting: tuple[int, str] | None = None

    def __repr__(self) -> str:
        return self.name

    # Looking

    @property
    def running(self) -> bool:
        return self.process is not None

    @property
    def engine(self) -> Engine:
        assert self.process is not None, f"{self.name} does not run"
        return self.process.engine

    @property
    def outbound(self) -> Outbound:
        assert self.process is not None, f"{self.name} does not run"
        return self.process.outbound

    @property
    def replica(self) -> Replica | None:
        return self.process.engine.replica if self.process is not None else None

    @property
    def machine(self) -> Any:
        assert self.process is not None, f"{self.name} does not run"
        return self.process.machine

    def make_machine(self, log: Log) -> Any:
        """The state machine of a new process."""
        return ObservedMachine(log.views, self)

    def wall_clock_ns(self) -> int:
        return int((self.cluster.events.now + self.wall_offset_s) * 1e9)

    # Living

    def start(self) -> bool:
        """Start the process. False: it ended at once, as `exit_code` says."""
        assert self.process is None
        self.life += 1
        self.is_stopping = False
        self.powered = True
        self.exit_code = None
        self.loop = self._new_loop()
        self.cluster.trace(f"{self.name}: starts, life {self.life}")
        try:
            with self.loop.running():
                self.process = Process(self, self.loop)
        except (Damaged, DamagedHardState) as error:
            return self._refused(EXIT_DAMAGED, error)
        except SyncFailed as error:
            return self._refused(EXIT_SYNC_FAILED, error)
        except NoSpace as error:  # its supervisor tries again
            return self._refused(EXIT_OTHER, error)
        except Fatal as error:
            return self._refused(error.exit_code, error)
        except PowerCut:
            self._ended(power_loss=False)
            return False
        self.loop.spawn(self.process.engine.start())
        return True

    def _refused(self, exit_code: int, error: Exception) -> bool:
        self.cluster.trace(f"{self.name}: exits at its start with {exit_code}: {error}")
        self._ended(power_loss=False)
        self._judge(exit_code, str(error))
        return False

    def kill(self, *, power_loss: bool = False) -> None:
        """End it at once; a power loss also takes what was not synced."""
        assert self.process is not None
        self.cluster.trace(f"{self.name}: {'loses power' if power_loss else 'is killed'}")
        self._ended(power_loss=power_loss)

    def wipe(self) -> None:
        """Its disk is gone; an empty one is in its place."""
        if self.process is not None:
            self.kill()
        self.cluster.trace(f"{self.name}: has lost its disk")
        self.disk = SimulatedDisk(keeps_history=False)
        self.directory_id = self.cluster.random.randbytes(16)
        self.is_damaged = False
        self.allowed_exits.clear()

    def stop(self) -> None:
        """Ask it to end by itself, as SIGTERM does."""
        assert self.process is not None
        self.cluster.trace(f"{self.name}: is asked to stop")
        self.is_stopping = True
        self.loop.spawn(self._stop(self.process))

    async def _stop(self, process: Process) -> None:
        process.consuming.stop()
        process.streams.stop()
        await process.engine.stop()
        if self.process is process:
            self.cluster.trace(f"{self.name}: has stopped")
            self._exiting = (0, "stopped")

    def pause(self, seconds: float) -> None:
        """Hold everything back for a while, as SIGSTOP does."""
        self.cluster.trace(f"{self.name}: pauses for {seconds:.2f} s")
        self.loop.paused_until = max(self.loop.paused_until, self.cluster.events.now + seconds)

    def _ended(self, *, power_loss: bool) -> None:
        self.process = None
        self.powered = not power_loss
        self._exiting = None
        self.loop.die()
        self.disk = self.disk.after_power_loss(self.cluster.random) if power_loss else self.disk.after_kill()
        self.cluster.network.died(self.name, silently=power_loss)
        self.cluster.calls.died(self)
        self.cluster.on_ended(self)

    def _new_loop(self) -> NodeLoop:
        loop = NodeLoop(self.cluster.events)
        loop.network = self.cluster.network
        loop.node = self
        return loop

    def exits(self, exit_code: int, message: str) -> NoReturn:
        """The engine ends the process."""
        self._exiting = (exit_code, message)
        if exit_code == EXIT_BUG and sys.exc_info()[1] is not None:
            self._exiting = (exit_code, message + "\n" + traceback.format_exc())
        raise ProcessExit

    def after_each(self) -> None:
        """Between two events of this node: has it ended?"""
        if self.process is None:
            return
        if self._exiting is not None:
            exit_code, message = self._exiting
            self.cluster.trace(f"{self.name}: exits with {exit_code}: {message}")
            self._ended(power_loss=False)
            self._judge(exit_code, message)
        elif self.disk.is_dead:
            self.cluster.trace(f"{self.name}: is killed within an operation of its disk")
            self._ended(power_loss=False)

    def _judge(self, exit_code: int, message: str) -> None:
        """I9: a process ends itself only for what was done to its disk, and says so by its code."""
        self.exit_code = exit_code
        if exit_code and exit_code not in self.allowed_exits:
            self.cluster.fail(f"{self.name} exited with {exit_code} and no reason: {message}")

    def on_role(self, role: Role, term: int, leader_id: str | None) -> None:
        self.cluster.trace(f"{self.name}: {role}, term {term}, leader {leader_id}")
        if role is Role.LEADER:
            self.cluster.history.leads(self, term)
