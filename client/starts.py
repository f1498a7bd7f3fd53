"""Where a consumer starts: what users may write, and the offset that it means."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TypeAlias

from quorumlog.client.errors import UnknownOption
from quorumlog.proto import service_pb2

Start: TypeAlias = "str | int | dt.datetime | dt.timedelta"

_EARLIEST = ("earliest", "start", "beginning")
_LATEST = ("latest", "end")


@dataclass(frozen=True, slots=True)
class StartAt:
    """Exactly one is set: an offset, how many from the end, a time; or earliest."""

    offset: int | None = None
    from_end: int | None = None  # 0: the end itself
    append_time_ms: int | None = None

    def queries(self, partition: int) -> list[service_pb2.OffsetQuery]:
        """Return what to ask the cluster to know the offset; nothing where it is known."""
        if self.offset is not None:
            return []
        earliest = service_pb2.OffsetQuery(partition=partition, earliest=True)
        if self.append_time_ms is not None:
            return [service_pb2.OffsetQuery(partition=partition, append_time_ms=self.append_time_ms)]
        if self.from_end is not None:
            return [earliest, service_pb2.OffsetQuery(partition=partition, latest=True)]
        return [earliest]

    def resolve(self, answers: list[int]) -> int:
        """Return the offset, given the answers to `queries`."""
        if self.offset is not None:
            return self.offset
        if self.from_end is not None:
            earliest, latest = answers
            return max(earliest, latest - self.from_end)
        return answers[0]


def parse_start(start: Start, now: dt.datetime | None = None) -> StartAt:
    """Return what `start` means. Raises UnknownOption.

    "earliest" | "latest"; an offset; -N: the last N of each partition; a datetime (one without a time zone
    is local time); a timedelta: that long ago.
    """
    if isinstance(start, bool) or not isinstance(start, str | int | dt.datetime | dt.timedelta):
        raise UnknownOption(
            f"start: expected 'earliest', 'latest', int, datetime or timedelta, got {start!r}"
        )
    if isinstance(start, dt.timedelta):
        return _at((now or dt.datetime.now(dt.UTC)) - start)
    if isinstance(start, dt.datetime):
        return _at(start)
    if isinstance(start, int):
        return StartAt(offset=start) if start >= 0 else StartAt(from_end=-start)
    if start in _EARLIEST:
        return StartAt()
    if start in _LATEST:
        return StartAt(from_end=0)
    raise UnknownOption(f"start: expected 'earliest', 'latest', int, datetime or timedelta, got {start!r}")


def _at(moment: dt.datetime) -> StartAt:
    return StartAt(append_time_ms=int(moment.timestamp() * 1000))
