"""Durations in buckets: what they say of a part of them."""

from __future__ import annotations

import pytest

from quorumlog.raft.durations import BOUNDS_S, Durations


def durations(*times_s: float) -> Durations:
    made = Durations()
    for time_s in times_s:
        made.add(time_s)
    return made


@pytest.mark.parametrize(
    ("times_s", "part", "expected"),
    [
        ((), 0.5, 0.0),
        ((0.0007,), 0.5, 0.001),
        ((0.0007,) * 99 + (0.2,), 0.5, 0.001),
        ((0.0007,) * 99 + (0.2,), 0.99, 0.001),
        ((0.0007,) * 98 + (0.2,) * 2, 0.99, 0.25),
        ((3600.0,), 0.99, BOUNDS_S[-1]),
    ],
)
def test_a_quantile_is_the_end_of_its_bucket(
    times_s: tuple[float, ...], part: float, expected: float
) -> None:
    assert durations(*times_s).quantile_s(part) == expected
