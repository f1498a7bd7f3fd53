"""What may be sent to a peer, and what its answers change."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from quorumlog.raft.progress import WINDOW_BYTES, Progress, State


def test_it_begins_with_one_probe_at_the_end_of_the_log() -> None:
    progress = Progress(last_index=10)
    assert (progress.state, progress.next, progress.may_probe(), progress.may_send()) == (
        State.PROBE,
        11,
        True,
        False,
    )
    progress.probed()
    assert not progress.may_probe()
    progress.repeat_probe()
    assert progress.may_probe()


def test_a_match_opens_the_stream_behind_it() -> None:
    progress = Progress(10)
    progress.probed()
    progress.matched(7)
    assert (progress.state, progress.match, progress.next) == (State.REPLICATE, 7, 8)
    assert progress.may_send()


def test_the_window_is_in_bytes_and_a_match_empties_it() -> None:
    progress = Progress(0)
    progress.matched(0)
    progress.sent(1, WINDOW_BYTES - 1)
    assert progress.may_send()
    progress.sent(2, 1)
    assert not progress.may_send()
    progress.matched(1)
    assert progress.may_send()


def test_a_reset_steps_back_and_probes() -> None:
    progress = Progress(100)
    progress.probed()
    assert progress.reset(60, last_index=100)
    assert (progress.next, progress.may_probe()) == (60, True)


def test_resets_that_were_under_way_when_the_first_came_are_stale() -> None:
    """Hazard 22: obeying them undoes the step back, for ever."""
    progress = Progress(100)
    progress.matched(90)
    for index in range(91, 101):
        progress.sent(index, 1)
    progress.match = 20
    assert progress.reset(30, last_index=100)
    for hint in (101, 60, 30):
        assert not progress.reset(hint, last_index=100)
    assert progress.next == 30
    assert progress.reset(25, last_index=100)


def test_a_reset_is_clamped_between_match_and_the_end_of_the_log() -> None:
    progress = Progress(100)
    progress.match = 50
    assert progress.reset(3, last_index=100)
    assert progress.next == 51
    assert not progress.reset(2, last_index=100)


def test_a_new_session_forgets_what_was_in_flight_and_what_was_held() -> None:
    """Hazards 3 and 22: an ack held from an older session is not believed in the new one."""
    progress = Progress(100)
    progress.matched(60)
    progress.counted = 40
    progress.sent(90, WINDOW_BYTES)
    progress.restart()
    assert (progress.state, progress.match, progress.next, progress.may_probe()) == (
        State.PROBE,
        0,
        41,
        True,
    )
    progress.matched(40)
    assert progress.may_send()


@settings(max_examples=200)
@given(
    st.lists(
        st.tuples(st.sampled_from(["match", "reset", "send", "restart"]), st.integers(0, 60)), max_size=60
    )
)
def test_match_falls_only_with_a_session_and_stays_below_next(steps: list[tuple[str, int]]) -> None:
    progress, last = Progress(50), 50
    for kind, number in steps:
        match = progress.match
        if kind == "match" and number <= last:
            progress.matched(number)
            progress.counted = progress.match
        elif kind == "reset":
            progress.reset(number, last)
        elif kind == "send" and progress.may_send() and progress.next <= last:
            progress.sent(progress.next, number * 100_000)
        elif kind == "restart":
            progress.restart()
        assert progress.match < progress.next <= last + 1
        assert progress.match >= (0 if kind == "restart" else match)


def test_a_peer_with_a_full_disk_is_asked_once_a_heartbeat_and_sent_little() -> None:
    progress = Progress(100)
    progress.matched(10)
    progress.sent(20, 1000)
    progress.refused()
    assert (progress.state, progress.next, progress.may_probe()) == (State.PROBE, 11, False)
    progress.repeat_probe()
    assert progress.may_probe()
    progress.matched(10)
    progress.sent(11, 5)
    assert not progress.may_send()
    progress.matched(11)
    progress.sent(12, 5)
    assert progress.may_send()
