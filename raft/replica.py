"""One node's part in replication, without an event loop: time, network, disk and threads are arguments.

A replica owns the engine (core.py), the journal, its leader's and its follower's half (leader.py,
follower.py), the commands on their way (proposals.py) and the sync that makes entries durable
(syncing.py). Everything happens in `tick`, `receive` and the workers' callbacks, on one thread. The asyncio
shell is engine.py; a simulation is another.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NoReturn

from quorumlog.proto import entry_pb2
from quorumlog.proto.checksum import Buffer
from quorumlog.proto.entry import entry_parts
from quorumlog.proto.peer_pb2 import (
    PeerMessage,
    RequestVote,
    StaleTerm,
    Vote,
)
from quorumlog.raft import core as engine_core
from quorumlog.raft.alarms import Alarms
from quorumlog.raft.changes import Changes
from quorumlog.raft.core import Core
from quorumlog.raft.durations import Durations
from quorumlog.raft.election import Election
from quorumlog.raft.errors import (
    EXIT_BUG,
    EXIT_DAMAGED,
    EXIT_SYNC_FAILED,
    MembershipRefused,
    NoSpace,
    NotLeader,
    Stopping,
    TransferFailed,
)
from quorumlog.raft.follower import Follower
from quorumlog.raft.hardstate import SPARES, HardState
from quorumlog.raft.interfaces import Network, Standing, Worker
from quorumlog.raft.journal import Draft, Journal
from quorumlog.raft.leader import Leader
from quorumlog.raft.lending import Lender
from quorumlog.raft.machine import Machine
from quorumlog.raft.membership import Configuration, Members
from quorumlog.raft.peers import Peers
from quorumlog.raft.proposal import Proposal
from quorumlog.raft.proposals import Outcome, Pending, Proposals
from quorumlog.raft.reads import ReadOutcome, Reads
from quorumlog.raft.repair import Repairer
from quorumlog.raft.retention import KEEP_EVERYTHING, Retention, RetentionLimits
from quorumlog.raft.scrubbing import DAY_S, Scrubber
from quorumlog.raft.sealing import Sealer
from quorumlog.raft.snapshots import SnapshotReceiver
from quorumlog.raft.syncing import Syncer
from quorumlog.raft.transfer import Transfer, TransferOutcome
from quorumlog.storage import format as layout
from quorumlog.storage.errors import Damaged, SyncFailed
from quorumlog.storage.errors import NoSpace as StorageNoSpace
from quorumlog.storage.log import Log

logger = logging.getLogger(__name__)

APPLY_ENTRIES_PER_TICK: Final = 64  # an entry may hold thousands of commands; the loop must not stall
APPLY_COMMANDS_PER_TICK: Final = 1024
TEND_S: Final = 0.01  # how late at most something is that time brings, beside the shell's own interval
PREPARE_S: Final = 1.0  # how often room for a term and a vote is looked for, while there is none


class Fatal(Exception):
    """The node must stop at once; `exit_code` says why."""

    def __init__(self, exit_code: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True)
class ReplicaConfig:
    """Who it is and its times, in seconds."""

    node_id: str
    directory_id: bytes  # 16 bytes
    members: Mapping[str, str]  # id -> peer address, this node included: until the log says otherwise
    election_timeout_s_min: float = 0.4
    election_timeout_s_max: float = 0.8
    heartbeat_s: float = 0.1
    retention: RetentionLimits = KEEP_EVERYTHING
    scrub_bytes_per_s: int = 0  # 0: sealed files are checked only when they are read
    scrub_period_s: float = DAY_S


@dataclass(frozen=True, slots=True)
class Leadership:
    """Role (the engine's number), term and leader as listeners see them."""

    role: int
    term: int
    leader_id: str | None


class Replica:
    """See the module.

    - A message counts only if it came by the peer's current session and, where it is a reply, in this term.
    - No MATCHED leaves, and none is counted, for an entry that is not durable at its sender and here.
    """

    def __init__(
        self,
        config: ReplicaConfig,
        log: Log,
        hard_state: HardState,
        machine: Machine,
        network: Network,
        sync_worker: Worker,
        seal_worker: Worker,
        *,
        clock: Callable[[], float],
        wall_clock_ms: Callable[[], int],
        wake: Callable[[], None],
        wake_after: Callable[[float], None],
        is_awaited: Callable[[], bool] = lambda: False,
    ) -> None:
        """`log` is open; the machine is restored here. `wake` asks for a tick, `wake_after` for one later.

        `is_awaited`: does anybody here wait for what is committed next?

        Raises Damaged where the log says that something durable is bad: such a node must not vote.
        """
        if log.recovery.fenced:  # taking part could take back what was acknowledged
            raise log.recovery.fenced[0]
        self.config = config
        self.log = log
        self.machine = machine
        self.members = Members(config.members)
        self.journal = Journal(log, hard_state, self.members)
        self.proposals = Proposals()
        self.alarms = Alarms(log)
        self.append_durations = Durations()  # of own entries: from this log to being applied
        self.on_applied: list[Callable[[], None]] = []
        self.on_leadership: list[Callable[[Leadership], None]] = []
        self._network = network
        self._syncer = Syncer(log, self._required_policy, sync_worker, clock, self._on_durable, self._fail)
        self._sealer = Sealer(log, machine, seal_worker, clock, self._fail)
        self._clock = clock
        self._wall_clock_ms = wall_clock_ms
        self._wake_loop = wake
        self._is_awaited = is_awaited
        self._wake_after = wake_after
        self._hard_state = hard_state
        self.peers = Peers(config.node_id, config.directory_id, self.members, hard_state)
        self._configured: Configuration | None = None
        self._votes: set[tuple[int, str]] = set()
        self._append_due = False
        self._next_heartbeat = 0.0
        self._push_wake_at = math.inf  # the tick that was asked for, for a commit index that goes out alone
        self._entry_time_ms = 0
        self._stopping = False
        self._prepare_at = 0.0
        self._tend_at = 0.0
        self._tend_due = True
        self._waits_for_repair = False  # a committed entry stands in a fenced segment
        base, state = log.load_state()
        machine.restore(base, state)
        self._restored_base = base
        self.journal.find_members(base, machine.membership)
        self.core = Core(
            config.node_id,
            self.members.current.voters - {config.node_id},
            self.journal,
            self,
            election_timeout_s_min=config.election_timeout_s_min,
            election_timeout_s_max=config.election_timeout_s_max,
            heartbeat_s=config.heartbeat_s,
        )
        self.core.start_at(base - 1)
        halves = (self.core, self.journal, network, self.peers.sessions, self.alarms, self.core_durable_index)
        self.leader = Leader(*halves, self._required_policy, clock, self._counts)
        self.follower = Follower(*halves, self._may_vote, is_awaited)
        self._retention = Retention(
            log,
            machine,
            config.retention,
            seal_worker,
            lambda: self.leader.progress,
            self.propose,
            clock=clock,
            wall_clock_ms=wall_clock_ms,
            damaged=self.alarms.damage,
            fail=self._fail,
        )
        self.snapshots = SnapshotReceiver(
            self.core,
            self.journal,
            network,
            seal_worker,
            self.alarms,
            is_idle=lambda: not (self._syncer.busy or self._sealer.busy or self._retention.busy),
            adopt=self._adopt_state,
            installed=self._state_installed,
            fail=self._fail,
            is_voter=self._may_vote,
        )
        self.election = Election(
            config.node_id,
            self.core,
            self.journal,
            self.members,
            self._may_vote,
            clock,
            config.election_timeout_s_min,
        )
        self.reads = Reads(self.core, self.leader, self.members, network, self.peers.sessions)
        self._transfer = Transfer(
            config.node_id,
            self.core,
            self.journal,
            self.members,
            self.leader,
            network,
            2 * config.election_timeout_s_max,
        )
        self._changes = Changes(
            config.node_id,
            self.core,
            self.journal,
            self.leader,
            self.alarms,
            self.peers.standings,
            config.election_timeout_s_max,
            self._required_policy,
            self._follow_members,
        )
        shared = (log, network, self.peers.sessions, seal_worker)
        self.scrubber = Scrubber(
            log, seal_worker, clock, config.scrub_bytes_per_s, config.scrub_period_s, self._fail
        )
        self.repairer = Repairer(*shared, self.alarms, clock, lambda: self.core.term, wake, self._fail)
        self._lender = Lender(*shared, lambda: self.core.term, self._fail)
        self._leadership = Leadership(engine_core.FOLLOWER, self.core.term, None)
        self._follow_members()
        self._become_voter()
        if self.journal.members.current.voters == {config.node_id}:
            self.core.hasten_election(0.0, 0.0)  # nobody else could lead: there is nothing to wait for

    # State -----------------------------------------------------------------------------------

    @property
    def leadership(self) -> Leadership:
        return self._leadership

    @property
    def is_leader(self) -> bool:
        """Does it lead, and has it applied its own no-op, so that it knows all that was acknowledged?"""
        return self.core.role == engine_core.LEADER and self.core.applied_index >= self.leader.no_op_index

    @property
    def sync_durations(self) -> Durations:
        return self._syncer.durations

    @property
    def idle(self) -> bool:
        """Nothing waits, nothing is in flight, nothing is being written."""
        busy = (
            self.proposals.queued_count
            or self.proposals.in_flight_count
            or self._syncer.busy
            or self._sealer.busy
            or self._retention.busy
            or self.snapshots.is_installing
        )
        return not busy

    def tick(self) -> None:
        """Do what is due; bounded. While entries come and go, what time brings is looked at every TEND_S."""
        now = self._clock()
        if self.snapshots.is_installing:
            # The log is not to be touched, and a follower has nothing else to do.
            self.proposals.expire(now)
            self.reads.expire(now)
            self.snapshots.tend()
            return
        is_due = self._tend_due or now >= self._tend_at
        self._propose_waiting()  # what just came does not wait for the engine's tick
        if is_due:
            self._tend_elections(now)
        if self.core.wants_to_stand and not self._may_stand():
            self.core.postpone_election()
        self.core.doTick()
        self._note_leadership()
        if is_due or self._transfer.is_under_way:
            self._transfer.tend(now)
        self._propose_waiting()
        self._syncer.start()  # before sending: the disk works while the loop does
        confirm = self.reads.tend(now, may_confirm=self.is_leader)
        self._send_appends(now, confirm=confirm)
        if is_due:
            self._tend_due = False
            self._tend_at = now + TEND_S
            self._tend(now)

    def _tend_elections(self, now: float) -> None:
        self.proposals.expire(now)
        if self.core.election_due and (question := self.election.begin()) is not None:
            self._to_voters(pre_vote=question)

    def _tend(self, now: float) -> None:
        """What can wait for a moment, and takes no part in replicating an entry."""
        self._become_voter()
        self._retention.tend(leads=self.is_leader)
        self.alarms.tend(now)
        # Not amid an election, nor while leading: it syncs on the loop, and a slow disk costs heartbeats.
        leads_others = self.core.role == engine_core.LEADER and bool(self.leader.progress)
        if not leads_others and not self._hard_state.is_prepared and now >= self._prepare_at:
            self._prepare_at = now + PREPARE_S
            self._can_save()
        self._sealer.tend()
        self.scrubber.tend()
        self.repairer.tend()

    def _wake(self) -> None:
        """Ask for a tick that looks at everything."""
        self._tend_due = True
        self._wake_loop()

    def _send_appends(self, now: float, *, confirm: bool) -> None:
        heartbeat = self._append_due and now >= self._next_heartbeat
        if heartbeat:
            self._append_due = False
            self._next_heartbeat = now + self.config.heartbeat_s
            self._tend_members()
        push_at = self.leader.send(now, heartbeat=heartbeat, confirm=confirm)
        if now >= self._push_wake_at:
            self._push_wake_at = math.inf
        if push_at is not None and push_at < self._push_wake_at:
            self._push_wake_at = push_at
            self._wake_after(push_at - now)

    # Commands --------------------------------------------------------------------------------

    def propose(self, proposal: Proposal, timeout_s: float, resolve: Callable[[Outcome], None]) -> Pending:
        """Queue a command; `resolve` is called once, with its outcome. Raises NotProposed."""
        if self._stopping:
            raise Stopping("this node is stopping")
        if self.core.role != engine_core.LEADER:
            raise self._not_leader()
        pending = self.proposals.offer(proposal, self._clock() + timeout_s, resolve)
        self._wake_loop()
        return pending

    def stop_accepting(self) -> None:
        """New commands are refused from now on; what is under way goes on."""
        self._stopping = True

    def abandon(self) -> None:
        """Nothing is waited for any longer: whoever still waits is told what is known."""
        self.scrubber.stop()
        self.repairer.stop()
        self.proposals.expire(math.inf)
        self.reads.expire(math.inf)
        self._transfer.tend(math.inf)

    def _not_leader(self) -> NotLeader:
        leader = self.core.leader_id
        if leader in (None, self.config.node_id):
            leader = self._transfer.heir  # who most likely leads in a moment: callers need not search
        return NotLeader(leader, None, self.core.term)

    def _propose_waiting(self) -> None:
        if self._transfer.is_under_way:
            return  # the target has to reach the end of this log
        while self.core.role == engine_core.LEADER and (group := self.proposals.next_group()):
            parts = self._entry_of(group)
            size = sum(map(len, parts))
            if not self.alarms.ensure_space(size, 1, rolls=self.journal.next_rolls(size)):
                for pending in group:
                    pending.resolve(NoSpace("the leader's disk is full"))
                return
            index = self.journal.last_index + 1
            term = self.core.term
            self.proposals.proposed(index, term, group, self._required_policy())
            landed = partial(self._landed, index, term, self._clock())
            self.core.append(Draft(layout.KIND_COMMANDS, parts), landed)
            assert self.journal.last_index == index

    def _entry_of(self, group: Sequence[Pending]) -> tuple[Buffer, ...]:
        time_ms, level = self.machine.entry_prefix(self._wall_clock_ms())
        self._entry_time_ms = max(time_ms, self._entry_time_ms)
        fragments = [pending.proposal.fragment for pending in group]
        bodies = [body for pending in group for body in pending.proposal.bodies]
        return tuple(entry_parts(self._entry_time_ms, level, fragments, bodies))

    def _landed(
        self, index: int, term: int, began: float, results: Sequence[object] | None, reason: int
    ) -> None:
        """The engine's callback for an entry that this node proposed."""
        if reason == engine_core.SUCCESS and results is not None:
            self.append_durations.add(self._clock() - began)
            self.proposals.committed(index, term, results, self._required_policy())
        else:
            self.proposals.dropped(index, term)

    # Linearizable reads ----------------------------------------------------------------------

    def read_index(self, timeout_s: float, resolve: Callable[[ReadOutcome], None]) -> None:
        """Ask for an index that covers all that was acknowledged until now; `resolve` is called once.

        On a follower its leader is asked. The outcome is an index to be applied before reading, or
        NotConfirmed. Raises Busy.
        """
        self.reads.ask(self._clock() + timeout_s, resolve)
        self._wake()

    def await_commit(self) -> None:
        """Somebody here has begun to wait for what is committed next."""
        self.follower.await_commit()

    # Handing leadership over -----------------------------------------------------------------

    def transfer(
        self, target: str | None, timeout_s: float, resolve: Callable[[TransferOutcome], None]
    ) -> None:
        """Hand leadership to `target`, or to the voter that is furthest; `resolve` is called once.

        The outcome is the new leader's id, or TransferFailed. Raises NotLeader, TransferFailed.
        """
        if self.core.role != engine_core.LEADER:
            raise self._not_leader()
        if not self.is_leader or self._changes.is_pending:
            raise TransferFailed("this leader has not committed its first entry, or a change of members, yet")
        self._transfer.begin(target, self._clock() + timeout_s, resolve)
        self._wake()

    # Members ---------------------------------------------------------------------------------

    @property
    def standing(self) -> Standing:
        """What this node says of itself when a session begins."""
        return Standing(self.config.directory_id, self.core.term, self.members.current.index)

    @property
    def why_not_voting(self) -> str | None:
        """Why this node's votes and copies do not count; None: they do."""
        return self.peers.why_not_voting(self.core, self.journal.last_index == 0)

    def why_refuse(self, peer_id: str, standing: Standing) -> str | None:
        """See Peers."""
        leads = self.core.role == engine_core.LEADER
        return self.peers.why_refuse(peer_id, standing, self.core.commit_index, leads=leads)

    def add_member(
        self, node_id: str, peer_address: str, timeout_s: float, resolve: Callable[[Outcome], None]
    ) -> None:
        """Add a learner; it becomes a voter by itself. Raises NotLeader, MembershipRefused, Busy."""
        self._check_may_change()
        self._changes.add(node_id, peer_address, self._waiting_for_change(timeout_s, resolve))

    def remove_member(self, node_id: str, timeout_s: float, resolve: Callable[[Outcome], None]) -> None:
        """Remove a member that does not lead. Raises NotLeader, MembershipRefused, Busy."""
        self._check_may_change()
        self._changes.remove(node_id, self._waiting_for_change(timeout_s, resolve))

    @property
    def is_settling(self) -> bool:
        """Is a change of members that this leader made by itself not committed yet?"""
        return self.core.role == engine_core.LEADER and self._changes.is_settling

    @property
    def is_listening(self) -> bool:
        """Does a new leader not know yet who answers it?"""
        return self.core.role == engine_core.LEADER and self._changes.is_listening

    def check_stop(self, node_id: str) -> tuple[bool, str]:
        """Would the cluster go on without this node? Raises NotLeader."""
        if not self.is_leader:
            raise self._not_leader()
        return self._changes.check_stop(node_id)

    def _may_vote(self) -> bool:
        return self._hard_state.voter

    def _counts(self, peer_id: str) -> bool:
        progress = self.leader.progress.get(peer_id)
        return progress is not None and self.peers.count(peer_id, progress, self.core.commit_index)

    def _check_may_change(self) -> None:
        if self.core.role != engine_core.LEADER:
            raise self._not_leader()
        if not self.is_leader:
            raise MembershipRefused("this leader has not committed its first entry yet: try again")
        if self._transfer.is_under_way:
            raise MembershipRefused("leadership is being handed over")

    def _waiting_for_change(self, timeout_s: float, resolve: Callable[[Outcome], None]) -> Pending:
        self._wake()
        return self.proposals.watch(self._clock() + timeout_s, resolve)

    def _tend_members(self) -> None:
        """With every heartbeat: what the leader changes by itself."""
        if not self.is_leader or self._transfer.is_under_way:
            return
        self._changes.tend()
        self.leader.mark_level()

    def _follow_members(self) -> None:
        """The newest configuration of the log holds, from now on."""
        current = self.members.current
        if current is self._configured:
            return
        self._configured = current
        me = self.config.node_id
        assert self.core.role != engine_core.LEADER or self.members.is_voter(me), "a leader that is no voter"
        self.core.set_voters(sorted(current.voters - {me}))
        if self.core.role == engine_core.LEADER:
            self.leader.set_peers([name for name in current.members if name != me])
        self._tell_network()

    def _tell_network(self) -> None:
        """Whom to dial; and who can have a session may have changed."""
        me, current = self.config.node_id, self.members.current
        others = {name: member.peer_address for name, member in current.members.items() if name != me}
        self._network.set_peers(others, sorted(set(others) - current.voters))

    def _become_voter(self) -> None:
        if not self._hard_state.voter and not self._can_save(1):
            return
        if self.peers.make_voter(self.core, self.journal.last_index == 0):
            logger.info("this node's votes and copies count from now on")

    # Sessions and messages -------------------------------------------------------------------

    def peer_connected(self, peer_id: str, session: int, standing: Standing) -> None:
        """A new session took the place of any older one."""
        self.peers.connected(peer_id, session, standing)
        self._become_voter()
        self.leader.peer_connected(peer_id)
        voters = self.journal.members.current.voters
        if 2 * len(voters & {self.config.node_id, *self.peers.sessions}) > len(voters):
            self.election.majority_found()
        self.repairer.peer_connected()
        self._wake()

    def peer_disconnected(self, peer_id: str, session: int) -> None:
        if not self.peers.disconnected(peer_id, session):
            return
        self._lender.forget(peer_id)
        if peer_id == self.core.leader_id:
            self.reads.leadership_changed()
            self.election.lost_leader()

    def receive(self, peer_id: str, session: int, message: PeerMessage, attachment: Buffer | None) -> None:
        """Take a message. Raises storage's BadFrame where the attachment is not what it says."""
        if self.peers.sessions.get(peer_id) != session:
            return
        kind = message.WhichOneof("message")
        if kind in ("pre_vote", "pre_vote_reply"):
            self._on_pre_vote(peer_id, message)
            return
        if kind == "fetch_segment":  # sealed files are what they are, whoever leads
            self._lender.on_question(peer_id, session, message.fetch_segment)
            return
        if kind == "segment_chunk":
            self.repairer.on_chunk(peer_id, message.segment_chunk, attachment)
            return
        saves = (message.term > self.core.term) + (kind == "request_vote")
        if saves and not self._can_save(saves):
            return  # as if it had been lost
        if message.term < self.core.term:
            if kind in ("append_entries", "install_snapshot", "request_vote"):
                self._send(peer_id, stale_term=StaleTerm())
            return
        if kind == "append_entries":
            assert message.term > self.core.term or self.core.role != engine_core.LEADER, (
                "two leaders in a term"
            )
            self.election.heard_leader()
            if self.snapshots.is_installing:
                self.follower.on_append_amid_install(peer_id, message.term, message.append_entries)
            else:
                self.follower.on_append(peer_id, session, message.term, message.append_entries, attachment)
                self._follow_members()
                self._syncer.start()
                self._note_leadership()
                # Applying holds the interpreter, without which the sync cannot begin: unless somebody waits
                # for it, it comes after the answer that the sync makes, or with the shell's next tick.
                if self._owes_applying and (self._is_awaited() or not self._syncer.busy):
                    self._wake_loop()
                return
        elif kind == "install_snapshot":
            assert message.term > self.core.term or self.core.role != engine_core.LEADER, (
                "two leaders in a term"
            )
            self.election.heard_leader()
            self.follower.hear_leader(peer_id, message.term)
            self.snapshots.on_install(peer_id, session, message.term, message.install_snapshot, attachment)
        elif kind == "request_vote":
            self._on_request_vote(peer_id, message.term, message.request_vote)
        elif message.term > self.core.term:
            self.core.adopt_term(message.term, peer_id)
        elif kind == "append_reply":
            self.leader.on_reply(peer_id, message.append_reply)
            if not self._makes_work(peer_id):
                return
        elif kind == "snapshot_reply":
            self.leader.on_snapshot_reply(peer_id, message.snapshot_reply)
        elif kind == "vote":
            self._on_vote(peer_id, message.term)
        elif kind == "timeout_now":
            # It stands at once, not with the next tick.
            if self._may_vote() and not self.snapshots.is_installing and self._may_stand():
                self._transfer.on_timeout_now(peer_id)
        elif kind == "read_index":
            deadline = self._clock() + 2 * self.config.election_timeout_s_max
            self.reads.on_question(peer_id, message.read_index.request, deadline)
        elif kind == "read_index_reply":
            self.reads.on_answer(peer_id, message.read_index_reply)
        self._note_leadership()
        self._wake()

    @property
    def _owes_applying(self) -> bool:
        return self.core.applied_index < self.core.commit_index

    def _makes_work(self, peer_id: str) -> bool:
        """After an answer: is there anything to commit, to send, or to tell who waits for such answers?"""
        progress = self.leader.progress.get(peer_id)
        return (
            progress is None
            or progress.counted > self.core.commit_index
            or self.leader.owes(peer_id)
            or self.reads.is_waiting
            or self._transfer.is_under_way
        )

    def _on_pre_vote(self, peer_id: str, message: PeerMessage) -> None:
        """These speak of a term that nobody is in yet: the sender's own may be older or newer than ours."""
        if message.HasField("pre_vote"):
            self._send(peer_id, pre_vote_reply=self.election.answer(peer_id, message.pre_vote))
            return
        if message.term > self.core.term:
            if not self._can_save(1):
                return
            self.core.adopt_term(message.term, peer_id)  # or it would be asked in vain for ever
            self._note_leadership()
        self.election.on_reply(peer_id, message.pre_vote_reply)
        self._wake()

    def _on_request_vote(self, peer_id: str, term: int, request: RequestVote) -> None:
        if not self._hard_state.voter:
            return
        if term > self.core.term and not request.transfer and self.election.hears_leader:
            return
        last = {"last_log_index": request.last_log_index, "last_log_term": request.last_log_term}
        self.core.deliver(peer_id, {"type": "request_vote", "term": term, **last})

    def _on_vote(self, peer_id: str, term: int) -> None:
        """The engine counts votes and does not ask whose: each peer's reaches it once per term."""
        if (term, peer_id) in self._votes or not self.peers.may_elect(peer_id):
            return
        self._votes = {vote for vote in self._votes if vote[0] == term} | {(term, peer_id)}
        self.core.deliver(peer_id, {"type": "response_vote", "term": term})

    def _send(self, peer_id: str, **message: Any) -> None:
        self._network.send(peer_id, PeerMessage(term=self.core.term, **message))

    def _can_save(self, times: int = SPARES) -> bool:
        """Is there room for a new term, and a vote in it? Asked before the engine hears of them."""
        try:
            self._hard_state.prepare(times)
        except StorageNoSpace as error:
            self.alarms.disk_full(error)
            return False
        return True

    def _may_stand(self) -> bool:
        """Is there room for a term and a leader's first entry, and can all that is committed be applied?"""
        if self._waits_for_repair:
            return False
        return self._can_save(1) and self.alarms.ensure_urgent_space(rolls=self.journal.next_rolls(0))

    def _to_voters(self, **message: Any) -> None:
        for peer_id in sorted(self.members.current.voters - {self.config.node_id}):
            self._send(peer_id, **message)

    # Leadership ------------------------------------------------------------------------------

    def _note_leadership(self) -> None:
        """Compare role, term and leader with what was known, and draw the consequences of a change."""
        now = Leadership(self.core.role, self.core.term, self.core.leader_id)
        before = self._leadership
        if now == before:
            return
        self._leadership = now
        self.reads.leadership_changed()
        if now.leader_id is not None:
            self._transfer.leads_now(now.leader_id, now.term)
        if before.role == engine_core.LEADER and (now.role, now.term) != (before.role, before.term):
            self._stop_leading(before.term)
        if now.role == engine_core.LEADER and (now.role, now.term) != (before.role, before.term):
            self.follower.forget_claim()
            self.leader.start(name for name in self.members.current.members if name != self.config.node_id)
            self.proposals.forget_beyond(self.leader.no_op_index - 1)
            logger.info("term %d: this node leads from entry %d on", now.term, self.leader.no_op_index)
        for listener in self.on_leadership:
            listener(now)

    def _stop_leading(self, term: int) -> None:
        logger.info("term %d: this node leads no longer", term)
        self.leader.stop()
        self.proposals.refuse_queued(self._not_leader())
        self.proposals.hasten(self._clock() + 2 * self.config.election_timeout_s_max)

    # Durability ------------------------------------------------------------------------------

    def _required_policy(self) -> int:
        """What acknowledgements must be given under: the replicated setting, as the leader knows it.

        A follower obeys its leader's word, since its own state may lag; a new leader assumes the strictest
        until it has applied all that was acknowledged before it.
        """
        if self.core.role != engine_core.LEADER:
            return self.follower.required_policy
        return self.machine.sync_policy if self.is_leader else entry_pb2.SYNC_ALWAYS

    def _on_durable(self) -> None:
        self.follower.on_durable()
        if self.core.role == engine_core.LEADER:
            self.leader.on_durable()
            # Mostly the peers' answers are still to come, and bring a tick of their own.
            if len(self.members.current.voters) < 2 or self.leader.has_news():
                self._wake_loop()
        elif self._owes_applying:
            self._wake_loop()

    def _fail(self, error: BaseException) -> NoReturn:
        if isinstance(error, SyncFailed):
            raise Fatal(EXIT_SYNC_FAILED, f"fsync failed, what is on disk is not known: {error}") from error
        if isinstance(error, Damaged):
            raise Fatal(EXIT_DAMAGED, str(error)) from error
        raise Fatal(EXIT_BUG, f"the disk worker failed: {error!r}") from error

    # The engine's questions (CoreDelegate) ---------------------------------------------------

    def core_sends(self, peer_id: str, message: dict[str, Any]) -> None:
        """Votes go out as they are; the engine's answer to an append is the follower's half's to give."""
        kind = message["type"]
        if kind == "request_vote":
            last = {"last_log_index": message["last_log_index"], "last_log_term": message["last_log_term"]}
            transfer = message["term"] == self._transfer.stands_in_term
            self._send(peer_id, request_vote=RequestVote(**last, transfer=transfer))
        elif kind == "response_vote":
            assert message["term"] == self.core.term
            self._send(peer_id, vote=Vote())
        else:
            assert kind == "next_node_idx", f"the engine sends {kind}"
            assert message["success"], "admission lets only what matches reach the engine"

    def core_wants_append(self) -> None:
        self._append_due = True  # within a tick, which sends at its end; or something else wakes

    def core_durable_index(self) -> int:
        """See Syncer.countable_index."""
        return self._syncer.countable_index

    def core_applies(self) -> bool:
        """Apply what is committed, within the bounds of a tick."""
        applied = commands = 0
        while self.core.applied_index < self.core.commit_index:
            if applied >= APPLY_ENTRIES_PER_TICK or commands >= APPLY_COMMANDS_PER_TICK:
                self._wake_loop()
                break
            count = self._apply(self.core.applied_index + 1)
            if count is None:
                break
            commands += count
            applied += 1
        if applied:
            self._tell_applied()
        return applied > 0

    def _tell_applied(self) -> None:
        for listener in self.on_applied:
            listener()

    def _state_installed(self) -> None:
        """All that listens looks anew; entries may come."""
        self._tell_applied()
        self._wake()

    def _adopt_state(self, base: int, state: bytes) -> None:
        """The log begins anew at `base`: so does everything that was made from the one before."""
        self._sealer.clear()
        self.scrubber.abandon()
        self.machine.restore(base, state)
        self._restored_base = base
        self._waits_for_repair = False
        self.core.start_at(base - 1)
        self.core.forget_waiting_before(base)
        self.proposals.forget_up_to(base - 1)
        self.follower.forget_claim()
        self.journal.begin_anew(self.machine.membership)
        self._follow_members()
        self._become_voter()

    def _apply(self, index: int) -> int | None:
        """Apply one entry; return how many commands it held, or None where it waits to be repaired."""
        try:
            frame = self.journal.frame_at(index)
        except Damaged as error:
            if self.log.is_sealed(index):
                self._waits_for_repair = True
                return None  # its file is fenced, and a peer has it: the repair wakes us
            self._fail(error)
        self._waits_for_repair = False
        if frame.starts_segment and index != self._restored_base:
            sealable = self.machine.begin_segment(index)
            if sealable is not None:
                self._sealer.add(sealable)
        results = self.machine.apply(frame)
        self.core.advance_applied(index)
        if frame.kind == layout.KIND_MEMBERSHIP:
            self.members.forget_before(index)
            self._tell_network()
        for term, callback in self.core.take_waiting(index):
            if term == frame.term:
                callback(results, engine_core.SUCCESS)
            else:
                callback(None, engine_core.DISCARDED)
        return len(results)
