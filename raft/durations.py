"""How long something took, counted in buckets: cheap to add to, and made into a histogram only when asked."""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

# Seconds, upper ends: from a local fdatasync to what somebody should look at.
BOUNDS_S: Final = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
)  # fmt: skip


class Durations:
    """Counts by bucket; the last one is for what took longer. Used on one thread."""

    __slots__ = ("counts", "sum_s")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_S) + 1)
        self.sum_s = 0.0

    def add(self, duration_s: float) -> None:
        """Something took so long."""
        self.counts[bisect_left(BOUNDS_S, duration_s)] += 1
        self.sum_s += duration_s

    def cumulative(self) -> list[tuple[str, int]]:
        """Return (upper end, how many took at most so long), as Prometheus has it."""
        total = 0
        buckets = []
        for bound, count in zip((*map(str, BOUNDS_S), "+Inf"), self.counts, strict=True):
            total += count
            buckets.append((bound, total))
        return buckets

    def quantile_s(self, part: float) -> float:
        """Return the upper end of the bucket in which that part (0 to 1) of them has ended.

        0 where nothing was counted; the last bound also stands for what took longer.
        """
        wanted = part * sum(self.counts)
        total = 0
        for bound_s, count in zip((*BOUNDS_S, BOUNDS_S[-1]), self.counts, strict=True):
            total += count
            if total >= wanted and total:
                return bound_s
        return 0.0
