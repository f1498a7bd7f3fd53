"""One node's part in replication, without an event loop: time, network, disk and threads are arguments.

A replica owns the engine (core.py), the journal, its leader's and its follower's half (leader.py,
follower.py), the commands on their way (proposals.py) and the sync that makes entries durable
(syncing.py). Everything happens in `tick`, `receive` and the workers' callbacks, on one thread. The asyncio
shell is engine.py; a simulation is another.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NoReturn

from quorumlog.proto import entry_pb2
from quorumlog.proto.checksum import Buffer
from quorumlog.proto.entry import entry_parts
from quorumlog.proto.peer_pb2 import PeerMessage, RequestVote, StaleTerm, Vote
from quorumlog.raft import core as engine_core
from quorumlog.raft.alarms import Alarms
from quorumlog.raft.core import Core
from quorumlog.raft.errors import EXIT_BUG, EXIT_DAMAGED, EXIT_SYNC_FAILED, NoSpace, NotLeader, Stopping
from quorumlog.raft.follower import Follower
from quorumlog.raft.hardstate import HardState
from quorumlog.raft.interfaces import Network, Worker
from quorumlog.raft.journal import Draft, Journal
from quorumlog.raft.leader import Leader
from quorumlog.raft.machine import Machine
from quorumlog.raft.proposal import Proposal
from quorumlog.raft.proposals import Outcome, Pending, Proposals
from quorumlog.raft.sealing import Sealer
from quorumlog.raft.syncing import Syncer
from quorumlog.storage import format as layout
from quorumlog.storage.errors import Damaged, SyncFailed
from quorumlog.storage.log import Log

logger = logging.getLogger(__name__)

APPLY_ENTRIES_PER_TICK: Final = 64  # an entry may hold thousands of commands; the loop must not stall
APPLY_COMMANDS_PER_TICK: Final = 1024
# A new commit index waits so long for an entry to travel with: callers are answered before peers are told,
# and at a busy time it costs no message of its own.
COMMIT_PUSH_S: Final = 0.001


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
    ) -> None:
        """`log` is open; the machine is restored here. `wake` asks for a tick, `wake_after` for one later.

        Raises Damaged where the log says that something durable is bad: such a node must not vote.
        """
        if log.recovery.fenced:  # taking part could take back what was acknowledged
            raise log.recovery.fenced[0]
        self.config = config
        self.log = log
        self.machine = machine
        self.journal = Journal(log, hard_state)
        self.proposals = Proposals()
        self.alarms = Alarms(log)
        self.on_applied: list[Callable[[], None]] = []
        self.on_leadership: list[Callable[[Leadership], None]] = []
        self._network = network
        self._syncer = Syncer(log, self._required_policy, sync_worker, clock, self._on_durable, self._fail)
        self._sealer = Sealer(log, machine, seal_worker, self._fail)
        self._clock = clock
        self._wall_clock_ms = wall_clock_ms
        self._wake = wake
        self._wake_after = wake_after
        self._sessions: dict[str, int] = {}
        self._votes: set[tuple[int, str]] = set()
        self._append_due = False
        self._next_heartbeat = 0.0
        self._push_commit_at: float | None = None
        self._entry_time_ms = 0
        self._stopping = False
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
        halves = (self.core, self.journal, network, self._sessions, self.alarms, self.core_durable_index)
        self.leader = Leader(*halves, self._required_policy)
        self.follower = Follower(*halves)
        self._leadership = Leadership(engine_core.FOLLOWER, self.core.term, None)

    # State -----------------------------------------------------------------------------------

    @property
    def leadership(self) -> Leadership:
        return self._leadership

    @property
    def is_leader(self) -> bool:
        """Does it lead, and has it applied its own no-op, so that it knows all that was acknowledged?"""
        return self.core.role == engine_core.LEADER and self.core.applied_index >= self.leader.no_op_index

    @property
    def idle(self) -> bool:
        """Nothing waits, nothing is in flight, nothing is being written."""
        busy = (
            self.proposals.queued_count
            or self.proposals.in_flight_count
            or self._syncer.busy
            or self._sealer.busy
        )
        return not busy

    def tick(self) -> None:
        """Do what is due; bounded."""
        self.proposals.expire(self._clock())
        self._propose_waiting()  # what just came does not wait for the engine's tick
        self.core.doTick()
        self._note_leadership()
        self._propose_waiting()
        self._syncer.start()  # before sending: the disk works while the loop does
        self._send_appends()

    def _send_appends(self) -> None:
        now = self._clock()
        heartbeat = self._append_due and now >= self._next_heartbeat
        if heartbeat:
            self._append_due = False
            self._next_heartbeat = now + self.config.heartbeat_s
        push_commit = self._push_commit_at is not None and now >= self._push_commit_at
        self.leader.send(push_commit=push_commit, heartbeat=heartbeat)
        if push_commit:
            self._push_commit_at = None
        elif self._push_commit_at is None and self.leader.has_unsent_commit:
            self._push_commit_at = now + COMMIT_PUSH_S
            self._wake_after(COMMIT_PUSH_S)

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

    def abandon(self) -> None:
        """Nothing is waited for any longer: whoever still waits is told what is known."""
        self.proposals.expire(math.inf)

    def _not_leader(self) -> NotLeader:
        leader = self.core.leader_id
        return NotLeader(None if leader == self.config.node_id else leader, None, self.core.term)

    def _propose_waiting(self) -> None:
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
            self.core.append(Draft(layout.KIND_COMMANDS, parts), partial(self._landed, index, term))
            assert self.journal.last_index == index

    def _entry_of(self, group: Sequence[Pending]) -> tuple[Buffer, ...]:
        time_ms, level = self.machine.entry_prefix(self._wall_clock_ms())
        self._entry_time_ms = max(time_ms, self._entry_time_ms)
        fragments = [pending.proposal.fragment for pending in group]
        bodies = [body for pending in group for body in pending.proposal.bodies]
        return tuple(entry_parts(self._entry_time_ms, level, fragments, bodies))

    def _landed(self, index: int, term: int, results: Sequence[object] | None, reason: int) -> None:
        """The engine's callback for an entry that this node proposed."""
        if reason == engine_core.SUCCESS and results is not None:
            self.proposals.committed(index, term, results, self._required_policy())
        else:
            self.proposals.dropped(index, term)

    # Sessions and messages -------------------------------------------------------------------

    def peer_connected(self, peer_id: str, session: int) -> None:
        """A new session took the place of any older one."""
        self._sessions[peer_id] = session
        self.core.connected(peer_id)
        self.leader.peer_connected(peer_id)
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
            assert message.term > self.core.term or self.core.role != engine_core.LEADER, (
                "two leaders in a term"
            )
            self.follower.on_append(peer_id, session, message.term, message.append_entries, attachment)
            self._syncer.start()
        elif kind == "request_vote":
            self._on_request_vote(peer_id, message.term, message.request_vote)
        elif message.term > self.core.term:
            self.core.adopt_term(message.term, peer_id)
        elif kind == "append_reply":
            self.leader.on_reply(peer_id, message.append_reply)
        elif kind == "vote":
            self._on_vote(peer_id, message.term)
        self._note_leadership()
        self._wake()

    def _on_request_vote(self, peer_id: str, term: int, request: RequestVote) -> None:
        last = {"last_log_index": request.last_log_index, "last_log_term": request.last_log_term}
        self.core.deliver(peer_id, {"type": "request_vote", "term": term, **last})

    def _on_vote(self, peer_id: str, term: int) -> None:
        """The engine counts votes and does not ask whose: each peer's reaches it once per term."""
        if (term, peer_id) in self._votes:
            return
        self._votes = {vote for vote in self._votes if vote[0] == term} | {(term, peer_id)}
        self.core.deliver(peer_id, {"type": "response_vote", "term": term})

    def _send(self, peer_id: str, **message: Any) -> None:
        self._network.send(peer_id, PeerMessage(term=self.core.term, **message))

    # Leadership ------------------------------------------------------------------------------

    def _note_leadership(self) -> None:
        """Compare role, term and leader with what was known, and draw the consequences of a change."""
        now = Leadership(self.core.role, self.core.term, self.core.leader_id)
        before = self._leadership
        if now == before:
            return
        self._leadership = now
        if before.role == engine_core.LEADER and (now.role, now.term) != (before.role, before.term):
            self._stop_leading(before.term)
        if now.role == engine_core.LEADER and (now.role, now.term) != (before.role, before.term):
            self.follower.forget_claim()
            self.leader.start(self.config.peer_ids)
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
        self.leader.on_durable()
        self.follower.on_durable()
        self._wake()

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
            self._send(peer_id, request_vote=RequestVote(**last))
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
        """See Syncer.countable_index."""
        return self._syncer.countable_index

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
        return applied > 0

    def _apply(self, index: int) -> int:
        """Apply one entry; return how many commands it held."""
        try:
            frame = self.journal.frame_at(index)
        except Damaged as error:
            self._fail(error)
        if frame.starts_segment and index != self._restored_base:
            sealable = self.machine.begin_segment(index)
            if sealable is not None:
                self._sealer.add(sealable)
        results = self.machine.apply(frame)
        self.core.advance_applied(index)
        for term, callback in self.core.take_waiting(index):
            if term == frame.term:
                callback(results, engine_core.SUCCESS)
            else:
                callback(None, engine_core.DISCARDED)
        return len(results)
