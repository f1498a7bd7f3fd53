"""Handing leadership over on purpose. No I/O; time is an argument.

wait     nothing new is proposed until the target holds this log to its end, durably
told     the target was told to stand at once, past pre-vote
done     somebody else leads; or the time has passed, or it cannot be: then the leader goes on as before
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from quorumlog.proto.peer_pb2 import PeerMessage, TimeoutNow
from quorumlog.raft import core as engine_core
from quorumlog.raft.core import Core
from quorumlog.raft.errors import RaftError, TransferFailed
from quorumlog.raft.interfaces import Network
from quorumlog.raft.journal import Journal
from quorumlog.raft.leader import Leader
from quorumlog.raft.membership import Members

logger = logging.getLogger(__name__)

TransferOutcome = str | RaftError  # the new leader's id


@dataclass(slots=True)
class Attempt:
    """One try to hand over."""

    target: str
    term: int
    deadline: float
    resolve: Callable[[TransferOutcome], None]
    told: bool = False


class Transfer:
    """At most one attempt at a time; each is resolved once, with the new leader's id or TransferFailed."""

    def __init__(
        self,
        node_id: str,
        core: Core,
        journal: Journal,
        members: Members,
        leader: Leader,
        network: Network,
        settles_s: float,
    ) -> None:
        """`settles_s`: within this time one that was told to stand has won, or will not."""
        self.stands_in_term = 0  # this node stands, in that term, because a leader told it to
        self._node_id = node_id
        self._core = core
        self._journal = journal
        self._members = members
        self._leader = leader
        self._network = network
        self._settles_s = settles_s
        self._attempt: Attempt | None = None

    @property
    def is_under_way(self) -> bool:
        """Nothing may be proposed: the target has to reach the end of this log."""
        return self._attempt is not None

    @property
    def heir(self) -> str | None:
        """Who was told to stand and has not been heard to lead yet."""
        return self._attempt.target if self._attempt is not None and self._attempt.told else None

    def begin(self, target: str | None, deadline: float, resolve: Callable[[TransferOutcome], None]) -> None:
        """As a leader, hand over to `target` or to the voter that is furthest. Raises TransferFailed."""
        if self._attempt is not None:
            raise TransferFailed(f"leadership is being handed to {self._attempt.target} already")
        name = target or self._leader.furthest()
        if name is None:
            raise TransferFailed("no other voter is connected")
        if name == self._node_id:
            raise TransferFailed(f"{name} leads already")
        if not self._members.is_voter(name):
            raise TransferFailed(f"{name} is no voter of this cluster")
        if not self._leader.counts(name):
            raise TransferFailed(f"{name} is not connected to the leader")
        logger.info("term %d: handing leadership to %s", self._core.term, name)
        self._attempt = Attempt(name, self._core.term, deadline, resolve)

    def tend(self, now: float) -> None:
        """Tell the target when it is level; give up when the time has passed."""
        attempt = self._attempt
        if attempt is None:
            return
        leads = self._core.role == engine_core.LEADER and self._core.term == attempt.term
        if leads and not attempt.told:
            self._tell(attempt, now)
        if now >= attempt.deadline and self._attempt is not None:
            self._fail(_why_not(attempt, leads=leads))

    def leads_now(self, leader_id: str, term: int) -> None:
        """Somebody leads, in that term."""
        attempt = self._attempt
        if attempt is None or term <= attempt.term:
            return
        if leader_id == attempt.target:
            self._resolve(leader_id)
        else:
            self._fail(f"{leader_id} was elected instead of {attempt.target}")

    def on_timeout_now(self, peer_id: str) -> None:
        """A leader hands over to this node, which may vote."""
        if peer_id == self._core.leader_id and self._members.is_voter(self._node_id):
            logger.info("term %d: %s hands leadership over to this node", self._core.term, peer_id)
            self.stands_in_term = self._core.term + 1
            self._core.stand_now()  # a heartbeat may come with the same packet

    def _tell(self, attempt: Attempt, now: float) -> None:
        progress = self._leader.progress.get(attempt.target)
        if progress is None or not self._leader.counts(attempt.target):
            self._fail(f"the connection with {attempt.target} ended; this node leads on")
        elif progress.match >= self._journal.last_index:
            attempt.told = True
            attempt.deadline = min(attempt.deadline, now + self._settles_s)
            self._network.send(attempt.target, PeerMessage(term=self._core.term, timeout_now=TimeoutNow()))

    def _fail(self, reason: str) -> None:
        self._resolve(TransferFailed(reason))

    def _resolve(self, outcome: TransferOutcome) -> None:
        attempt, self._attempt = self._attempt, None
        assert attempt is not None
        attempt.resolve(outcome)


def _why_not(attempt: Attempt, *, leads: bool) -> str:
    if not attempt.told:
        return f"{attempt.target} did not catch up in time"
    if leads:
        return f"{attempt.target} was told to stand and did not win in time; this node leads on"
    return f"{attempt.target} was told to stand; no new leader is known yet"
