"""Check: reading a sealed file from its first byte to its last, and comparing all that can be compared.

    .log     header page, both sums of every frame, indexes, terms, the chain from the segment before to the
             one after, the size: a file that passes is the one that was written, but for the synced slots
    .index   byte for byte what the log file, which has passed, gives
    .view    header, directory, every partition's tables, their places, the size
    .state   header, state, size

Each check is an iterator: it reads a little, yields what that cost and waits to be asked for more, so that
it can be done beside other work. It reads with pread: an I/O error is damage, not the end of the process.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from quorumlog.proto.checksum import crc32c
from quorumlog.storage.errors import CannotOpen, Damaged
from quorumlog.storage.files import File
from quorumlog.storage.format import (
    FRAME_HEADER_BYTES,
    INDEX_HEADER_BYTES,
    INDEX_SLOT,
    SEGMENT_HEADER_BYTES,
    STARTS_SEGMENT,
    STATE_HEADER_BYTES,
    SYNCED_SLOT,
    SYNCED_SLOT_POSITIONS,
    VIEW_DIRECTORY,
    VIEW_HEADER_BYTES,
    VIEW_ROW,
    VIEW_ROW_NUMBER,
)
from quorumlog.storage.frame import BadFrame, FrameHeader, check_link, parse_header
from quorumlog.storage.header import SegmentHeader
from quorumlog.storage.index import Index
from quorumlog.storage.manifest import LogIdentity
from quorumlog.storage.state import StateHeader
from quorumlog.storage.view import ViewHeader

PIECE_BYTES = 256 * 1024  # read at once
# What a frame costs beside its bytes, in bytes: 10 us of Python are as long as reading so much.
FRAME_COST = 1024
# A check pauses at the latest after so much: about 3 ms of the interpreter.
PIECE_COST = 256 * FRAME_COST

Steps: TypeAlias = Iterator[int]  # cost of each step: bytes read, and FRAME_COST for each frame

_SLOT_BYTES = SYNCED_SLOT.size + 4  # with its sum


@dataclass(frozen=True, slots=True)
class Place:
    """Where a sealed segment stands in its log: what the segments beside it say of it."""

    base: int
    next_base: int
    end: tuple[int, int] | None  # term and chain of entry next_base - 1; None: the next one cannot be asked
    ordinal: int | None  # None: likewise
    previous: tuple[int, int] | None = None  # term and chain of entry base - 1, where the manifest says them
    previous_base: int | None = None  # None: of the first kept segment nothing says it

    @property
    def count(self) -> int:
        """How many entries it holds."""
        return self.next_base - self.base


class Source:
    """A file that is read for a check; what cannot be read is damage."""

    def __init__(self, file: File, name: str) -> None:
        self.file = file
        self.name = name

    def read(self, position: int, size: int) -> bytes:
        """Return `size` bytes, fewer at the file's end. Raises Damaged."""
        try:
            return self.file.pread(size, position)
        except OSError as error:
            raise self.damaged(position, f"cannot be read: {error}") from error

    def damaged(self, position: int, reason: str, entry: int | None = None) -> Damaged:
        """Return the error for a place in the file."""
        return Damaged(self.name, position, entry, reason)

    def require(self, holds: bool, position: int, reason: str) -> None:
        """Raise Damaged unless it holds."""
        if not holds:
            raise self.damaged(position, reason)

    def sum_up(self, position: int, end: int) -> Generator[int, None, int]:
        """Return the crc32c of what stands between two positions, of what is there of it."""
        crc = 0
        while position < end and (data := self.read(position, min(PIECE_BYTES, end - position))):
            crc = crc32c(data, crc)
            position += len(data)
            yield len(data)
        return crc


