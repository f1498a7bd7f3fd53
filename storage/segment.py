"""Segment: one stretch of the log, a log file and its index, as readers see it.

Reading takes no lock and may happen in any thread. Whatever is read is verified; bytes that are not what
was written raise Damaged and are never returned.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from quorumlog.storage.errors import Damaged
from quorumlog.storage.format import SEGMENT_HEADER_BYTES
from quorumlog.storage.frame import BadFrame, Frame, count_frames, indexes_of_kind, parse_frame
from quorumlog.storage.header import SegmentHeader
from quorumlog.storage.index import Index
from quorumlog.storage.store import Store

_SCAN_BYTES = 1 << 20


def file_name(base: int, suffix: str) -> str:
    """Return the name of a segment's file: "log", "index", "view" or "state"."""
    return f"{base:020}.{suffix}"


@dataclass(frozen=True, slots=True)
class SegmentInfo:
    """A segment in a listing."""

    base: int
    last_index: int  # base - 1: it is empty
    size_bytes: int  # of the log file, as far as it is in use
    is_active: bool


class Segment:
    """A segment that is open for reading.

    - Its entries are `base` to `last_index`, without gaps.
    - Its first frame, and no other, carries STARTS_SEGMENT.
    """

    def __init__(self, directory: Path, header: SegmentHeader, store: Store, index: Index) -> None:
        self.directory = directory
        self.header = header
        self.base = header.base
        self.store = store
        self.index = index

    @property
    def name(self) -> str:
        """The log file's name, for messages."""
        return file_name(self.base, "log")

    @property
    def last_index(self) -> int:
        """Raft index of the last entry; base - 1 where there is none."""
        return self.index.last

    def term_at(self, index: int) -> int:
        """Return the term of an entry that is here, without reading the log file."""
        return self.index.slot(index)[2]

    def end_of(self, index: int) -> int:
        """Return the position after entry `index`, which is here or the one before the first."""
        if index < self.base:
            return SEGMENT_HEADER_BYTES
        position, size, _ = self.index.slot(index)
        return position + size

    def read(self, index: int) -> Frame:
        """Read one entry. Raises Damaged."""
        position, size, term = self.index.slot(index)
        data = self._read_bytes(position, size, index)
        try:
            frame = parse_frame(data)
            if (frame.index, frame.term, frame.size) != (index, term, size):
                raise BadFrame(
                    0, "index, term, size", (index, term, size), (frame.index, frame.term, frame.size)
                )
        except BadFrame as bad:
            raise self._damaged(bad, position, index) from bad
        return frame

    def read_raw(self, first: int, max_bytes: int) -> tuple[bytes, int]:
        """Read whole frames from entry `first` on in one go: as many as fit, at least one; and their count.

        Raises Damaged; what stands before the damage can be had by asking for less.
        """
        start, _, _ = self.index.slot(first)
        last = self.index.last_at_or_below(first, start + max_bytes)
        data = self._read_bytes(start, self.end_of(last) - start, first)
        try:
            count = count_frames(data, first)
        except BadFrame as bad:
            number = sum(
                self.index.slot(index)[0] <= start + bad.position for index in range(first, last + 1)
            )
            raise self._damaged(bad, start, first + number - 1) from bad
        return data, count

    def indexes_of_kind(self, first: int, kind: int, last: int) -> list[int]:
        """Return the indexes of the entries of that kind from `first` to `last`. Raises Damaged."""
        found: list[int] = []
        while first <= last:
            start, _, _ = self.index.slot(first)
            end = min(self.index.last_at_or_below(first, start + _SCAN_BYTES), last)
            data = self._read_bytes(start, self.end_of(end) - start, first)
            try:
                found.extend(indexes_of_kind(data, first, kind))
            except BadFrame as bad:
                raise self._damaged(bad, start, first) from bad
            first = end + 1
        return found

    def _read_bytes(self, position: int, size: int, index: int) -> bytes:
        try:
            data = self.store.read(position, size)
        except OSError as error:
            raise Damaged(self.name, position, index, f"cannot be read: {error}") from error
        if len(data) < size:
            raise Damaged(self.name, position, index, f"expected {size} bytes, the file has {len(data)}")
        return data

    def _damaged(self, bad: BadFrame, start: int, index: int) -> Damaged:
        reason = f"{bad.field}: expected {bad.expected}, got {bad.actual}"
        return Damaged(self.name, start + bad.position, index, reason)

    def read_body(self, position: int, size: int) -> bytes:
        """Read a batch's body; the caller verifies its crc. Raises Damaged where it is cut short."""
        try:
            data = self.store.read(position, size)
        except OSError as error:
            raise Damaged(self.name, position, None, f"cannot be read: {error}") from error
        if len(data) < size:
            raise Damaged(self.name, position, None, f"expected {size} bytes, the file has {len(data)}")
        return data
