"""The one file that imports pysyncobj, and every touch of its internals, named and explained.

pysyncobj 0.3.17 keeps: the election state machine, terms and votes, the commit index, and which callback
belongs to which log index. `Core` takes the rest away from it (docs/raft.md tells why, hazard by hazard):

    override                        instead
    __getEntries                    one (None, index, term) stub; what is not durable cannot be committed
    __sendAppendEntries             says that something is to be sent; the replica's progress decides what
    __applyLogEntries               the replica applies, bounded per tick
    __deleteEntriesFrom             never: what conflicts is truncated before delivery
    __doApplyCommand, __parseChangeClusterRequest, __loadDumpFile    never: they unpickle
    __tryLogCompaction              nothing: the log is its own snapshot
    __connectedToAnyone             asked before every candidacy: only where pre-vote or a transfer wants one

    module-level name               instead
    createJournal                   ours, found by conf.journalFile
    createPoller                    nothing to poll: the event loop is not its business
    PIPE_NOTIFIER_ENABLED           False: no pipe, no wake-up system call
    monotonicTime, random           of the simulation, where one runs (`install_time`)

`CONTRACT` lists every internal that is read, written, called or replaced; a test asserts each one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any, Final, Protocol

import pysyncobj.syncobj as syncobj_module
from pysyncobj import FAIL_REASON, SyncObj, SyncObjConf
from pysyncobj.node import Node
from pysyncobj.transport import Transport

VERSION: Final = "0.3.17"

CONTRACT: Final = {
    "attributes": (
        "raftState", "raftCurrentTerm", "votedForNodeId", "raftLeader", "raftCommitIndex", "raftLastApplied",
        "raftMatchIndex", "raftNextIndex", "lastResponseTime", "otherNodes", "raftElectionDeadline",
        "newAppendEntriesTime", "commandsWaitingCommit",
    ),
    "overridden": (
        "getEntries", "sendAppendEntries", "applyLogEntries", "deleteEntriesFrom", "doApplyCommand",
        "parseChangeClusterRequest", "loadDumpFile", "tryLogCompaction", "connectedToAnyone",
    ),
    "called": ("onMessageReceived", "generateRaftTimeout"),
    "module": ("createJournal", "createPoller", "PIPE_NOTIFIER_ENABLED", "monotonicTime", "random"),
}  # fmt: skip

FOLLOWER: Final = 0
CANDIDATE: Final = 1
LEADER: Final = 2

NEVER_S: Final = 10.0**9  # an interval that does not pass
# The engine prefixes its own no-op with this byte; the journal turns it into a frame of kind NO_OP.
ENGINE_NO_OP: Final = b"\x01"
# Messages that may reach the engine. Nothing else does: not 'apply_command', 'timeout_now' or a transmission.
DELIVERABLE: Final = frozenset({"request_vote", "response_vote", "append_entries", "next_node_idx"})


class CoreDelegate(Protocol):
    """What the engine asks of the replica that owns it."""

    def core_sends(self, peer_id: str, message: dict[str, Any]) -> None:
        """The engine has something to say to a peer."""

    def core_wants_append(self) -> None:
        """Entries, a commit index or a heartbeat are due."""

    def core_applies(self) -> bool:
        """Apply what is committed, within a bound; True if anything was applied."""

    def core_durable_index(self) -> int:
        """Last raft index that this node may count its own copy of."""


class CoreJournal(Protocol):
    """What the engine asks of its log; raft/journal.py implements it."""

    def __len__(self) -> int: ...
    def __getitem__(self, item: int) -> tuple[Any, int, int]: ...
    def add(self, command: Any, idx: int, term: int) -> None: ...
    def term_at(self, index: int) -> int | None: ...


class PeerNode(Node):  # type: ignore[misc]
    """A member as the engine knows it. One object per peer; its hash is an ordinal, so that runs repeat."""

    def __init__(self, node_id: str, ordinal: int) -> None:
        super().__init__(node_id)
        self._ordinal = ordinal

    def __hash__(self) -> int:
        return self._ordinal

    def __eq__(self, other: object) -> bool:
        return self is other

    def __ne__(self, other: object) -> bool:
        return self is not other


class _Outlet(Transport):  # type: ignore[misc]
    """The engine's 'transport': hands what it sends to the replica. Always ready, binds nothing."""

    def __init__(self, delegate: CoreDelegate) -> None:
        super().__init__(None, None, None)
        self._delegate = delegate

    @property
    def ready(self) -> bool:
        return True

    def send(self, node: Node, message: dict[str, Any]) -> bool:
        self._delegate.core_sends(node.id, message)
        return True

    def destroy(self) -> None:
        pass


class _NoPoller:
    """Stands where the engine would poll sockets."""

    def subscribe(self, descr: int, callback: Callable[..., None], eventMask: int) -> None:
        raise AssertionError("the engine owns no sockets here")

    def unsubscribe(self, descr: int) -> None:
        pass

    def poll(self, timeout: float) -> None:
        pass


