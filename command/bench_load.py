"""What `quorumlog bench` does and finds: the plan of a load, and its figures. No I/O.

With a rate a load is an open loop: each operation has a moment at which it is meant to start, and counts from
then, so that what a stall holds up counts as late too. Without one it is a closed loop: the next operation
starts when one has ended, and counts from its own start.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final

from quorumlog.command.histogram import Histogram

STAMP_BYTES: Final = 16  # the run, and when the record was meant to be sent: in values of `bench both`
_POOL: Final = 512  # different values, used again and again
_CLOCK_BYTES: Final = 8
_MICROSECONDS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Load:
    """How much is to be done. `records`, `duration_s`: whichever comes first; one of them may be None."""

    records: int | None
    duration_s: float | None
    size: int  # bytes of a value
    rate: float | None  # records in a second; None: as fast as they are acknowledged
    batch: int  # records handed over at once
    concurrency: int  # such batches under way


@dataclass(frozen=True, slots=True)
class Ticket:
    """Send `count` records, at `intended_s`; None: now."""

    count: int
    intended_s: float | None


class Tickets:
    """Gives out the operations of a load, in their order."""

    def __init__(self, load: Load, began_s: float) -> None:
        self._load = load
        self._began_s = began_s
        self.given = 0  # records

    def take(self, now_s: float) -> Ticket | None:
        """Return the next operation; None: that was all."""
        load = self._load
        count = load.batch if load.records is None else min(load.batch, load.records - self.given)
        intended_s = None if load.rate is None else self._began_s + self.given / load.rate
        starts_s = now_s if intended_s is None else intended_s
        is_over = load.duration_s is not None and starts_s - self._began_s >= load.duration_s
        if count <= 0 or is_over:
            return None
        self.given += count
        return Ticket(count, intended_s)


@dataclass(slots=True)
class Meter:
    """What has been done so far, on one side."""

    began_s: float
    records: int = 0
    value_bytes: int = 0
    failed: int = 0  # records that were sent and not acknowledged
    ended_s: float = 0.0  # when something was done last
    latencies: Histogram = field(default_factory=Histogram)

    def done(self, records: int, value_bytes: int, now_s: float) -> None:
        """Count records that have arrived."""
        self.records += records
        self.value_bytes += value_bytes
        self.ended_s = now_s


@dataclass(frozen=True, slots=True)
class Figures:
    """The result of one side. Latencies in milliseconds; None where there are none."""

    records: int
    failed: int
    elapsed_s: float
    records_per_s: float
    mb_per_s: float  # of values, in 10^6 bytes
    p50_ms: float | None
    p99_ms: float | None
    p99_9_ms: float | None
    max_ms: float | None


def figures(meter: Meter) -> Figures:
    """Return what was measured so far."""
    elapsed_s = max(meter.ended_s - meter.began_s, 0.0)
    latencies = meter.latencies

    def percentile_ms(percent: float) -> float | None:
        found_s = latencies.percentile_s(percent)
        return None if found_s is None else round(found_s * 1000, 3)

    return Figures(
        records=meter.records,
        failed=meter.failed,
        elapsed_s=round(elapsed_s, 3),
        records_per_s=round(meter.records / elapsed_s, 1) if elapsed_s else 0.0,
        mb_per_s=round(meter.value_bytes / elapsed_s / 1e6, 3) if elapsed_s else 0.0,
        p50_ms=percentile_ms(50),
        p99_ms=percentile_ms(99),
        p99_9_ms=percentile_ms(99.9),
        max_ms=round(latencies.max_s * 1000, 3) if latencies.count else None,
    )


class Values:
    """Values to send: hexadecimal digits at random, which compress to about half."""

    def __init__(self, size: int, random: Random, run: bytes = b"") -> None:
        """`run`: 8 bytes that begin each value, with the moment behind them; empty: values are bare."""
        self._run = run
        rest = size - STAMP_BYTES if run else size
        self._pool = [random.randbytes((rest + 1) // 2).hex().encode()[:rest] for _ in range(_POOL)]
        self._next = 0

    def take(self, count: int, moment_s: float) -> Sequence[bytes]:
        """Return some values that were meant to be sent at that moment."""
        numbers = range(self._next, self._next + count)
        self._next = (self._next + count) % _POOL
        if not self._run:
            return [self._pool[number % _POOL] for number in numbers]
        stamp = self._run + round(moment_s * _MICROSECONDS).to_bytes(_CLOCK_BYTES, "big")
        return [stamp + self._pool[number % _POOL] for number in numbers]


def sent_s(value: bytes | None, run: bytes) -> float | None:
    """Return when a value was meant to be sent; None where it is not of this run."""
    if value is None or not value.startswith(run) or len(value) < STAMP_BYTES:
        return None
    return int.from_bytes(value[len(run) : STAMP_BYTES], "big") / _MICROSECONDS
