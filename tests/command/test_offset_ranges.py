"""From where to where the command reads."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorumlog.command.offset_ranges import OffsetRange, parse_range

NOW = dt.datetime(2025, 2, 2, tzinfo=dt.UTC)
NOON = dt.datetime(2025, 1, 31, 12, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("start", OffsetRange("earliest")),
        ("beginning", OffsetRange("earliest")),
        ("end", OffsetRange("latest")),
        ("5", OffsetRange(5)),
        ("0", OffsetRange(0)),
        ("-5", OffsetRange(-5)),
        ("-0", OffsetRange("latest")),
        ("+5", OffsetRange("+5")),
        ("5:", OffsetRange(5)),
        (":5", OffsetRange("earliest", 5)),
        (":end", OffsetRange("earliest", "latest")),
        ("5:9", OffsetRange(5, 9)),
        ("5:5", OffsetRange(5, 5)),
        ("-5:end", OffsetRange(-5, "latest")),
        ("-5:-2", OffsetRange(-5, -2)),
        ("+1:+3", OffsetRange("+1", "+3")),
        ("@1738324800", OffsetRange(NOON)),
        ("@1738324800000", OffsetRange(NOON)),
        ("@2025-01-31T12:00:00+00:00", OffsetRange(NOON)),
        ("@2025-01-31T12:00Z", OffsetRange(NOON)),
        ("@2025-01-31T12Z:", OffsetRange(NOON)),
        ("@:2025-01-31T12:00Z", OffsetRange("earliest", NOON)),
        ("@2025-01-31T12:00Z:2025-01-31T13:00:00+00:00", OffsetRange(NOON, NOON + HOUR)),
        ("@1738324800:1738328400000", OffsetRange(NOON, NOON + HOUR)),
        ("@2025-01-31T12:00Z:1h", OffsetRange(NOON, NOON + HOUR)),
        ("@-1h", OffsetRange(NOW - HOUR)),
        ("@-1h:end", OffsetRange(NOW - HOUR, "latest")),
        ("@-2h:-1h", OffsetRange(NOW - 2 * HOUR, NOW - HOUR)),
        ("@-1h30m:30m", OffsetRange(NOW - 1.5 * HOUR, NOW - HOUR)),
        ("@20250131T120000Z", OffsetRange(NOON)),
    ],
)
def test_what_is_understood(text: str, expected: OffsetRange) -> None:
    assert parse_range(text, NOW) == expected


def test_a_time_without_a_zone_is_local() -> None:
    assert parse_range("@2025-01-31T12:00", NOW).start == dt.datetime(2025, 1, 31, 12).astimezone()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "got nothing"),
        (":", "got nothing"),
        ("x", "expected start, end, N"),
        ("1.5", "expected start, end, N"),
        ("+-5", "expected start, end, N"),
        ("--5", "expected start, end, N"),
        ("\N{ARABIC-INDIC DIGIT FIVE}", "expected start, end, N"),
        ("1:2:3", "expected start, end, N"),
        ("9:5", "9:5 ends before it begins"),
        ("-2:-5", "ends before it begins"),
        ("-1h", "-1h ago is @-1h"),
        ("@", "expected @TIME"),
        ("@:", "expected @TIME"),
        ("@x", "expected @TIME"),
        ("@5", "expected @TIME"),
        ("@end:-1h", "expected @TIME"),
        ("@:1h", "expected @TIME"),
        ("@-1h:-2h", "ends before it begins"),
        ("@99999999999999999999", "expected @TIME"),
    ],
)
def test_what_is_not_understood_is_named(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_range(text, NOW)


offsets = st.integers(0, 1 << 63)
counts = st.integers(1, 1 << 63)
ends = st.one_of(
    offsets, counts.map(lambda n: -n), offsets.map(lambda n: f"+{n}"), st.sampled_from(["earliest", "latest"])
)
times = st.datetimes(
    dt.datetime(1, 1, 2), dt.datetime(9998, 12, 31), timezones=st.sampled_from([dt.UTC, dt.timezone(-HOUR)])
)
ranges = st.one_of(
    st.builds(OffsetRange, ends, st.none() | ends),
    st.builds(OffsetRange, times),
    st.builds(OffsetRange, times, st.just("latest")),
    st.builds(OffsetRange, st.just("earliest"), times),
    st.tuples(times, times).map(lambda pair: OffsetRange(*sorted(pair))),
)


def _ends_before_it_begins(wanted: OffsetRange) -> bool:
    start, end = wanted.start, wanted.end
    return isinstance(start, int) and isinstance(end, int) and (start < 0) == (end < 0) and end < start


@given(ranges)
def test_a_range_is_parsed_to_what_it_was_written_from(wanted: OffsetRange) -> None:
    if _ends_before_it_begins(wanted):
        with pytest.raises(ValueError, match="ends before it begins"):
            parse_range(str(wanted), NOW)
    else:
        assert parse_range(str(wanted), NOW) == wanted


@given(st.text(alphabet="+-@:0123456789hmsdTZstarend", max_size=40))
def test_any_text_is_a_range_or_refused(text: str) -> None:
    try:
        found = parse_range(text, NOW)
    except ValueError:
        return
    assert parse_range(str(found), NOW) == found