_journals: dict[str, CoreJournal] = {}


def _journal_of(name: str) -> CoreJournal:
    return _journals.pop(name)


syncobj_module.createJournal = _journal_of
syncobj_module.createPoller = lambda kind: _NoPoller()
syncobj_module.PIPE_NOTIFIER_ENABLED = False


def install_time(monotonic: Callable[[], float], random: Any) -> None:
    """Give every engine of this process another clock (seconds) and another random module."""
    syncobj_module.monotonicTime = monotonic
    syncobj_module.random = random


class Core(SyncObj):  # type: ignore[misc]
    """The engine of one node, tamed.

    - Raft's first entry has index 1 here; the journal shows a stub before it.
    - `deliver` takes only what raft/follower.py has admitted.
    - No command is ever forwarded by the engine, and none is queued while this node does not lead.
    """

    def __init__(
        self,
        node_id: str,
        peer_ids: Collection[str],
        journal: CoreJournal,
        delegate: CoreDelegate,
        *,
        election_timeout_s_min: float,
        election_timeout_s_max: float,
        heartbeat_s: float,
    ) -> None:
        self._peers: dict[str, PeerNode] = {}
        self._delegate = delegate
        self._journal = journal
        self._may_stand = False
        name = f"{node_id}/{id(self)}"
        _journals[name] = journal
        super().__init__(
            self._peer(node_id),
            [self._peer(name) for name in sorted(peer_ids)],
            conf=SyncObjConf(
                autoTick=False,
                journalFile=name,
                appendEntriesUseBatch=False,  # True waits up to 0.1 s per commit; grouping is ours
                commandsWaitLeader=False,
                dynamicMembershipChange=False,
                raftMinTimeout=election_timeout_s_min,
                raftMaxTimeout=election_timeout_s_max,
                appendEntriesPeriod=heartbeat_s,
                leaderFallbackTimeout=election_timeout_s_max,  # check-quorum
                connectionTimeout=election_timeout_s_max,
                logCompactionMinEntries=2**62,
                logCompactionMinTime=NEVER_S,
                fullDumpFile=None,
                useFork=False,
            ),
            transport=_Outlet(delegate),
        )

    # What it knows ---------------------------------------------------------------------------

    @property
    def role(self) -> int:
        """FOLLOWER, CANDIDATE or LEADER."""
        return int(self._SyncObj__raftState)

    @property
    def term(self) -> int:
        return int(self._SyncObj__raftCurrentTerm)

    @property
    def leader_id(self) -> str | None:
        leader = self._SyncObj__raftLeader
        return None if leader is None else str(leader.id)

    @property
    def commit_index(self) -> int:
        return int(self._SyncObj__raftCommitIndex)

    @property
    def applied_index(self) -> int:
        return int(self._SyncObj__raftLastApplied)

    def match_index(self, peer_id: str) -> int:
        """What the engine counts for a peer."""
        return int(self._SyncObj__raftMatchIndex.get(self._peer(peer_id), 0))

    @property
    def election_due(self) -> bool:
        """Has no leader been heard for an election timeout, without a candidacy being wanted already?"""
        passed = self._SyncObj__raftElectionDeadline < syncobj_module.monotonicTime()
        return self.role != LEADER and passed and not self._may_stand

    @property
    def wants_to_stand(self) -> bool:
        """Will the engine stand at its next tick?"""
        return self._may_stand and self.role != LEADER

    # What it is told -------------------------------------------------------------------------

    def start_at(self, applied_index: int) -> None:
        """Commit and applied index are what the loaded state covers, nothing else (a persisted one lies)."""
        self._SyncObj__raftCommitIndex = applied_index
        self._SyncObj__raftLastApplied = applied_index

    def advance_applied(self, index: int) -> None:
        assert index == self.applied_index + 1 <= self.commit_index, (
            index,
            self.applied_index,
            self.commit_index,
        )
        self._SyncObj__raftLastApplied = index

    def take_waiting(self, index: int) -> list[tuple[int, Callable[[Any, int], None]]]:
        """Remove and return the (term, callback) pairs that wait for an index."""
        waiting = self._SyncObj__commandsWaitingCommit.pop(index, ())
        return list(waiting)

    def forget_waiting_before(self, index: int) -> None:
        """Entries before `index` will never be applied here one by one: nobody waits for them any more."""
        waiting = self._SyncObj__commandsWaitingCommit
        for key in [key for key in waiting if key < index]:
            del waiting[key]

    def set_voters(self, peer_ids: Iterable[str]) -> None:
        """Those whose votes and copies make a majority, together with this node."""
        nodes = {self._peer(name) for name in peer_ids}
        known: set[PeerNode] = self._SyncObj__otherNodes
        for node in known - nodes:
            for table in (self._SyncObj__raftMatchIndex, self._SyncObj__raftNextIndex):
                table.pop(node, None)
        for node in nodes - known:
            self._SyncObj__raftMatchIndex[node] = 0
            self._SyncObj__raftNextIndex[node] = 0
            self._SyncObj__lastResponseTime[node] = syncobj_module.monotonicTime()
        self._SyncObj__otherNodes: set[PeerNode] = nodes

    def stand(self) -> None:
        """Become a candidate at the next tick, unless a leader is heard before."""
        self._SyncObj__raftElectionDeadline = 0.0
        self._may_stand = True

    def stand_now(self) -> None:
        """Become a candidate in this call: what is already on its way from the leader must not prevent it."""
        self.stand()
        self.doTick()

    def postpone_election(self, part: float = 1.0) -> None:
        """Look again whether there is a leader after that part of a (random) election timeout."""
        self._may_stand = False
        delay = part * self._SyncObj__generateRaftTimeout()
        self._SyncObj__raftElectionDeadline = syncobj_module.monotonicTime() + delay

    def hasten_election(self, low_s: float, high_s: float) -> None:
        """Look whether there is a leader not later than in so many seconds."""
        soon = syncobj_module.monotonicTime() + syncobj_module.random.uniform(low_s, high_s)
        self._SyncObj__raftElectionDeadline = min(self._SyncObj__raftElectionDeadline, soon)

    def forget_leader(self) -> None:
        """Name no leader any more; the next word of one in this term brings it back."""
        assert self.role != LEADER
        self._SyncObj__raftLeader = None

    def deliver(self, peer_id: str, message: dict[str, Any]) -> None:
        """Hand over an admitted message."""
        assert message["type"] in DELIVERABLE, message["type"]
        assert "transmission" not in message
        if message["type"] in ("append_entries", "request_vote"):
            self._may_stand = False  # there is a leader, or a candidate of a later term
        self._SyncObj__onMessageReceived(self._peer(peer_id), message)

    def adopt_term(self, term: int, peer_id: str) -> None:
        """Raise the term without a vote: a request that cannot be granted does just that."""
        self.deliver(
            peer_id, {"type": "request_vote", "term": term, "last_log_index": 0, "last_log_term": -1}
        )

    def append(self, command: Any, callback: Callable[[Any, int], None]) -> None:
        """Append a command. The queue is emptied in the same call: nothing waits, nothing is forwarded."""
        assert self.role == LEADER
        last = self._journal[-1][1]
        self._applyCommand(command, callback)
        while self._journal[-1][1] == last:  # it does nothing where its clock jumps between two looks at it
            self._checkCommandsToApply()

    def _peer(self, name: str) -> PeerNode:
        """One object per name, for good: the engine's tables are keyed by it."""
        if name not in self._peers:
            self._peers[name] = PeerNode(name, len(self._peers))
        return self._peers[name]

    # Overrides -------------------------------------------------------------------------------

    def _SyncObj__getEntries(
        self, fromIDx: int | None, count: int | None = None, maxSizeBytes: int | None = None
    ) -> list[tuple[None, int, int]]:
        # Two callers are left: the check of prevLogIdx (no count) and the commit loop (count 1), which
        # takes an empty answer for 'not yet': so a leader never counts a copy of its own that is not durable.
        if fromIDx is None or (count is not None and fromIDx > self._delegate.core_durable_index()):
            return []
        term = self._journal.term_at(fromIDx)
        return [] if term is None else [(None, fromIDx, term)]

    def _SyncObj__sendAppendEntries(self) -> None:
        self._SyncObj__newAppendEntriesTime = (
            syncobj_module.monotonicTime() + self._SyncObj__conf.appendEntriesPeriod
        )
        self._delegate.core_wants_append()

    def _SyncObj__applyLogEntries(self) -> bool:
        return self._delegate.core_applies()

    def _SyncObj__deleteEntriesFrom(self, fromIDx: int) -> None:
        raise AssertionError(f"the engine wants to truncate from {fromIDx}: admission should have done it")

    def _SyncObj__doApplyCommand(self, command: Any) -> None:
        raise AssertionError("the engine wants to apply: that is the replica's")

    def _SyncObj__parseChangeClusterRequest(self, command: Any) -> None:
        return None

    def _SyncObj__loadDumpFile(self, clearJournal: bool) -> None:
        raise AssertionError("the engine wants to load a dump: snapshots are the replica's")

    def _SyncObj__tryLogCompaction(self) -> None:
        pass

    def _SyncObj__connectedToAnyone(self) -> bool:
        may_stand, self._may_stand = self._may_stand, False
        return may_stand


SUCCESS: Final = FAIL_REASON.SUCCESS
DISCARDED: Final = FAIL_REASON.DISCARDED
