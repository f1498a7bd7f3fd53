"""Texts that are kept and compared: what a change does to them stands in its diff.

    QUORUMLOG_RENEW_SNAPSHOTS=1 .venv/bin/python -m pytest tests/command/test_snapshots.py

writes them anew.
"""

from __future__ import annotations

import os
from pathlib import Path

RENEW = "QUORUMLOG_RENEW_SNAPSHOTS"
DIRECTORY = Path(__file__).parents[1] / "command" / "snapshots"


def check_snapshot(name: str, text: str) -> None:
    """Compare a text with the one that is kept, or keep it."""
    file = DIRECTORY / f"{name}.txt"
    if os.environ.get(RENEW):
        DIRECTORY.mkdir(exist_ok=True)
        file.write_text(text)
    kept = file.read_text() if file.exists() else ""
    assert text == kept, f"{name} has changed: if it shall be so, run this test with {RENEW}=1"


def kept_snapshots() -> set[str]:
    """Return the names of those that are kept."""
    return {file.stem for file in DIRECTORY.glob("*.txt")}
