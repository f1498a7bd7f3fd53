"""Why a failover took long, from what the nodes logged. Pure.

Log lines begin with the wall clock to the millisecond: `2026-01-31 12:00:00,123 INFO n2 quorumlog...: text`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

_LINE = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}) \w+ (\S+) [\w.]+: (.*)")
_LEADS = re.compile(r"term (\d+): this node leads from entry \d+ on")


@dataclass(frozen=True, slots=True)
class Election:
    """A node began to lead."""

    time_s: float  # wall clock
    node: str
    term: int


def elections(logs: Mapping[str, str]) -> list[Election]:
    """All that were won, in their order."""
    found = []
    for text in logs.values():
        for line in text.splitlines():
            match = _LINE.match(line)
            leads = _LEADS.fullmatch(match[3]) if match is not None else None
            if match is not None and leads is not None:
                moment = datetime.strptime(match[1], "%Y-%m-%d %H:%M:%S,%f").timestamp()
                found.append(Election(moment, match[2], int(leads[1])))
    return sorted(found, key=lambda one: one.time_s)


def explain(killed_s: float, acked_s: float, term_before: int, logs: Mapping[str, str]) -> str:
    """One line about the time from a kill to the next acknowledgement; times are of the wall clock."""
    won = [one for one in elections(logs) if killed_s <= one.time_s <= acked_s and one.term > term_before]
    if not won:
        return "no election was won in that time"
    parts = []
    before = term_before
    for one in won:
        lost = one.term - before - 1
        unwon = f" after {lost} that nobody won" if lost else ""
        parts.append(f"{one.node} led term {one.term}{unwon} at {(one.time_s - killed_s) * 1000:.0f} ms")
        before = one.term
    last_ms = (acked_s - won[-1].time_s) * 1000
    return f"{'; '.join(parts)}; acknowledged {last_ms:.0f} ms later"
