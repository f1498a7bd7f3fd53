"""Whether to try again, when, and what to say in the end."""

from __future__ import annotations

from quorumlog.client import errors
from quorumlog.client.errors import Attempt
from quorumlog.client.retries import Backoff, Retry, may_be_applied, unique, was_silent


def refused() -> errors.ConnectionFailed:
    return errors.ConnectionFailed("connection refused", attempts=[Attempt("a:1", "connection refused")])


def lost() -> errors.ConnectionFailed:
    return errors.ConnectionFailed("connection lost", attempts=[Attempt("a:1", "connection lost")])


def retry(deadline_s: float = 10.0) -> Retry:
    return Retry(deadline_s, random=lambda: 1.0)


def test_pauses_grow_up_to_a_bound_and_are_never_zero() -> None:
    backoff = Backoff(first_s=0.01, most_s=0.1)
    assert [backoff.pause_s(failures, lambda: 1.0) for failures in (1, 2, 3, 50)] == [0.01, 0.02, 0.04, 0.1]
    assert backoff.pause_s(10**6, lambda: 0.0) == 0.05


def test_what_can_work_later_is_tried_until_the_deadline() -> None:
    course = retry(deadline_s=1.0)
    assert course.after(errors.NoLeader("electing"), now_s=0.5) is not None
    assert course.after(errors.NoLeader("electing"), now_s=1.0) is None


def test_what_can_never_work_is_not_tried_again() -> None:
    assert retry().after(errors.UnknownTopic("t"), now_s=0) is None


def test_a_named_leader_is_followed_at_once_but_not_in_circles() -> None:
    course = retry()
    named = errors.NotLeader("n2 leads", metadata={"leader_address": "b:1"})
    pauses = [course.after(named, now_s=0) for _ in range(3)]
    assert pauses[:2] == [0.0, 0.0]
    assert pauses[2]


def test_the_final_error_lists_each_endpoint_and_cause_once() -> None:
    course = retry(deadline_s=0)
    for _ in range(3):
        course.after(refused(), now_s=0)
    course.after(lost(), now_s=0)
    verdict = course.verdict(lost(), write=False)
    assert [str(attempt) for attempt in verdict.attempts] == [
        "a:1: connection refused",
        "a:1: connection lost",
    ]
    assert "a:1: connection lost" in str(verdict)


def test_a_write_that_may_have_arrived_ends_as_unknown_and_one_that_cannot_does_not() -> None:
    course = retry(deadline_s=0)
    last = refused()
    course.after(last, now_s=0)
    assert course.verdict(last, write=True) is last
    course.after(lost(), now_s=0)
    assert isinstance(course.verdict(refused(), write=True), errors.OutcomeUnknown)
    assert course.verdict(last, write=False) is last


def test_only_a_lost_connection_or_an_unknown_outcome_may_have_been_applied() -> None:
    assert may_be_applied(lost())
    assert may_be_applied(errors.OutcomeUnknown("timed out"))
    assert not may_be_applied(refused())
    assert not may_be_applied(errors.Busy("full"))
    assert not may_be_applied(errors.Dropped("dropped"))


def test_a_connection_that_ends_is_no_silence() -> None:
    reset, late = "connection reset", "connecting took too long"
    assert not was_silent(refused())
    assert not was_silent(errors.ConnectionFailed(reset, attempts=[Attempt("a:1", reset)]))
    assert not was_silent(errors.Unavailable("the node ended the stream"))
    assert was_silent(errors.OutcomeUnknown("no answer within 5000 ms"))
    assert was_silent(errors.ConnectionFailed(late, attempts=[Attempt("a:1", late)]))


def test_attempts_are_kept_in_the_order_in_which_they_last_happened() -> None:
    first, second = Attempt("a:1", "x"), Attempt("b:1", "x")
    assert unique([first, second, first]) == (second, first)