class LogCheck:
    """The check of one log file. Iterate over `steps`, which raises Damaged; then the rest is known.

    - `verified` is a position below which all is what was written, as far as the file alone can tell.
    """

    def __init__(self, source: Source, identity: LogIdentity, place: Place, *, with_index: bool = False):
        self.verified = 0
        self.count = 0  # of entries
        self.chain = 0  # after the last of them
        self.slots_crc = 0  # of the index's slots
        self.crc = 0  # of all frames, one after another: what replicas are compared by
        self.place = place
        self._source = source
        self._identity = identity
        self._slots = bytearray()
        self._with_index = with_index
        self._data = b""  # what was read and not yet looked at, from `_offset` on
        self._offset = 0
        self._position = 0  # in the file, behind `_data`
        self._cost = 0  # since the last yield

    @property
    def index_header(self) -> bytes:
        """The header of the index file that belongs to it."""
        return Index.encode_header(self.place.base, self.chain, self.count, self.slots_crc)

    @property
    def index_bytes(self) -> bytes:
        """The index file that belongs to it."""
        assert self._with_index
        return self.index_header + bytes(self._slots)

    def steps(self) -> Steps:
        """Check the file. Raises Damaged, or CannotOpen of a file of another log or version."""
        header = self._check_page()
        yield SEGMENT_HEADER_BYTES
        self.chain, term = header.previous_chain, header.previous_term
        while self.count < self.place.count:
            start = self.verified
            frame = yield from self._next_header(start)
            self._check_frame(frame, start, term)
            yield from self._check_payload(frame, start)
            term = self._take(frame, start)
            if self._cost >= PIECE_COST:
                yield self._take_cost()
        self._check_end(term)
        yield self._take_cost()

    def _check_page(self) -> SegmentHeader:
        source, place = self._source, self.place
        page = source.read(0, SEGMENT_HEADER_BYTES)
        header = SegmentHeader.decode(page, self._identity, place.base, source.name)
        if place.ordinal is not None:
            reason = f"header: ordinal: expected {place.ordinal}, got {header.ordinal}"
            source.require(header.ordinal == place.ordinal, 0, reason)
        if place.previous_base is not None:
            reason = f"header: previous base: expected {place.previous_base}, got {header.previous_base}"
            source.require(header.previous_base == place.previous_base, 0, reason)
        if place.previous is not None:
            found = header.previous_term, header.previous_chain
            reason = f"header: previous term and chain: expected {place.previous}, got {found}"
            source.require(found == place.previous, 0, reason)
        compared = without_slots(page)
        fields = header.encode(self._identity)
        source.require(compared == fields.ljust(len(compared), b"\0"), len(fields), "header page: not zero")
        self.verified = self._position = SEGMENT_HEADER_BYTES
        return header

    def _next_header(self, start: int) -> Generator[int, None, FrameHeader]:
        if len(self._data) - self._offset < FRAME_HEADER_BYTES:
            yield from self._read_on()
        try:
            frame = parse_header(self._data, self._offset)
        except BadFrame as bad:
            raise self._bad(bad, start) from bad
        self.crc = crc32c(self._data[self._offset : self._offset + FRAME_HEADER_BYTES], self.crc)
        self._offset += FRAME_HEADER_BYTES
        return frame

    def _check_frame(self, frame: FrameHeader, start: int, term: int) -> None:
        index = self.place.base + self.count
        try:
            check_link(frame, start, index, self.chain, term)
        except BadFrame as bad:
            raise self._bad(bad, start) from bad
        starts = bool(frame.flags & STARTS_SEGMENT)
        if starts != (self.count == 0):
            raise self._source.damaged(start, f"starts a segment: expected {not starts}, got {starts}", index)

    def _check_payload(self, frame: FrameHeader, start: int) -> Steps:
        left, crc = frame.length, 0
        while left:
            if self._offset == len(self._data):
                yield from self._read_on()
            piece = self._data[self._offset : self._offset + left]
            if not piece:
                break
            crc, self.crc = crc32c(piece, crc), crc32c(piece, self.crc)
            self._offset += len(piece)
            left -= len(piece)
        if left or crc != frame.payload_crc:
            reason = (
                f"payload: {left} bytes are missing"
                if left
                else (f"payload crc: expected {frame.payload_crc:#010x}, got {crc:#010x}")
            )
            raise self._source.damaged(start, reason, frame.index)

    def _take(self, frame: FrameHeader, start: int) -> int:
        slot = INDEX_SLOT.pack(start, frame.size, frame.term)
        self.slots_crc = crc32c(slot, self.slots_crc)
        if self._with_index:
            self._slots += slot
        self.count += 1
        self.chain = frame.chain
        self.verified = start + frame.size
        self._cost += FRAME_COST
        return frame.term

    def _check_end(self, term: int) -> None:
        source, place = self._source, self.place
        found = term, self.chain
        if place.end is not None:
            reason = f"term and chain of the last entry: expected {place.end}, got {found}"
            source.require(found == place.end, self.verified, reason)
        size = source.file.size()
        source.require(size == self.verified, self.verified, f"size: expected {self.verified}, got {size}")

    def _read_on(self) -> Steps:
        data = self._source.read(self._position, PIECE_BYTES)
        self._data = self._data[self._offset :] + data
        self._offset = 0
        self._position += len(data)
        self._cost += len(data)
        yield self._take_cost()

    def _take_cost(self) -> int:
        cost, self._cost = self._cost, 0
        return cost

    def _bad(self, bad: BadFrame, start: int) -> Damaged:
        reason = f"{bad.field}: expected {bad.expected}, got {bad.actual}"
        return self._source.damaged(start, reason, self.place.base + self.count)


