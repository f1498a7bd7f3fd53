"""The asyncio shell around a replica: its loop, its timer, its threads, its network. One per node and group.

The loop calls the replica when something happened (a message, a finished sync, a proposal) and every TICK_S
for what time brings (elections, heartbeats, deadlines). Two threads do what may block: one syncs, one seals.
What only a bug or a broken disk can cause ends the process at once, with an exit code that says which.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import Any, Final, NoReturn

from quorumlog.proto.checksum import Buffer
from quorumlog.proto.entry_pb2 import Member
from quorumlog.proto.peer_pb2 import Hello, PeerMessage
from quorumlog.raft.durations import Durations
from quorumlog.raft.errors import (
    EXIT_BUG,
    EXIT_DAMAGED,
    EXIT_SYNC_FAILED,
    WHEN_DAMAGED,
    MembershipRefused,
    NotLeader,
    OutcomeUnknown,
    RaftError,
    Stopping,
)
from quorumlog.raft.hardstate import HardState
from quorumlog.raft.interfaces import Standing
from quorumlog.raft.machine import Machine
from quorumlog.raft.proposal import Committed, Proposal
from quorumlog.raft.proposals import Outcome
from quorumlog.raft.replica import Fatal, Leadership, Replica, ReplicaConfig
from quorumlog.raft.retention import KEEP_EVERYTHING, RetentionLimits
from quorumlog.raft.scrubbing import DAY_S, ScrubStatus
from quorumlog.raft.transport import PeerTls, Transport, TransportConfig
from quorumlog.storage.errors import Damaged, SyncFailed
from quorumlog.storage.frame import BadFrame
from quorumlog.storage.log import Log

logger = logging.getLogger(__name__)

TICK_S: Final = (
    0.02  # how late an election or a heartbeat may be; 50 idle ticks a second cost about 0.3 % of a core
)
REFUSED: Final = (
    "REFUSED"  # alarm: a member refuses this node (its directory, or it was removed); the log says why
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
    members: Mapping[str, str]  # node id -> peer address, this node included; until the log says otherwise
    cluster_id: bytes  # 16 bytes
    directory_id: bytes  # 16 bytes
    listen: str  # for peers; empty: there are none, as in a log within a program
    client_address: str  # advertised to clients
    group: int = 0
    election_timeout_s_min: float = 0.4
    election_timeout_s_max: float = 0.8
    heartbeat_s: float = 0.1
    retention: RetentionLimits = KEEP_EVERYTHING
    scrub_bytes_per_s: int = 0  # 0: sealed files are checked only when they are read
    scrub_period_s: float = DAY_S
    tls: PeerTls | None = None


@dataclass(frozen=True, slots=True)
class PeerState:
    """Another member as this node sees it; replication fields are the leader's."""

    node_id: str
    peer_address: str
    connected: bool
    client_address: str | None  # as it said in its last Hello
    state: str  # probe | replicate | snapshot; empty where this node does not lead
    match_index: int
    refused: str = ""  # why it was refused a session when it came last; empty: it was not


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
    scrub: ScrubStatus


@dataclass(frozen=True, slots=True)
class EngineCounters:
    """What has happened since the node started."""

    syncs: Durations  # of fdatasync
    appends: Durations  # of entries that this node proposed: from its log to being applied
    snapshots_sent: int  # begun
    snapshots_installed: int
    damage_met: int  # places that failed a check; may fall when the log begins anew
    damaged_files: int  # fenced now


_Change = Callable[[float, Callable[[Outcome], None]], None]
_Work = tuple[Callable[[], None], Callable[[BaseException | None], None]]


