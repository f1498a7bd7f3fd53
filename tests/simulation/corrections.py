"""The corrections that stand between the engine and what it would do without them, each with a way to take it
away.

Only for tests, and only by patching the code under test: `without(correction)` runs a block of code in a
process where that one correction is missing. test_corrections.py asks that random runs then find a violation,
within `seeds` runs of `mix`; so it is known that the judge would notice if a later change lost the
correction.

The hazards are those of docs/raft.md. What random runs cannot see is scripted (test_scenarios*.py).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final
from unittest.mock import patch

from quorumlog.node import consistency, producers
from quorumlog.raft import follower, hardstate, journal, leader, membership, peers, reads, snapshots, syncing
from quorumlog.raft import progress as progress_module
from quorumlog.raft.admission import Admitted, LogView, Refused, admit
from quorumlog.raft.core import Core
from quorumlog.storage import recovery
from quorumlog.storage.frame import Frame

Patch = tuple[object, str, object]  # what is replaced: owner, name, by what


@dataclass(frozen=True, slots=True)
class Correction:
    """What is taken away, and where it is missed."""

    name: str
    hazard: str  # of docs/raft.md
    mix: str
    seeds: int  # within so many, from 0 on, a violation is found
    patches: Callable[[], Sequence[Patch]]
    nodes: int = 3


@contextmanager
def without(correction: Correction) -> Generator[None]:
    """Run the block with this correction missing."""
    patchers = [patch.object(owner, name, value) for owner, name, value in correction.patches()]
    for patcher in patchers:
        patcher.start()
    try:
        yield
    finally:
        for patcher in patchers:
            patcher.stop()


# Admission ----------------------------------------------------------------------------------------


def _truncating_admission() -> Sequence[Patch]:
    """As shipped: everything after the previous entry goes, matching or not."""

    def admit_as_shipped(
        log: LogView,
        commit_index: int,
        previous_index: int,
        previous_term: int,
        leader_commit: int,
        frames: Sequence[Frame],
    ) -> Admitted | Refused:
        if previous_index > log.last_index or log.term_at(previous_index) != previous_term:
            return admit(log, commit_index, previous_index, previous_term, leader_commit, frames)
        conflict = previous_index + 1 if log.last_index > previous_index else None
        commit = min(leader_commit, previous_index + len(frames))
        return Admitted(previous_index, previous_term, frames, conflict, commit)

    return [(follower, "admit", admit_as_shipped), (journal.Journal, "truncate_from", _truncate_anything)]


def _truncate_anything(self: Any, index: int, commit_index: int) -> None:
    """Journal.truncate_from without its assertion: the history is to notice, not the journal."""
    self.members.truncated_from(index)
    self.log.truncate_from(index)
    while self._recent and self._recent[-1].index >= index:
        self._recent_bytes -= self._recent.pop().size
    self._tail = (self.log.last_index, self.log.last_term, self.log.last_chain)


def _unclamped_commit() -> Sequence[Patch]:
    """As shipped: a follower commits to the end of its own log, whether the message covered it or not."""

    def admit_as_shipped(log: LogView, commit_index: int, *rest: Any) -> Admitted | Refused:
        verdict = admit(log, commit_index, *rest)
        if isinstance(verdict, Refused):
            return verdict
        end = verdict.verified_index if verdict.truncate_from else max(verdict.verified_index, log.last_index)
        return replace(verdict, commit_index=min(rest[2], end))

    return [(follower, "admit", admit_as_shipped)]


# Durability ---------------------------------------------------------------------------------------


def _acks_before_durable() -> Sequence[Patch]:
    return [(syncing.Syncer, "countable_index", property(lambda self: self._log.last_index))]


def _leader_counts_itself_early() -> Sequence[Patch]:
    """The followers' copies are durable; the leader's own is counted before it is."""

    def count(self: Any, peer_id: str, progress: progress_module.Progress) -> bool:
        if not self.counts(peer_id) or progress.match <= progress.counted:
            return False
        progress.counted = progress.match
        self._deliver(peer_id, success=True, index=progress.match)
        return True

    def entries(self: Any, fromIDx: Any, count: Any = None, maxSizeBytes: Any = None) -> list[Any]:
        term = self._journal.term_at(fromIDx) if fromIDx is not None else None
        return [] if term is None else [(None, fromIDx, term)]

    return [(leader.Leader, "_count", count), (Core, "_SyncObj__getEntries", entries)]


def _recovered_tail_is_believed() -> Sequence[Patch]:
    """What a new process finds in the page cache is taken as durable."""
    return [
        (recovery.LastSegment, "_leave_to_disk", lambda self: None),
        (recovery.LastSegment, "_record_durable", lambda self, active: None),
    ]


def _votes_are_forgotten() -> Sequence[Patch]:
    """Term and vote are replaced without a sync."""

    def write(self: Any, term: int, vote: str | None, voter: bool) -> None:
        temporary = self._path.with_name("unsynced.tmp")
        file = self._files.open(temporary, create=True)
        file.pwritev([hardstate._encode(term, vote, voter)], 0)
        self._files.rename(temporary, self._path)

    return [(hardstate.HardState, "_write", write)]


# Who counts ---------------------------------------------------------------------------------------


def _wiped_nodes_vote() -> Sequence[Patch]:
    """A name is enough: whatever directory stands behind it votes and is counted."""

    def make(self: Any, *arguments: Any, **options: Any) -> None:
        real(self, *arguments, **options)
        self.voter = True

    real = hardstate.HardState.__init__
    return [
        (hardstate.HardState, "__init__", make),
        (peers.Peers, "count", lambda self, peer_id, *more: self._members.is_voter(peer_id)),
        (membership.Members, "why_not", lambda self, *more, **options: None),
    ]


# Reads --------------------------------------------------------------------------------------------


def _reads_without_a_round() -> Sequence[Patch]:
    """Who believes to lead answers linearizable reads."""

    def finish_round(self: Any) -> None:
        current, self._round = self._round, None
        for read in current.reads if current is not None else ():
            read.resolve(current.index)

    return [(reads.Reads, "_finish_round", finish_round)]


def _reads_before_the_no_op() -> Sequence[Patch]:
    """A new leader answers linearizable reads before it knows what was acknowledged before it."""

    def tend(self: Any, now: float, *, may_confirm: bool) -> bool:
        return real(self, now, may_confirm=True)  # type: ignore[no-any-return]

    real = reads.Reads.tend
    return [(reads.Reads, "tend", tend)]


def _sessions_do_not_wait() -> Sequence[Patch]:
    async def applied(self: Any, index: int, call: Any) -> None:
        return None

    return [(consistency.Freshness, "applied", applied)]


# Snapshots and producers --------------------------------------------------------------------------


def _stale_snapshots_are_installed() -> Sequence[Patch]:
    return [(snapshots.SnapshotReceiver, "_is_needless", lambda self, message: False)]


def _repeats_are_appended() -> Sequence[Patch]:
    """A batch that was sent again is appended again."""

    def check(self: Any, append: producers.Sequenced, staged: producers.Staged) -> Any:
        checked = real(self, append, staged)
        return None if isinstance(checked, producers.Appended) else checked

    real = producers.Producers.check_append
    return [(producers.Producers, "check_append", check)]


CORRECTIONS: Final[Sequence[Correction]] = (
    Correction("admission", "1", "partitions", 20, _truncating_admission),
    Correction("commit-clamp", "2", "partitions", 20, _unclamped_commit),
    Correction("acks-wait-for-the-disk", "3", "power-all", 60, _acks_before_durable),
    Correction("the-leader-waits-for-its-own-disk", "3", "lone-copies", 30, _leader_counts_itself_early),
    Correction("recovered-tails-are-proved", "3", "lone-copies", 100, _recovered_tail_is_believed),
    Correction("votes-are-durable", "3", "power", 10, _votes_are_forgotten),
    Correction("stale-snapshots-are-refused", "5", "retention", 30, _stale_snapshots_are_installed),
    Correction("wiped-nodes-do-not-count", "10", "wiped", 60, _wiped_nodes_vote),
    Correction("reads-take-a-round", "13", "pauses", 60, _reads_without_a_round),
    Correction("reads-wait-for-the-no-op", "13", "crashes", 40, _reads_before_the_no_op),
    Correction("sessions-wait", "13", "partitions", 30, _sessions_do_not_wait),
    Correction("repeats-are-known", "15", "crashes", 20, _repeats_are_appended),
)
