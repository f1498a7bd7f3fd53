"""The harness: percentiles, loops, and that a stall is seen."""

from __future__ import annotations

import asyncio

import pytest

from bench.measure import Latencies, Sample, Series, closed_loop, open_loop


def test_percentiles_are_those_of_what_was_recorded() -> None:
    latencies = Latencies()
    latencies.record(number / 1000 for number in range(1, 1001))  # 1 ms .. 1 s
    for percent, expected_ms in ((50, 500), (99, 990), (99.9, 999), (100, 1000)):
        assert latencies.percentile_ms(percent) == pytest.approx(expected_ms, rel=0.002)


def test_nothing_recorded_has_no_percentile() -> None:
    assert Latencies().percentile_ms(50) is None


def test_what_is_out_of_range_counts_as_its_end() -> None:
    latencies = Latencies()
    latencies.record([0.0, 1e9])
    assert latencies.percentile_ms(0) == pytest.approx(0.001)
    assert latencies.percentile_ms(100) == pytest.approx(120_000, rel=0.002)


def test_a_series_has_the_median_of_its_repeats() -> None:
    series = Series()
    for value in (5.0, 1.0, 3.0):
        series.add(Sample(value, [value], {"cpu_s": 2 * value}))
    assert (series.value, series.figure("cpu_s")) == (3.0, 6.0)
    assert len(series.latencies) == 3


async def test_a_closed_loop_does_so_many_at_once_and_no_more() -> None:
    under_way: list[int] = []
    now = 0

    async def operation() -> None:
        nonlocal now
        now += 1
        under_way.append(now)
        await asyncio.sleep(0)
        now -= 1

    loop = await closed_loop(operation, 100, at_once=4)
    assert len(loop.times_s) == 100
    assert max(under_way) == 4


async def test_a_closed_loop_ends_when_its_time_is_over() -> None:
    assert len((await closed_loop(lambda: asyncio.sleep(0), 1_000_000, most_s=0.0)).times_s) == 1


async def test_an_open_loop_starts_what_is_due_behind_a_stall_and_counts_from_then() -> None:
    """All are held up until the last was due: each is late by what was left of the stall."""
    count, per_s = 20, 200.0
    started = 0
    stall = asyncio.Event()

    async def operation() -> None:
        nonlocal started
        started += 1
        if started == count:
            stall.set()
        await stall.wait()

    loop = await open_loop(operation, per_s=per_s, seconds=count / per_s)
    assert len(loop.times_s) == count
    lateness_s = sorted(loop.times_s, reverse=True)
    for number, late_s in enumerate(lateness_s):
        assert late_s >= (count - 1 - number) / per_s - 1e-6
