"""Scan: reading a segment's frames from the first to the last whole one, which tells where the log ends."""

from __future__ import annotations

from dataclasses import dataclass, field

from quorumlog.proto.checksum import crc32c
from quorumlog.storage.errors import Damaged
from quorumlog.storage.files import File
from quorumlog.storage.format import FRAME_HEADER_BYTES, SEGMENT_HEADER_BYTES, STARTS_SEGMENT
from quorumlog.storage.frame import BadFrame, FrameHeader, check_link, parse_header
from quorumlog.storage.header import SegmentHeader

# Large enough to make the calls cheap, small enough not to show in a node's memory.
WINDOW_BYTES = 1024 * 1024


@dataclass(slots=True)
class Scanned:
    """What a scan found. Everything below `end` is frames that continue each other."""

    end: int  # position after the last of them
    last_term: int
    last_chain: int
    slots: list[tuple[int, int, int]] = field(default_factory=list)  # position, size, term of each frame
    damage: list[Damaged] = field(default_factory=list)  # below the fence


class Window:
    """A stretch of a file in memory that moves forward with the reader."""

    def __init__(self, file: File, size: int) -> None:
        self._file = file
        self._size = size
        self._start = 0
        self._data = b""

    def at(self, position: int, size: int) -> tuple[bytes, int]:
        """Return bytes that hold `size` of them from `position` on (fewer at the end), and where in them."""
        offset = position - self._start
        if offset < 0 or offset + size > len(self._data):
            rest = max(0, self._size - position)
            self._data = self._file.pread(min(max(size, WINDOW_BYTES), rest), position)
            self._start = position
            offset = 0
        return self._data, offset


def scan(
    file: File, name: str, header: SegmentHeader, size: int, fence: int, max_count: int | None = None
) -> Scanned:
    """Read frames from the first on. Bad ones below position `fence` are damage, the first above is the end.

    A frame below the fence whose header is good but whose payload is not is fenced, and the scan goes on
    behind it; with a bad header there is no telling what follows, and the scan ends.
    """
    found = Scanned(SEGMENT_HEADER_BYTES, header.previous_term, header.previous_chain)
    window = Window(file, size)
    while max_count is None or len(found.slots) < max_count:
        index = header.base + len(found.slots)
        try:
            frame = _next_frame(window, found, index, header.base)
            intact = _has_payload(window, found.end, frame)
        except BadFrame as bad:
            if found.end < fence:
                reason = f"{bad.field}: expected {bad.expected}, got {bad.actual}"
                found.damage.append(Damaged(name, found.end, index, reason))
            break
        if not intact:
            if found.end >= fence:
                break
            reason = f"payload: not of the crc {frame.payload_crc:#010x} that its header states"
            found.damage.append(Damaged(name, found.end, index, reason))
        found.slots.append((found.end, frame.size, frame.term))
        found.end += frame.size
        found.last_term, found.last_chain = frame.term, frame.chain
    return found


def _next_frame(window: Window, found: Scanned, index: int, base: int) -> FrameHeader:
    data, offset = window.at(found.end, FRAME_HEADER_BYTES)
    frame = parse_header(data, offset)
    check_link(frame, found.end, index, found.last_chain, found.last_term)
    starts = bool(frame.flags & STARTS_SEGMENT)
    if starts != (index == base):
        raise BadFrame(found.end, "starts a segment", index == base, starts)
    return frame


def _has_payload(window: Window, position: int, frame: FrameHeader) -> bool:
    data, offset = window.at(position, frame.size)
    payload = data[offset + FRAME_HEADER_BYTES : offset + frame.size]
    return len(payload) == frame.length and crc32c(payload) == frame.payload_crc


def count_nonzero_tail(file: File, start: int, size: int) -> int:
    """Return how many bytes from `start` on there are up to the last one that is not zero."""
    last = start
    for position in range(start, size, WINDOW_BYTES):
        kept = file.pread(min(WINDOW_BYTES, size - position), position).rstrip(b"\0")
        if kept:
            last = position + len(kept)
    return last - start
