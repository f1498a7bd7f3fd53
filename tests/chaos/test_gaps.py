"""Write gaps: what counts, and what does not."""

from __future__ import annotations

from tests.chaos.gaps import Probe, gaps_by_kind, percentile, summary_ms
from tests.chaos.history import Fault, Outcome, Write


def acked_at(*times_s: float) -> Probe:
    outcomes = [(time_s, Outcome.OK) for time_s in times_s]
    return Probe([Write("probe", "t", 0, 0, 1, time_s - 1, time_s, outcome) for time_s, outcome in outcomes])


def test_a_gap_ends_with_the_first_acknowledgement_after_the_silence() -> None:
    # 10.01 was on its way when the fault came.
    assert acked_at(9.9, 10.01, 10.7, 10.71).gap_s(10.0, 10.5) == 10.7 - 10.01


def test_what_lies_before_the_fault_does_not_count() -> None:
    assert acked_at(1.0, 12.0, 12.1).gap_s(10.0, 11.0) == 2.0


def test_a_gap_may_end_after_the_fault() -> None:
    assert acked_at(9.0, 15.0, 90.0).gap_s(10.0, 11.0) == 5.0


def test_a_silence_that_begins_later_is_not_this_faults() -> None:
    assert acked_at(10.5, 11.5, 90.0).gap_s(10.0, 11.0) == 1.0


def test_without_any_further_acknowledgement_there_is_no_gap_to_state() -> None:
    assert acked_at(9.0, 10.5).gap_s(10.0, 11.0) is None


def test_an_unknown_outcome_is_no_acknowledgement() -> None:
    unknown = Write("probe", "t", 0, 0, 1, 10.0, 10.1, Outcome.INFO)
    assert Probe([unknown]).gap_s(9.0, 9.5) is None


def test_gaps_are_summed_up_by_kind() -> None:
    probe = acked_at(*(number / 10 for number in range(100)))
    found = gaps_by_kind(
        [Fault("kill", 1.0, 2.0), Fault("kill", 3.05, 3.1), Fault("pause", 99.0, 99.5)], probe
    )
    assert set(found) == {"kill"}
    assert summary_ms(found)["kill"] == {"count": 2, "p50": 50, "p99": 100, "max": 100}


def test_percentiles_are_values_that_were_measured() -> None:
    assert [percentile([4, 1, 3, 2], percent) for percent in (50, 75, 99)] == [2, 3, 4]
