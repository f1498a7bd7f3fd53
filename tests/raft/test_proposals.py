"""Grouping, bounds and honest outcomes of commands."""

from __future__ import annotations

import pytest

from quorumlog.raft import proposals as module
from quorumlog.raft.errors import Busy, Dropped, NotLeader, OutcomeUnknown
from quorumlog.raft.proposal import Committed, Proposal
from quorumlog.raft.proposals import Outcome, Proposals


class Caller:
    """Collects outcomes."""

    def __init__(self, proposals: Proposals) -> None:
        self.proposals = proposals
        self.outcomes: list[Outcome] = []

    def offer(self, size: int = 10, deadline: float = 10.0, solo: bool = False) -> None:
        self.proposals.offer(Proposal(b"", (bytes(size),), solo), deadline, self.outcomes.append)


@pytest.fixture
def proposals() -> Proposals:
    return Proposals()


@pytest.fixture
def caller(proposals: Proposals) -> Caller:
    return Caller(proposals)


def test_what_waits_goes_out_together(proposals: Proposals, caller: Caller) -> None:
    for _ in range(5):
        caller.offer()
    group = proposals.next_group()
    assert len(group) == 5
    assert proposals.next_group() == []


def test_small_commands_wait_for_the_round_before_large_ones_do_not(
    proposals: Proposals, caller: Caller
) -> None:
    caller.offer()
    proposals.proposed(1, 1, proposals.next_group(), 0)
    caller.offer()
    assert proposals.next_group() == []
    caller.offer(module.HASTE_BYTES)
    assert len(proposals.next_group()) == 2


def test_a_solo_command_has_an_entry_of_its_own(proposals: Proposals, caller: Caller) -> None:
    caller.offer()
    caller.offer(solo=True)
    caller.offer()
    sizes = []
    for index in (1, 2, 3):
        group = proposals.next_group()
        sizes.append(len(group))
        proposals.proposed(index, 1, group, 0)
        proposals.committed(index, 1, ["ok"] * len(group), 0)
    assert sizes == [1, 1, 1]


def test_each_command_gets_its_own_result(proposals: Proposals, caller: Caller) -> None:
    caller.offer()
    caller.offer()
    proposals.proposed(7, 3, proposals.next_group(), 0)
    proposals.committed(7, 3, ["first", "second"], 0)
    assert caller.outcomes == [Committed(7, 3, "first", 0), Committed(7, 3, "second", 0)]
    assert proposals.in_flight_count == 0


def test_an_entry_that_was_replaced_was_surely_not_applied(proposals: Proposals, caller: Caller) -> None:
    caller.offer()
    proposals.proposed(7, 1, proposals.next_group(), 0)
    proposals.dropped(7, 1)
    assert [type(outcome) for outcome in caller.outcomes] == [Dropped]


def test_a_command_that_was_never_proposed_times_out_as_not_applied(
    proposals: Proposals, caller: Caller
) -> None:
    caller.offer(deadline=1.0)
    proposals.expire(0.9)
    assert caller.outcomes == []
    proposals.expire(1.0)
    assert [type(outcome) for outcome in caller.outcomes] == [Busy]
    assert proposals.next_group() == []


def test_a_command_that_was_proposed_times_out_as_unknown_and_only_once(
    proposals: Proposals, caller: Caller
) -> None:
    """Hazard 15: the engine may never call back."""
    caller.offer(deadline=1.0)
    proposals.proposed(1, 1, proposals.next_group(), 0)
    proposals.expire(1.0)
    assert [type(outcome) for outcome in caller.outcomes] == [OutcomeUnknown]
    proposals.committed(1, 1, ["late"], 0)
    assert len(caller.outcomes) == 1


def test_lost_leadership_shortens_the_wait_of_what_is_in_flight(proposals: Proposals, caller: Caller) -> None:
    caller.offer(deadline=100.0)
    proposals.proposed(1, 1, proposals.next_group(), 0)
    caller.offer(deadline=100.0)
    proposals.refuse_queued(NotLeader("n2", None, 4))
    proposals.hasten(2.0)
    proposals.expire(2.0)
    assert [type(outcome) for outcome in caller.outcomes] == [NotLeader, OutcomeUnknown]


def test_the_queue_is_bounded_in_bytes_and_count(
    proposals: Proposals, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "QUEUE_BYTES", 25)
    monkeypatch.setattr(module, "QUEUE_COUNT", 3)
    caller.offer(20)
    with pytest.raises(Busy):
        caller.offer(6)
    caller.offer(0)
    caller.offer(0)
    with pytest.raises(Busy):
        caller.offer(0)


def test_what_is_in_flight_is_bounded(
    proposals: Proposals, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "IN_FLIGHT_BYTES", 100)
    caller.offer(100)
    proposals.proposed(1, 1, proposals.next_group(), 0)
    caller.offer(module.GROUP_BYTES)
    assert proposals.next_group() == []
    proposals.committed(1, 1, ["ok"], 0)
    assert len(proposals.next_group()) == 1


def test_an_entry_is_bounded_in_commands(
    proposals: Proposals, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GROUP_COUNT", 2)
    for _ in range(3):
        caller.offer()
    assert len(proposals.next_group()) == 2


def test_an_index_that_comes_again_in_another_term_is_another_entry(
    proposals: Proposals, caller: Caller
) -> None:
    caller.offer()
    proposals.proposed(7, 1, proposals.next_group(), 0)
    caller.offer(module.HASTE_BYTES)
    proposals.proposed(7, 2, proposals.next_group(), 0)
    proposals.dropped(7, 1)
    proposals.committed(7, 2, ["ok"], 0)
    assert [type(outcome) for outcome in caller.outcomes] == [Dropped, Committed]


def test_what_a_new_leadership_finds_gone_from_its_log_is_unknown(
    proposals: Proposals, caller: Caller
) -> None:
    for index in (5, 6, 7):
        caller.offer(module.HASTE_BYTES)
        proposals.proposed(index, 1, proposals.next_group(), 0)
    proposals.forget_beyond(5)
    assert [type(outcome) for outcome in caller.outcomes] == [OutcomeUnknown, OutcomeUnknown]
    assert proposals.in_flight_count == 1


def test_a_resolved_command_holds_no_bytes_until_its_deadline(proposals: Proposals, caller: Caller) -> None:
    pending = proposals.offer(Proposal(b"", (bytes(1000),)), 60.0, caller.outcomes.append)
    proposals.proposed(1, 1, proposals.next_group(), 0)
    proposals.committed(1, 1, ["ok"], 0)
    assert pending.proposal.size == 0


def test_an_ack_names_the_weaker_policy_of_its_way(proposals: Proposals, caller: Caller) -> None:
    for index, (before, after) in enumerate([(0, 2), (2, 0), (0, 0)]):
        caller.offer()
        proposals.proposed(index, 1, proposals.next_group(), before)
        proposals.committed(index, 1, ["ok"], after)
    assert [getattr(outcome, "sync_policy", None) for outcome in caller.outcomes] == [2, 2, 0]
