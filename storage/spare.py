"""Spare: the next segment's files, preallocated ahead of time, so that a roll only writes a header."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock

from quorumlog.storage.active import ActiveSegment
from quorumlog.storage.directory import SegmentDirectory
from quorumlog.storage.errors import NoSpace, SyncFailed
from quorumlog.storage.files import NO_SPACE_ERRORS, File, write_all
from quorumlog.storage.format import SEGMENT_HEADER_BYTES
from quorumlog.storage.header import SegmentHeader
from quorumlog.storage.index import Index
from quorumlog.storage.manifest import LogIdentity
from quorumlog.storage.store import Store
from quorumlog.storage.watermark import Watermark

PREFIX = "next"  # of the names of a spare that waits for a roll
LOG_NAME = f"{PREFIX}.log.tmp"


@dataclass(frozen=True, slots=True)
class SpareFiles:
    """Two files without a name of their own yet."""

    log: File
    allocated: int  # bytes of the log file
    index: File


class Spare:
    """Holds at most one pair of prepared files.

    - `prepare` may be called from any thread; the rest belongs to the log's.
    - What is prepared has its space: a roll cannot fail for want of it.
    - From `take` to the end of `install` nothing is prepared: the names still lead to the taken files.
    """

    def __init__(
        self,
        directory: SegmentDirectory,
        segment_bytes: int,
        capacity: int,
        reserve_bytes: int,
        prefix: str = PREFIX,
    ) -> None:
        self._directory = directory
        self._log_path = directory.path / f"{prefix}.log.tmp"
        self._index_path = directory.path / f"{prefix}.index.tmp"
        self._segment_bytes = segment_bytes
        self._capacity = capacity  # entries
        self._reserve_bytes = reserve_bytes
        self._files: SpareFiles | None = None
        self._is_taken = False
        self._lock = Lock()

    @property
    def is_ready(self) -> bool:
        """Whether there are files."""
        return self._files is not None

    def check_room(self, size: int, urgent: bool) -> None:
        """Raise NoSpace where `size` more bytes would touch the reserve, unless it is `urgent`."""
        free = self._directory.files.free_bytes(self._directory.path)
        reserve = 0 if urgent else self._reserve_bytes
        if free - size < reserve:
            raise NoSpace(f"{size} bytes, with {reserve} in reserve: only {free} are free")

    def prepare(self, min_size: int, urgent: bool) -> None:
        """Make sure that files are ready, with `min_size` bytes of log. Raises NoSpace or SyncFailed."""
        with self._lock:
            if self._is_taken:
                return  # by the log's thread, while another one prepares ahead: that can wait
            if self._files is None or self._files.allocated < min_size:
                self._files = None
                self._files = self._make_any(max(min_size, SEGMENT_HEADER_BYTES), urgent)

    def _make_any(self, min_size: int, urgent: bool) -> SpareFiles:
        """A whole segment's worth, or if that is too much, the least that will do."""
        try:
            return self._make(max(min_size, self._segment_bytes), self._capacity, urgent)
        except NoSpace:
            return self._make(min_size, 1, urgent)

    def _make(self, size: int, capacity: int, urgent: bool) -> SpareFiles:
        files = self._directory.files
        self.check_room(size, urgent)
        try:
            log = files.open(self._log_path, create=True)
            log.allocate(0, size)
            log.fsync()
            index = files.open(self._index_path, create=True)
            Index.create(index, 0, capacity)
        except (OSError, NoSpace) as error:
            self._unlink()
            if isinstance(error, OSError) and error.errno not in NO_SPACE_ERRORS:
                raise SyncFailed(f"next segment: {error}") from error
            raise NoSpace(f"next segment of {size} bytes: {error}") from error
        return SpareFiles(log, size, index)

    def take(self, header: SegmentHeader, identity: LogIdentity) -> SpareFiles:
        """Return the files with their header written and synced. Raises NoSpace or OSError."""
        self.prepare(0, True)
        with self._lock:
            spare, self._files, self._is_taken = self._files, None, True
        assert spare is not None
        write_first_page(spare.log, header, identity)
        return spare

    def install(self, spare: SpareFiles, header: SegmentHeader) -> ActiveSegment:
        """Give the files their names, durably, and return the segment. Raises OSError."""
        files = self._directory.files
        try:
            files.rename(self._index_path, self._directory.file(header.base, "index"))
            files.rename(self._log_path, self._directory.file(header.base, "log"))
            self._directory.sync()
        finally:
            self._is_taken = False
        return empty_segment(self._directory, header, spare)

    def discard(self) -> None:
        """Remove the files. Raises OSError."""
        with self._lock:
            if self._files is not None:
                self._files = None
                self._unlink()

    def _unlink(self) -> None:
        for path in (self._log_path, self._index_path):
            if self._directory.files.exists(path):
                self._directory.files.unlink(path)


def write_first_page(file: File, header: SegmentHeader, identity: LogIdentity) -> None:
    """Write header and synced slots of a new segment, durably."""
    page = bytearray(SEGMENT_HEADER_BYTES)
    fields = header.encode(identity)
    page[: len(fields)] = fields
    for position, slot in Watermark.initial(header.base):
        page[position : position + len(slot)] = slot
    write_all(file, page, 0)
    file.fsync()


def empty_segment(directory: SegmentDirectory, header: SegmentHeader, spare: SpareFiles) -> ActiveSegment:
    """Return the segment of files that hold nothing but a header."""
    return ActiveSegment(
        directory.path,
        header,
        Store(spare.log, SEGMENT_HEADER_BYTES, spare.allocated),
        Index.create(spare.index, header.base, 0),
        Watermark(spare.log, header.base, len(Watermark.initial(header.base)), SEGMENT_HEADER_BYTES),
        header.previous_term,
        header.previous_chain,
    )
