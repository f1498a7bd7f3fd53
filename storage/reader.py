"""Reader: a log's entries by raft index, in any thread, while the log goes on.

Reading takes no lock. What a reader needs (the last segment, the bases) is replaced as a whole and never
changed in place; files stay open as long as somebody holds them.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import pairwise

from quorumlog.storage.active import ActiveSegment
from quorumlog.storage.derived import DerivedFiles
from quorumlog.storage.directory import SegmentDirectory
from quorumlog.storage.errors import Damaged, OutOfLog
from quorumlog.storage.frame import Frame
from quorumlog.storage.manifest import LogIdentity, Manifest
from quorumlog.storage.opening import Opened
from quorumlog.storage.options import LogOptions
from quorumlog.storage.recovery import Recovery
from quorumlog.storage.sealed import SealedSegments
from quorumlog.storage.segment import Segment, SegmentInfo, file_name
from quorumlog.storage.view import SealedView
from quorumlog.storage.views import Views


class LogReader:
    """What a log holds, and reading it. Log adds what changes it.

    - Entries are `first_index` to `last_index` without gaps; each continues the chain of the one before.
    - What a reader gets is verified. What it meets that is damaged is remembered in `damage`.
    """

    def __init__(
        self, directory: SegmentDirectory, identity: LogIdentity, options: LogOptions, opened: Opened
    ) -> None:
        """Use Log.open."""
        self._directory = directory
        self._identity = identity
        self._options = options
        self.recovery: Recovery = opened.recovery
        self.damage: list[Damaged] = list(opened.recovery.fenced)  # all that was ever met
        self._manifest: Manifest = opened.manifest
        self._active: ActiveSegment = opened.active
        self._bases: tuple[int, ...] = opened.bases  # ascending, the active one last; replaced, never changed
        self._sizes = opened.sizes  # of sealed log files, by base
        self._derived = DerivedFiles(directory, opened.views, opened.states)
        self._sealed = SealedSegments(directory, identity, options.open_segments, self.damage)
        self._truncations = 0  # begun and ended: odd while one is under way
        self.views = Views(self)

    # What there is

    @property
    def first_index(self) -> int:
        """Raft index of the first kept entry; 1 when the log is new."""
        return self._bases[0]

    @property
    def last_index(self) -> int:
        """Raft index of the last entry; first_index - 1 when there is none."""
        return self._active.last_index

    @property
    def last_term(self) -> int:
        """Term of the last entry."""
        return self._active.last_term

    @property
    def last_chain(self) -> int:
        """Chain of the last entry, which the next one continues."""
        return self._active.last_chain

    @property
    def size_bytes(self) -> int:
        """Bytes of all log files, as far as they are in use."""
        return sum(self._sizes.values()) + self._active.store.end

    @property
    def segments(self) -> list[SegmentInfo]:
        """All segments, oldest first."""
        active = self._active
        sealed = [
            SegmentInfo(base, following - 1, self._sizes[base], is_active=False)
            for base, following in pairwise(self._bases)
        ]
        return [*sealed, SegmentInfo(active.base, active.last_index, active.store.end, is_active=True)]

    @property
    def bases(self) -> tuple[int, ...]:
        """Raft indexes of the segments' first entries, ascending; the active one's last."""
        return self._bases

    def has_view(self, base: int) -> bool:
        """Whether the segment's view is on disk."""
        return self._derived.has_view(base)

    def term_at(self, index: int) -> int | None:
        """Return the term of an entry, or of the one before the first; None for any other. No file is read.

        Raises Damaged where a sealed segment's index is lost and its log is not intact either.
        """
        if index == self._manifest.first_base - 1:
            return self._manifest.previous_term
        try:
            segment = self._locate(index)
        except OutOfLog:
            return None
        return segment.term_at(index)

    # Reading

    def read(self, index: int) -> Frame:
        """Return one entry, verified. Raises Damaged or OutOfLog."""
        truncations = self._truncations
        segment = self._locate(index)
        try:
            return segment.read(index)
        except Damaged as damage:
            self._note(damage, truncations, index)
            raise

    def read_raw(self, first: int, max_bytes: int) -> tuple[bytes, int]:
        """Return the bytes of whole frames from entry `first` on, and how many they are.

        As many as fit into `max_bytes` and stand in one segment, but at least one; each verified.
        Raises Damaged or OutOfLog.
        """
        truncations = self._truncations
        segment = self._locate(first)
        try:
            return segment.read_raw(first, max_bytes)
        except Damaged as damage:
            self._note(damage, truncations, first)
            raise

    def read_body(self, base: int, position: int, size: int) -> bytes:
        """Return bytes of a segment's log file, of which the caller verifies the batch's crc.

        Raises Damaged or OutOfLog.
        """
        try:
            return self._segment(base).read_body(position, size)
        except Damaged as damage:
            self.report(damage)
            raise

    def open_view(self, base: int) -> SealedView:
        """Map a sealed segment's view. Raises Damaged."""
        try:
            return self._derived.open_view(base)
        except Damaged as damage:
            self.report(damage)
            raise

    def report(self, damage: Damaged) -> None:
        """Remember damage that a reader met."""
        self._sealed.report(damage)

    def _note(self, damage: Damaged, truncations: int, index: int) -> None:
        """What looks damaged may have been cut while it was read: then it is simply not there any more."""
        if truncations % 2 or truncations != self._truncations:
            raise OutOfLog(index, self.first_index, self.last_index) from damage
        self.report(damage)

    def _locate(self, index: int) -> Segment:
        """Return the segment that holds an entry. Raises OutOfLog or Damaged."""
        active = self._active
        if active.base <= index <= active.last_index:
            return active
        bases = self._bases
        number = bisect_right(bases, index) - 1
        if number == len(bases) - 1 and self.recovery.fenced:
            # It may have been there: behind a bad header there is no telling.
            raise self.recovery.fenced[-1]
        if number < 0 or number == len(bases) - 1:
            raise OutOfLog(index, self.first_index, self.last_index)
        segment = self._get_sealed(bases, number, active)
        if index > segment.last_index:
            raise self._sealed.missing(segment, index)
        return segment

    def _segment(self, base: int) -> Segment:
        active = self._active
        if base == active.base:
            return active
        bases = self._bases
        number = bisect_right(bases, base) - 1
        if number < 0 or bases[number] != base:
            raise OutOfLog(base, self.first_index, self.last_index)
        return self._get_sealed(bases, number, active)

    def _get_sealed(self, bases: tuple[int, ...], number: int, active: ActiveSegment) -> Segment:
        try:
            return self._sealed.get(bases, number, active)
        except FileNotFoundError as error:
            base = bases[number]
            if base not in self._bases:
                raise OutOfLog(base, self.first_index, self.last_index) from error
            damage = Damaged(file_name(base, "log"), 0, base, "the file is missing")
            self.report(damage)
            raise damage from error
        except OSError as error:
            # Not remembered: too many open files, say, will pass.
            raise Damaged(file_name(bases[number], "log"), 0, None, f"cannot be read: {error}") from error
