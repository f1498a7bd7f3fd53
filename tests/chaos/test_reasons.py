"""A slow failover is explained from the logs."""

from __future__ import annotations

from datetime import datetime

from tests.chaos.reasons import Election, elections, explain

KILLED_S = datetime(2026, 1, 31, 12, 0, 0).timestamp()
LOGS = {
    "n1": "2026-01-31 11:59:00,000 INFO n1 quorumlog.raft.replica: term 4: this node leads from entry 7 on\n",
    "n2": "2026-01-31 12:00:01,250 INFO n2 quorumlog.raft.replica: term 7: this node leads from entry 90 on\n"
    "Traceback (most recent call last):\n"
    "2026-01-31 12:00:09,000 INFO n2 quorumlog.raft.replica: term 7: this node leads no longer\n",
}


def test_elections_are_found_in_their_order() -> None:
    assert elections(LOGS) == [Election(KILLED_S - 60, "n1", 4), Election(KILLED_S + 1.25, "n2", 7)]


def test_split_votes_and_the_time_after_the_election_are_told_apart() -> None:
    said = explain(KILLED_S, KILLED_S + 1.75, 4, LOGS)
    assert said == "n2 led term 7 after 2 that nobody won at 1250 ms; acknowledged 500 ms later"


def test_where_nobody_was_elected_it_says_so() -> None:
    assert explain(KILLED_S, KILLED_S + 1, 4, LOGS) == "no election was won in that time"
