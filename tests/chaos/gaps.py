"""How long nobody was acknowledged because of a fault: from the probe's writes and the nemesis' notes. Pure.

A gap is the longest time between two acknowledgements of the probe that begins before the fault is undone and
ends after it was there; what of it lies before the fault does not count. (To the first acknowledgement after
the fault would say less: that one may have been on its way, and a rolling restart has more than one moment.)
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from tests.chaos.history import Fault, Outcome, Write


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile of some values."""
    assert values, "no values have no percentile"
    rank = max(math.ceil(percent / 100 * len(values)), 1)
    return sorted(values)[rank - 1]


class Probe:
    """The acknowledged writes of one producer that sends one record after the other."""

    def __init__(self, writes: Iterable[Write]) -> None:
        self._acked_s = sorted(one.ended_s for one in writes if one.outcome is Outcome.OK)

    def gap_s(self, began_s: float, ended_s: float) -> float | None:
        """The longest time without an acknowledgement, or None when none came any more."""
        first = bisect.bisect_right(self._acked_s, began_s)  # the first one after it began
        last = bisect.bisect_left(self._acked_s, ended_s)  # the first one after it was undone
        if last == len(self._acked_s):
            return None
        times = [began_s, *self._acked_s[first : last + 1]]
        return max(later - earlier for earlier, later in itertools.pairwise(times))


def gaps_by_kind(faults: Iterable[Fault], probe: Probe) -> dict[str, list[float]]:
    """Seconds without an acknowledgement, by kind of fault."""
    gaps: dict[str, list[float]] = defaultdict(list)
    for fault in faults:
        gap = probe.gap_s(fault.began_s, fault.ended_s)
        if gap is not None:
            gaps[fault.kind].append(gap)
    return dict(gaps)


def summary_ms(gaps: Mapping[str, Sequence[float]]) -> dict[str, dict[str, float]]:
    """Count, p50, p99 and maximum of each kind, in milliseconds."""
    return {
        kind: {
            "count": len(values),
            "p50": round(percentile(values, 50) * 1000),
            "p99": round(percentile(values, 99) * 1000),
            "max": round(max(values) * 1000),
        }
        for kind, values in sorted(gaps.items())
    }
