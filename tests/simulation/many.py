"""Many seeds, on all cores, and what they came to together."""

from __future__ import annotations

import logging
import multiprocessing
import signal
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial

from tests.simulation.run import Outcome, run

PROGRESS_EVERY_S = 10.0


class Tally:
    """What all runs together came to."""

    def __init__(self) -> None:
        self.seeds = 0
        self.violations = 0
        self.simulated_s = 0.0
        self.cpu_s = 0.0
        self.acknowledged = 0
        self.unknown = 0
        self.reads = 0
        self.faults: Counter[str] = Counter()
        self.healed_in_s: list[float] = []

    def add(self, outcome: Outcome) -> None:
        self.seeds += 1
        self.violations += outcome.violation is not None
        self.simulated_s += outcome.simulated_s
        self.cpu_s += outcome.cpu_s
        self.acknowledged += outcome.acknowledged
        self.unknown += outcome.unknown
        self.reads += outcome.reads
        self.faults.update(outcome.faults)
        self.healed_in_s.append(outcome.healed_in_s)

    def summary(self) -> dict[str, object]:
        healed = sorted(self.healed_in_s) or [0.0]
        return {
            "seeds": self.seeds,
            "violations": self.violations,
            "simulated_hours": round(self.simulated_s / 3600, 2),
            "acknowledged": self.acknowledged,
            "unknown": self.unknown,
            "reads": self.reads,
            "healed_s": {
                "p50": round(healed[len(healed) // 2], 2),
                "p99": round(healed[len(healed) * 99 // 100], 2),
                "max": round(healed[-1], 2),
            },
            "cpu_s": round(self.cpu_s, 1),
            "faults": dict(sorted(self.faults.items())),
        }


def replay_command(outcome: Outcome, seconds: float, mix: str | None) -> str:
    """How to see one run again, with everything that happened in it."""
    more = f" MIX={mix}" if mix else ""
    return f"make simulate TRACE={outcome.seed} NODES={outcome.nodes} SECONDS={seconds:g}{more}"


def simulate(seeds: Iterable[int], nodes: int, seconds: float, mix: str | None, workers: int) -> Tally:
    """Run the seeds, telling how it goes on the way. Ctrl-C ends it; what is done by then counts."""
    tally = Tally()
    began = told = time.monotonic()
    try:
        for outcome in _outcomes(seeds, nodes, seconds, mix, workers):
            tally.add(outcome)
            if outcome.violation is not None:
                print(f"seed {outcome.seed} ({outcome.mix}): {outcome.violation}")
                print(f"  replay: {replay_command(outcome, seconds, mix)}", flush=True)
            if time.monotonic() - told > PROGRESS_EVERY_S:
                told = time.monotonic()
                print(
                    f"{tally.seeds} seeds in {told - began:.0f} s, {tally.violations} violations, "
                    f"{tally.acknowledged} records acknowledged",
                    flush=True,
                )
    except KeyboardInterrupt:
        print("stopped")
    return tally


def _outcomes(
    seeds: Iterable[int], nodes: int, seconds: float, mix: str | None, workers: int
) -> Iterator[Outcome]:
    work = partial(run, nodes=nodes, seconds=seconds, mix=mix)
    if workers == 1:
        yield from map(work, seeds)
        return
    context = multiprocessing.get_context("spawn")
    with context.Pool(workers, _begin_worker) as pool:
        yield from pool.imap_unordered(work, seeds, chunksize=1)


def _begin_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends us
    logging.disable(logging.CRITICAL)
