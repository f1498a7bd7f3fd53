"""Sealed segments: opened when they are needed, a bounded number kept open, shared by all readers."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

from quorumlog.storage.active import ActiveSegment
from quorumlog.storage.directory import SegmentDirectory
from quorumlog.storage.errors import Damaged
from quorumlog.storage.fences import Fences
from quorumlog.storage.files import File, write_all
from quorumlog.storage.format import SEGMENT_HEADER_BYTES
from quorumlog.storage.header import SegmentHeader
from quorumlog.storage.index import Index
from quorumlog.storage.manifest import LogIdentity
from quorumlog.storage.scan import scan
from quorumlog.storage.segment import Segment, file_name
from quorumlog.storage.store import Store
from quorumlog.storage.watermark import ReadSlots, Watermark


class SealedSegments:
    """A cache of open sealed segments. Every method may be called from any thread.

    - What is evicted or dropped stays readable for whoever holds it: files close with the last reference.
    - A segment is opened outside the lock, since its index may have to be made from 64 MiB of log: only
      those wait who want the same one.
    """

    def __init__(
        self, directory: SegmentDirectory, identity: LogIdentity, limit: int, fences: Fences
    ) -> None:
        self._directory = directory
        self._identity = identity
        self._limit = limit
        self._fences = fences
        self._open: OrderedDict[int, Segment] = OrderedDict()
        self._opening: dict[int, Lock] = {}  # by base: held by whoever opens it
        self._changes = 0  # of what is open, from outside: what was opened before one is not kept
        self._lock = Lock()

    def get(self, bases: tuple[int, ...], number: int, active: ActiveSegment) -> Segment:
        """Return the segment `bases[number]`, which is not the last.

        Raises Damaged, or FileNotFoundError: dropped by retention just now, or missing.
        """
        base = bases[number]
        with self._lock:
            segment = self._find(base)
            if segment is not None:
                return segment
            opening = self._opening.setdefault(base, Lock())
        with opening:
            with self._lock:
                segment, changes = self._find(base), self._changes
            if segment is not None:
                return segment
            try:
                segment = self._load(bases, number, active)
            finally:
                with self._lock:
                    self._opening.pop(base, None)
            with self._lock:
                if changes == self._changes:
                    self._insert(segment)
        return segment

    def put(self, segment: Segment) -> None:
        """Keep a segment that was the active one until now."""
        with self._lock:
            self._changes += 1
            self._insert(segment)

    def drop(self, base: int) -> None:
        """Forget a segment whose files are going."""
        with self._lock:
            self._changes += 1
            self._open.pop(base, None)

    def header_of(self, bases: tuple[int, ...], number: int, active: ActiveSegment) -> SegmentHeader:
        """Return the header of the segment `bases[number]`. Raises Damaged or FileNotFoundError."""
        base = bases[number]
        if base == active.base:
            return active.header
        known = self._open.get(base)
        return known.header if known else self._open_log(base)[1]

    def missing(self, segment: Segment, index: int) -> Damaged:
        """Report that an entry is not in the segment whose it is, and return the error."""
        damage = Damaged(segment.name, segment.end_of(segment.last_index), index, "the entry is missing")
        self._fences.report(damage)
        return damage

    def reopen(
        self, bases: tuple[int, ...], number: int, active: ActiveSegment, last_term: int, last_chain: int
    ) -> ActiveSegment:
        """Return the segment `bases[number]` for appending to, after an entry of it. Raises Damaged."""
        segment = self.get(bases, number, active)
        self.drop(segment.base)
        if isinstance(segment, ActiveSegment):
            return segment
        file = self._directory.files.open(self._directory.file(segment.base, "log"))
        slots = ReadSlots(file.pread(SEGMENT_HEADER_BYTES, 0), segment.base)
        return ActiveSegment(
            self._directory.path,
            segment.header,
            Store(file, segment.end_of(segment.last_index), file.size()),
            segment.index,
            Watermark(file, segment.base, slots.sequence, slots.position),
            last_term,
            last_chain,
        )

    def _find(self, base: int) -> Segment | None:
        segment = self._open.get(base)
        if segment is not None:
            self._open.move_to_end(base)
        return segment

    def _insert(self, segment: Segment) -> None:
        self._open[segment.base] = segment
        self._open.move_to_end(segment.base)
        if len(self._open) > self._limit:
            self._open.popitem(last=False)

    def _load(self, bases: tuple[int, ...], number: int, active: ActiveSegment) -> Segment:
        base = bases[number]
        file, header = self._open_log(base)
        if number and header.previous_base != bases[number - 1]:
            self._fences.report(
                Damaged(file_name(header.previous_base, "log"), 0, header.previous_base, "missing")
            )
        count = bases[number + 1] - base
        index = self._load_index(base)
        if (
            index is None
            or index.count != count
            or index.chain != self._chain_before(bases, number + 1, active)
        ):
            index = self._remake_index(file, header, count)
        store = Store(file, file.size(), file.size())
        return Segment(self._directory.path, header, store, index)

    def _open_log(self, base: int) -> tuple[File, SegmentHeader]:
        path = self._directory.file(base, "log")
        file = self._directory.files.open(path, writable=False)
        page = file.pread(SEGMENT_HEADER_BYTES, 0)
        try:
            return file, SegmentHeader.decode(page, self._identity, base, path.name)
        except Damaged as damage:
            self._fences.report(damage)
            raise

    def _chain_before(self, bases: tuple[int, ...], number: int, active: ActiveSegment) -> int | None:
        """Return the chain that the segment `bases[number]` continues; None where it cannot be said."""
        try:
            return self.header_of(bases, number, active).previous_chain
        except (Damaged, FileNotFoundError):
            # Its own business: the segment before it can be read without.
            return None

    def _load_index(self, base: int) -> Index | None:
        path = self._directory.file(base, "index")
        try:
            return Index.load(self._directory.files.open(path), base)
        except FileNotFoundError:
            return None

    def _remake_index(self, file: File, header: SegmentHeader, count: int) -> Index:
        """Make the index from the log: all of it is fenced, so what is bad there is damage."""
        name = file_name(header.base, "log")
        size = file.size()
        found = scan(file, name, header, size, fence=size + 1, max_count=count)
        for damage in found.damage:
            self._fences.report(damage)
        data = Index.encode(header.base, found.slots, found.last_chain)
        if not found.damage:
            try:
                remade = self._write_index(header.base, data)
                return Index(remade, header.base, remade.map(len(data)), count, found.last_chain)
            except OSError:
                # A full disk: it does in memory, and is made again at the next opening.
                pass
        return Index(None, header.base, memoryview(data), len(found.slots), found.last_chain)

    def _write_index(self, base: int, data: bytes) -> File:
        """Put an index there and return it. Raises OSError.

        Under another name first: somebody may still have the old one mapped, and emptying a file under a
        map kills the process.
        """
        path = self._directory.file(base, "index")
        temporary = path.with_name(path.name + ".tmp")
        file = self._directory.files.open(temporary, create=True)
        try:
            write_all(file, data, 0)
        except OSError:
            self._directory.files.unlink(temporary)
            raise
        self._directory.files.rename(temporary, path)
        return file
