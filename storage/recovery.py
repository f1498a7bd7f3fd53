"""Recovery: opening the last segment, the only one that a crash can have torn.

After a power loss its unsynced pages may be there or not, in any combination, so a bad frame with good
ones behind it is normal above the watermark, and the log ends before it. Below the watermark, or at or
below what a state file covers, the same is damage: nothing is cut, and the log takes no appends.

What a killed process leaves is in the page cache and not on disk, and after a failed fsync the cache holds
what will never be there. So the file is synced and dropped from the cache before it is scanned: what is
found is what the disk has.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from quorumlog.storage.active import ActiveSegment
from quorumlog.storage.directory import SegmentDirectory
from quorumlog.storage.errors import Damaged, NoSpace, SyncFailed
from quorumlog.storage.files import File
from quorumlog.storage.format import FRAME_HEADER_BYTES, SEGMENT_HEADER_BYTES, SYNCED_SLOT_POSITIONS
from quorumlog.storage.frame import BadFrame, parse_header
from quorumlog.storage.header import SegmentHeader
from quorumlog.storage.index import Index
from quorumlog.storage.manifest import LogIdentity
from quorumlog.storage.scan import Scanned, count_nonzero_tail, scan
from quorumlog.storage.segment import file_name
from quorumlog.storage.store import Store
from quorumlog.storage.watermark import ReadSlots, Watermark


@dataclass(slots=True)
class Recovery:
    """What was found when the log was opened."""

    is_clean: bool = False  # it had been closed: nothing was scanned
    entries: int = 0  # in the last segment
    cut_bytes: int = 0  # torn, never acknowledged
    fenced: list[Damaged] = field(default_factory=list)  # not to be served; not empty: do not start on this
    notes: list[str] = field(default_factory=list)  # what was put right


class LastSegment:
    """Opens the last segment of a directory and brings it into the state that an append needs."""

    def __init__(
        self,
        directory: SegmentDirectory,
        identity: LogIdentity,
        base: int,
        covered_index: int,
        recovery: Recovery,
    ) -> None:
        """`covered_index` is the last entry that a state file covers. Raises Damaged or CannotOpen."""
        self._directory = directory
        self._base = base
        self._covered = covered_index
        self._recovery = recovery
        self._name = file_name(base, "log")
        self._file: File = directory.files.open(directory.file(base, "log"))
        self._size = self._file.size()
        page = self._file.pread(SEGMENT_HEADER_BYTES, 0)
        self._header = SegmentHeader.decode(page, identity, base, self._name)
        self._slots = ReadSlots(page, base)
        if self._slots.bad_count == len(SYNCED_SLOT_POSITIONS):
            raise Damaged(self._name, SYNCED_SLOT_POSITIONS[0], None, "both synced slots are bad")
        if self._slots.bad_count:
            recovery.notes.append(f"{self._name}: one synced slot is bad")

    def open(self, segment_bytes: int, capacity: int) -> ActiveSegment:
        """Return the segment, with room for `segment_bytes` and `capacity` entries if the disk has it.

        Raises SyncFailed, or NoSpace where there is not even room for an index.
        """
        active = self._as_closed() or self._as_found(capacity)
        self._recovery.entries = active.index.count
        if not self._recovery.fenced:
            make_room(active, segment_bytes, capacity)
        return active

    def _as_closed(self) -> ActiveSegment | None:
        """Believe the index, where the log was closed and nothing was written since."""
        if not self._slots.is_clean or self._size != self._slots.position:
            return None
        path = self._directory.file(self._base, "index")
        if not self._directory.files.exists(path):
            return None
        index = Index.load(self._directory.files.open(path), self._base)
        if index is None or index.last < self._covered or not self._ends_as(index):
            return None
        self._recovery.is_clean = True
        last_term = index.slot(index.last)[2] if index.count else self._header.previous_term
        return self._segment(index, self._size, self._size, last_term, index.chain)

    def _ends_as(self, index: Index) -> bool:
        """Whether the file's last frame is the index's last entry."""
        if not index.count:
            return self._size == SEGMENT_HEADER_BYTES and index.chain == self._header.previous_chain
        position, size, _ = index.slot(index.last)
        try:
            last = parse_header(self._file.pread(FRAME_HEADER_BYTES, position), 0)
        except BadFrame:
            return False
        return position + size == self._size and last.chain == index.chain

    def _as_found(self, capacity: int) -> ActiveSegment:
        self._leave_to_disk()
        fence = self._slots.position
        found = scan(self._file, self._name, self._header, self._size, fence)
        last = self._base + len(found.slots) - 1
        if last < self._covered and not found.damage:
            reason = f"the log ends at entry {last}, a state file covers entry {self._covered}"
            found.damage.append(Damaged(self._name, found.end, last + 1, reason))
        active = self._segment(self._index_of(found, capacity), found.end, self._size, *_last(found))
        if found.damage:
            self._recovery.fenced.extend(found.damage)
            return active
        self._recovery.cut_bytes = count_nonzero_tail(self._file, found.end, self._size)
        if self._recovery.cut_bytes:
            active.store.cut(found.end)
        self._record_durable(active)
        return active

    def _leave_to_disk(self) -> None:
        try:
            self._file.fdatasync()
        except OSError as error:
            raise SyncFailed(f"{self._name}: fdatasync: {error}") from error
        self._file.forget_cache()

    def _record_durable(self, active: ActiveSegment) -> None:
        """From now on a bad frame among these is damage, even if nothing is ever appended here again."""
        active.watermark.raise_to(active.store.end)
        active.watermark.record()
        active.sync_data()

    def _index_of(self, found: Scanned, capacity: int) -> Index:
        """Make the index anew, in the place of the old one, whose space is there already."""
        path = self._directory.file(self._base, "index")
        is_there = self._directory.files.exists(path)
        file = self._directory.files.open(path, create=not is_there)
        index = Index.create(file, self._base, max(capacity, len(found.slots)))
        for slot in found.slots:
            index.add(*slot)
        return index

    def _segment(
        self, index: Index, end: int, allocated: int, last_term: int, last_chain: int
    ) -> ActiveSegment:
        return ActiveSegment(
            self._directory.path,
            self._header,
            Store(self._file, end, allocated),
            index,
            Watermark(self._file, self._base, self._slots.sequence, self._slots.position),
            last_term,
            last_chain,
        )


def _last(found: Scanned) -> tuple[int, int]:
    return found.last_term, found.last_chain


def make_room(active: ActiveSegment, segment_bytes: int, capacity: int) -> None:
    """Preallocate; a full disk is not an error yet: an append will say so."""
    try:
        active.store.allocate(segment_bytes)
        active.index.reserve(capacity - active.index.count)
    except NoSpace:
        return
