"""Reader: a log's entries by raft index, in any thread, while the log goes on.

Reading takes no lock. What a reader needs (the last segment, the bases) is replaced as a whole and never
changed in place; files stay open as long as somebody holds them.
"""

from __future__ import annotations

import errno
from bisect import bisect_right
from collections.abc import Mapping
from itertools import pairwise

from quorumlog.storage.active import ActiveSegment
from quorumlog.storage.check import FileCheck, LogCheck, Place, Source, check_index, check_state, check_view
from quorumlog.storage.derived import DerivedFiles
from quorumlog.storage.directory import SegmentDirectory
from quorumlog.storage.errors import Damaged, OutOfLog
from quorumlog.storage.fences import Fences, SealedFile
from quorumlog.storage.files import File
from quorumlog.storage.frame import Frame
from quorumlog.storage.header import SegmentHeader
from quorumlog.storage.manifest import LogIdentity, Manifest
from quorumlog.storage.opening import Opened
from quorumlog.storage.options import LogOptions
from quorumlog.storage.recovery import Recovery
from quorumlog.storage.sealed import SealedSegments
from quorumlog.storage.segment import Segment, SegmentInfo, file_name
from quorumlog.storage.state import StateFile
from quorumlog.storage.view import SealedView
from quorumlog.storage.views import Views

