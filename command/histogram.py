"""Durations in buckets that widen with their value: bounded memory, percentiles to 2 %. No I/O.

Microseconds below 128 have a bucket each; above, each power of two is cut into 64:

    bucket = 64 * shift + (us >> shift)      shift: so that us >> shift is from 64 to 127
"""

from __future__ import annotations

from collections import Counter
from typing import Final

_PARTS: Final = 64
_PARTS_BITS: Final = 7  # of the numbers that have a bucket each
_LONGEST_US: Final = 3_600_000_000  # what took longer counts as an hour, but for the maximum


class Histogram:
    """See the module. Seconds go in and come out."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()  # by bucket: at most some 1,800
        self.count = 0
        self.max_s = 0.0

    def record(self, duration_s: float, count: int = 1) -> None:
        """So many took so long."""
        self._counts[_bucket(min(max(0, round(duration_s * 1e6)), _LONGEST_US))] += count
        self.count += count
        self.max_s = max(self.max_s, duration_s)

    def percentile_s(self, percent: float) -> float | None:
        """Return what so many in a hundred took at most; None where nothing was recorded."""
        wanted, total = percent / 100 * self.count, 0
        for bucket in sorted(self._counts):
            total += self._counts[bucket]
            if total >= wanted:
                return min(_upper_us(bucket) / 1e6, self.max_s)
        return None


def _bucket(us: int) -> int:
    shift = max(0, us.bit_length() - _PARTS_BITS)
    return _PARTS * shift + (us >> shift)


def _upper_us(bucket: int) -> int:
    shift = max(0, bucket // _PARTS - 1)
    return ((bucket - _PARTS * shift + 1) << shift) - 1
