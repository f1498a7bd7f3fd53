"""The checker catches what it is there for (rows 70 and 74: 'does the checker catch it')."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.chaos.checker import KINDS, check
from tests.chaos.history import (
    Fault,
    Held,
    History,
    Outcome,
    Read,
    Run,
    Sample,
    Write,
    from_json,
    load,
    runs_of,
    to_json,
    value_of,
)

TOPIC = "events"
NODES = ("n1", "n2", "n3")


def good_history() -> History:
    """Two producers; the second one's middle write is unknown and came in, its last one failed."""
    writes = [
        write("a", 0, 3, at=1, offset=0, raft_index=11),
        write("b", 0, 2, at=2, offset=3, raft_index=12),
        write("b", 2, 1, at=3, outcome=Outcome.INFO),
        write("a", 3, 2, at=4, offset=6, raft_index=14, raft_term=2),
        write("b", 3, 1, at=5, outcome=Outcome.FAIL),
    ]
    runs = (Run(0, "a", 0, 3), Run(3, "b", 0, 3), Run(6, "a", 3, 2))
    reads = [
        read("consumer", at=2.5, runs=(Run(0, "a", 0, 3),), stream="consumer"),
        read("consumer", at=4.5, runs=(Run(3, "b", 0, 3), Run(6, "a", 3, 2)), stream="consumer"),
        read("session", at=2.5, token=12, high_watermark=5),
        read("linear", at=4.6, consistency="linearizable", high_watermark=8),
    ]
    samples = [sample("n1", 1, "leader", 1), sample("n2", 4, "leader", 2), sample("n1", 5, "follower", 2)]
    held = [Held(node, TOPIC, 0, 0, runs) for node in NODES]
    return History(writes, reads, samples, [], held)


def write(
    producer: str,
    first: int,
    count: int,
    *,
    at: float,
    offset: int = -1,
    raft_index: int = 0,
    raft_term: int = 1,
    outcome: Outcome = Outcome.OK,
) -> Write:
    return Write(producer, TOPIC, 0, first, count, at, at + 0.1, outcome, offset, raft_index, raft_term)


def read(
    reader: str,
    *,
    at: float,
    runs: tuple[Run, ...] = (),
    token: int = 0,
    consistency: str = "",
    high_watermark: int = 0,
    stream: str = "",
) -> Read:
    return Read(
        reader,
        "n2",
        TOPIC,
        0,
        at,
        at + 0.1,
        runs,
        "session" if token else consistency,
        token,
        token,
        high_watermark,
        stream,
    )


def sample(node: str, at: float, role: str, term: int) -> Sample:
    return Sample(at, node, role, term, node if role == "leader" else "", 0, 0)


def test_a_good_history_passes() -> None:
    verdict = check(good_history())
    assert verdict.good, verdict


# Each breaks one promise of the good history.


def loses_a_record_on_one_replica(history: History) -> None:
    hold(history, 1, Run(0, "a", 0, 3), Run(3, "b", 0, 3), Run(6, "a", 3, 1))


def loses_the_tail_on_every_replica(history: History) -> None:
    for number in range(3):
        hold(history, number, Run(0, "a", 0, 3), Run(3, "b", 0, 3))


def moves_an_acknowledged_record(history: History) -> None:
    for number in range(3):
        hold(history, number, Run(0, "b", 0, 2), Run(2, "a", 0, 3), Run(5, "b", 2, 1), Run(6, "a", 3, 2))


def repeats_a_record(history: History) -> None:
    for number in range(3):
        hold(history, number, *history.held[number].runs, Run(8, "a", 3, 2))


def swaps_the_records_of_a_producer(history: History) -> None:
    history.writes.append(write("c", 0, 2, at=6, outcome=Outcome.INFO))
    for number in range(3):
        hold(history, number, *history.held[number].runs, Run(8, "c", 1, 1), Run(9, "c", 0, 1))


def holds_what_surely_failed(history: History) -> None:
    for number in range(3):
        hold(history, number, *history.held[number].runs, Run(8, "b", 3, 1))


def holds_what_nobody_sent(history: History) -> None:
    for number in range(3):
        hold(history, number, *history.held[number].runs, Run(8, "x", 0, 1))


def shows_a_reader_what_surely_failed(history: History) -> None:
    history.reads.append(read("other", at=6, runs=(Run(8, "b", 3, 1),)))


def differs_between_replicas(history: History) -> None:
    history.writes.append(write("c", 0, 2, at=6, outcome=Outcome.INFO))
    hold(history, 0, *history.held[0].runs, Run(8, "c", 0, 1))
    hold(history, 2, *history.held[2].runs, Run(8, "c", 1, 1))


def showed_another_value_before(history: History) -> None:
    history.reads.append(read("other", at=3, runs=(Run(5, "a", 3, 1),)))


