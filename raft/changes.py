"""Changing the members, one at a time: what a leader proposes, and when. No clock of its own.

    add      the node becomes a learner: it is sent everything and counts for nothing
    promote  by itself, when the learner keeps up: it counts from then on, under the directory it came with
    remove   it counts no longer; a leader hands over first
    bind     by itself: the directories that stand behind the names of a new cluster are written down

A change is refused while another is not committed, before this leader's own first entry is, and where those
voters that answer would be no majority afterwards.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial

from quorumlog.proto.entry_pb2 import Member
from quorumlog.raft import core as engine_core
from quorumlog.raft.alarms import Alarms
from quorumlog.raft.core import Core
from quorumlog.raft.errors import Dropped, MembershipRefused, NoSpace
from quorumlog.raft.interfaces import Standing
from quorumlog.raft.journal import Draft, Journal
from quorumlog.raft.leader import Leader
from quorumlog.raft.membership import MAX_MEMBERS, Configuration, encode
from quorumlog.raft.proposal import Committed
from quorumlog.raft.proposals import Pending
from quorumlog.storage import format as layout

logger = logging.getLogger(__name__)


class Changes:
    """The leader's part in membership."""

    def __init__(
        self,
        node_id: str,
        core: Core,
        journal: Journal,
        leader: Leader,
        alarms: Alarms,
        standings: Mapping[str, Standing],
        answers_within_s: float,
        required_policy: Callable[[], int],
        appended: Callable[[], None],
    ) -> None:
        """`standings`: of this node and of all peers that there is a session with.

        `answers_within_s`: who was heard so lately is there. `appended`: a configuration holds from now on.
        """
        self._node_id = node_id
        self._core = core
        self._journal = journal
        self._leader = leader
        self._alarms = alarms
        self._standings = standings
        self._answers_within_s = answers_within_s
        self._required_policy = required_policy
        self._appended = appended
        self._is_own = False  # was the newest change made by itself?

    @property
    def _current(self) -> Configuration:
        return self._journal.members.current

    @property
    def is_pending(self) -> bool:
        """Is the newest change not committed yet?"""
        return self._current.index > self._core.commit_index

    @property
    def is_settling(self) -> bool:
        """Is a change that this leader made by itself on its way?"""
        return self.is_pending and self._is_own

    @property
    def is_listening(self) -> bool:
        """Is it too early to say who answers? A removal would be refused for want of a first word."""
        return self._leader.awaits_first_word(self._current.voters, self._answers_within_s)

    def add(self, node_id: str, peer_address: str, pending: Pending) -> None:
        """Add a learner. Raises MembershipRefused."""
        known = self._current.members.get(node_id)
        if known is not None and known.peer_address != peer_address:
            raise MembershipRefused(
                f"{node_id} is a member at {known.peer_address}: remove it, then add it at {peer_address}"
            )
        taken = [name for name, each in self._current.members.items() if each.peer_address == peer_address]
        if taken not in ([], [node_id]):
            raise MembershipRefused(f"{peer_address} is the address of {taken[0]}")
        self._check_free()
        if known is not None:
            pending.resolve(Committed(self._current.index, self._core.term, None, self._required_policy()))
            return
        if len(self._current.members) >= MAX_MEMBERS:
            raise MembershipRefused(f"there are {MAX_MEMBERS} members already")
        logger.info("adding %s at %s as a learner", node_id, peer_address)
        member = Member(node_id=node_id, peer_address=peer_address, learner=True)
        self._append(self._current.with_member(member), pending)

    def remove(self, node_id: str, pending: Pending) -> None:
        """Remove a member. Raises MembershipRefused."""
        member = self._current.members.get(node_id)
        if member is None:
            raise MembershipRefused(f"{node_id} is no member")
        self._check_free()
        if node_id == self._node_id:
            raise MembershipRefused(f"{node_id} leads: it has to hand over before it is removed")
        voters = self._current.voters - {node_id}
        alive = {name for name in voters if self._answers(name)}
        if 2 * len(alive) <= len(voters):
            raise MembershipRefused(
                f"without {node_id} only {len(alive)} of {len(voters)} voters would answer: no majority"
            )
        logger.info("removing %s", node_id)
        self._append(self._current.without(node_id), pending)

    def check_stop(self, node_id: str) -> tuple[bool, str]:
        """Would the cluster go on without this node, and why (not)?"""
        voters = self._current.voters
        if node_id not in self._current.members:
            return True, f"{node_id} is no member"
        if node_id not in voters:
            return True, f"{node_id} is a learner: it is not counted"
        rest = [name for name in voters - {node_id} if self._keeps_up(name)]
        needed = len(voters) // 2 + 1
        if len(rest) < needed:
            return False, f"{needed} of {len(voters)} voters are needed, {len(rest)} others keep up"
        if node_id == self._node_id:
            return True, f"{node_id} leads: hand over first, or writes pause until another is elected"
        return True, f"{len(rest)} of {len(voters)} voters keep up without {node_id}"

    def tend(self) -> None:
        """Bind names to directories, and promote a learner that keeps up, when nothing else is under way."""
        if self.is_pending:
            return
        bound = {
            name: Member(
                node_id=name,
                peer_address=member.peer_address,
                directory_id=self._standings[name].directory_id,
            )
            for name, member in self._current.members.items()
            if name in self._standings and not member.learner and not member.directory_id
        }
        if bound:
            logger.info("binding %s to their data directories", ", ".join(bound))
            self._append({**self._current.members, **bound})
            return
        for name, member in self._current.members.items():
            if member.learner and name in self._standings and self._is_ready(name):
                logger.info("%s has caught up: it is a full member now", name)
                directory_id = self._standings[name].directory_id
                voter = Member(node_id=name, peer_address=member.peer_address, directory_id=directory_id)
                self._append(self._current.with_member(voter))
                return

    def _is_ready(self, learner: str) -> bool:
        """Does it keep up, and know that it is a learner, so that it votes?"""
        return self._leader.is_level(learner) and self._leader.holds(learner, self._current.index)

    def _answers(self, node_id: str) -> bool:
        return node_id == self._node_id or self._leader.answers(node_id, self._answers_within_s)

    def _keeps_up(self, node_id: str) -> bool:
        return node_id == self._node_id or (self._answers(node_id) and self._leader.is_level(node_id))

    def _check_free(self) -> None:
        if self.is_pending:
            raise MembershipRefused(f"the change in entry {self._current.index} is not committed yet")

    def _append(self, members: Mapping[str, Member], pending: Pending | None = None) -> None:
        changed = sum(members.get(name) is None for name in self._current.voters) + sum(
            name not in self._current.voters for name, member in members.items() if not member.learner
        )
        assert changed <= 1, "more than one voter would change at once"
        payload = encode(members.values())
        rolls = self._journal.next_rolls(len(payload))
        if not self._alarms.ensure_space(len(payload), 1, rolls=rolls):
            if pending is not None:
                pending.resolve(NoSpace("the leader's disk is full"))
            return
        self._is_own = pending is None
        index, term = self._journal.last_index + 1, self._core.term
        if pending is not None:
            pending.proposed = True
        landed = partial(self._landed, pending, index, term)
        self._core.append(Draft(layout.KIND_MEMBERSHIP, (payload,)), landed)
        self._appended()

    def _landed(self, pending: Pending | None, index: int, term: int, results: object, reason: int) -> None:
        if pending is None:
            return
        if reason == engine_core.SUCCESS:
            pending.resolve(Committed(index, term, None, self._required_policy()))
        else:
            pending.resolve(Dropped(f"another leader's entry took index {index}"))
