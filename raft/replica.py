"""One node's part in replication, without an event loop: time, network, disk and threads are arguments.

A replica owns the engine (core.py), the journal, what the leader knows of its peers (progress.py), the
commands on their way (proposals.py), and what may be claimed about durability:

    follower   an append is admitted (follower.py), written, and answered at once with what is durable of it;
               the rest of the claim is answered when a sync has finished
    leader     a peer's claim is counted up to what is durable here too: so every majority that the engine
               counts holds its entries on disk, this node included

Everything happens in `tick`, `receive` and the worker's callbacks, on one thread. The asyncio shell is
engine.py; a simulation can be another.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NoReturn, Protocol

from quorumlog.proto import entry_pb2
from quorumlog.proto.checksum import Buffer
from quorumlog.proto.entry import entry_parts
from quorumlog.proto.peer_pb2 import AppendEntries, AppendReply, PeerMessage, RequestVote, StaleTerm, Vote
from quorumlog.raft import core as engine_core
from quorumlog.raft.core import Core
from quorumlog.raft.errors import EXIT_BUG, EXIT_DAMAGED, EXIT_SYNC_FAILED, NoSpace, NotLeader, RaftError, Stopping
from quorumlog.raft.follower import Admitted, Refused, admit
from quorumlog.raft.hardstate import HardState
from quorumlog.raft.journal import Draft, Journal, total_size
from quorumlog.raft.machine import Machine, Sealable
from quorumlog.raft.progress import BATCH_BYTES, Progress, State
from quorumlog.raft.proposal import Proposal
from quorumlog.raft.proposals import Outcome, Pending, Proposals
from quorumlog.storage import errors as storage_errors
from quorumlog.storage import format as layout
from quorumlog.storage.frame import Frame, parse_frames
from quorumlog.storage.log import Log, Ticket

logger = logging.getLogger(__name__)

APPLY_ENTRIES_PER_TICK: Final = 64  # an entry may hold thousands of commands; the loop must not stall
APPLY_COMMANDS_PER_TICK: Final = 1024
SYNC_INTERVAL_S: Final = 1.0  # of the policy `interval`
DISK_FULL: Final = "DISK_FULL"
DAMAGE: Final = "DAMAGE"


class Network(Protocol):
    """Sessions to peers. A session is one connection: what it delivers comes in order, and nothing comes after it."""

    def send(self, peer_id: str, message: PeerMessage, attachment: Sequence[Buffer] = ()) -> None:
        """Hand a message to the peer's session; without one it is lost."""

    def has_room(self, peer_id: str) -> bool:
        """Is there a session whose outbound queue is below its bound?"""


class Worker(Protocol):
    """Runs what may block away from the loop, one piece after the other."""

    def submit(self, work: Callable[[], None], done: Callable[[BaseException | None], None]) -> None:
        """Run `work`, then `done` on the loop's thread with what it raised."""


class Fatal(Exception):
    """The node must stop at once; `exit_code` says why."""

    def __init__(self, exit_code: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True)
class ReplicaConfig:
    """Who it is and its times, in seconds."""

    node_id: str
    peer_ids: tuple[str, ...]
    election_timeout_s_min: float = 0.4
    election_timeout_s_max: float = 0.8
    heartbeat_s: float = 0.1


@dataclass(slots=True)
class _Claim:
    """What a follower may say MATCHED for, once it is durable: the log is the leader's up to `index`."""

    leader_id: str
    session: int
    term: int
    index: int
    answered: int = 0


@dataclass(frozen=True, slots=True)
class Leadership:
    """Role and leader as listeners see them."""

    role: int
    term: int
    leader_id: str | None


