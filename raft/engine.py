"""The asyncio shell around a replica: its loop, its timer, its threads, its network. One per node and group.

The loop calls the replica when something happened (a message, a finished sync, a proposal) and every TICK_S
for what time brings (elections, heartbeats, deadlines). Two threads do what may block: one syncs, one seals.
What only a bug or a broken disk can cause ends the process at once, with an exit code that says which.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import os
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import Final, NoReturn

from quorumlog.proto.checksum import Buffer
from quorumlog.proto.peer_pb2 import Hello, PeerMessage
from quorumlog.raft.errors import (
    EXIT_BUG,
    EXIT_DAMAGED,
    EXIT_NO_SPACE,
    EXIT_SYNC_FAILED,
    NotLeader,
    RaftError,
)
from quorumlog.raft.hardstate import HardState
from quorumlog.raft.machine import Machine
from quorumlog.raft.proposal import Committed, Proposal
from quorumlog.raft.proposals import Outcome
from quorumlog.raft.replica import Fatal, Leadership, Replica, ReplicaConfig
from quorumlog.raft.transport import Transport, TransportConfig
from quorumlog.storage.errors import Damaged, NoSpace, SyncFailed
from quorumlog.storage.frame import BadFrame
from quorumlog.storage.log import Log

logger = logging.getLogger(__name__)

TICK_S: Final = (
    0.02  # how late an election or a heartbeat may be; 50 idle ticks a second cost about 0.3 % of a core
)
DRAIN_S: Final = 5.0  # how long a stop waits for what is under way


class Role(enum.StrEnum):
    """A node's part in its term."""

    FOLLOWER = "follower"
    CANDIDATE = "candidate"
    LEADER = "leader"


_ROLES: Final = (Role.FOLLOWER, Role.CANDIDATE, Role.LEADER)  # by the engine's numbers


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """One member. Addresses are host:port; times are seconds."""

    node_id: str
    members: Mapping[str, str]  # node id -> peer address, this node included
    cluster_id: bytes  # 16 bytes
    directory_id: bytes  # 16 bytes
    listen: str  # for peers
    client_address: str  # advertised to clients
    group: int = 0
    election_timeout_s_min: float = 0.4
    election_timeout_s_max: float = 0.8
    heartbeat_s: float = 0.1
    server_tls: ssl.SSLContext | None = None
    client_tls: ssl.SSLContext | None = None


@dataclass(frozen=True, slots=True)
class PeerState:
    """Another member as this node sees it; replication fields are the leader's."""

    node_id: str
    peer_address: str
    connected: bool
    client_address: str | None  # as it said in its last Hello
    state: str  # probe | replicate | snapshot; empty where this node does not lead
    match_index: int


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """A node's replication at one moment."""

    node_id: str
    role: Role
    term: int
    leader_id: str | None
    commit_index: int
    applied_index: int
    first_index: int
    last_index: int
    durable_index: int
    peers: Mapping[str, PeerState]
    log_bytes: int
    segments: int
    alarms: Sequence[str]


_Work = tuple[Callable[[], None], Callable[[BaseException | None], None]]


