"""Options of a log: sizes that are this node's own."""

from __future__ import annotations

from dataclasses import dataclass

from quorumlog.storage.format import MAX_SEGMENT_BYTES, SEGMENT_HEADER_BYTES

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class LogOptions:
    """Sizes of this node's own; replicas may differ in them."""

    segment_bytes: int = 64 * MIB  # a leader starts a new segment rather than exceed it
    segment_entries: int = 100_000  # bounds what is replayed at start and what a view holds
    reserve_bytes: int = 8 * MIB  # left free for term, state and view files and a leader's no-op
    open_segments: int = 64  # sealed ones kept open: descriptors and maps, not memory

    def __post_init__(self) -> None:
        assert SEGMENT_HEADER_BYTES < self.segment_bytes <= MAX_SEGMENT_BYTES, self.segment_bytes
        assert self.segment_entries >= 1
        assert self.open_segments >= 1