def showed_what_was_taken_back(history: History) -> None:
    history.writes.append(write("c", 0, 1, at=6, outcome=Outcome.INFO))
    history.reads.append(read("other", at=7, runs=(Run(8, "c", 0, 1),)))


def leaves_a_hole(history: History) -> None:
    for number in range(3):
        hold(history, number, Run(0, "a", 0, 3), Run(3, "b", 0, 2), Run(6, "a", 3, 2))


def skips_in_a_stream(history: History) -> None:
    history.reads[1] = replace(history.reads[1], runs=(Run(6, "a", 3, 2),))


def repeats_in_a_stream(history: History) -> None:
    history.reads.append(read("consumer", at=7, runs=(Run(6, "a", 3, 2),), stream="consumer"))


def ignores_a_session_token(history: History) -> None:
    history.reads.append(replace(read("late", at=5, token=14, high_watermark=8), applied_index=13))


def hides_a_sessions_own_write(history: History) -> None:
    history.reads.append(read("late", at=5, token=14, high_watermark=7))


def answers_a_linearizable_read_from_the_past(history: History) -> None:
    history.reads.append(read("late", at=4.5, consistency="linearizable", high_watermark=6))


def goes_back_between_linearizable_reads(history: History) -> None:
    history.reads.append(read("other", at=7, consistency="linearizable", high_watermark=9))
    history.reads.append(read("late", at=8, consistency="linearizable", high_watermark=8))


def elects_two_leaders(history: History) -> None:
    history.samples.append(sample("n3", 6, "leader", 2))


def forgets_its_term(history: History) -> None:
    history.samples.append(sample("n1", 6, "follower", 1))


def acknowledges_one_index_in_two_terms(history: History) -> None:
    history.writes[0] = replace(history.writes[0], raft_index=12, raft_term=2)


Break = Callable[[History], None]
BREAKS: list[tuple[str, Break]] = [
    ("lost", loses_a_record_on_one_replica),
    ("lost", loses_the_tail_on_every_replica),
    ("lost", moves_an_acknowledged_record),
    ("duplicated", repeats_a_record),
    ("reordered", swaps_the_records_of_a_producer),
    ("phantom", holds_what_surely_failed),
    ("phantom", holds_what_nobody_sent),
    ("phantom", shows_a_reader_what_surely_failed),
    ("diverged", differs_between_replicas),
    ("diverged", showed_another_value_before),
    ("uncommitted", showed_what_was_taken_back),
    ("gap", leaves_a_hole),
    ("gap", skips_in_a_stream),
    ("gap", repeats_in_a_stream),
    ("stale", ignores_a_session_token),
    ("stale", hides_a_sessions_own_write),
    ("stale", answers_a_linearizable_read_from_the_past),
    ("stale", goes_back_between_linearizable_reads),
    ("election", elects_two_leaders),
    ("election", forgets_its_term),
    ("election", acknowledges_one_index_in_two_terms),
]


@pytest.mark.parametrize(("kind", "broken"), BREAKS, ids=[broken.__name__ for _, broken in BREAKS])
def test_a_broken_promise_is_caught(kind: str, broken: Break) -> None:
    history = good_history()
    broken(history)
    verdict = check(history)
    assert verdict.count(kind) > 0, f"{kind} expected, found: {verdict or 'nothing'}"


def test_every_kind_of_violation_is_caught_by_some_test() -> None:
    assert {kind for kind, _ in BREAKS} == set(KINDS)


def test_only_a_wiped_node_may_forget_its_term() -> None:
    history = good_history()
    forgets_its_term(history)
    history.faults.append(Fault("wipe_follower", 5.5, 5.8, "n1"))
    assert check(history).good
    history.faults[0] = Fault("wipe_follower", 5.5, 5.8, "n3")
    assert check(history).count("election") == 1


def test_what_lies_before_the_start_of_the_log_is_not_lost() -> None:
    history = good_history()
    for number, one in enumerate(history.held):
        history.held[number] = replace(one, start_offset=4, runs=(Run(4, "b", 1, 2), Run(6, "a", 3, 2)))
    assert check(history).good


def test_a_history_survives_its_file() -> None:
    history = good_history()
    history.add(Fault("kill_leader", 3.0, 3.5, "n1"))
    lines = [to_json(event) + "\n" for event in history]
    assert load([*lines, '{"event":"wri']) == history
    assert all(from_json(line.strip()) for line in lines)


def test_values_fold_into_runs() -> None:
    records = [(4, value_of("a", 7)), (5, value_of("a", 8, 100)), (6, value_of("b", 9)), (8, b"junk")]
    *ours, junk = runs_of(records)
    assert ours == [Run(4, "a", 7, 2), Run(6, "b", 9, 1)]
    assert (junk.offset, junk.count) == (8, 1)
    assert junk.producer.startswith("?")


def hold(history: History, number: int, *runs: Run) -> None:
    history.held[number] = replace(history.held[number], runs=runs)