# Of opening a file: they say nothing of the file, and pass.
_PASSING_ERRORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR})


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
        self._fences = Fences(self.damage, self._is_sealed)
        self._sealed = SealedSegments(directory, identity, options.open_segments, self._fences)
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

    def size_of(self, base: int) -> int:
        """Return the bytes of a sealed segment's log file."""
        return self._sizes[base]

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

    def header_of(self, base: int) -> SegmentHeader:
        """Return the header of the segment `base`; a fence does not matter. Raises Damaged or OutOfLog."""
        active, bases = self._active, self._bases
        number = bisect_right(bases, base) - 1
        if number < 0 or bases[number] != base:
            raise OutOfLog(base, self.first_index, self.last_index)
        return self._header_of(bases, number, active)

    def open_state(self, base: int) -> StateFile:
        """Open the state as of `base - 1`, to be read piece by piece. Raises Damaged."""
        self._fences.check(base, "state")
        return self._derived.open_state(base)

    def has_state(self, base: int) -> bool:
        """Whether the state as of `base - 1` is on disk."""
        return self._derived.has_state(base)

    @property
    def fenced(self) -> Mapping[SealedFile, Damaged]:
        """The sealed files that are not what was written, with what was found in each first."""
        return self._fences.fenced

    def is_sealed(self, index: int) -> bool:
        """Whether an entry stands, or stood, in a segment that is not written to any more."""
        return index < self._active.base

    def term_at(self, index: int) -> int | None:
        """Return the term of an entry, or of the one before the first; None for any other. No file is read.

        A fence does not matter: an index is believed by its own sums. Raises Damaged where a sealed segment's
        index is lost and its log is not intact either.
        """
        if index == self._manifest.first_base - 1:
            return self._manifest.previous_term
        active = self._active
        if index == active.base - 1:
            return active.header.previous_term
        try:
            segment = self._locate(index, fenced=True)
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

    def indexes_of_kind(self, first: int, kind: int) -> list[int]:
        """Return the indexes of the entries of that kind from `first` to the end, by their headers alone.

        Raises Damaged or OutOfLog.
        """
        found: list[int] = []
        while first <= self.last_index:
            segment = self._locate(first, fenced=True)  # headers are verified, each by its own sum
            number = bisect_right(self._bases, first)
            last = self._bases[number] - 1 if number < len(self._bases) else self.last_index
            try:
                found.extend(segment.indexes_of_kind(first, kind, last))
            except Damaged as damage:
                self.report(damage)
                raise
            first = last + 1
        return found

    def read_body(self, base: int, position: int, size: int) -> bytes:
        """Return bytes of a segment's log file, of which the caller verifies the batch's crc.

        Raises Damaged or OutOfLog.
        """
        segment = self._segment(base)
        try:
            return segment.read_body(position, size)
        except Damaged as damage:
            self.report(damage)
            raise

    def open_view(self, base: int) -> SealedView:
        """Map a sealed segment's view. Raises Damaged."""
        self._fences.check(base, "view")
        try:
            return self._derived.open_view(base, self.report)
        except Damaged as damage:
            self.report(damage)
            raise

    def report(self, damage: Damaged) -> None:
        """Remember damage that a reader met; it fences the file, if that is a sealed one."""
        self._fences.report(damage)

    def _is_sealed(self, file: SealedFile) -> bool:
        """Whether nobody writes to the file any more. A state is final from the start."""
        if self.recovery.fenced:
            return False  # where segments are missing, there is no telling which files belong together
        bases = self._bases
        return file.base in (bases if file.suffix == "state" else bases[:-1])

    # Checking

    def has_file(self, file: SealedFile) -> bool:
        """Whether there should be such a file, and it is final."""
        if not self._is_sealed(file):
            return False
        match file.suffix:
            case "view":
                return self._derived.has_view(file.base)
            case "state":
                return self._derived.has_state(file.base)
            case "index":
                # It may be missing: it is made again when it is needed.
                return self._directory.files.exists(self._directory.file(file.base, "index"))
            case _:
                return True

    @property
    def truncations(self) -> int:
        """Changes with every truncation, at its begin and at its end: odd while one is under way."""
        return self._truncations

    def place_of(self, base: int, *, whole: bool = True) -> Place:
        """Return what the segments beside a sealed one say of it.

        Raises OutOfLog where it is none, Damaged where the header of the one after it cannot be read; unless
        `whole`, that part is left out then.
        """
        active, bases = self._active, self._bases
        number = bisect_right(bases, base) - 1
        if number < 0 or bases[number] != base or number >= len(bases) - 1 or bases[-1] != active.base:
            raise OutOfLog(base, self.first_index, self.last_index)
        end, ordinal = None, None
        try:
            after = self._header_of(bases, number + 1, active)
            end, ordinal = (after.previous_term, after.previous_chain), after.ordinal - 1
        except Damaged:
            if whole:
                raise
        manifest = self._manifest
        is_first = base == manifest.first_base
        previous = (manifest.previous_term, manifest.previous_chain) if is_first else None
        before = None if is_first else bases[number - 1]
        return Place(base, bases[number + 1], end, ordinal, previous, before)

    def begin_check(
        self,
        file: SealedFile,
        copy: File | None = None,
        log: LogCheck | None = None,
        *,
        with_index: bool = False,
        whole: bool = True,
    ) -> FileCheck:
        """Return a check of a sealed file as it is on disk, or of a `copy` that shall take its place.

        That of an index needs the finished check of its `log`; `whole`: see place_of. Raises Damaged,
        OutOfLog.
        """
        if not self._is_sealed(file):
            raise OutOfLog(file.base, self.first_index, self.last_index)
        try:
            opened = copy or self._directory.files.open(
                self._directory.file(file.base, file.suffix), writable=False
            )
        except FileNotFoundError as error:
            raise Damaged(file.name, 0, None, "the file is missing") from error
        source = Source(opened, file.name)
        match file.suffix:
            case "log":
                place = self.place_of(file.base, whole=whole)
                check = LogCheck(source, self._identity, place, with_index=with_index)
                return FileCheck(source, check.steps(), check)
            case "index":
                assert log is not None, "an index is compared with its log"
                return FileCheck(source, check_index(source, log))
            case "view":
                return FileCheck(source, check_view(source, file.base, self._base_after(file.base)))
            case _:
                return FileCheck(source, check_state(source, file.base))

    def _base_after(self, base: int) -> int:
        bases = self._bases
        number = bisect_right(bases, base)
        if bases[number - 1] != base or number == len(bases):
            raise OutOfLog(base, self.first_index, self.last_index)
        return bases[number]

    def _header_of(self, bases: tuple[int, ...], number: int, active: ActiveSegment) -> SegmentHeader:
        try:
            return self._sealed.header_of(bases, number, active)
        except FileNotFoundError as error:
            raise Damaged(file_name(bases[number], "log"), 0, None, "the file is missing") from error
        except OSError as error:
            raise Damaged(file_name(bases[number], "log"), 0, None, f"cannot be read: {error}") from error

    def _note(self, damage: Damaged, truncations: int, index: int) -> None:
        """What looks damaged may have been cut while it was read: then it is simply not there any more."""
        if truncations % 2 or truncations != self._truncations:
            raise OutOfLog(index, self.first_index, self.last_index) from damage
        self.report(damage)

    def _locate(self, index: int, *, fenced: bool = False) -> Segment:
        """Return the segment that holds an entry, a fenced one only if asked. Raises OutOfLog or Damaged."""
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
        if not fenced:
            self._fences.check(bases[number], "log")
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
        self._fences.check(base, "log")
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
            damage = Damaged(file_name(bases[number], "log"), 0, None, f"cannot be read: {error}")
            if error.errno not in _PASSING_ERRORS:
                self.report(damage)
            raise damage from error
