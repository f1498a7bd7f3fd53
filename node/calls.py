"""What has become of calls: how long those with one answer took, and which streams are open."""

from __future__ import annotations

from collections import Counter, defaultdict

from quorumlog.raft.durations import Durations


class Calls:
    """Counted where a call ends, not per record. Methods and codes are ours: both are few."""

    def __init__(self) -> None:
        self.durations: defaultdict[tuple[str, str], Durations] = defaultdict(Durations)  # by method and code
        self.open_streams: Counter[str] = Counter()
        self.ended_streams: Counter[tuple[str, str]] = Counter()

    def answered(self, method: str, code: str, duration_s: float) -> None:
        """A call with one answer is over."""
        self.durations[method, code].add(duration_s)

    def opened(self, method: str) -> None:
        """A stream has begun."""
        self.open_streams[method] += 1

    def ended(self, method: str, code: str) -> None:
        """A stream is over."""
        self.open_streams[method] -= 1
        self.ended_streams[method, code] += 1