class FileCheck:
    """The check of one sealed file, of whatever kind, that goes on as far as it is asked to.

    `log` is the check of a log file, for what it knows in the end.
    """

    def __init__(self, source: Source, steps: Steps, log: LogCheck | None = None) -> None:
        self.log = log
        self.file = source.file
        self.size = source.file.size()
        self.cost = 0  # so far
        self.is_done = False
        self._source = source
        self._steps = steps

    @property
    def verified(self) -> int:
        """All below this position is what was written, as far as the file alone can tell."""
        if self.is_done:
            return self.size
        return self.log.verified if self.log is not None else 0

    def step(self, budget: int) -> int:
        """Go on for about so much, or to the end; return what it cost. Raises Damaged."""
        spent = 0
        try:
            while spent < budget and not self.is_done:
                cost = next(self._steps, None)
                self.is_done = cost is None
                spent += cost or 0
        except CannotOpen as error:
            # Whole, but of another cluster or version: a file of another log stands here.
            raise self._source.damaged(0, str(error)) from error
        self.cost += spent
        return spent


def without_slots(page: bytes) -> bytes:
    """Return a header page without the part that means nothing any more once the segment is sealed."""
    first, second = SYNCED_SLOT_POSITIONS
    return page[:first] + page[first + _SLOT_BYTES : second] + page[second + _SLOT_BYTES :]


def check_index(source: Source, log: LogCheck) -> Steps:
    """Compare an index with the log file that has passed `log`. Raises Damaged."""
    header = log.index_header
    found = source.read(0, INDEX_HEADER_BYTES)
    source.require(found == header, 0, "header: not what the log file gives")
    size, expected = source.file.size(), INDEX_HEADER_BYTES + log.count * INDEX_SLOT.size
    source.require(size == expected, 0, f"size: expected {expected}, got {size}")
    crc = yield from source.sum_up(INDEX_HEADER_BYTES, size)
    source.require(crc == log.slots_crc, INDEX_HEADER_BYTES, "slots: not what the log file gives")


def check_view(source: Source, base: int, next_base: int) -> Steps:
    """Check a view: of that segment, every byte covered by a sum, the parts without gaps. Raises Damaged."""
    size = source.file.size()
    header = ViewHeader.decode(source.read(0, VIEW_HEADER_BYTES), size, source.name)
    found = header.base, header.next_base
    source.require(found == (base, next_base), 0, f"bases: expected {(base, next_base)}, got {found}")
    end = VIEW_HEADER_BYTES + header.partitions * VIEW_DIRECTORY.size
    directory = source.read(VIEW_HEADER_BYTES, end - VIEW_HEADER_BYTES)
    header.check_directory(directory, source.name)
    yield end
    for _, _, count, first, next_offset, position, stated, _ in VIEW_DIRECTORY.iter_unpack(directory):
        source.require(position == end, end, f"tables: expected at {end}, got {position}")
        end += count * VIEW_ROW.size
        end += (next_offset - first) * VIEW_ROW_NUMBER.size
        crc = yield from source.sum_up(position, end)
        source.require(crc == stated, position, f"tables crc: {stated:#010x} stated, got {crc:#010x}")
    source.require(end == size, end, f"size: expected {end}, got {size}")


def check_state(source: Source, base: int) -> Steps:
    """Check a state as of `base - 1`. Raises Damaged."""
    header = StateHeader.decode(source.read(0, STATE_HEADER_BYTES), base, source.name)
    yield STATE_HEADER_BYTES
    size, expected = source.file.size(), STATE_HEADER_BYTES + header.size
    source.require(size == expected, 0, f"size: expected {expected}, got {size}")
    crc = yield from source.sum_up(STATE_HEADER_BYTES, size)
    source.require(crc == header.crc, STATE_HEADER_BYTES, f"crc: {header.crc:#010x} stated, got {crc:#010x}")
