"""Pre-vote: whether an election can be won is asked before a term is raised. No I/O; time is an argument.

A node whose deadline has passed asks every voter whether it would get their vote in the next term. Only with
a majority of them does it let the engine stand. So a node that was cut off comes back with the term it left
with, and one that hears nobody never disturbs those that hear each other.

A voter says yes when it would vote for the asker's log and has itself not heard a leader for STICKY times the
shortest election timeout. Of two that ask at once the one with the better log goes first, then the lower
id: the other steps back for a while instead of splitting the vote.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from quorumlog.proto.peer_pb2 import PreVote, PreVoteReply
from quorumlog.raft.core import LEADER, Core
from quorumlog.raft.journal import Journal
from quorumlog.raft.membership import Members

STICKY: Final = 0.7  # heartbeats reach voters at different moments: the first that misses them must not wait
# A leader whose session has ended is probably gone. Asking early does no harm: who hears it says no.
LOST_S: Final = (0.02, 0.12)
# Whoever has just started, or found the others again, and hears no leader in this time: there is none.
FOUND_S: Final = (0.05, 0.15)
RETRY: Final = 0.5  # of an election timeout: how soon to ask again after a refusal


class Election:
    """What this node asks and answers before elections. `asking`: the term that it asks for, or 0."""

    def __init__(
        self,
        node_id: str,
        core: Core,
        journal: Journal,
        members: Members,
        may_vote: Callable[[], bool],
        clock: Callable[[], float],
        election_timeout_s_min: float,
    ) -> None:
        self.asking = 0
        self._node_id = node_id
        self._core = core
        self._journal = journal
        self._members = members
        self._may_vote = may_vote
        self._clock = clock
        self._sticky_s = STICKY * election_timeout_s_min
        self._heard_leader_at = -math.inf
        self._granted: set[str] = set()

    @property
    def hears_leader(self) -> bool:
        """Was the leader heard so lately that an election would only disturb?"""
        return self._clock() - self._heard_leader_at < self._sticky_s

    def heard_leader(self) -> None:
        """A message of this term's leader came."""
        self._heard_leader_at = self._clock()
        self.asking = 0

    def lost_leader(self) -> None:
        """The session with the leader has ended."""
        self._heard_leader_at = -math.inf
        self._core.hasten_election(*LOST_S)

    def majority_found(self) -> None:
        """There are sessions with a majority: if it has a leader, that one speaks at once."""
        if self._heard_leader_at == -math.inf and self._core.role != LEADER:
            self._core.hasten_election(*FOUND_S)

    def begin(self) -> PreVote | None:
        """The deadline has passed: return the question for all other voters, or None where none is asked.

        Whoever led is not named to callers any longer: this node may not hear of the next one for long.
        """
        self._core.postpone_election(RETRY)
        self._core.forget_leader()
        if not self._may_vote() or not self._members.is_voter(self._node_id):
            return None
        self.asking = self._core.term + 1
        self._granted = {self._node_id}
        if self._is_enough():
            self._stand()
            return None
        last_index, last_term = self._last
        return PreVote(next_term=self.asking, last_log_index=last_index, last_log_term=last_term)

    def answer(self, peer_id: str, question: PreVote) -> PreVoteReply:
        """Would this node vote for the asker?"""
        granted = self._would_vote_for(peer_id, question)
        if granted:
            self.asking = 0
            self._core.postpone_election(RETRY)
        return PreVoteReply(next_term=question.next_term, granted=granted)

    def on_reply(self, peer_id: str, reply: PreVoteReply) -> None:
        """Take an answer; with a majority the engine stands at its next tick."""
        if not reply.granted or not self.asking or reply.next_term != self.asking:
            return
        if self._core.term + 1 != self.asking or self._core.role == LEADER:
            self.asking = 0
            return
        self._granted.add(peer_id)
        if self._is_enough():
            self._stand()

    @property
    def _last(self) -> tuple[int, int]:
        _, index, term = self._journal[-1]
        return index, term

    def _is_enough(self) -> bool:
        voters = self._members.current.voters
        return 2 * len(self._granted & voters) > len(voters)

    def _stand(self) -> None:
        self.asking = 0
        self._core.stand()

    def _would_vote_for(self, peer_id: str, question: PreVote) -> bool:
        if not self._may_vote() or question.next_term <= self._core.term or self._core.role == LEADER:
            return False
        if self.hears_leader:
            return False
        last_index, last_term = self._last
        theirs, ours = (question.last_log_term, question.last_log_index), (last_term, last_index)
        if theirs != ours or not self.asking:
            return theirs >= ours
        return peer_id < self._node_id
