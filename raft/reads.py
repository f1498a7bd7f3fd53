"""Linearizable reads: an index that covers all that was acknowledged before the question. No I/O, no clock.

A leader notes its commit index, then asks every voter to echo a round of messages that it sends afterwards.
When a majority has, in its term, nobody else can have acknowledged anything before the round began. Reads
that come while a round is under way share the next one. A follower asks its leader, for many reads at once.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from quorumlog.proto.peer_pb2 import PeerMessage, ReadIndex, ReadIndexReply
from quorumlog.raft import core as engine_core
from quorumlog.raft.core import Core
from quorumlog.raft.errors import Busy, NotConfirmed, RaftError
from quorumlog.raft.interfaces import Network
from quorumlog.raft.leader import Leader
from quorumlog.raft.membership import Members

MAX_WAITING: Final = 100_000

ReadOutcome = int | RaftError


@dataclass(slots=True, eq=False)
class Read:
    """One question on its way; `resolve` is called once."""

    deadline: float
    resolve_with: Callable[[ReadOutcome], None]
    done: bool = False

    def resolve(self, outcome: ReadOutcome) -> None:
        if not self.done:
            self.done = True
            self.resolve_with(outcome)


@dataclass(slots=True)
class Round:
    """Messages from `number` on, sent since it began, answer for its reads."""

    number: int
    index: int  # the commit index when it began
    term: int
    reads: list[Read]


@dataclass(slots=True)
class Question:
    """What the leader was asked."""

    request: int
    leader_id: str
    reads: list[Read]


class Reads:
    """The reads of one node. At most one round, or one question to the leader, is under way."""

    def __init__(
        self, core: Core, leader: Leader, members: Members, network: Network, sessions: Mapping[str, int]
    ) -> None:
        self._core = core
        self._leader = leader
        self._members = members
        self._network = network
        self._sessions = sessions
        self._waiting: list[Read] = []
        self._round: Round | None = None
        self._question: Question | None = None
        self._requests = itertools.count(1)
        self._deadlines: list[tuple[float, int, Read]] = []
        self._order = itertools.count()

    def ask(self, deadline: float, resolve: Callable[[ReadOutcome], None]) -> None:
        """Add a read. Raises Busy where too many wait."""
        if len(self._waiting) >= MAX_WAITING:
            raise Busy(f"{len(self._waiting)} linearizable reads are waiting here")
        read = Read(deadline, resolve)
        self._waiting.append(read)
        heapq.heappush(self._deadlines, (deadline, next(self._order), read))

    @property
    def is_waiting(self) -> bool:
        """Does any read wait for an answer of other nodes?"""
        return bool(self._waiting) or self._round is not None

    def tend(self, now: float, *, may_confirm: bool) -> bool:
        """Finish and begin what can be; True: messages that must be answered have to go out.

        `may_confirm`: this node leads, and has applied its own first entry.
        """
        self.expire(now)
        if self._core.role != engine_core.LEADER:
            self._ask_leader()
            return False
        self._finish_round()
        if self._round is not None or not self._waiting or not may_confirm:
            return False
        number = self._leader.next_round
        self._round = Round(number, self._core.commit_index, self._core.term, self._take())
        self._finish_round()  # alone, a node is its own majority
        return self._round is not None

    def leadership_changed(self) -> None:
        """What was under way proves nothing any more: it has to be asked again."""
        for under_way in (self._round, self._question):
            if under_way is not None:
                self._waiting = under_way.reads + self._waiting
        self._round = self._question = None

    def on_question(self, peer_id: str, request: int, deadline: float) -> None:
        """A follower asks, for reads of its own."""
        term, session = self._core.term, self._sessions.get(peer_id)

        def answer(outcome: ReadOutcome) -> None:
            index = 0 if isinstance(outcome, RaftError) else outcome
            # By another session it could pass for the answer to what a restarted peer asks later.
            if (self._core.term, self._sessions.get(peer_id)) == (term, session):
                reply = ReadIndexReply(request=request, index=index)
                self._network.send(peer_id, PeerMessage(term=term, read_index_reply=reply))

        if self._core.role != engine_core.LEADER:
            answer(NotConfirmed("this node does not lead"))
            return
        try:
            self.ask(deadline, answer)
        except Busy as error:
            answer(error)

    def on_answer(self, leader_id: str, reply: ReadIndexReply) -> None:
        """The leader's answer to this node's question."""
        question = self._question
        if question is None or (question.request, question.leader_id) != (reply.request, leader_id):
            return
        self._question = None
        for read in question.reads:
            read.resolve(reply.index or NotConfirmed(f"{leader_id} could not confirm that it leads"))

    def expire(self, now: float) -> None:
        """Resolve what has waited too long."""
        while self._deadlines and (self._deadlines[0][0] <= now or self._deadlines[0][2].done):
            read = heapq.heappop(self._deadlines)[2]
            read.resolve(NotConfirmed("no majority confirmed within its time who leads"))
        if self._waiting:
            self._waiting = [read for read in self._waiting if not read.done]

    def _ask_leader(self) -> None:
        leader_id = self._core.leader_id
        if leader_id is None or leader_id not in self._sessions:
            return
        if self._question is None and self._waiting:
            self._question = Question(next(self._requests), leader_id, self._take())
            question = ReadIndex(request=self._question.request)
            self._network.send(leader_id, PeerMessage(term=self._core.term, read_index=question))

    def _finish_round(self) -> None:
        current = self._round
        if current is None or current.term != self._core.term:
            return
        voters = self._members.current.voters
        if self._leader.is_majority(lambda progress: progress.round_seen >= current.number, voters):
            self._round = None
            for read in current.reads:
                read.resolve(current.index)

    def _take(self) -> list[Read]:
        waiting, self._waiting = self._waiting, []
        return [read for read in waiting if not read.done]
