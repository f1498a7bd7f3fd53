"""One figure: a warm-up, repeats, their median, and every operation's latency in a histogram.

A *closed loop* starts the next operation when one has ended: it says how much can be done. An *open loop*
starts operations at fixed moments and counts each from the moment at which it was meant to start, so that
what a stall holds up counts as late, too.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from hdrh.histogram import HdrHistogram

_LOWEST_US = 1
_HIGHEST_US = 120_000_000  # two minutes: longer than any case waits
_DIGITS = 3


class Latencies:
    """A histogram of seconds; percentiles in milliseconds, to three digits."""

    def __init__(self) -> None:
        self._histogram: Any = HdrHistogram(_LOWEST_US, _HIGHEST_US, _DIGITS)

    def __len__(self) -> int:
        return int(self._histogram.get_total_count())

    def record(self, times_s: Iterable[float]) -> None:
        """Add some operations; what is out of range counts as its end."""
        for time_s in times_s:
            self._histogram.record_value(min(max(round(time_s * 1e6), _LOWEST_US), _HIGHEST_US))

    def percentile_ms(self, percent: float) -> float | None:
        """None where nothing was recorded."""
        return self._histogram.get_value_at_percentile(percent) / 1000 if len(self) else None


@dataclass(frozen=True, slots=True)
class Sample:
    """One repeat: its value in the case's unit, and what single operations took."""

    value: float
    times_s: Sequence[float] = ()
    figures: dict[str, float] = field(default_factory=dict)  # other things seen, by name with unit


@dataclass(slots=True)
class Series:
    """The repeats of one side."""

    values: list[float] = field(default_factory=list)
    latencies: Latencies = field(default_factory=Latencies)
    figures: dict[str, list[float]] = field(default_factory=dict)

    def add(self, sample: Sample) -> None:
        """Take in one repeat."""
        self.values.append(sample.value)
        self.latencies.record(sample.times_s)
        for name, value in sample.figures.items():
            self.figures.setdefault(name, []).append(value)

    @property
    def value(self) -> float:
        """The median of the repeats."""
        return statistics.median(self.values)

    def figure(self, name: str) -> float:
        """The median of one of the other figures."""
        return statistics.median(self.figures[name])


@dataclass(frozen=True, slots=True)
class Loop:
    """What a loop did: what each operation took, in seconds, and all of them together."""

    times_s: list[float]
    elapsed_s: float

    @property
    def per_s(self) -> float:
        """Operations in a second."""
        return len(self.times_s) / self.elapsed_s

    @property
    def median_ms(self) -> float:
        """Of one operation."""
        return statistics.median(self.times_s) * 1000

    def throughput(self) -> Sample:
        """The repeat's value is operations in a second."""
        return Sample(self.per_s, self.times_s)

    def latency(self) -> Sample:
        """The repeat's value is the median of an operation, in milliseconds."""
        return Sample(self.median_ms, self.times_s)


async def closed_loop(
    operation: Callable[[], Awaitable[object]], count: int, *, at_once: int = 1, most_s: float = 5.0
) -> Loop:
    """Do `count` operations, `at_once` at a time; fewer where `most_s` is over."""
    times_s: list[float] = []
    tickets = iter(range(count))
    began_s = time.perf_counter()

    async def one_after_the_other() -> None:
        for _ in tickets:
            start_s = time.perf_counter()
            await operation()
            end_s = time.perf_counter()
            times_s.append(end_s - start_s)
            if end_s - began_s > most_s:
                return

    await asyncio.gather(*(one_after_the_other() for _ in range(at_once)))
    return Loop(times_s, time.perf_counter() - began_s)


async def open_loop(
    operation: Callable[[], Awaitable[object]],
    *,
    per_s: float,
    seconds: float,
    began_s: float | None = None,
) -> Loop:
    """Start an operation every 1/per_s seconds, whether those before have ended or not.

    The first is meant to start at `began_s` of time.perf_counter(), by default soon.
    """
    times_s: list[float] = []
    began_s = time.perf_counter() + 1 / per_s if began_s is None else began_s

    async def one(intended_s: float) -> None:
        await operation()
        times_s.append(time.perf_counter() - intended_s)

    async with asyncio.TaskGroup() as group:
        for number in range(round(per_s * seconds)):
            intended_s = began_s + number / per_s
            await until(intended_s)
            group.create_task(one(intended_s))
    return Loop(times_s, time.perf_counter() - began_s)


async def until(moment_s: float) -> None:
    """Wait for a moment of time.perf_counter(). Loops keep time to a millisecond, threads to a tenth."""
    if moment_s > time.perf_counter():
        await asyncio.to_thread(_sleep_until, moment_s)


def _sleep_until(moment_s: float) -> None:
    time.sleep(max(0.0, moment_s - time.perf_counter()))
