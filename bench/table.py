"""Results as rows that are read, from the objects that are kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_TITLES = ("case", "median", "min .. max", "unit", "p50 / p99 / p99.9 ms", "peer", "ratio", "of limit")


def table(cases: Sequence[dict[str, Any]]) -> str:
    """Return all rows, aligned, with a title."""
    rows = [_TITLES, *(_row(case) for case in cases)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_TITLES))]
    return "\n".join(_aligned(row, widths) for row in rows)


def number(value: float | None) -> str:
    """Three digits or so, with thousands apart; a dash for what there is not."""
    if value is None:
        return "-"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _row(case: dict[str, Any]) -> tuple[str, ...]:
    times = [case["p50_ms"], case["p99_ms"], case["p999_ms"]]
    peer = "-" if case["peer"] is None else f"{case['peer']} {number(case['peer_value'])}"
    return (
        case["case"],
        number(case["value"]),
        f"{number(case['min'])} .. {number(case['max'])}",
        case["unit"],
        "-" if times[0] is None else " / ".join(number(each) for each in times),
        peer,
        number(case["ratio"]),
        number(case["limit_ratio"]),
    )


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
