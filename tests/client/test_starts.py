"""Where consumers start, from Python and from the command line."""

from __future__ import annotations

import datetime as dt

import pytest

from quorumlog.client.errors import UnknownOption
from quorumlog.client.starts import StartAt, parse_start
from quorumlog.command.consume import parse_offset
from quorumlog.command.offset_ranges import OffsetRange

NOON = dt.datetime(2025, 1, 31, 12, tzinfo=dt.UTC)


def test_names_offsets_counts_and_times() -> None:
    assert parse_start("earliest") == StartAt()
    assert parse_start("latest") == StartAt(from_end=0)
    assert parse_start(7) == StartAt(offset=7)
    assert parse_start(-7) == StartAt(from_end=7)
    assert parse_start("+7") == StartAt(from_start=7)
    assert parse_start(NOON) == StartAt(append_time_ms=1738324800000)
    assert parse_start(dt.timedelta(seconds=1), now=NOON) == StartAt(append_time_ms=1738324799000)


@pytest.mark.parametrize("start", ["begin", "", "+", "+x", "++1", 1.5, True, None])
def test_anything_else_is_refused(start: object) -> None:
    with pytest.raises(UnknownOption):
        parse_start(start)  # type: ignore[arg-type]


def test_the_last_n_do_not_reach_before_the_start() -> None:
    last = parse_start(-10)
    assert [query.WhichOneof("at") for query in last.queries(0)] == ["earliest", "latest"]
    assert last.resolve([0, 100]) == 90
    assert last.resolve([95, 100]) == 95
    assert parse_start("latest").resolve([100]) == 100


def test_n_after_the_start_do_not_reach_behind_the_end() -> None:
    after = parse_start("+10")
    assert [query.WhichOneof("at") for query in after.queries(0)] == ["earliest", "latest"]
    assert after.resolve([50, 100]) == 60
    assert after.resolve([50, 55]) == 55


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("start", "earliest"),
        ("end", "latest"),
        ("5", 5),
        ("-5", -5),
        ("@1738324800", NOON),
        ("@1738324800000", NOON),
        ("@2025-01-31T12:00:00+00:00", NOON),
    ],
)
def test_offsets_on_the_command_line(text: str, expected: object) -> None:
    assert parse_offset(text) == OffsetRange(expected)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "x", "@", "@x", "1.5"])
def test_what_is_no_offset_on_the_command_line(text: str) -> None:
    with pytest.raises(UnknownOption, match="--offset"):
        parse_offset(text)
