"""What a case found: our side, the peers, the machine's limit; and the file that keeps it."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from bench.measure import Series

Better: TypeAlias = Literal["higher", "lower"]


@dataclass(frozen=True, slots=True)
class Limit:
    """What the machine could do at best, in the case's unit, and what that is."""

    value: float
    what: str


@dataclass(frozen=True, slots=True)
class Result:
    """One case.

    `ratio` and `limit_ratio` are above 1 where we are better than the peer or the limit, whichever way the
    unit counts. `peer` is the best of those that did the same work; all of them are in `peers`.
    """

    case: str
    unit: str
    better: Better
    ours: Series
    conditions: str
    peers: dict[str, Series] = field(default_factory=dict)
    limit: Limit | None = None
    figures: dict[str, Any] = field(default_factory=dict)

    @property
    def peer(self) -> str | None:
        """The name of the best peer."""
        if not self.peers:
            return None
        best = max if self.better == "higher" else min
        return best(self.peers, key=lambda name: self.peers[name].value)

    def ratio_to(self, other: float) -> float:
        """Above 1: ours is better."""
        return self.ours.value / other if self.better == "higher" else other / self.ours.value

    def as_json(self) -> dict[str, Any]:
        """Return the object that is kept."""
        peer = self.peer
        peer_value = None if peer is None else self.peers[peer].value
        return {
            "case": self.case,
            **_side(self.ours),
            "unit": self.unit,
            "better": self.better,
            "peer": peer,
            "peer_value": peer_value,
            "ratio": None if peer_value is None else _short(self.ratio_to(peer_value)),
            "limit": None if self.limit is None else _short(self.limit.value),
            "limit_ratio": None if self.limit is None else _short(self.ratio_to(self.limit.value)),
            "limit_is": None if self.limit is None else self.limit.what,
            "values": [_short(value) for value in self.ours.values],
            "peers": {name: _side(series) for name, series in self.peers.items()},
            "figures": {**_medians(self.ours), **_shortened(self.figures)},
            "conditions": self.conditions,
        }


class Kept:
    """The file: an object with the limits of the newest run, and the newest result of each case."""

    def __init__(self, path: Path, limits: dict[str, Any]) -> None:
        self._path = path
        self._limits = limits
        self.new: list[dict[str, Any]] = []  # what this run has found

    def add(self, results: Iterable[Result]) -> None:
        """Put results in the places of older ones, and write the file."""
        now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
        added = [{**result.as_json(), "measured": now} for result in results]
        self.new += added
        cases = {each["case"]: each for each in (*self._old(), *added)}
        kept = {"limits": {**self._limits, "measured": now}, "cases": list(cases.values())}
        self._path.parent.mkdir(exist_ok=True)
        self._path.write_text(json.dumps(kept, indent=2) + "\n")

    def _old(self) -> list[dict[str, Any]]:
        if not self._path.exists():
            return []
        old: list[dict[str, Any]] = json.loads(self._path.read_text())["cases"]
        return old


def _side(series: Series) -> dict[str, Any]:
    percentiles = {"p50_ms": 50.0, "p99_ms": 99.0, "p999_ms": 99.9}
    return {
        "value": _short(series.value),
        "min": _short(min(series.values)),
        "max": _short(max(series.values)),
        **{name: series.latencies.percentile_ms(percent) for name, percent in percentiles.items()},
    }


def _medians(series: Series) -> dict[str, float]:
    return {name: _short(series.figure(name)) for name in series.figures}


def _shortened(figures: dict[str, Any]) -> dict[str, Any]:
    return {name: _short(each) if isinstance(each, float) else each for name, each in figures.items()}


def _short(value: float) -> float:
    """Four digits: no figure here is better than that."""
    return float(f"{value:.4g}")
