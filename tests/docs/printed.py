"""Comparing what a command prints with what a page shows.

A page shows one run; these rules say what differs from run to run, and nothing else may. A line `...` stands
for any lines.
"""

from __future__ import annotations

import re
from collections.abc import Callable


def _sorted(names: re.Match[str]) -> str:
    return ", ".join(sorted(names[0].split(", ")))


# In this order. Each names what it hides. A page's names may have been swapped: see translation.py.
RULES: tuple[tuple[str, re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = (
    ("directories", re.compile(r'"data": "[^"]*"'), '"data": DIRECTORY'),
    ("colours", re.compile(r"\x1b\[[0-9;?]*[A-Za-z]"), ""),
    ("addresses", re.compile(r"\b(127\.0\.0\.1|localhost):\d+\b"), "ADDRESS"),
    ("moments", re.compile(r"\b\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?(\+00:00|Z)?"), "MOMENT"),
    ("milliseconds since 1970", re.compile(r"\b1[6-9]\d{11}\b"), "MOMENT"),
    ("times of day", re.compile(r"\b\d\d:\d\d:\d\d(\.\d+)?\b"), "TIME"),
    ("durations", re.compile(r"\b\d[\d,.]*\s?(ms|s|min)\b"), "DURATION"),
    ("sizes", re.compile(r"\b\d[\d,.]* (B|KiB|MiB|GiB)\b"), "SIZE"),
    ("rates", re.compile(r"\b[\d,]+( records)?/s\b"), "RATE"),
    ("processes", re.compile(r"\b(pid|kill|kill -9) \d+"), r"\1 PID"),
    ("versions", re.compile(r"\bPython 3\.\d+\.\d+\b"), "PYTHON"),
    ("raft's counters", re.compile(r"(\"raft_index\": |\"raft_term\": |term )\d+"), r"\1N"),
    ("who is elected", re.compile(r"\bleader n\d -> n\d"), "leader NODE -> NODE"),
    ("who leads", re.compile(r"\b(leader:? )n\d\b|\bn\d( leads)\b"), r"\1NODE\2"),
    ("a node's row", re.compile(r"^n\d +(leader|follower) .*$", re.MULTILINE), "NODE, well"),
    ("order of nodes", re.compile(r"\bn\d(, n\d)+"), _sorted),
    ("widths of columns", re.compile(r"(?<=\S) {2,}"), "  "),
    ("ends of lines", re.compile(r"[ \t]+$", re.MULTILINE), ""),
)

ANYTHING = "..."


def comparable(text: str) -> str:
    """Return what has to be equal."""
    for _, pattern, replacement in RULES:
        text = pattern.sub(replacement, text)
    return text.strip("\n")


def matches(shown: str, printed: str) -> bool:
    """Whether a page's output fits what was printed."""
    parts = [re.escape(line) for line in comparable(shown).splitlines()]
    pattern = "\n".join("(?s:.*)" if part == re.escape(ANYTHING) else part for part in parts)
    return re.fullmatch(pattern, comparable(printed)) is not None


def begins(shown: str, printed: str) -> bool:
    """The same for a command that has not ended: all that is shown has been printed."""
    return matches(shown, printed) or matches(f"{shown}\n{ANYTHING}", printed)