class _ThreadWorker:
    """interfaces.Worker on one thread of its own. An executor's futures cost more than the hand-over."""

    def __init__(self, name: str, guard: Callable[[Callable[[], None]], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._guard = guard
        self._queue: SimpleQueue[_Work | None] = SimpleQueue()
        self._thread = Thread(target=self._run, name=name, daemon=True)
        self._started = False  # with the first work: what is put together around it may fail yet

    def submit(self, work: Callable[[], None], done: Callable[[BaseException | None], None]) -> None:
        if not self._started:
            self._started = True
            self._thread.start()
        self._queue.put((work, done))

    def stop(self) -> None:
        """Finish what was submitted, then end the thread."""
        self._queue.put(None)
        if self._started:
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
    - An exception out of the replica is a bug or a broken disk: the process ends (`fatal`). Where `fatal`
      returns, because the process is not ours to end, nothing is done any more: nothing is written, synced,
      acknowledged or said to anybody.
    """

    def __init__(
        self,
        config: EngineConfig,
        log: Log,
        machine: Machine,
        hard_state: HardState,
        *,
        fatal: Callable[[int, str], None] | None = None,
    ) -> None:
        """Must be called on the loop that will run it. `log` is open; the machine is restored from it."""
        self.config = config
        self.log = log
        self.machine = machine
        self.on_applied: list[Callable[[], None]] = []
        self.on_role: list[Callable[[Role, int, str | None], None]] = []
        self._looks: list[Callable[[], None]] = []  # at what callers wait for
        self.is_awaited: Callable[[], bool] = lambda: False  # do readers wait for what is committed next?
        self.on_voting: list[Callable[[], None]] = []  # why_not_voting is another
        self._why_not_voting: str | None = None
        self._why_refused = ""  # what a peer said last when it refused this node; empty: none does
        self._loop = asyncio.get_running_loop()
        self._fatal = fatal or _exit
        self._why_failed: str | None = None
        self._client_addresses: dict[str, str] = {}
        self._connected: set[str] = set()
        self._heard: set[str] = set()  # who has said something by the session that there is
        self._tick_scheduled = False
        self._ticked = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = False
        host, _, port = (config.listen or ":0").rpartition(":")
        self._transport = Transport(
            TransportConfig(
                config.node_id,
                config.cluster_id,
                config.group,
                config.directory_id,
                config.client_address,
                host.strip("[]"),
                int(port),
                config.tls,
            ),
            self,
        )
        self._transport.when_room(self._wake)
        self._sync_worker = _ThreadWorker("sync", self._guarded)
        self._seal_worker = _ThreadWorker("seal", self._guarded)
        self.replica = Replica(
            ReplicaConfig(
                config.node_id,
                config.directory_id,
                config.members,
                config.election_timeout_s_min,
                config.election_timeout_s_max,
                config.heartbeat_s,
                config.retention,
                config.scrub_bytes_per_s,
                config.scrub_period_s,
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
            is_awaited=lambda: bool(self._looks) or self.is_awaited(),
        )
        self.replica.on_applied.append(self._tell_applied)
        self.on_alarms: list[Callable[[], None]] = self.replica.alarms.on_change
        self.replica.on_leadership.append(self._tell_leadership)

    # Life ------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listen for peers and take part. Raises OSError where the peer address cannot be had."""
        await self._transport.start()
        self._on_timer()

    async def stop(self) -> None:
        """Refuse new commands, let those under way land (for a while), sync, close the log.

        After a failure, only let go of everything.
        """
        self.replica.stop_accepting()
        deadline = self._loop.time() + DRAIN_S
        while self._why_failed is None and not self.replica.idle and self._loop.time() < deadline:
            self._ticked.clear()
            await self._ticked.wait()  # the timer sees to it that there is a next one
        self._stopped = True
        self.replica.abandon()
        if self._timer is not None:
            self._timer.cancel()
        await self._transport.stop()
        await asyncio.to_thread(self._sync_worker.stop)
        await asyncio.to_thread(self._seal_worker.stop)
        if self._why_failed is None:
            self._guarded(self.log.close)
        else:
            self.log.abandon()

    # Commands --------------------------------------------------------------------------------

    async def propose(self, proposal: Proposal, timeout_s: float) -> Committed:
        """Replicate one command; returns when it is applied here.

        Raises NotProposed (NotLeader, Busy, NoSpace, Dropped, Stopping): surely not applied;
        OutcomeUnknown: the time passed, or leadership was lost, after others may have got it.
        """
        return await self.begin(proposal, timeout_s)

    def begin(self, proposal: Proposal, timeout_s: float) -> asyncio.Future[Committed]:
        """As `propose`, in the order of the calls; raises at once what is known at once."""
        return self._begin(lambda resolve: self.replica.propose(proposal, timeout_s, resolve))

    async def wait_applied(self, index: int, timeout_s: float) -> None:
        """Return when entry `index` is applied here. Raises TimeoutError."""
        await self._until(lambda: self.applied_index >= index, self._loop.time() + timeout_s)

    async def read_index(self, timeout_s: float) -> int:
        """Return an index that covers all that was acknowledged before the call: apply it before reading.

        Raises NotConfirmed where no majority confirms within the time who leads, Busy.
        """
        index: int = await self._outcome_of(lambda resolve: self.replica.read_index(timeout_s, resolve))
        return index

    async def transfer_leadership(self, target: str | None, timeout_s: float) -> str:
        """Hand leadership to `target` (None: the voter that is furthest); return the new leader's id.

        Raises NotLeader, TransferFailed.
        """
        deadline = self._loop.time() + timeout_s

        def is_ready() -> bool:
            # Whoever was named may not have said its first word to a new leader; any other does without it.
            return not self._is_settling and (target is None or not self.replica.is_listening)

        with contextlib.suppress(TimeoutError):  # then the replica says why not
            await self._until(is_ready, deadline)
        left_s = deadline - self._loop.time()
        leader_id: str = await self._outcome_of(
            lambda resolve: self.replica.transfer(target, left_s, resolve)
        )
        return leader_id

    async def add_member(self, node_id: str, peer_address: str, timeout_s: float) -> int:
        """Add a node; return the raft index that made it a full member, when that is applied here.

        Raises NotLeader, MembershipRefused, Busy; OutcomeUnknown where the time passed before: it may still
        become one, and asking again waits on.
        """
        deadline = self._loop.time() + timeout_s
        await self._change(partial(self.replica.add_member, node_id, peer_address), deadline)

        def is_settled() -> bool:
            current = self.replica.members.current
            member = current.members.get(node_id)
            return current.index <= self.applied_index and (member is None or not member.learner)

        try:
            await self._until(is_settled, deadline)
        except TimeoutError:
            raise OutcomeUnknown(f"{node_id} is a learner and has not caught up yet") from None
        if node_id not in self.members:
            raise MembershipRefused(f"{node_id} was removed meanwhile")
        return self.replica.members.current.index

    async def remove_member(self, node_id: str, timeout_s: float) -> int:
        """Remove a node; return the raft index that did. A leader that is to go hands over first.

        Raises NotLeader (with the new leader, after handing over: ask that one), MembershipRefused,
        TransferFailed, OutcomeUnknown.
        """
        if node_id == self.node_id and self.is_leader and node_id in self.members:
            await self.transfer_leadership(None, timeout_s)
            raise self._with_address(NotLeader(self.leader_id, None, self.term))
        deadline = self._loop.time() + timeout_s
        return await self._change(partial(self.replica.remove_member, node_id), deadline)

    def check_stop(self, node_id: str) -> tuple[bool, str]:
        """Would the cluster go on if this node was stopped now, and why (not)? Raises NotLeader."""
        try:
            return self.replica.check_stop(node_id)
        except NotLeader as error:
            raise self._with_address(error) from None

    @property
    def _is_settling(self) -> bool:
        """Is a leader's first entry, or a change of members that it made by itself, still on its way?"""
        return self.role is Role.LEADER and (not self.is_leader or self.replica.is_settling)

    async def _change(self, change: _Change, deadline: float) -> int:
        """Make a change of members, when the leader has settled and knows who answers it."""
        try:
            await self._until(lambda: not (self._is_settling or self.replica.is_listening), deadline)
        except TimeoutError:
            reason = "this leader's first entry, or a change that it made by itself, is not committed in time"
            raise MembershipRefused(reason) from None
        left_s = deadline - self._loop.time()
        committed: Committed = await self._outcome_of(lambda resolve: change(left_s, resolve))
        return committed.index

    async def _until(self, condition: Callable[[], bool], deadline: float) -> None:
        """Look after each applied entry, and with every tick, whether the condition holds.

        Raises TimeoutError.
        """
        if condition():
            return
        reached = self._loop.create_future()

        def look() -> None:
            if condition() and not reached.done():
                reached.set_result(None)

        self.on_applied.append(look)
        self._looks.append(look)
        self._guarded(self.replica.await_commit)
        try:
            async with asyncio.timeout_at(deadline):
                await reached
        finally:
            self.on_applied.remove(look)
            self._looks.remove(look)

    async def _outcome_of(self, ask: Callable[[Callable[[Any], None]], object]) -> Any:
        return await self._begin(ask)

    def _begin(self, ask: Callable[[Callable[[Any], None]], object]) -> asyncio.Future[Any]:
        if self._why_failed is not None:
            raise Stopping(f"this log has failed: {self._why_failed}")
        landed = self._loop.create_future()

        def resolve(outcome: object) -> None:
            if landed.done():
                return
            if isinstance(outcome, RaftError):
                landed.set_exception(self._with_address(outcome))
            else:
                landed.set_result(outcome)

        try:
            ask(resolve)
        except NotLeader as error:
            raise self._with_address(error) from None
        return landed

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
    def known_commit_index(self) -> int:
        """What is committed, as far as this node was ever told, whether it holds it or not."""
        return max(self.commit_index, self.replica.follower.told_commit_index)

    @property
    def applied_index(self) -> int:
        return self.replica.core.applied_index

    @property
    def alarms(self) -> set[str]:
        return self.replica.alarms.raised

    @property
    def why_not_voting(self) -> str | None:
        """Why this node's votes and copies do not count; None: they do."""
        reason = self.replica.why_not_voting
        if not self._why_refused:
            return reason
        # A node that was removed may never have been sent that entry: only the others know.
        refused = f"the others refuse it: {self._why_refused}"
        return refused if reason is None else f"{reason}; {refused}"

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
    def members(self) -> Mapping[str, Member]:
        """Who takes part, as the newest configuration in this node's log says."""
        return self.replica.members.current.members

    @property
    def peers(self) -> dict[str, PeerState]:
        states = {}
        for name, member in self.members.items():
            if name == self.node_id:
                continue
            progress = self.replica.leader.progress.get(name)
            states[name] = PeerState(
                name,
                member.peer_address,
                name in self._connected,
                self._client_addresses.get(name),
                progress.state.value if progress else "",
                progress.match if progress else 0,
                self._transport.why_refused(name),
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
            self.replica.scrubber.status,
        )

    def counters(self) -> EngineCounters:
        """What has been counted so far."""
        replica = self.replica
        return EngineCounters(
            replica.sync_durations,
            replica.append_durations,
            replica.leader.snapshots.begun,
            replica.snapshots.installs,
            len(self.log.damage),
            len(self.log.fenced),
        )

    # The transport's side (SessionListener) --------------------------------------------------

    def standing(self) -> Standing:
        return self.replica.standing

    def why_refuse(self, peer_id: str, standing: Standing) -> str | None:
        return self.replica.why_refuse(peer_id, standing)

    def session_refused(self, peer_id: str, reason: str) -> None:
        if self._heard - {peer_id}:
            return  # others take this node in: that one knows less than they do
        self.alarms.add(REFUSED)
        if self._why_refused != reason:  # it is tried again and again
            logger.warning("%s refuses this node: %s", peer_id, reason)
        self._why_refused = reason
        self._wake()

    def session_opened(self, peer_id: str, session: int, hello: Hello, standing: Standing) -> None:
        self._connected.add(peer_id)
        self._heard.discard(peer_id)
        if hello.client_address:
            self._client_addresses[peer_id] = hello.client_address
        self._guarded(lambda: self.replica.peer_connected(peer_id, session, standing))

    def session_closed(self, peer_id: str, session: int) -> None:
        self._connected.discard(peer_id)
        self._heard.discard(peer_id)
        self._guarded(lambda: self.replica.peer_disconnected(peer_id, session))

    def message_received(
        self, peer_id: str, session: int, message: PeerMessage, attachment: Buffer | None
    ) -> None:
        if peer_id not in self._heard:  # a refusal comes before anything else would
            self._heard.add(peer_id)
            self._why_refused = ""
            self.alarms.discard(REFUSED)
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
            self._note_voting()
            for look in list(self._looks):
                look()
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

    def _note_voting(self) -> None:
        """Log why this node does not vote when that changes: it must not look like one that does."""
        reason = self.why_not_voting
        if reason == self._why_not_voting:
            return
        self._why_not_voting = reason
        if reason is not None:
            logger.info("this node does not vote: %s", reason)
        for listener in list(self.on_voting):
            listener()

    def _guarded(self, work: Callable[[], None]) -> None:
        """Run a piece of the replica: what escapes it, but for a peer's bad bytes, ends the process."""
        if self._why_failed is not None:
            return
        try:
            work()
        except BadFrame:
            raise
        except Fatal as error:
            advice = f"; {WHEN_DAMAGED}" if error.exit_code == EXIT_DAMAGED else ""
            self._end(error.exit_code, str(error), advice, error)
        except Damaged as error:
            self._end(EXIT_DAMAGED, str(error), f"; {WHEN_DAMAGED}", error)
        except SyncFailed as error:
            self._end(EXIT_SYNC_FAILED, f"what is on disk is not known: {error}", "", error)
        except Exception as error:  # noqa: BLE001  an invariant does not hold: nothing this process says can be trusted
            self._end(EXIT_BUG, f"an invariant does not hold: {error!r}", "", error)

    def _end(self, exit_code: int, why: str, advice: str, error: Exception) -> None:
        self._why_failed = why
        self._stopped = True
        self._ticked.set()  # a stop may wait for the next tick, which does not come any more
        logger.critical("stopping at once: %s%s", why, advice, exc_info=error)
        self._fatal(exit_code, why)


def _exit(exit_code: int, message: str) -> NoReturn:
    logging.shutdown()
    os._exit(exit_code)
