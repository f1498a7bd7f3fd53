"""Segment header: the first page of a segment's log file, less the synced slots (watermark.py)."""

from __future__ import annotations

from dataclasses import dataclass

from quorumlog.proto.checksum import crc32c, masked
from quorumlog.storage.errors import Damaged, UnknownVersion
from quorumlog.storage.format import (
    SEGMENT_HEADER,
    SEGMENT_HEADER_BYTES,
    SEGMENT_MAGIC,
    SUM,
    VERSION,
)
from quorumlog.storage.manifest import LogIdentity


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """What a segment says of itself and of what stands before it. The same on every replica."""

    base: int  # raft index of the first entry
    previous_term: int  # of entry base - 1
    previous_chain: int  # of entry base - 1
    previous_base: int  # of the segment before; 0: this is the log's first ever
    ordinal: int  # 1 for the log's first segment; so a missing file is noticed by counting
    generation: int = 0  # grows when the cleaner rewrites the segment

    def encode(self, identity: LogIdentity) -> bytes:
        """Return the fixed part of the page."""
        fields = SEGMENT_HEADER.pack(
            SEGMENT_MAGIC,
            VERSION,
            0,
            SEGMENT_HEADER_BYTES,
            identity.cluster_id,
            identity.group,
            self.generation,
            self.base,
            self.previous_term,
            self.previous_chain,
            self.previous_base,
            self.ordinal,
        )
        return fields + SUM.pack(masked(crc32c(fields)))

    @classmethod
    def decode(cls, page: bytes, identity: LogIdentity, base: int, name: str) -> SegmentHeader:
        """Read the page. Raises Damaged, UnknownVersion or WrongIdentity."""
        if len(page) < SEGMENT_HEADER_BYTES:
            raise Damaged(name, 0, None, f"header: expected {SEGMENT_HEADER_BYTES} bytes, got {len(page)}")
        fields = SEGMENT_HEADER.unpack_from(page)
        magic, version, _, _, cluster_id, group, generation, stated_base, term, chain, previous, ordinal = (
            fields
        )
        (stated,) = SUM.unpack_from(page, SEGMENT_HEADER.size)
        actual = masked(crc32c(page[: SEGMENT_HEADER.size]))
        if magic != SEGMENT_MAGIC or stated != actual:
            reason = f"header: magic {magic!r}, crc {stated:#010x} stated, got {actual:#010x}"
            raise Damaged(name, 0, None, reason)
        if version != VERSION:
            raise UnknownVersion(f"{name}: version: expected {VERSION}, got {version}")
        identity.check(cluster_id, group, name)
        if stated_base != base:
            raise Damaged(name, 0, None, f"header: base: expected {base}, got {stated_base}")
        return cls(base, term, chain, previous, ordinal, generation)
