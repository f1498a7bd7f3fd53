"""Admission: what of a leader's message reaches the engine, and what is answered instead."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorumlog.raft.admission import Admitted, Refused, admit
from quorumlog.storage import format as layout
from quorumlog.storage.frame import Frame


class TermsOnly:
    """A log that knows only its terms; `first` is the index of the first kept entry."""

    def __init__(self, terms: Sequence[int], first: int = 1, stub_term: int = 0) -> None:
        self.first = first
        self.stub_term = stub_term
        self.terms = list(terms)

    @property
    def last_index(self) -> int:
        return self.first + len(self.terms) - 1

    def term_at(self, index: int) -> int | None:
        if index == self.first - 1:
            return self.stub_term
        if self.first <= index <= self.last_index:
            return self.terms[index - self.first]
        return None

    def first_index_of_term_at(self, index: int) -> int:
        while index > self.first and self.term_at(index - 1) == self.term_at(index):
            index -= 1
        return index


def frames(first: int, *terms: int) -> list[Frame]:
    return [
        Frame.build(first + number, term, layout.KIND_COMMANDS, (b"",), 0, 0)
        for number, term in enumerate(terms)
    ]


def shape(verdict: Admitted | Refused) -> tuple[object, ...]:
    if isinstance(verdict, Refused):
        return ("refused", verdict.hint)
    return (
        verdict.previous_index,
        [frame.index for frame in verdict.frames],
        verdict.truncate_from,
        verdict.commit_index,
    )


def test_a_heartbeat_in_the_middle_truncates_nothing() -> None:
    """Hazard 1: as shipped, everything after the previous entry would go, matching or not."""
    assert shape(admit(TermsOnly([1, 1, 1]), 0, 1, 1, 0, [])) == (1, [], None, 0)


def test_entries_that_are_here_already_are_skipped() -> None:
    """Row 38."""
    assert shape(admit(TermsOnly([1, 1, 1]), 0, 0, 0, 0, frames(1, 1, 1))) == (2, [], None, 0)
    assert shape(admit(TermsOnly([1, 1, 1]), 0, 1, 1, 0, frames(2, 1, 1, 2))) == (3, [4], None, 0)


def test_a_real_conflict_is_truncated_from_its_first_entry() -> None:
    assert shape(admit(TermsOnly([1, 1, 1, 1]), 2, 1, 1, 0, frames(2, 1, 2))) == (2, [3], 3, 0)


def test_a_conflict_with_what_is_committed_is_a_bug() -> None:
    with pytest.raises(AssertionError, match="committed"):
        admit(TermsOnly([1, 1, 1]), 2, 0, 0, 0, frames(1, 1, 2))


def test_commit_is_clamped_to_what_the_message_verified() -> None:
    """Hazard 2: as shipped, to the follower's own last entry."""
    assert shape(admit(TermsOnly([1, 1, 1, 1]), 0, 1, 1, 4, [])) == (1, [], None, 1)
    assert shape(admit(TermsOnly([1, 1]), 0, 2, 1, 9, frames(3, 1))) == (2, [3], None, 3)


def test_a_missing_previous_entry_asks_for_what_follows_the_end() -> None:
    assert shape(admit(TermsOnly([1, 1]), 0, 5, 1, 0, frames(6, 1))) == ("refused", 3)


def test_a_diverged_previous_entry_asks_for_the_first_entry_of_its_term() -> None:
    """Hazard 22: one round trip per term, not per entry."""
    assert shape(admit(TermsOnly([1, 2, 2, 2]), 0, 4, 3, 0, [])) == ("refused", 2)


def test_a_refusal_never_asks_for_what_is_committed() -> None:
    assert shape(admit(TermsOnly([1, 2, 2, 2]), 3, 4, 3, 0, [])) == ("refused", 4)


def test_what_begins_below_the_commit_index_is_taken_from_there() -> None:
    assert shape(admit(TermsOnly([1, 1, 1]), 2, 0, 0, 3, frames(1, 1, 1, 1, 1))) == (3, [4], None, 3)
    assert shape(admit(TermsOnly([1, 1, 1]), 3, 1, 1, 9, [])) == (3, [], None, 3)


def test_what_begins_below_the_start_of_the_log_is_taken_from_the_commit_index() -> None:
    """Hazard 22: such a follower made the leader send None for ever."""
    log = TermsOnly([5, 5], first=100, stub_term=4)
    assert shape(admit(log, 99, 40, 2, 101, frames(41, 2))) == (99, [], None, 99)
    assert shape(admit(log, 100, 98, 4, 101, frames(99, 4, 5, 5, 5))) == (101, [102], None, 101)


logs = st.lists(st.integers(0, 2), max_size=8).map(
    lambda steps: [1 + sum(steps[: number + 1]) for number in range(len(steps))]
)


@settings(max_examples=300)
@given(logs, logs, st.data())
def test_admission_is_what_raft_says(own: list[int], leaders: list[int], data: st.DataObject) -> None:
    """Against the definition: match the previous entry, delete from the first conflict only, append."""
    common = 0
    while common < min(len(own), len(leaders)) and own[common] == leaders[common]:
        common += 1
    # Raft's log matching: equal (index, term) means equal prefixes. Keep only pairs for which that can hold.
    if any(own[i] == leaders[i] for i in range(common, min(len(own), len(leaders)))):
        return
    commit = data.draw(st.integers(0, common))
    previous = data.draw(st.integers(0, len(leaders)))
    count = data.draw(st.integers(0, len(leaders) - previous))
    log = TermsOnly(own)
    previous_term = leaders[previous - 1] if previous else 0
    sent = frames(previous + 1, *leaders[previous : previous + count])
    verdict = admit(log, commit, previous, previous_term, len(leaders), sent)
    matches = previous <= commit or (
        previous <= len(own) and (previous == 0 or own[previous - 1] == previous_term)
    )
    assert isinstance(verdict, Admitted) == matches
    if isinstance(verdict, Refused):
        assert commit < verdict.hint <= max(len(own), commit) + 1
        return
    after = own[: verdict.truncate_from - 1] if verdict.truncate_from is not None else own
    assert verdict.truncate_from is None or verdict.truncate_from > max(commit, common)
    if verdict.frames:
        assert verdict.frames[0].index == len(after) + 1
    after = after + [frame.term for frame in verdict.frames]
    assert after[: verdict.verified_index] == leaders[: verdict.verified_index]
    assert verdict.verified_index >= previous + count
    assert verdict.commit_index <= max(verdict.verified_index, commit)