class _ThreadWorker:
    """interfaces.Worker on one thread of its own. An executor's futures cost more than the hand-over."""

    def __init__(self, name: str, guard: Callable[[Callable[[], None]], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._guard = guard
        self._queue: SimpleQueue[_Work | None] = SimpleQueue()
        self._thread = Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[], None], done: Callable[[BaseException | None], None]) -> None:
        self._queue.put((work, done))

    def stop(self) -> None:
        """Finish what was submitted, then end the thread."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            work, done = item
            error: BaseException | None = None
            try:
                work()
            except BaseException as caught:  # noqa: BLE001 (whatever it is, the loop must hear of it)
                error = caught
            self._loop.call_soon_threadsafe(self._guard, partial(done, error))


class Engine:
    """See the module.

    - Every call is made on the loop's thread.
    - An exception out of the replica is a bug or a broken disk: the process ends (`fatal`).
    """

    def __init__(
        self,
        config: EngineConfig,
        log: Log,
        machine: Machine,
        hard_state: HardState,
        *,
        fatal: Callable[[int, str], NoReturn] | None = None,
    ) -> None:
        """Must be called on the loop that will run it. `log` is open; the machine is restored from it."""
        self.config = config
        self.log = log
        self.machine = machine
        self.on_applied: list[Callable[[], None]] = []
        self.on_role: list[Callable[[Role, int, str | None], None]] = []
        self._loop = asyncio.get_running_loop()
        self._fatal = fatal or _exit
        self._client_addresses: dict[str, str] = {}
        self._connected: set[str] = set()
        self._tick_scheduled = False
        self._ticked = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = False
        peers = {name: address for name, address in config.members.items() if name != config.node_id}
        host, _, port = config.listen.rpartition(":")
        self._transport = Transport(
            TransportConfig(
                config.node_id,
                config.cluster_id,
                config.group,
                config.directory_id,
                config.client_address,
                host.strip("[]"),
                int(port),
                peers,
                config.server_tls,
                config.client_tls,
            ),
            self,
        )
        self._transport.when_room(self._wake)
        self._sync_worker = _ThreadWorker("sync", self._guarded)
        self._seal_worker = _ThreadWorker("seal", self._guarded)
        self.replica = Replica(
            ReplicaConfig(
                config.node_id,
                tuple(sorted(peers)),
                config.election_timeout_s_min,
                config.election_timeout_s_max,
                config.heartbeat_s,
            ),
            log,
            hard_state,
            machine,
            self._transport,
            self._sync_worker,
            self._seal_worker,
            clock=time.monotonic,
            wall_clock_ms=lambda: time.time_ns() // 1_000_000,
            wake=self._wake,
            wake_after=self._wake_after,
        )
        self.replica.on_applied.append(self._tell_applied)
        self.replica.on_leadership.append(self._tell_leadership)

    # Life ------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listen for peers and take part. Raises OSError where the peer address cannot be had."""
        await self._transport.start()
        self._on_timer()

    async def stop(self) -> None:
        """Refuse new commands, let those under way land (for a while), sync, close the log."""
        self.replica.stop_accepting()
        deadline = self._loop.time() + DRAIN_S
        while not self.replica.idle and self._loop.time() < deadline:
            self._ticked.clear()
            await self._ticked.wait()  # the timer sees to it that there is a next one
        self._stopped = True
        self.replica.abandon()
        if self._timer is not None:
            self._timer.cancel()
        await self._transport.stop()
        await asyncio.to_thread(self._sync_worker.stop)
        await asyncio.to_thread(self._seal_worker.stop)
        self.log.close()

    # Commands --------------------------------------------------------------------------------

    async def propose(self, proposal: Proposal, timeout_s: float) -> Committed:
        """Replicate one command; returns when it is applied here.

        Raises NotProposed (NotLeader, Busy, NoSpace, Dropped, Stopping): surely not applied;
        OutcomeUnknown: the time passed, or leadership was lost, after others may have got it.
        """
        landed: asyncio.Future[Committed] = self._loop.create_future()

        def resolve(outcome: Outcome) -> None:
            if landed.done():
                return
            if isinstance(outcome, RaftError):
                landed.set_exception(self._with_address(outcome))
            else:
                landed.set_result(outcome)

        try:
            self.replica.propose(proposal, timeout_s, resolve)
        except NotLeader as error:
            raise self._with_address(error) from None
        return await landed

    async def wait_applied(self, index: int, timeout_s: float) -> None:
        """Return when entry `index` is applied here. Raises TimeoutError."""
        if self.applied_index >= index:
            return
        reached = self._loop.create_future()

        def look() -> None:
            if self.applied_index >= index and not reached.done():
                reached.set_result(None)

        self.on_applied.append(look)
        try:
            async with asyncio.timeout(timeout_s):
                await reached
        finally:
            self.on_applied.remove(look)

    def _with_address(self, error: RaftError) -> RaftError:
        if isinstance(error, NotLeader) and error.leader_id is not None:
            return NotLeader(error.leader_id, self._client_addresses.get(error.leader_id), error.term)
        return error

    # State -----------------------------------------------------------------------------------

    @property
    def node_id(self) -> str:
        return self.config.node_id

    @property
    def role(self) -> Role:
        return _ROLES[self.replica.leadership.role]

    @property
    def term(self) -> int:
        return self.replica.leadership.term

    @property
    def leader_id(self) -> str | None:
        return self.replica.leadership.leader_id

    @property
    def is_leader(self) -> bool:
        return self.replica.is_leader

    @property
    def commit_index(self) -> int:
        return self.replica.core.commit_index

    @property
    def applied_index(self) -> int:
        return self.replica.core.applied_index

    @property
    def alarms(self) -> set[str]:
        return self.replica.alarms.raised

    @property
    def leader_client_address(self) -> str | None:
        """Where clients find the leader, as far as this node knows."""
        leader = self.leader_id
        if leader is None:
            return None
        return self.config.client_address if leader == self.node_id else self._client_addresses.get(leader)

    @property
    def peer_address(self) -> str:
        """Where this node listens for peers (after `start`)."""
        return self._transport.address

    @property
    def peers(self) -> dict[str, PeerState]:
        states = {}
        for name in self.replica.config.peer_ids:
            progress = self.replica.leader.progress.get(name)
            states[name] = PeerState(
                name,
                self.config.members[name],
                name in self._connected,
                self._client_addresses.get(name),
                progress.state.value if progress else "",
                progress.match if progress else 0,
            )
        return states

    def status(self) -> EngineStatus:
        """Everything at once."""
        return EngineStatus(
            self.node_id,
            self.role,
            self.term,
            self.leader_id,
            self.commit_index,
            self.applied_index,
            self.log.first_index,
            self.log.last_index,
            self.log.durable_index,
            self.peers,
            self.log.size_bytes,
            len(self.log.segments),
            sorted(self.alarms),
        )

    # The transport's side (SessionListener) --------------------------------------------------

    def session_opened(self, peer_id: str, session: int, hello: Hello) -> None:
        self._connected.add(peer_id)
        if hello.client_address:
            self._client_addresses[peer_id] = hello.client_address
        self._guarded(lambda: self.replica.peer_connected(peer_id, session))

    def session_closed(self, peer_id: str, session: int) -> None:
        self._connected.discard(peer_id)
        self._guarded(lambda: self.replica.peer_disconnected(peer_id, session))

    def message_received(
        self, peer_id: str, session: int, message: PeerMessage, attachment: Buffer | None
    ) -> None:
        self._guarded(lambda: self.replica.receive(peer_id, session, message, attachment))

    # Inside ----------------------------------------------------------------------------------

    def _wake(self) -> None:
        if not self._tick_scheduled and not self._stopped:
            self._tick_scheduled = True
            self._loop.call_soon(self._tick)

    def _wake_after(self, delay_s: float) -> None:
        self._loop.call_later(delay_s, self._wake)

    def _tick(self) -> None:
        self._tick_scheduled = False
        if not self._stopped:
            self._guarded(self.replica.tick)
            self._ticked.set()

    def _on_timer(self) -> None:
        if not self._stopped:
            self._timer = self._loop.call_later(TICK_S, self._on_timer)
            self._wake()

    def _tell_applied(self) -> None:
        for listener in list(self.on_applied):
            listener()

    def _tell_leadership(self, now: Leadership) -> None:
        for listener in list(self.on_role):
            listener(_ROLES[now.role], now.term, now.leader_id)

    def _guarded(self, work: Callable[[], None]) -> None:
        """Run a piece of the replica: what escapes it, but for a peer's bad bytes, ends the process."""
        try:
            work()
        except BadFrame:
            raise
        except Fatal as error:
            logger.critical("stopping at once: %s", error, exc_info=error)
            self._fatal(error.exit_code, str(error))
        except Damaged as error:
            logger.critical("stopping at once: %s", error)
            self._fatal(EXIT_DAMAGED, str(error))
        except SyncFailed as error:
            logger.critical("stopping at once, what is on disk is not known: %s", error)
            self._fatal(EXIT_SYNC_FAILED, str(error))
        except NoSpace as error:  # for a vote or a no-op, which cannot be refused
            logger.critical("stopping at once, no room for what cannot wait: %s", error)
            self._fatal(EXIT_NO_SPACE, str(error))
        except Exception as error:  # an invariant does not hold: nothing this process says can be trusted
            logger.critical("stopping at once, an invariant does not hold: %r", error, exc_info=error)
            self._fatal(EXIT_BUG, repr(error))


def _exit(exit_code: int, message: str) -> NoReturn:
    logging.shutdown()
    os._exit(exit_code)
