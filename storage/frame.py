"""Frame: one entry as it stands in a segment file and on the peer wire. format.py draws it.

A frame is built once, by the leader, and is the same bytes everywhere: a follower appends what it
received. Its payload may be in pieces; they are written one after another and never joined on the way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NoReturn

from quorumlog.proto.checksum import Buffer, crc32c, masked
from quorumlog.storage.format import (
    CLEANED,
    FRAME,
    FRAME_HEADER_BYTES,
    FRAME_START,
    FRAME_SUM,
    FRAME_SUMMED_BYTES,
    MAX_PAYLOAD_BYTES,
    STARTS_SEGMENT,
    next_chain,
)


class BadFrame(ValueError):
    """Bytes that are not the frame which was expected there."""

    def __init__(self, position: int, field: str, expected: object, actual: object) -> None:
        super().__init__(f"position {position}: {field}: expected {expected}, got {actual}")
        self.position = position  # of the frame, in the buffer that was given
        self.field = field
        self.expected = expected
        self.actual = actual


@dataclass(frozen=True, slots=True)
class FrameHeader:
    """The fields of a header whose own sum is right and whose length is within bounds."""

    length: int  # bytes of payload
    kind: int
    flags: int
    index: int
    term: int
    key_id: int  # 0: not encrypted
    payload_crc: int
    chain: int

    @property
    def size(self) -> int:
        """Bytes of the whole frame."""
        return FRAME_HEADER_BYTES + self.length


@dataclass(frozen=True, slots=True)
class Frame:
    """An entry with its bytes.

    - `header` and `parts`, written one after another, are the frame.
    - `chain` continues that of the entry before; the log asserts it.
    """

    index: int
    term: int
    kind: int
    flags: int
    key_id: int
    chain: int
    payload_crc: int
    parts: tuple[Buffer, ...]
    header: bytes
    size: int  # bytes of the whole frame

    @classmethod
    def build(
        cls,
        index: int,
        term: int,
        kind: int,
        parts: Sequence[Buffer],
        flags: int,
        previous_chain: int,
    ) -> Frame:
        """Return the frame of a new entry. `parts` are its payload, at most 16 MiB together."""
        crc = 0
        length = 0
        for part in parts:
            crc = crc32c(part, crc)
            length += len(part)
        assert length <= MAX_PAYLOAD_BYTES, f"payload: at most {MAX_PAYLOAD_BYTES} bytes, got {length}"
        chain = next_chain(previous_chain, crc, index, term)
        fields = FRAME.pack(length, kind, flags, index, term, 0, crc, chain, 0)
        header = fields + FRAME_SUM.pack(masked(crc32c(fields)))
        return cls(index, term, kind, flags, 0, chain, crc, tuple(parts), header, FRAME_HEADER_BYTES + length)

    @property
    def starts_segment(self) -> bool:
        """Whether this entry is the first of a segment."""
        return bool(self.flags & STARTS_SEGMENT)

    def payload(self) -> Buffer:
        """Return the payload in one piece; joined only if it is not."""
        return self.parts[0] if len(self.parts) == 1 else b"".join(self.parts)


def parse_header(buffer: Buffer, position: int) -> FrameHeader:
    """Read and verify the header at `position`. Raises BadFrame; the payload is not looked at."""
    end = position + FRAME_SUMMED_BYTES
    if end + FRAME_SUM.size > len(buffer):
        raise BadFrame(position, "frame header", f"{FRAME_HEADER_BYTES} bytes", len(buffer) - position)
    (stated,) = FRAME_SUM.unpack_from(buffer, end)
    actual = masked(crc32c(buffer[position:end]))
    if stated != actual:
        raise BadFrame(position, "header crc", f"{stated:#010x} as stated", f"{actual:#010x}")
    length, kind, flags, index, term, key_id, crc, chain, _ = FRAME.unpack_from(buffer, position)
    if length > MAX_PAYLOAD_BYTES:
        raise BadFrame(position, "length", f"at most {MAX_PAYLOAD_BYTES}", length)
    return FrameHeader(length, kind, flags, index, term, key_id, crc, chain)


def parse_frame(buffer: Buffer, position: int = 0) -> Frame:
    """Read and verify the frame at `position`: its two sums and bounds. Raises BadFrame."""
    header = parse_header(buffer, position)
    start = position + FRAME_HEADER_BYTES
    payload = bytes(buffer[start : start + header.length])
    if len(payload) < header.length:
        raise BadFrame(position, "payload", f"{header.length} bytes", len(payload))
    actual = crc32c(payload)
    if actual != header.payload_crc:
        raise BadFrame(position, "payload crc", f"{header.payload_crc:#010x} as stated", f"{actual:#010x}")
    return Frame(
        header.index,
        header.term,
        header.kind,
        header.flags,
        header.key_id,
        header.chain,
        header.payload_crc,
        (payload,),
        bytes(buffer[position:start]),
        header.size,
    )


def check_link(header: FrameHeader | Frame, position: int, index: int, chain: int, term: int) -> None:
    """Check that an entry is `index` and continues the one before it, of `chain` and `term`.

    A cleaned entry's chain is of the payload that it once had, so only the next one can confirm it.
    """
    if header.index != index:
        raise BadFrame(position, "raft index", index, header.index)
    if header.term < term:
        raise BadFrame(position, "raft term", f"at least {term}", header.term)
    if header.flags & CLEANED:
        return
    expected = next_chain(chain, header.payload_crc, header.index, header.term)
    if header.chain != expected:
        raise BadFrame(position, "chain", f"{expected:#018x}", f"{header.chain:#018x}")


def iterate_frames(buffer: Buffer, expect_index: int) -> Iterator[Frame]:
    """Yield the frames that fill `buffer`, verified each for itself, with rising indexes. Raises BadFrame."""
    position = 0
    while position < len(buffer):
        frame = parse_frame(buffer, position)
        if frame.index != expect_index:
            raise BadFrame(position, "raft index", expect_index, frame.index)
        yield frame
        position += frame.size
        expect_index += 1


def count_frames(buffer: bytes, expect_index: int) -> int:
    """Verify the frames that fill `buffer` as iterate_frames does, without making any; return their count.

    This is what a leader does with all that it sends from disk: 4 us a frame, and 3 for 64 KiB.
    """
    position = 0
    index = expect_index
    end = len(buffer)
    while position < end:
        summed = position + FRAME_SUMMED_BYTES
        start = position + FRAME_HEADER_BYTES
        intact = start <= end and FRAME_SUM.unpack_from(buffer, summed)[0] == masked(
            crc32c(buffer[position:summed])
        )
        if intact:
            length, _, _, actual, _, _, crc, _, _ = FRAME.unpack_from(buffer, position)
            stop = start + length
            intact = actual == index and stop <= end and crc == crc32c(buffer[start:stop])
        if not intact:
            _fail_at(buffer, position, index)
        position = stop
        index += 1
    return index - expect_index


def indexes_of_kind(buffer: bytes, expect_index: int, kind: int) -> list[int]:
    """Return the raft indexes of the entries of that kind among the frames that fill `buffer`.

    Only headers are verified: an entry is found, or its header is bad, whatever became of its payload.
    """
    found = []
    position = 0
    index = expect_index
    while position < len(buffer):
        summed = position + FRAME_SUMMED_BYTES
        whole = position + FRAME_HEADER_BYTES <= len(buffer)
        if not whole or FRAME_SUM.unpack_from(buffer, summed)[0] != masked(crc32c(buffer[position:summed])):
            _fail_at(buffer, position, index)
        length, actual_kind = FRAME_START.unpack_from(buffer, position)
        if actual_kind == kind:
            found.append(index)
        position += FRAME_HEADER_BYTES + length
        index += 1
    return found


def _fail_at(buffer: bytes, position: int, index: int) -> NoReturn:
    """Say precisely what is wrong with a frame. Raises BadFrame."""
    frame = parse_frame(buffer, position)
    raise BadFrame(position, "raft index", index, frame.index)


def parse_frames(buffer: bytes, *, expect_index: int, previous_chain: int, previous_term: int) -> list[Frame]:
    """Read what arrived from a peer: whole frames from `expect_index` on that continue the entry before.

    Raises BadFrame with the position of the first that does not; nothing of the rest is returned then.
    """
    frames = []
    position = 0
    for frame in iterate_frames(buffer, expect_index):
        check_link(frame, position, frame.index, previous_chain, previous_term)
        frames.append(frame)
        position += frame.size
        previous_chain, previous_term = frame.chain, frame.term
    return frames