class Replica:
    """See the module.

    - A message counts only if it came by the peer's current session and, where it is a reply, in this term.
    - No MATCHED leaves, and none is counted, for an entry that is not durable at its sender and here.
    - At most one sync and one seal are under way.
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
    ) -> None:
        self.config = config
        self.log = log
        self.machine = machine
        self.journal = Journal(log, hard_state)
        self.proposals = Proposals()
        self.progress: dict[str, Progress] = {}
        self.alarms: set[str] = set()
        self.on_applied: list[Callable[[], None]] = []
        self.on_leadership: list[Callable[[Leadership], None]] = []
        self._network = network
        self._sync_worker = sync_worker
        self._seal_worker = seal_worker
        self._clock = clock
        self._wall_clock_ms = wall_clock_ms
        self._wake = wake
        self._sessions: dict[str, int] = {}
        self._claim: _Claim | None = None
        self._votes: set[tuple[int, str]] = set()
        self._append_due = False
        self._ticket: Ticket | None = None
        self._last_sync = clock()
        self._seals: deque[Sealable] = deque()
        self._sealing = False
        self._entry_time_ms = 0
        self._stopping = False
        self._round = 0
        self._no_op_index = 0
        base, state = log.load_state()
        machine.restore(base, state)
        self._restored_base = base
        self.core = Core(
            config.node_id,
            config.peer_ids,
            self.journal,
            self,
            election_timeout_s_min=config.election_timeout_s_min,
            election_timeout_s_max=config.election_timeout_s_max,
            heartbeat_s=config.heartbeat_s,
        )
        self.core.start_at(base - 1)
        self._leadership = Leadership(engine_core.FOLLOWER, self.core.term, None)

    # State -----------------------------------------------------------------------------------

    @property
    def leadership(self) -> Leadership:
        return self._leadership

    @property
    def is_leader(self) -> bool:
        """Does it lead, and has it applied its own no-op, so that it knows all that was acknowledged?"""
        return self.core.role == engine_core.LEADER and self.core.applied_index >= self._no_op_index

    @property
    def idle(self) -> bool:
        """Nothing waits, nothing is in flight, nothing is to be synced."""
        return not (self.proposals.queued_count or self.proposals.in_flight_count or self._ticket or self._sealing)

    # Time ------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Do what is due; bounded."""
        self.proposals.expire(self._clock())
        self.core.doTick()
        self._note_leadership()
        self._propose_waiting()
        self._start_sync()  # before sending: the disk works while the loop does
        self._send_what_is_due()

    # Commands --------------------------------------------------------------------------------

    def propose(self, proposal: Proposal, timeout_s: float, resolve: Callable[[Outcome], None]) -> Pending:
        """Queue a command; `resolve` is called once, with its outcome. Raises NotProposed."""
        if self._stopping:
            raise Stopping("this node is stopping")
        if self.core.role != engine_core.LEADER:
            raise self._not_leader()
        pending = self.proposals.offer(proposal, self._clock() + timeout_s, resolve)
        self._wake()
        return pending

    def stop_accepting(self) -> None:
        """New commands are refused from now on; what is under way goes on."""
        self._stopping = True

    def _not_leader(self) -> NotLeader:
        leader = self.core.leader_id
        return NotLeader(None if leader == self.config.node_id else leader, None, self.core.term)

    def _propose_waiting(self) -> None:
        while self.core.role == engine_core.LEADER and (group := self.proposals.next_group()):
            time_ms, level = self.machine.entry_prefix(self._wall_clock_ms())
            self._entry_time_ms = max(time_ms, self._entry_time_ms)
            bodies = [body for pending in group for body in pending.proposal.bodies]
            fragments = [pending.proposal.fragment for pending in group]
            parts = tuple(entry_parts(self._entry_time_ms, level, fragments, bodies))
            size = sum(map(len, parts))
            if not self._ensure_space(size, rolls=self.journal.next_rolls(size)):
                for pending in group:
                    pending.resolve(NoSpace("the leader's disk is full"))
                return
            index = self.journal.last_index + 1
            self.proposals.proposed(index, group)
            self.core.append(Draft(layout.KIND_COMMANDS, parts), partial(self._landed, index))
            assert self.journal.last_index == index

    def _landed(self, index: int, applied: tuple[int, Sequence[object]] | None, reason: int) -> None:
        """The engine's callback for an entry that this node proposed."""
        if reason == engine_core.SUCCESS and applied is not None:
            self.proposals.committed(index, applied[0], applied[1], self.machine.sync_policy)
        else:
            self.proposals.dropped(index)

    def _ensure_space(self, size: int, *, rolls: bool) -> bool:
        try:
            self.log.ensure_space(size, rolls)
        except storage_errors.NoSpace as error:
            if DISK_FULL not in self.alarms:
                logger.error("the disk is full, writes are refused until there is room: %s", error)
            self.alarms.add(DISK_FULL)
            return False
        if DISK_FULL in self.alarms:
            logger.warning("there is room on the disk again")
            self.alarms.discard(DISK_FULL)
        return True

    # Sessions --------------------------------------------------------------------------------

    def peer_connected(self, peer_id: str, session: int) -> None:
        """A new session took the place of any older one."""
        self._sessions[peer_id] = session
        self.core.connected(peer_id)
        if peer_id in self.progress:
            self.progress[peer_id].restart()
        self._wake()

    def peer_disconnected(self, peer_id: str, session: int) -> None:
        if self._sessions.get(peer_id) == session:
            del self._sessions[peer_id]
            self.core.disconnected(peer_id)

    def receive(self, peer_id: str, session: int, message: PeerMessage, attachment: Buffer | None) -> None:
        """Take a message. Raises storage's BadFrame where the attachment is not what it says."""
        if self._sessions.get(peer_id) != session:
            return
        kind = message.WhichOneof("message")
        if message.term < self.core.term:
            if kind in ("append_entries", "request_vote"):
                self._send(peer_id, stale_term=StaleTerm())
            return
        if kind == "append_entries":
            self._on_append(peer_id, session, message.term, message.append_entries, attachment)
        elif kind == "request_vote":
            self._on_request_vote(peer_id, message.term, message.request_vote)
        elif message.term > self.core.term:
            self.core.adopt_term(message.term, peer_id)
        elif kind == "append_reply":
            self._on_reply(peer_id, message.append_reply)
        elif kind == "vote":
            self._on_vote(peer_id, message.term)
        self._note_leadership()
        self._wake()

    def _send(self, peer_id: str, **message: Any) -> None:
        self._network.send(peer_id, PeerMessage(term=self.core.term, **message))

    # Votes -----------------------------------------------------------------------------------

    def _on_request_vote(self, peer_id: str, term: int, request: RequestVote) -> None:
        self.core.deliver(
            peer_id,
            {
                "type": "request_vote",
                "term": term,
                "last_log_index": request.last_log_index,
                "last_log_term": request.last_log_term,
            },
        )

    def _on_vote(self, peer_id: str, term: int) -> None:
        """The engine counts votes; each peer's counts once per term."""
        if (term, peer_id) in self._votes:
            return
        self._votes = {vote for vote in self._votes if vote[0] == term} | {(term, peer_id)}
        self.core.deliver(peer_id, {"type": "response_vote", "term": term})

    # Following -------------------------------------------------------------------------------

    def _on_append(
        self, peer_id: str, session: int, term: int, message: AppendEntries, attachment: Buffer | None
    ) -> None:
        assert term > self.core.term or self.core.role != engine_core.LEADER, f"two leaders in term {term}"
        frames = _frames_of(message, attachment)
        verdict = admit(
            self.journal,
            self.core.commit_index,
            message.previous_index,
            message.previous_term,
            message.commit_index,
            frames,
        )
        if isinstance(verdict, Refused):
            self._hear_leader(peer_id, term)
            self._reply(peer_id, AppendReply.RESET, verdict.hint, message.round)
            return
        rolls = any(frame.flags & layout.FLAG_STARTS_SEGMENT for frame in verdict.frames)
        if verdict.frames and not self._ensure_space(total_size(verdict.frames), rolls=rolls):
            self._hear_leader(peer_id, term)
            self._reply(peer_id, AppendReply.NO_SPACE, 0, message.round)
            return
        self._take(peer_id, term, verdict)
        self._start_sync()
        if self._claim is None or (self._claim.leader_id, self._claim.session, self._claim.term) != (
            peer_id,
            session,
            term,
        ):
            self._claim = _Claim(peer_id, session, term, 0)
        self._claim.index = max(self._claim.index, verdict.verified_index)
        self._answer_claim(self._claim, message.round)

    def _hear_leader(self, peer_id: str, term: int) -> None:
        """A heartbeat to the engine: who leads, in which term; nothing of the log, nothing to commit."""
        self.core.deliver(peer_id, {"type": "append_entries", "term": term, "commit_index": 0})

    def _take(self, peer_id: str, term: int, verdict: Admitted) -> None:
        if verdict.truncate_from is not None:
            logger.info("term %d: replacing entries from %d on", term, verdict.truncate_from)
            self.journal.truncate_from(verdict.truncate_from, self.core.commit_index)
        self.core.deliver(
            peer_id,
            {
                "type": "append_entries",
                "term": term,
                "commit_index": verdict.commit_index,
                "prevLogIdx": verdict.previous_index,
                "prevLogTerm": verdict.previous_term,
                "entries": [(frame, frame.index, frame.term) for frame in verdict.frames],
            },
        )
        self.journal.flush()

    def _answer_claim(self, claim: _Claim, round_number: int) -> None:
        claim.answered = max(claim.answered, min(claim.index, self.core_durable_index()))
        self._reply(claim.leader_id, AppendReply.MATCHED, claim.answered, round_number)

    def _reply(self, peer_id: str, outcome: AppendReply.Outcome.ValueType, index: int, round_number: int) -> None:
        self._send(peer_id, append_reply=AppendReply(outcome=outcome, index=index, round=round_number))

    # Leading ---------------------------------------------------------------------------------

    def _on_reply(self, peer_id: str, reply: AppendReply) -> None:
        progress = self.progress.get(peer_id)
        if self.core.role != engine_core.LEADER or progress is None:
            return
        progress.round_seen = max(progress.round_seen, reply.round)
        if reply.outcome == AppendReply.MATCHED:
            assert reply.index <= self.journal.last_index, f"{peer_id} matched {reply.index}, beyond this log"
            progress.matched(reply.index)
        elif reply.outcome == AppendReply.RESET:
            progress.reset(reply.index, self.journal.last_index)
        if not self._count(peer_id, progress):
            self._deliver_reply(peer_id, success=False, index=0)  # alive: feeds check-quorum, claims nothing

    def _count(self, peer_id: str, progress: Progress) -> bool:
        """Tell the engine what this peer holds, up to what is durable here too. False: nothing new."""
        index = min(progress.match, self.core_durable_index())
        if index <= progress.counted:
            return False
        progress.counted = index
        self._deliver_reply(peer_id, success=True, index=index)
        return True

    def _deliver_reply(self, peer_id: str, *, success: bool, index: int) -> None:
        self.core.deliver(
            peer_id, {"type": "next_node_idx", "next_node_idx": index + 1, "reset": False, "success": success}
        )

    def _send_what_is_due(self) -> None:
        due, self._append_due = self._append_due, False
        if self.core.role != engine_core.LEADER:
            return
        for peer_id, progress in self.progress.items():
            if peer_id not in self._sessions or not self._network.has_room(peer_id):
                continue
            if due and progress.state is State.PROBE:
                progress.repeat_probe()
            if progress.may_probe():
                progress.probed()
                self._send_append(peer_id, progress.next - 1, [], 0)
                continue
            try:
                sent = self._send_entries(peer_id, progress)
            except storage_errors.Damaged as error:
                self._note_damage(error)
                continue
            if due and not sent and progress.state is State.REPLICATE:
                self._send_append(peer_id, progress.next - 1, [], 0)

    def _note_damage(self, error: storage_errors.Damaged) -> None:
        """A bad frame in what is sealed: it is never sent; the peer waits for a leader that has it."""
        if DAMAGE not in self.alarms:
            logger.error("damaged data is fenced, not served: %s", error)
        self.alarms.add(DAMAGE)

    def _send_entries(self, peer_id: str, progress: Progress) -> bool:
        sent = False
        while progress.may_send() and progress.next <= self.journal.last_index and self._network.has_room(peer_id):
            previous = progress.next - 1
            buffers, count, size = self.journal.run_from(progress.next, BATCH_BYTES)
            self._send_append(peer_id, previous, buffers, count)
            progress.sent(previous + count, size)
            sent = True
        return sent

    def _send_append(self, peer_id: str, previous: int, buffers: Sequence[Buffer], count: int) -> None:
        previous_term = self.journal.term_at(previous)
        assert previous_term is not None, f"entry {previous} before a message to {peer_id} is not here"
        self._round += 1
        append = AppendEntries(
            previous_index=previous,
            previous_term=previous_term,
            commit_index=self.core.commit_index,
            count=count,
            round=self._round,
        )
        self._network.send(peer_id, PeerMessage(term=self.core.term, append_entries=append), buffers)

    # Leadership ------------------------------------------------------------------------------

    def _note_leadership(self) -> None:
        """Compare role, term and leader with what was known, and draw the consequences of a change."""
        now = Leadership(self.core.role, self.core.term, self.core.leader_id)
        before = self._leadership
        if now == before:
            return
        self._leadership = now
        led = before.role == engine_core.LEADER
        leads = now.role == engine_core.LEADER
        if led and (not leads or now.term != before.term):
            self._stop_leading()
        if leads and (not led or now.term != before.term):
            self._start_leading()
        for listener in self.on_leadership:
            listener(now)

    def _start_leading(self) -> None:
        self._no_op_index = self.journal.last_index  # the engine has just appended it
        self._claim = None
        self.progress = {peer_id: Progress(self._no_op_index - 1) for peer_id in self.config.peer_ids}
        logger.info("term %d: this node leads from entry %d on", self.core.term, self._no_op_index)

    def _stop_leading(self) -> None:
        logger.info("term %d: this node leads no longer", self._leadership.term)
        self.progress = {}
        self.proposals.refuse_queued(self._not_leader())
        self.proposals.hasten(self._clock() + 2 * self.config.election_timeout_s_max)

    # Durability ------------------------------------------------------------------------------

    def _start_sync(self) -> None:
        if self._ticket is not None or self.log.durable_index >= self.log.last_index:
            return
        policy = self.machine.sync_policy
        if policy == entry_pb2.SYNC_OS:
            return
        if policy == entry_pb2.SYNC_INTERVAL and self._clock() < self._last_sync + SYNC_INTERVAL_S:
            return
        self._last_sync = self._clock()
        self._ticket = self.log.begin_sync()
        self._sync_worker.submit(self._ticket.run, self._synced)

    def _synced(self, error: BaseException | None) -> None:
        ticket, self._ticket = self._ticket, None
        assert ticket is not None
        if error is not None:
            self._fail(error)
        self.log.finish_sync(ticket)
        if self.core.role == engine_core.LEADER:
            for peer_id, progress in self.progress.items():
                self._count(peer_id, progress)
        else:
            self._answer_what_became_durable()
        self._start_sync()
        self._wake()

    def _answer_what_became_durable(self) -> None:
        """The held-back part of a follower's answer, if the leader that it was for still leads by that session."""
        claim = self._claim
        if claim is None or claim.term != self.core.term or self._sessions.get(claim.leader_id) != claim.session:
            return
        if min(claim.index, self.core_durable_index()) > claim.answered:
            self._answer_claim(claim, 0)

    def _fail(self, error: BaseException) -> NoReturn:
        if isinstance(error, storage_errors.SyncFailed):
            raise Fatal(EXIT_SYNC_FAILED, f"fsync failed, what is on disk is not known: {error}") from error
        if isinstance(error, storage_errors.Damaged):
            raise Fatal(EXIT_DAMAGED, str(error)) from error
        raise Fatal(EXIT_BUG, f"the disk worker failed: {error!r}") from error

    # Sealing ---------------------------------------------------------------------------------

    def _start_seal(self) -> None:
        if self._sealing or not self._seals:
            return
        self._sealing = True
        sealable = self._seals.popleft()
        self._seal_worker.submit(
            lambda: self.log.seal(sealable.base, sealable.view, sealable.state), partial(self._sealed, sealable)
        )

    def _sealed(self, sealable: Sealable, error: BaseException | None) -> None:
        self._sealing = False
        if isinstance(error, storage_errors.NoSpace):
            logger.warning("segment %d is not sealed: %s; it is tried again", sealable.base, error)
            self._seals.appendleft(sealable)
            return  # the next segment's end tries again; until then the view stays in memory
        if error is not None:
            self._fail(error)
        self.machine.sealed(sealable.base)
        self._start_seal()

    # The engine's questions (CoreDelegate) ---------------------------------------------------

    def core_sends(self, peer_id: str, message: dict[str, Any]) -> None:
        """Votes go out as they are; the engine's answer to an append is ours to give (`_answer_claim`)."""
        kind = message["type"]
        if kind == "request_vote":
            request = RequestVote(
                last_log_index=message["last_log_index"], last_log_term=message["last_log_term"]
            )
            self._send(peer_id, request_vote=request)
        elif kind == "response_vote":
            assert message["term"] == self.core.term
            self._send(peer_id, vote=Vote())
        else:
            assert kind == "next_node_idx", f"the engine sends {kind}"
            assert message["success"], "admission lets only what matches reach the engine"

    def core_wants_append(self) -> None:
        self._append_due = True
        self._wake()

    def core_durable_index(self) -> int:
        """What this node may count of its own copy: what is durable, or what is written under a weaker policy."""
        if self.machine.sync_policy == entry_pb2.SYNC_ALWAYS:
            return self.log.durable_index
        return self.log.last_index

    def core_applies(self) -> bool:
        """Apply what is committed, within the bounds of a tick."""
        applied = commands = 0
        while self.core.applied_index < self.core.commit_index:
            if applied >= APPLY_ENTRIES_PER_TICK or commands >= APPLY_COMMANDS_PER_TICK:
                self._wake()
                break
            commands += self._apply(self.core.applied_index + 1)
            applied += 1
        if applied:
            for listener in self.on_applied:
                listener()
            self._start_seal()
        return applied > 0

    def _apply(self, index: int) -> int:
        try:
            frame = self.journal.frame_at(index)
        except storage_errors.Damaged as error:
            self._fail(error)
        if frame.flags & layout.FLAG_STARTS_SEGMENT and index != self._restored_base:
            sealable = self.machine.begin_segment(index)
            if sealable is not None:
                self._seals.append(sealable)
        results = self.machine.apply(frame)
        self.core.advance_applied(index)
        for term, callback in self.core.take_waiting(index):
            if term == frame.term:
                callback((frame.term, results), engine_core.SUCCESS)
            else:
                callback(None, engine_core.DISCARDED)
        return len(results)


def _frames_of(message: AppendEntries, attachment: Buffer | None) -> list[Frame]:
    """The frames of a message, each verified, following its previous entry. Raises BadFrame."""
    if message.count == 0 and not attachment:
        return []
    frames = parse_frames(
        attachment or b"",
        expect_index=message.previous_index + 1,
        previous_chain=None,  # the log asserts the chain where they are appended
        previous_term=message.previous_term,
    )
    if len(frames) != message.count:
        raise storage_errors.BadFrame(f"{len(frames)} frames attached, {message.count} announced")
    return frames


__all__ = ["Fatal", "Leadership", "Network", "RaftError", "Replica", "ReplicaConfig", "Worker"]
