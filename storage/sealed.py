"""Sealed segments: opened when they are needed, a bounded number kept open, shared by all readers."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

from quorumlog.storage.active import ActiveSegment
from quorumlog.storage.directory import SegmentDirectory
from quorumlog.storage.errors import Damaged
from quorumlog.storage.files import File, write_all
from quorumlog.storage.format import SEGMENT_HEADER_BYTES
from quorumlog.storage.header import SegmentHeader
from quorumlog.storage.index import Index
from quorumlog.storage.manifest import LogIdentity
from quorumlog.storage.scan import scan
from quorumlog.storage.segment import Segment, file_name
from quorumlog.storage.store import Store
from quorumlog.storage.watermark import ReadSlots, Watermark

# Places that are remembered: more would say no more than that the disk is dying.
MAX_DAMAGE = 1000


class SealedSegments:
    """A cache of open sealed segments. Every method may be called from any thread.

    - What is evicted or dropped stays readable for whoever holds it: files close with the last reference.
    - `damage` is the log's list of what damage was ever met, each place once, up to a bound.
    """

    def __init__(
        self, directory: SegmentDirectory, identity: LogIdentity, limit: int, damage: list[Damaged]
    ) -> None:
        self._directory = directory
        self._identity = identity
        self._limit = limit
        self._damage = damage
        self._open: OrderedDict[int, Segment] = OrderedDict()
        self._lock = Lock()

    def get(self, bases: tuple[int, ...], number: int, active: ActiveSegment) -> Segment:
        """Return the segment `bases[number]`, which is not the last.

        Raises Damaged, or FileNotFoundError: dropped by retention just now, or missing.
        """
        base = bases[number]
        with self._lock:
            segment = self._open.get(base)
            if segment is None:
                segment = self._load(bases, number, active)
                self._insert(segment)
            else:
                self._open.move_to_end(base)
        return segment

    def put(self, segment: Segment) -> None:
        """Keep a segment that was the active one until now."""
        with self._lock:
            self._insert(segment)

    def drop(self, base: int) -> None:
        """Forget a segment whose files are going."""
        with self._lock:
            self._open.pop(base, None)

    def report(self, damage: Damaged) -> None:
        """Remember damage, once for each place."""
        with self._lock:
            self._report(damage)

    def missing(self, segment: Segment, index: int) -> Damaged:
        """Report that an entry is not in the segment whose it is, and return the error."""
        damage = Damaged(segment.name, segment.end_of(segment.last_index), index, "the entry is missing")
        self.report(damage)
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

    def _insert(self, segment: Segment) -> None:
        self._open[segment.base] = segment
        self._open.move_to_end(segment.base)
        if len(self._open) > self._limit:
            self._open.popitem(last=False)

    def _report(self, damage: Damaged) -> None:
        is_new = all((each.file, each.position) != (damage.file, damage.position) for each in self._damage)
        if is_new and len(self._damage) < MAX_DAMAGE:
            self._damage.append(damage)

    def _load(self, bases: tuple[int, ...], number: int, active: ActiveSegment) -> Segment:
        base = bases[number]
        file, header = self._open_log(base)
        if number and header.previous_base != bases[number - 1]:
            self._report(Damaged(file_name(header.previous_base, "log"), 0, header.previous_base, "missing"))
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
            self._report(damage)
            raise

    def _chain_before(self, bases: tuple[int, ...], number: int, active: ActiveSegment) -> int | None:
        """Return the chain that the segment `bases[number]` continues; None where it cannot be said."""
        base = bases[number]
        if base == active.base:
            return active.header.previous_chain
        known = self._open.get(base)
        try:
            header = known.header if known else self._open_log(base)[1]
        except (Damaged, FileNotFoundError):
            # Its own business: the segment before it can be read without.
            return None
        return header.previous_chain

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
            self._report(damage)
        data = Index.encode(header.base, found.slots, found.last_chain)
        path = self._directory.file(header.base, "index")
        if not found.damage:
            try:
                remade = self._directory.files.open(path, create=True)
                write_all(remade, data, 0)
                return Index(remade, header.base, remade.map(len(data)), count, found.last_chain)
            except OSError:
                # A full disk: it does in memory, and is made again at the next opening.
                pass
        return Index(None, header.base, memoryview(data), len(found.slots), found.last_chain)
