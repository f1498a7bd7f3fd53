"""Where a consumer starts or ends: what users may write, and the offset that it means."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TypeAlias

from quorumlog.client.durations import parse_duration
from quorumlog.client.errors import UnknownOption
from quorumlog.proto import service_pb2

Start: TypeAlias = "str | int | dt.datetime | dt.timedelta"
Moment: TypeAlias = "str | int | dt.datetime | dt.timedelta"

_EARLIEST = ("earliest", "start", "beginning")
_LATEST = ("latest", "end")


@dataclass(frozen=True, slots=True)
class StartAt:
    """Exactly one is set: an offset, how many from the end or the start, a time; or earliest."""

    offset: int | None = None
    from_end: int | None = None  # 0: the end itself
    from_start: int | None = None
    append_time_ms: int | None = None

    def queries(self, partition: int) -> list[service_pb2.OffsetQuery]:
        """Return what to ask the cluster to know the offset; nothing where it is known."""
        if self.offset is not None:
            return []
        earliest = service_pb2.OffsetQuery(partition=partition, earliest=True)
        if self.append_time_ms is not None:
            return [service_pb2.OffsetQuery(partition=partition, append_time_ms=self.append_time_ms)]
        if self.from_end == 0:
            return [service_pb2.OffsetQuery(partition=partition, latest=True)]
        if self.from_end is not None or self.from_start is not None:
            return [earliest, service_pb2.OffsetQuery(partition=partition, latest=True)]
        return [earliest]

    def resolve(self, answers: list[int]) -> int:
        """Return the offset, given the answers to `queries`."""
        if self.offset is not None:
            return self.offset
        if self.from_end:
            earliest, latest = answers
            return max(earliest, latest - self.from_end)
        if self.from_start is not None:
            earliest, latest = answers
            return min(earliest + self.from_start, latest)
        return answers[0]


EARLIEST = StartAt()
LATEST = StartAt(from_end=0)


def parse_start(start: Start, now: dt.datetime | None = None, *, name: str = "start") -> StartAt:
    """Return what `start` means. Raises UnknownOption, which calls it `name`.

    "earliest" | "latest"; an offset; -N: N before the end of each partition; "+N": N after its start, at most
    the end there is now; a datetime (one without a time zone is local time) or the same as ISO 8601; a
    timedelta, or "-1h30m": that long ago.
    """
    if isinstance(start, int) and not isinstance(start, bool):
        return StartAt(offset=start) if start >= 0 else StartAt(from_end=-start)
    if isinstance(start, str):
        if start in _EARLIEST:
            return EARLIEST
        if start in _LATEST:
            return LATEST
        if start.startswith("+") and start[1:].isascii() and start[1:].isdecimal():
            return StartAt(from_start=int(start[1:]))
    others = "'earliest', 'latest', an offset, -N, '+N', "
    return StartAt(append_time_ms=_milliseconds(start, now, name, others))


def parse_moment(moment: Moment, now: dt.datetime | None = None, *, name: str = "moment") -> StartAt:
    """Return which time is meant: milliseconds since 1970, or a time as for parse_start()."""
    if isinstance(moment, int) and not isinstance(moment, bool):
        return StartAt(append_time_ms=moment)
    return StartAt(append_time_ms=_milliseconds(moment, now, name, "milliseconds since 1970, "))


def _milliseconds(moment: object, now: dt.datetime | None, name: str, others: str) -> int:
    try:
        return int(_datetime(moment, now or dt.datetime.now(dt.UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        expected = f"{others}a datetime, or how long ago: a timedelta or '-1h30m'"
        raise UnknownOption(f"{name}: expected {expected}; got {moment!r}") from None


def _datetime(moment: object, now: dt.datetime) -> dt.datetime:
    if isinstance(moment, dt.datetime):
        return moment
    if isinstance(moment, dt.timedelta):
        return now - moment
    if not isinstance(moment, str):
        raise ValueError
    return now - parse_duration(moment[1:]) if moment.startswith("-") else dt.datetime.fromisoformat(moment)
