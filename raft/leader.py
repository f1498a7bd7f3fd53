"""Leading: what is sent to whom and when, and what of the answers is counted.

A peer's MATCHED is counted only up to what is durable here too. So every majority that the engine counts
holds its entries on disk, this node's copy included, and the engine may go on counting itself for everything.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final

from quorumlog.proto.checksum import Buffer
from quorumlog.proto.peer_pb2 import AppendEntries, AppendReply, PeerMessage, SnapshotReply
from quorumlog.raft.admission import term_or_none
from quorumlog.raft.alarms import Alarms
from quorumlog.raft.core import Core
from quorumlog.raft.interfaces import Network
from quorumlog.raft.journal import Journal
from quorumlog.raft.progress import BATCH_BYTES, Progress, State
from quorumlog.raft.snapshots import SnapshotSender
from quorumlog.storage.errors import Damaged

logger = logging.getLogger(__name__)

# A new commit index travels with the next entry: at a busy time that is in the same tick. Else it goes out
# alone: in the same tick, too, where somebody waits for it, so that the readers of all nodes are served at
# about the same time; where nobody does, later, since an entry may come.
LAZY_PUSH_S: Final = 0.01


class Leader:
    """The leader's half of a replica. `progress` is empty while this node does not lead.

    Progress begins anew with each leadership, so nothing that was held in an older term is ever counted.
    """

    def __init__(
        self,
        core: Core,
        journal: Journal,
        network: Network,
        sessions: Mapping[str, int],
        alarms: Alarms,
        countable_index: Callable[[], int],
        required_policy: Callable[[], int],
        clock: Callable[[], float],
        counts: Callable[[str], bool],
    ) -> None:
        """`counts`: is this peer a voter, by this session's directory too?"""
        self.progress: dict[str, Progress] = {}
        self.no_op_index = 0  # of the newest leadership; applied: all that was acknowledged is known here
        self._started_at = -math.inf
        self._core = core
        self._journal = journal
        self._network = network
        self._sessions = sessions
        self._alarms = alarms
        self._countable_index = countable_index
        self._required_policy = required_policy
        self._clock = clock
        self.counts = counts
        self._round = 0
        self._must_answer = False
        self._is_heartbeat = False
        self.snapshots = SnapshotSender(core, journal.log, network, alarms)

    def start(self, peer_ids: Iterable[str]) -> None:
        """The engine has just appended the no-op of a new leadership."""
        self._started_at = self._clock()
        self.no_op_index = self._journal.last_index
        self.progress = {peer_id: Progress(self.no_op_index - 1) for peer_id in peer_ids}

    def set_peers(self, peer_ids: Collection[str]) -> None:
        """The members have changed: learners are sent to as well as voters."""
        for peer_id in set(self.progress) - set(peer_ids):
            del self.progress[peer_id]
        for peer_id in peer_ids:
            if peer_id not in self.progress:
                self.progress[peer_id] = Progress(self._journal.last_index)

    def stop(self) -> None:
        self.progress = {}

    @property
    def next_round(self) -> int:
        """Number of the next message: an echo of this or a later one was made after now."""
        return self._round + 1

    def furthest(self) -> str | None:
        """The voter that holds most of this log, of those that are connected."""
        known = [(progress.match, name) for name, progress in self.progress.items() if self.counts(name)]
        return max(known)[1] if known else None

    def awaits_first_word(self, voters: Collection[str], within_s: float) -> bool:
        """Has this leadership only begun, and is a voter that is connected not heard in it yet?"""
        if self._clock() - self._started_at > within_s:
            return False
        return any(
            progress.heard_at == -math.inf and peer_id in voters and peer_id in self._sessions
            for peer_id, progress in self.progress.items()
        )

    def answers(self, peer_id: str, within_s: float) -> bool:
        """Has this voter been heard so lately?"""
        progress = self.progress.get(peer_id)
        recent = progress is not None and progress.heard_at > self._clock() - within_s
        return recent and self.counts(peer_id)

    def is_level(self, peer_id: str) -> bool:
        """Does it hold all that was committed at the last `mark_level`?"""
        progress = self.progress.get(peer_id)
        return progress is not None and progress.state is State.REPLICATE and progress.match >= progress.level

    def holds(self, peer_id: str, index: int) -> bool:
        """Does it hold this log up to that entry?"""
        progress = self.progress.get(peer_id)
        return progress is not None and progress.match >= index

    def mark_level(self) -> None:
        """With each heartbeat: whoever keeps up holds what is committed now when the next one is due."""
        for progress in self.progress.values():
            progress.level = self._core.commit_index

    def is_majority(self, says: Callable[[Progress], bool], voters: Collection[str]) -> bool:
        """Do more than half of the voters, this node (one of them) included, say so?"""
        yes = 1 + sum(
            self.counts(peer_id) and says(progress)
            for peer_id, progress in self.progress.items()
            if peer_id in voters
        )
        return 2 * yes > len(voters)

    def peer_connected(self, peer_id: str) -> None:
        if peer_id in self.progress:
            self.progress[peer_id].restart()

    # Answers ---------------------------------------------------------------------------------

    def on_reply(self, peer_id: str, reply: AppendReply) -> None:
        """Take an answer of this term."""
        progress = self.progress.get(peer_id)
        if progress is None:
            return
        progress.round_seen = max(progress.round_seen, reply.round)
        progress.heard_at = self._clock()
        progress.voter = reply.voter
        progress.awaited = reply.awaited
        if reply.outcome == AppendReply.MATCHED:
            if self._contradicts(reply):
                logger.error(
                    "%s holds entries up to %d as committed that this log lost: stopping it",
                    peer_id,
                    reply.index,
                )
                progress.contradicted(min(reply.index, self._journal.last_index))
            else:
                progress.matched(reply.index)
        elif reply.outcome == AppendReply.NO_SPACE:
            progress.refused()
        elif reply.outcome == AppendReply.RESET:
            progress.reset(reply.index, self._journal.last_index)
        if not self._count(peer_id, progress):
            self._deliver(peer_id, success=False, index=0)  # alive: feeds check-quorum, claims nothing

    def _contradicts(self, reply: AppendReply) -> bool:
        """Does the peer hold as committed what is not in this log?

        Only where a power loss under a weak sync policy took it from a majority. What that majority goes on
        with is the truth now.
        """
        if reply.index > self._journal.last_index:
            return True
        ours = term_or_none(self._journal, reply.index)
        return bool(ours and reply.entry_term) and ours != reply.entry_term

    def on_snapshot_reply(self, peer_id: str, reply: SnapshotReply) -> None:
        """Take an answer of this term."""
        progress = self.progress.get(peer_id)
        if progress is None:
            return
        progress.heard_at = self._clock()
        progress.voter = reply.voter
        self.snapshots.on_reply(peer_id, progress, reply)
        self._deliver(peer_id, success=False, index=0)

    def on_durable(self) -> None:
        """A sync has finished here: count what was held back for it."""
        for peer_id, progress in self.progress.items():
            self._count(peer_id, progress)

    def has_news(self) -> bool:
        """Does a peer hold, durably as this node does, what is not committed yet?"""
        return any(progress.counted > self._core.commit_index for progress in self.progress.values())

    def _count(self, peer_id: str, progress: Progress) -> bool:
        """Tell the engine what this peer holds, up to what is durable here too. False: nothing new."""
        if not self.counts(peer_id):
            return False
        index = min(progress.match, self._countable_index())
        if index <= progress.counted:
            return False
        progress.counted = index
        self._deliver(peer_id, success=True, index=index)
        return True

    def _deliver(self, peer_id: str, *, success: bool, index: int) -> None:
        if not self.counts(peer_id):
            return
        message = {"type": "next_node_idx", "next_node_idx": index + 1, "reset": False, "success": success}
        self._core.deliver(peer_id, message)

    # Sending ---------------------------------------------------------------------------------

    def owes(self, peer_id: str) -> bool:
        """Should this peer be sent something soon: entries, or a commit index that is awaited there?"""
        progress = self.progress.get(peer_id)
        if progress is None:
            return False
        owes_commit = progress.awaited and progress.commit_sent < self._core.commit_index
        return owes_commit or progress.next <= self._journal.last_index

    def send(self, now: float, *, heartbeat: bool, confirm: bool = False) -> float | None:
        """Send what may be sent; return when to call again for what should go out alone by then, if any.

        `heartbeat`: a message that must be answered at once, whatever is durable there, goes to everybody,
        and an unanswered probe is repeated. `confirm`: the same to whoever follows, for a read that waits.
        Other messages are answered only when there is something new to claim.
        """
        self._must_answer = heartbeat or confirm
        self._is_heartbeat = heartbeat
        next_push = math.inf
        for peer_id, progress in self.progress.items():
            if heartbeat:
                progress.repeat_probe()
            if peer_id in self._sessions and self._network.has_room(peer_id):
                self._send_to(peer_id, progress, now)
                if progress.state is State.REPLICATE and progress.commit_sent < self._core.commit_index:
                    next_push = min(next_push, self._push_at(progress, now))
        return next_push if next_push < math.inf else None

    def _push_at(self, progress: Progress, now: float) -> float:
        if progress.push_at is None:
            progress.push_at = now + LAZY_PUSH_S
        return progress.push_at

    def _send_to(self, peer_id: str, progress: Progress, now: float) -> None:
        if progress.state is State.SNAPSHOT or progress.next < self._journal.first_index:
            self.snapshots.send(peer_id, progress, heartbeat=self._is_heartbeat)
            return
        try:
            self._send_due(peer_id, progress, now)
        except Damaged as error:  # even the term of an entry is lost: it waits for the repair
            self._alarms.damage(error)

    def _send_due(self, peer_id: str, progress: Progress, now: float) -> None:
        if progress.may_probe():
            progress.probed()
            self._send_append(peer_id, progress.next - 1, [], 0, must_answer=True)
            return
        sent = self._send_entries(peer_id, progress)
        is_due = progress.awaited or (progress.push_at is not None and now >= progress.push_at)
        news = is_due and progress.commit_sent < self._core.commit_index
        if not sent and progress.state is State.REPLICATE and (news or self._must_answer):
            self._send_append(peer_id, progress.next - 1, [], 0)

    def _send_entries(self, peer_id: str, progress: Progress) -> bool:
        sent = False
        while (
            progress.may_send()
            and progress.next <= self._journal.last_index
            and self._network.has_room(peer_id)
        ):
            previous = progress.next - 1
            try:
                buffers, count, size = self._journal.run_from(progress.next, BATCH_BYTES)
            except Damaged as error:  # heartbeats go on
                self._alarms.damage(error)
                break
            self._send_append(peer_id, previous, buffers, count)
            progress.sent(previous + count, size)
            sent = True
        return sent

    def _send_append(
        self, peer_id: str, previous: int, buffers: Sequence[Buffer], count: int, *, must_answer: bool = False
    ) -> None:
        previous_term = self._journal.term_at(previous)
        assert previous_term is not None, f"entry {previous} before a message to {peer_id} is not here"
        self._round += 1
        append = AppendEntries(
            previous_index=previous,
            previous_term=previous_term,
            commit_index=self._core.commit_index,
            count=count,
            sync_policy=self._required_policy(),
            round=self._round if must_answer or self._must_answer else 0,
        )
        progress = self.progress[peer_id]
        progress.commit_sent, progress.push_at = self._core.commit_index, None
        self._network.send(peer_id, PeerMessage(term=self._core.term, append_entries=append), buffers)
