"""The other nodes as this one knows them: sessions, and what stands behind their names. No I/O."""

from __future__ import annotations

from quorumlog.raft.core import Core
from quorumlog.raft.hardstate import HardState
from quorumlog.raft.interfaces import Standing
from quorumlog.raft.membership import Members
from quorumlog.raft.progress import Progress


class Peers:
    """Sessions, and whose votes and copies count.

    - At most one session per peer; what comes by an older one is not heard.
    - `standings`: of this node and of all that there is a session with.
    """

    def __init__(self, node_id: str, directory_id: bytes, members: Members, hard_state: HardState) -> None:
        self.sessions: dict[str, int] = {}
        self.standings = {node_id: Standing(directory_id, hard_state.term)}
        self._node_id = node_id
        self._members = members
        self._hard_state = hard_state
        self._untouched = {node_id}  # nodes that no election has reached yet: a new cluster's

    def connected(self, peer_id: str, session: int, standing: Standing) -> None:
        """A new session took the place of any older one."""
        self.sessions[peer_id] = session
        self.standings[peer_id] = standing
        if standing.term == 0:
            self._untouched.add(peer_id)

    def disconnected(self, peer_id: str, session: int) -> bool:
        """A session has ended. False: another took its place before."""
        if self.sessions.get(peer_id) != session:
            return False
        del self.sessions[peer_id]
        del self.standings[peer_id]
        return True

    def why_refuse(self, peer_id: str, standing: Standing, commit_index: int, *, leads: bool) -> str | None:
        """Why there can be no session with that peer; None: there can.

        A node that does not vote yet lets anybody of its cluster in: its own list may be older than the log.
        """
        if not self._hard_state.voter and peer_id not in self._members.current.members:
            return None
        return self._members.why_not(peer_id, standing, commit_index, leads=leads)

    def count(self, peer_id: str, progress: Progress, commit_index: int) -> bool:
        """Do this peer's copies count, by the directory that its session comes from?"""
        if not self.may_elect(peer_id):
            return False
        directory_id = self.standings[peer_id].directory_id
        return progress.voter or self._members.binds(peer_id, directory_id, commit_index)

    def may_elect(self, peer_id: str) -> bool:
        """Does a vote count that this peer gives, by the directory that its session comes from?

        Whether that directory votes at all is its own to know.
        """
        standing = self.standings.get(peer_id)
        if standing is None or not self._members.is_voter(peer_id):
            return False
        bound = self._members.current.members[peer_id].directory_id
        return not bound or bound == standing.directory_id

    def why_not_voting(self, core: Core, log_is_empty: bool) -> str | None:
        """Why this node's votes and copies do not count, for people; None: they do."""
        me, members = self._node_id, self._members.current.members
        if me not in members:
            return f"{me} is not a member of the cluster: it has to be added"
        if members[me].learner:
            return f"{me} is a learner: it becomes a full member when it has caught up"
        if self._hard_state.voter:
            return None
        if core.term == 0 and log_is_empty:
            unseen = ", ".join(sorted(set(members) - self._untouched))
            return (
                f"the data directory is empty: it votes when {unseen} turn out to be empty too, which founds "
                f"a cluster; in a cluster that has begun, remove {me} and add it again"
            )
        return "the data directory is new here: it votes when the leader has written it into the log"

    def make_voter(self, core: Core, log_is_empty: bool) -> bool:
        """See membership.py for when this directory becomes one. True: it has, now. Raises NoSpace."""
        if self._hard_state.voter:
            return False
        members, me = self._members, self._node_id
        founds = (
            core.term == 0
            and log_is_empty
            and members.is_voter(me)
            and self._untouched >= set(members.current.members)
        )
        bound = members.binds(me, self.standings[me].directory_id, core.commit_index)
        if not (founds or bound or members.is_learner(me)):
            return False
        self._hard_state.become_voter()
        return True
