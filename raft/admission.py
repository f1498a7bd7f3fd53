"""Admission: what of a leader's message reaches the engine, and what is answered instead. No I/O.

As shipped the engine truncates everything after the message's previous entry, matching or not, and commits up
to its own last entry. Admission makes both impossible: it advances the previous entry over what is already
here, names the one place where a real conflict begins, and clamps the commit index to what was verified.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from quorumlog.storage.errors import Damaged
from quorumlog.storage.frame import Frame


class LogView(Protocol):
    """What admission asks of the journal."""

    @property
    def last_index(self) -> int: ...

    def term_at(self, index: int) -> int | None:
        """Term of an entry that is here, or of the stub before the first; None elsewhere."""

    def first_index_of_term_at(self, index: int) -> int:
        """First index of the run of equal terms that `index` stands in."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """The message may be delivered in this form."""

    previous_index: int
    previous_term: int
    frames: Sequence[Frame]  # those that are new here
    truncate_from: int | None  # a conflict: delete from here first
    commit_index: int  # never beyond what this message verified

    @property
    def verified_index(self) -> int:
        """Up to here this log is the leader's."""
        return self.previous_index + len(self.frames)


@dataclass(frozen=True, slots=True)
class Refused:
    """The previous entry is not here: the leader should go on from `hint`."""

    hint: int


def admit(
    log: LogView,
    commit_index: int,
    previous_index: int,
    previous_term: int,
    leader_commit: int,
    frames: Sequence[Frame],
) -> Admitted | Refused:
    """Decide about an append of the current term's leader.

    What is committed here is in that leader's log too (leader completeness), so a message that begins at or
    below the commit index is taken from there: nothing below is looked at, nothing below can be truncated.
    """
    verified = previous_index + len(frames)
    if previous_index < commit_index:
        kept = frames[commit_index - previous_index :]
        for frame in frames[: commit_index - previous_index]:
            known = term_or_none(log, frame.index)
            assert known is None or known == frame.term, (
                f"committed entry {frame.index} is of term {known} here and of {frame.term} at the leader: "
                "a power loss under a weak sync policy took it from a majority"
            )
        previous_index, previous_term, frames = commit_index, _present(log, commit_index), kept
        verified = max(verified, commit_index)
    elif previous_index > log.last_index:
        return Refused(max(log.last_index, commit_index) + 1)
    elif log.term_at(previous_index) != previous_term:
        return Refused(max(log.first_index_of_term_at(previous_index), commit_index + 1))
    known_count = _count_known(log, frames)
    if known_count:
        previous_index, previous_term = frames[known_count - 1].index, frames[known_count - 1].term
        frames = frames[known_count:]
    conflict = frames[0].index if frames and frames[0].index <= log.last_index else None
    assert conflict is None or conflict > commit_index, f"would truncate committed entry {conflict}"
    return Admitted(previous_index, previous_term, frames, conflict, min(leader_commit, verified))


def term_or_none(log: LogView, index: int) -> int | None:
    """Its term, where that can be said: the index of a damaged segment may be lost, too."""
    try:
        return log.term_at(index)
    except Damaged:
        return None


def _present(log: LogView, index: int) -> int:
    term = log.term_at(index)
    assert term is not None, f"committed entry {index} is not here"
    return term


def _count_known(log: LogView, frames: Sequence[Frame]) -> int:
    count = 0
    for frame in frames:
        if log.term_at(frame.index) != frame.term:
            break
        count += 1
    return count
