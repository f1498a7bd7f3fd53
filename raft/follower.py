"""Following: taking a leader's entries, and claiming what is durable of them, never more.

A claim says: this log is the leader's up to `index`. It belongs to one leader, session and term. An append
is answered with what is durable of it: at once where the leader asks for that (with each heartbeat, so that
it knows us alive) or where there is something new; the rest after a sync, if the claim still stands.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from quorumlog.proto import entry_pb2
from quorumlog.proto.checksum import Buffer
from quorumlog.proto.peer_pb2 import AppendEntries, AppendReply, PeerMessage
from quorumlog.raft.admission import Admitted, Refused, admit, term_or_none
from quorumlog.raft.alarms import Alarms
from quorumlog.raft.core import Core
from quorumlog.raft.interfaces import Network
from quorumlog.raft.journal import Journal, total_size
from quorumlog.storage.frame import BadFrame, Frame, check_link, iterate_frames

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Claim:
    """See the module. `answered` <= `index`: what the leader was told."""

    leader_id: str
    session: int
    term: int
    index: int = 0
    answered: int = 0


class Follower:
    """The follower's half of a replica."""

    def __init__(
        self,
        core: Core,
        journal: Journal,
        network: Network,
        sessions: Mapping[str, int],
        alarms: Alarms,
        countable_index: Callable[[], int],
        is_voter: Callable[[], bool],
        is_awaited: Callable[[], bool],
    ) -> None:
        """`is_voter`: may this directory vote? `is_awaited`: does anybody here wait for new commits?"""
        self._core = core
        self._journal = journal
        self._network = network
        self._sessions = sessions
        self._alarms = alarms
        self._countable_index = countable_index
        self._is_voter = is_voter
        self._is_awaited = is_awaited
        self._said_awaited = False  # in the newest answer
        self.required_policy: int = entry_pb2.SYNC_ALWAYS  # as the leader said last
        self.told_commit_index = 0  # the highest that a leader named: this node may lack entries up to it
        self._claim: Claim | None = None

    def forget_claim(self) -> None:
        """This node leads now: it claims nothing to anybody."""
        self._claim = None
        self.required_policy = entry_pb2.SYNC_ALWAYS

    def on_append(
        self, peer_id: str, session: int, term: int, message: AppendEntries, attachment: Buffer | None
    ) -> None:
        """Take an append of a term that is not older than ours. Raises BadFrame."""
        frames = _frames_of(message, attachment)
        self.required_policy = message.sync_policy
        self.told_commit_index = max(self.told_commit_index, message.commit_index)
        verdict = admit(
            self._journal,
            self._core.commit_index,
            message.previous_index,
            message.previous_term,
            message.commit_index,
            frames,
        )
        if isinstance(verdict, Refused):
            self.hear_leader(peer_id, term)
            self._reply(peer_id, AppendReply.RESET, verdict.hint, message.round)
            return
        if verdict.truncate_from is not None:  # first: it may make the room that is asked for next
            logger.info("term %d: replacing entries from %d on", term, verdict.truncate_from)
            self._journal.truncate_from(verdict.truncate_from, self._core.commit_index)
        rolls = any(frame.starts_segment for frame in verdict.frames)
        size = total_size(verdict.frames)
        if verdict.frames and not self._alarms.ensure_space(size, len(verdict.frames), rolls=rolls):
            self.hear_leader(peer_id, term)
            self._reply(peer_id, AppendReply.NO_SPACE, 0, message.round)
            return
        self._take(peer_id, term, verdict)
        claim = self._claim_for(peer_id, session, term)
        claim.index = max(claim.index, verdict.verified_index)
        if message.round or self._has_news(claim):
            self._answer(claim, message.round)

    def on_append_amid_install(self, peer_id: str, term: int, message: AppendEntries) -> None:
        """The log is being replaced: hear the leader, take nothing."""
        self.told_commit_index = max(self.told_commit_index, message.commit_index)
        self.hear_leader(peer_id, term)
        if message.round:
            self._reply(peer_id, AppendReply.ALIVE, 0, message.round)

    def on_durable(self) -> None:
        """A sync has finished: answer the held-back part, if its leader still leads by that session."""
        claim = self._claim
        if claim is not None and self._is_current(claim) and self._has_news(claim):
            self._answer(claim, 0)

    def await_commit(self) -> None:
        """Somebody has begun to wait here: the leader learns of it now, and not with the next answer."""
        claim = self._claim
        if claim is not None and self._is_current(claim) and not self._said_awaited:
            self._answer(claim, 0)

    def _is_current(self, claim: Claim) -> bool:
        return claim.term == self._core.term and self._sessions.get(claim.leader_id) == claim.session

    def _has_news(self, claim: Claim) -> bool:
        return min(claim.index, self._countable_index()) > claim.answered

    def _claim_for(self, peer_id: str, session: int, term: int) -> Claim:
        claim = self._claim
        if claim is None or (claim.leader_id, claim.session, claim.term) != (peer_id, session, term):
            claim = self._claim = Claim(peer_id, session, term)
        return claim

    def hear_leader(self, peer_id: str, term: int) -> None:
        """A heartbeat to the engine: who leads, in which term; nothing of the log, nothing to commit."""
        self._core.deliver(peer_id, {"type": "append_entries", "term": term, "commit_index": 0})

    def _take(self, peer_id: str, term: int, verdict: Admitted) -> None:
        self._core.deliver(
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
        self._journal.flush()

    def _answer(self, claim: Claim, round_number: int) -> None:
        claim.answered = max(claim.answered, min(claim.index, self._countable_index()))
        entry_term = term_or_none(self._journal, claim.answered) or 0
        self._reply(claim.leader_id, AppendReply.MATCHED, claim.answered, round_number, entry_term)

    def _reply(
        self, peer_id: str, outcome: AppendReply.Outcome, index: int, round_number: int, entry_term: int = 0
    ) -> None:
        self._said_awaited = self._is_awaited()
        reply = AppendReply(
            outcome=outcome,
            index=index,
            round=round_number,
            voter=self._is_voter(),
            entry_term=entry_term,
            awaited=self._said_awaited,
        )
        self._network.send(peer_id, PeerMessage(term=self._core.term, append_reply=reply))


def _frames_of(message: AppendEntries, attachment: Buffer | None) -> list[Frame]:
    """The frames of a message, each verified and linked to the one before it in the message. Raises BadFrame.

    The link of the first to this log is asserted by the log, where it is appended.
    """
    frames: list[Frame] = []
    for frame in iterate_frames(attachment or b"", message.previous_index + 1):
        if frames:
            check_link(frame, 0, frame.index, frames[-1].chain, frames[-1].term)
        frames.append(frame)
    if len(frames) != message.count:
        raise BadFrame(0, "frames", message.count, len(frames))
    return frames
