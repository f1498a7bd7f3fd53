"""I7: after quiescence the segment files of all replicas hold the same bytes.

Only what can be compared is: the header page says, on purpose, how far this node's disk was synced, and the
end of the active segment is preallocated zeros. Replicas may have dropped different numbers of old segments.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

SEGMENT_HEADER_BYTES = 4096


def differences(data: Mapping[str, Path]) -> list[str]:
    """Say what differs between the nodes' data directories; empty when nothing does."""
    sums = {node: _sums(directory) for node, directory in data.items()}
    problems = [f"{node}: no segments in {data[node]}" for node, found in sums.items() if not found]
    if problems:
        return problems
    first_kept = max(min(found) for found in sums.values())
    for name in sorted({name for found in sums.values() for name in found if name >= first_kept}):
        values = {node: found.get(name, "missing") for node, found in sums.items()}
        if len(set(values.values())) > 1:
            problems.append(f"segment {name}: {values}")
    return problems


def _sums(data: Path) -> dict[str, str]:
    return {file.name: _sum(file) for file in sorted(data.glob("group-0/log/*.log"))}


def _sum(file: Path) -> str:
    """Size and digest of the frames."""
    frames = file.read_bytes()[SEGMENT_HEADER_BYTES:].rstrip(b"\0")
    return f"{len(frames)} bytes {hashlib.blake2b(frames, digest_size=8).hexdigest()}"
