"""Durations in buckets: close enough, in bounded memory."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorumlog.command.histogram import Histogram

WIDTH = 1 / 64  # of a bucket, as part of its value


def test_nothing_has_no_percentiles() -> None:
    empty = Histogram()
    assert (empty.count, empty.max_s, empty.percentile_s(50)) == (0, 0.0, None)


@given(st.lists(st.integers(0, 3_600_000_000), min_size=1, max_size=300), st.floats(0.1, 100))
def test_a_percentile_is_never_too_small_and_hardly_too_large(times_us: list[int], percent: float) -> None:
    histogram = Histogram()
    for time_us in times_us:
        histogram.record(time_us / 1e6)
    times_us.sort()
    rank = next(n for n in range(1, len(times_us) + 1) if n >= percent / 100 * len(times_us))
    exact_us = times_us[rank - 1]
    found_us = round((histogram.percentile_s(percent) or 0) * 1e6)
    assert exact_us <= found_us <= exact_us * (1 + WIDTH) + 1
    assert histogram.max_s == times_us[-1] / 1e6


def test_many_records_of_one_batch_count_as_many() -> None:
    histogram = Histogram()
    histogram.record(0.001, 99)
    histogram.record(0.5)
    assert histogram.count == 100
    assert histogram.percentile_s(99) == pytest.approx(0.001, rel=WIDTH)
    assert histogram.percentile_s(100) == 0.5


def test_memory_is_bounded() -> None:
    drawn = random.Random(1)
    histogram = Histogram()
    for _ in range(50_000):
        histogram.record(10 ** drawn.uniform(-6, 6))
    assert len(histogram._counts) < 2_000
