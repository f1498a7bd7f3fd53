"""Who takes part: the configurations that the log holds, and whose votes and copies count. No I/O, no clock.

A configuration is an entry of kind MEMBERSHIP and holds from the moment it is appended, committed or not;
where the log is truncated the one before holds again. Changes go one node at a time (docs/raft.md, hazard 9),
so any majority of one configuration meets any majority of the next.

A name is not enough to be counted: a node that lost its disk has forgotten what it voted for and what it
acknowledged. So a member's name is bound to a data directory, and a directory becomes a voter

    - when a new cluster begins: it and all others that its configuration names are empty
    - when a committed entry binds its name to it, so that it holds everything that was committed before
    - when its log names it as a learner: its name counts for nothing there, nor for anybody who lacks that
      entry and could win. It votes before it is promoted, since the promotion counts on it from the moment
      the leader has it: where that leader fails, its vote may be needed before the entry has come
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from quorumlog.proto.entry_pb2 import Member, Membership
from quorumlog.raft.interfaces import Standing

MAX_MEMBERS: Final = 32  # learners included; far beyond what helps


@dataclass(frozen=True, slots=True)
class Configuration:
    """The members as of one entry."""

    index: int  # raft index of the entry; 0: of the configuration file
    members: Mapping[str, Member]  # by node id, ascending

    @property
    def voters(self) -> frozenset[str]:
        """Those whose majority decides."""
        return frozenset(name for name, member in self.members.items() if not member.learner)

    def with_member(self, member: Member) -> dict[str, Member]:
        """The members with one added or replaced."""
        return {**self.members, member.node_id: member}

    def without(self, node_id: str) -> dict[str, Member]:
        """The members with one removed."""
        return {name: member for name, member in self.members.items() if name != node_id}

    def why_not(self, node_id: str, directory_id: bytes) -> str | None:
        """Why a peer of that name and directory does not take part; None: it does."""
        member = self.members.get(node_id)
        if member is None:
            return f"{node_id!r} is not a member of this cluster (any more): add it"
        if member.directory_id and member.directory_id != directory_id:
            return (
                f"the data directory of {node_id!r} is not the one that is a member: it may have forgotten "
                f"what it voted for; remove {node_id!r} from the cluster and add it again"
            )
        return None


class Members:
    """The configurations of one node's log, newest last.

    - `current` is the newest entry's, committed or not; the first that is kept is committed.
    """

    def __init__(self, initial: Mapping[str, str]) -> None:
        """`initial`: node id -> peer address, as the configuration file says; all of them vote."""
        self._initial = Configuration(
            0,
            {name: Member(node_id=name, peer_address=initial[name]) for name in sorted(initial)},
        )
        self._configurations = [self._initial]

    @property
    def current(self) -> Configuration:
        return self._configurations[-1]

    def restore(self, base: int, state: bytes) -> None:
        """Begin with the configuration in the state as of `base - 1` (empty: the configuration file's)."""
        self._configurations = [decode(base - 1, state) if state else self._initial]

    def appended(self, index: int, payload: bytes) -> None:
        """An entry of the log holds a configuration."""
        assert index > self.current.index, f"configuration {index} after {self.current.index}"
        self._configurations.append(decode(index, payload))

    def truncated_from(self, index: int) -> None:
        """The log's entries from `index` on are gone."""
        while self._configurations[-1].index >= index and len(self._configurations) > 1:
            self._configurations.pop()
        assert self.current.index < index, f"configuration {self.current.index} was committed"

    def forget_before(self, commit_index: int) -> None:
        """What was replaced by something committed will never hold again."""
        while len(self._configurations) > 1 and self._configurations[1].index <= commit_index:
            del self._configurations[0]

    def is_voter(self, node_id: str) -> bool:
        """Does the current configuration count this node?"""
        member = self.current.members.get(node_id)
        return member is not None and not member.learner

    def is_learner(self, node_id: str) -> bool:
        """Does the current configuration name this node, without counting it?"""
        member = self.current.members.get(node_id)
        return member is not None and member.learner

    def binds(self, node_id: str, directory_id: bytes, commit_index: int) -> bool:
        """Has the log made this directory the voter of that name? See the module for when it has."""
        bound_since: Configuration | None = None
        for configuration in reversed(self._configurations):
            member = configuration.members.get(node_id)
            if member is not None and not member.learner and member.directory_id == directory_id:
                bound_since = configuration
                continue
            if bound_since is not None and member is not None and member.learner:
                return True  # promoted
            break
        else:
            return bound_since is not None  # as far back as is kept, and that is committed
        return bound_since is not None and bound_since.index <= commit_index

    def why_not(
        self, node_id: str, standing: Standing, commit_index: int, *, leads: bool = False
    ) -> str | None:
        """Why a peer of that name may not have a session; None: it may.

        A node that was away must follow a leader that it does not know yet, and one that led must follow
        whom it was about to remove. So nobody is refused by what is not committed, nor by a node that may
        lack what the peer knows. Whoever leads lacks nothing: what the peer knows is another cluster's.
        """
        if standing.configuration > commit_index and not leads:
            return None
        reason: str | None = None
        for configuration in reversed(self._configurations):
            why = configuration.why_not(node_id, standing.directory_id)
            if why is None:
                return None
            reason = reason or why
            if configuration.index <= commit_index:
                break
        return reason


def encode(members: Iterable[Member]) -> bytes:
    """Return an entry's payload."""
    ordered = sorted(members, key=lambda member: member.node_id)
    return Membership(members=ordered).SerializeToString(deterministic=True)


def decode(index: int, payload: bytes) -> Configuration:
    """Read an entry's payload."""
    membership = Membership.FromString(payload)
    return Configuration(index, {member.node_id: member for member in membership.members})
