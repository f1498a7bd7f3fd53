"""From where to where `quorumlog consume -o` reads: rpk's grammar, and -N from kcat. No I/O.

    N  +N  -N  start  end       begin there, and follow
    BEGIN:END  BEGIN:  :END     each one of the above; END itself is not read any more
    @TIME                       begin at what was appended then or later, and follow
    @TIME:TIME  @TIME:  @:TIME  the second may also be `end`, or how long after the first

A time is 2025-01-31, 2025-01-31T12:00 (local, unless it says otherwise: Z, +01:00), seconds since 1970
(9 to 12 digits), milliseconds (13 and more), or how long ago: -90s, -1h30m, -2d.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TypeAlias

from quorumlog.client.durations import parse_duration

Bound: TypeAlias = "str | int | dt.datetime"  # "earliest", "latest", "+N"; N or -N; a time

_EARLIEST = ("start", "beginning", "earliest")
_LATEST = ("end", "latest")
_SECONDS_DIGITS = 9  # fewer are a date without hyphens, or a slip
_MILLISECONDS_DIGITS = 13


@dataclass(frozen=True, slots=True)
class OffsetRange:
    """Records from `start` up to, not including, `end`; None: follow."""

    start: Bound = "earliest"
    end: Bound | None = None

    def __str__(self) -> str:
        if isinstance(self.start, dt.datetime) or isinstance(self.end, dt.datetime):
            start = "" if self.start == "earliest" else _text(self.start)
            return f"@{start}" if self.end is None else f"@{start}:{_text(self.end)}"
        return _text(self.start) if self.end is None else f"{_text(self.start)}:{_text(self.end)}"


def parse_range(text: str, now: dt.datetime) -> OffsetRange:
    """Return what the text means. Raises ValueError, which says what is wrong."""
    if text.startswith("@"):
        return _times(text[1:], now)
    first, _, last = text.partition(":")
    if not first and not last:
        raise ValueError("expected an offset, got nothing")
    start = _bound(first) if first else "earliest"
    end = _bound(last) if last else None
    if isinstance(start, int) and isinstance(end, int) and (start < 0) == (end < 0) and end < start:
        raise ValueError(f"{text} ends before it begins")
    return OffsetRange(start, end)


def _bound(text: str) -> Bound:
    if text in _EARLIEST:
        return "earliest"
    if text in _LATEST:
        return "latest"
    number = text.removeprefix("-").removeprefix("+") if text[:2] not in ("-+", "+-") else ""
    if number.isascii() and number.isdecimal():
        if text.startswith("+"):
            return f"+{int(number)}"
        return int(text) or ("latest" if text.startswith("-") else 0)  # -0: the last none
    if text[:1] == "-" and _is_duration(text[1:]):
        raise ValueError(f"{text} ago is @{text}")
    raise ValueError(f"expected start, end, N, +N, -N, a range FROM:TO or @TIME, got {text!r}")


def _times(text: str, now: dt.datetime) -> OffsetRange:
    """A time may have colons itself: try it whole, then cut at each of them, the last first."""
    whole = _moment(text, now)
    if whole is not None:
        return OffsetRange(whole)
    for cut in (position for position in range(len(text) - 1, -1, -1) if text[position] == ":"):
        first, last = text[:cut], text[cut + 1 :]
        start = _moment(first, now) if first else "earliest"
        if start is None or not (first or last):
            continue
        end = _end(last, start, now)
        if last and end is None:
            continue
        if isinstance(start, dt.datetime) and isinstance(end, dt.datetime) and end < start:
            raise ValueError(f"@{text} ends before it begins")
        return OffsetRange(start, end)
    raise ValueError(
        f"expected @TIME or @TIME:TIME, each as 2025-01-31T12:00, seconds or milliseconds since 1970, "
        f"or how long ago, as -1h30m; got @{text}"
    )


def _end(text: str, start: Bound, now: dt.datetime) -> Bound | None:
    if text == "end":
        return "latest"
    if isinstance(start, dt.datetime) and _is_duration(text):
        try:
            return start + parse_duration(text)
        except OverflowError:
            raise ValueError(f"{text} after {start.isoformat()} is beyond the year {dt.MAXYEAR}") from None
    return _moment(text, now)


def _moment(text: str, now: dt.datetime) -> dt.datetime | None:
    """Return the time that is meant; None where it is none."""
    try:
        if text.isascii() and text.isdecimal() and len(text) >= _SECONDS_DIGITS:
            seconds = int(text) / 1000 if len(text) >= _MILLISECONDS_DIGITS else int(text)
            return dt.datetime.fromtimestamp(seconds, dt.UTC)
        if text.startswith("-"):
            return now - parse_duration(text[1:])
        moment = dt.datetime.fromisoformat(text)
        return moment if moment.tzinfo is not None else moment.astimezone()
    except (ValueError, OverflowError, OSError):
        return None


def _is_duration(text: str) -> bool:
    try:
        parse_duration(text)
    except (ValueError, OverflowError):
        return False
    return True


def _text(bound: Bound) -> str:
    if isinstance(bound, dt.datetime):
        return bound.isoformat()
    return {"earliest": "start", "latest": "end"}.get(str(bound), str(bound))
