"""A log under test beside a model of it: what must be in it, and what may be, whenever the power goes."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from quorumlog.storage.files import FileSystem
from quorumlog.storage.format import FRAME_HEADER_BYTES, KIND_COMMANDS, STARTS_SEGMENT
from quorumlog.storage.frame import Frame
from quorumlog.storage.header import SegmentHeader
from quorumlog.storage.log import Log, LogIdentity, LogOptions
from quorumlog.storage.view import ActiveView, BatchRow

GROUP = Path("/node/group-0")
IDENTITY = LogIdentity(b"sixteen bytes id", 0)
OPTIONS = LogOptions(segment_bytes=16 * 1024, segment_entries=6, reserve_bytes=0, open_segments=2)
TOPIC = 7


def open_log(files: FileSystem, options: LogOptions = OPTIONS) -> Log:
    """Open the log that all tests use."""
    return Log.open(GROUP, IDENTITY, files, options)


def next_frame(log: Log, payload: bytes, term: int = 1, *, rolls: bool | None = None) -> Frame:
    """Return the frame that continues the log, as a leader would make it."""
    starts = log.should_roll(len(payload)) if rolls is None else rolls
    flags = STARTS_SEGMENT if starts else 0
    return Frame.build(log.last_index + 1, term, KIND_COMMANDS, [payload], flags, log.last_chain)


def append(log: Log, *payloads: bytes, term: int = 1) -> list[Frame]:
    """Append each payload as an entry of its own."""
    frames = []
    for payload in payloads:
        frame = next_frame(log, payload, term)
        log.append([frame])
        frames.append(frame)
    return frames


def fill(log: Log, count: int, size: int = 100, term: int = 1) -> list[Frame]:
    """Append `count` entries, each recognizable."""
    return append(log, *(payload_of(log.last_index + 1 + n, size) for n in range(count)), term=term)


def payload_of(index: int, size: int) -> bytes:
    """Return bytes that tell which entry they are of and are not all alike."""
    return random.Random(index * 1_000_003 + size).randbytes(size)


def contents(log: Log) -> list[Frame]:
    """Read everything, in three ways that must agree."""
    frames = [log.read(index) for index in range(log.first_index, log.last_index + 1)]
    raw = b"".join(frame.header + bytes(frame.payload()) for frame in frames)
    index, pieces = log.first_index, []
    while index <= log.last_index:
        piece, count = log.read_raw(index, 1000)
        pieces.append(piece)
        index += count
    assert b"".join(pieces) == raw
    assert [log.term_at(frame.index) for frame in frames] == [frame.term for frame in frames]
    assert (log.last_term, log.last_chain) == (
        (frames[-1].term, frames[-1].chain) if frames else (log.last_term, log.last_chain)
    )
    return frames


def same(frames: Sequence[Frame]) -> list[bytes]:
    """Return what makes frames comparable, whatever pieces their payloads are in."""
    return [frame.header + bytes(frame.payload()) for frame in frames]


def view_of(base: int, frames: Sequence[Frame]) -> ActiveView:
    """Return the view of a segment whose every entry is one batch of one record: offset = index - 1."""
    view = ActiveView(base)
    view.ensure(TOPIC, 0, base - 1)
    position = 4096
    for frame in frames:
        view.add(TOPIC, 0, row_of(frame, position + FRAME_HEADER_BYTES))
        position += frame.size
    return view


def row_of(frame: Frame, position: int) -> BatchRow:
    """Return the row of an entry that is one batch of one record."""
    size = frame.size - FRAME_HEADER_BYTES
    index = frame.index
    return BatchRow(
        index, index - 1, 1000 + index, index, index, 0, position, size, frame.payload_crc, 1, 1, 0, 0, 1, 0
    )


def state_of(base: int) -> bytes:
    """Return a state as of base - 1."""
    return b"state as of %d" % (base - 1)


def header_of(base: int, ordinal: int, term: int = 9) -> SegmentHeader:
    """Return the header of a segment that follows entries which are not here."""
    return SegmentHeader(base, term, base * 1_000_003, base - 1, ordinal)


class Model:
    """Drives a log and knows what a crash may leave.

    After a crash the log must be a prefix of `maybe`, at least up to `floor`, and start at one of `firsts`.
    """

    def __init__(self, files: FileSystem, options: LogOptions = OPTIONS) -> None:
        self.options = options
        self.maybe: list[Frame] = []  # from entry 1 on
        self.floor = 0
        self.firsts = {1}
        self.sealed_up_to = 1  # base
        self.installing: int | None = None  # base of a new beginning that may be there already
        self.log = open_log(files, options)

    def append(self, *sizes: int, term: int = 1, rolls: bool | None = None) -> None:
        """Append one run of entries; only the first may start a segment."""
        frames: list[Frame] = []
        chain, index = self.log.last_chain, self.log.last_index
        for number, size in enumerate(sizes):
            payload = payload_of(index + 1 + number, size)
            starts = (self.log.should_roll(size) if rolls is None else rolls) and not frames
            frame = Frame.build(
                index + 1 + number, term, KIND_COMMANDS, [payload], STARTS_SEGMENT if starts else 0, chain
            )
            frames.append(frame)
            chain = frame.chain
        self.maybe = self.maybe[:index] + frames
        self.log.append(frames)
        self.floor = max(self.floor, self.log.durable_index)

    def sync(self) -> None:
        """Sync; what was appended must be there from now on."""
        self.floor = max(self.floor, self.log.sync())
        assert self.floor == self.log.last_index

    def truncate(self, index: int) -> None:
        """Truncate; what is taken back may be there until it is done, and not after."""
        self.floor = min(self.floor, index - 1)
        self.log.truncate_from(index)
        self.maybe = self.maybe[: index - 1]
        assert self.log.last_index == index - 1

    def seal(self) -> None:
        """Seal every segment but the active one."""
        bases = self.log.bases
        for base, following in pairwise(bases):
            if base >= self.sealed_up_to:
                view = view_of(base, self.maybe[base - 1 : following - 1])
                self.log.seal(base, view, state_of(following))
                self.sealed_up_to = following

    def drop(self, segments: int) -> None:
        """Drop the oldest segments."""
        base = self.log.bases[segments]
        self.firsts.add(base)
        self.log.drop_before(base)
        self.firsts = {base}

    def install(self, base: int, ordinal: int, term: int = 9) -> None:
        """Begin anew at `base`; a crash leaves either the old or the new, whole."""
        self.installing = base
        self.log.install(header_of(base, ordinal, term), state_of(base))
        self.begin_anew()

    def begin_anew(self) -> None:
        """The new beginning is what there is."""
        assert self.installing is not None
        base, self.installing = self.installing, None
        # What stands before is not here, and is never looked at.
        filler = Frame.build(1, 0, KIND_COMMANDS, [], 0, 0)
        self.maybe = [filler] * (base - 1)
        self.floor = base - 1
        self.firsts = {base}
        self.sealed_up_to = base

    def reopen(self, files: FileSystem) -> None:
        """Close and open again."""
        self.log.close()
        self.floor = len(self.maybe)
        self.log = open_log(files, self.options)
        assert self.log.recovery.is_clean, self.log.recovery

    def check(self) -> None:
        """The log holds what the model says."""
        assert same(contents(self.log)) == same(self.maybe[self.log.first_index - 1 :])

    def check_recovered(self, files: FileSystem) -> None:
        """Open after a crash: nothing lost that was durable, nothing there that never was; all works."""
        log = open_log(files, self.options)
        assert not log.recovery.fenced, log.recovery
        assert not log.damage
        if log.first_index == self.installing and self.installing not in self.firsts:
            self.begin_anew()
        assert log.first_index in self.firsts, (log.first_index, self.firsts)
        assert self.floor <= log.last_index <= len(self.maybe), (self.floor, log.last_index, len(self.maybe))
        assert same(contents(log)) == same(self.maybe[log.first_index - 1 : log.last_index])
        assert log.durable_index == log.last_index
        base, state = log.load_state()
        assert state == (None if base == 1 else state_of(base))
        for each in log.bases:
            if each < base:
                first = log.open_view(each).rows(TOPIC, 0, each - 1, 1, 1)[0]
                assert first == row_of(self.maybe[each - 1], 4096 + FRAME_HEADER_BYTES)
        before = same(contents(log))
        added = same(fill(log, 8, 700, term=log.last_term + 1))
        log.sync()
        log.close()
        again = open_log(files, self.options)
        assert again.recovery.is_clean
        assert same(contents(again)) == before + added
        again.close()
