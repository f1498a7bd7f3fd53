"""Opening a group's directory: lock, manifest, the files' names, the last segment. In this order.

How long it takes depends on the last segment alone: of the others only the names are looked at. That none
is missing is known by counting, since every segment's header says how many there have been before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from quorumlog.storage.active import ActiveSegment
from quorumlog.storage.directory import Listing, SegmentDirectory
from quorumlog.storage.errors import Damaged, Locked, NoSpace, SyncFailed
from quorumlog.storage.files import NO_SPACE_ERRORS, FileSystem, Lock, read_file, replace_file
from quorumlog.storage.format import SEGMENT_HEADER_BYTES
from quorumlog.storage.header import SegmentHeader
from quorumlog.storage.install import finish_install
from quorumlog.storage.manifest import NAME as MANIFEST_NAME
from quorumlog.storage.manifest import LogIdentity, Manifest
from quorumlog.storage.recovery import LastSegment, Recovery
from quorumlog.storage.segment import file_name
from quorumlog.storage.spare import LOG_NAME, write_first_page

LOCK_NAME = "lock"


@dataclass(slots=True)
class Opened:
    """What Log is made of."""

    recovery: Recovery
    manifest: Manifest
    active: ActiveSegment
    bases: tuple[int, ...]
    sizes: dict[int, int]  # of sealed log files
    views: set[int]
    states: set[int]


def open_directory(
    files: FileSystem, group: Path, identity: LogIdentity, segment_bytes: int, capacity: int
) -> tuple[Lock, Opened]:
    """Open a group's directory, or make a new one; see Log.open for what is raised."""
    files.make_directory(group / "log")
    lock = files.lock(group / LOCK_NAME)
    if lock is None:
        raise Locked(f"{group}: another process has it open")
    try:
        return lock, _Opening(files, group, identity).run(segment_bytes, capacity)
    except OSError as error:
        lock.release()
        if error.errno in NO_SPACE_ERRORS:
            raise NoSpace(f"open: {error}") from error
        raise SyncFailed(f"open: {error}") from error
    except BaseException:
        lock.release()
        raise


class _Opening:
    def __init__(self, files: FileSystem, group: Path, identity: LogIdentity) -> None:
        self._files = files
        self._group = group
        self._identity = identity
        self._directory = SegmentDirectory(files, group / "log")
        self._recovery = Recovery()

    def run(self, segment_bytes: int, capacity: int) -> Opened:
        listing = self._directory.list()
        manifest = self._manifest(listing)
        if manifest.is_installing:
            finish_install(self._directory, self._identity, manifest)
            self._recovery.notes.append(f"the log begins anew at {manifest.first_base}: finished")
            listing, manifest = self._directory.list(), manifest.installed()
        self._remove_unwanted(listing, manifest.first_base)
        bases = tuple(sorted(listing.logs))
        self._check_ends(bases, listing, manifest)
        covered = max(listing.states, default=1) - 1
        last = LastSegment(self._directory, self._identity, bases[-1], covered, self._recovery)
        active = last.open(segment_bytes, capacity)
        self._check_count(bases, manifest, active.header)
        del listing.logs[active.base]
        return Opened(self._recovery, manifest, active, bases, listing.logs, listing.views, listing.states)

    def _manifest(self, listing: Listing) -> Manifest:
        data = read_file(self._files, self._group / MANIFEST_NAME)
        if data is not None:
            return Manifest.decode(data, self._identity)
        manifest = Manifest.initial(self._identity)
        if not listing.logs:
            self._make_first_segment(listing, manifest)
        elif not self._is_new(listing):
            raise Damaged(MANIFEST_NAME, 0, None, "the file is missing, and the log is not empty")
        # Last: once there is a manifest, a log without segments is a damaged one.
        replace_file(self._files, self._group / MANIFEST_NAME, manifest.encode(self._identity))
        return manifest

    def _make_first_segment(self, listing: Listing, manifest: Manifest) -> None:
        if listing.states or listing.views:
            raise Damaged(MANIFEST_NAME, 0, None, "manifest and log files are missing")
        header = SegmentHeader(1, manifest.previous_term, manifest.previous_chain, 0, 1)
        temporary = self._directory.path / LOG_NAME
        write_first_page(self._files.open(temporary, create=True), header, self._identity)
        self._files.rename(temporary, self._directory.file(1, "log"))
        self._directory.sync()
        listing.logs[1] = SEGMENT_HEADER_BYTES
        listing.leftovers.clear()

    def _is_new(self, listing: Listing) -> bool:
        """Whether a crash came between making the first segment and the manifest."""
        return listing.logs == {1: SEGMENT_HEADER_BYTES} and not listing.states and not listing.views

    def _remove_unwanted(self, listing: Listing, first_base: int) -> None:
        """Finish what a crash left half-done: retention, a truncation, an unfinished file."""
        doomed = [self._directory.path / name for name in listing.leftovers]
        by_suffix = {"index": listing.indexes, "view": listing.views, "state": listing.states}
        for base in sorted(base for base in listing.logs if base < first_base):
            doomed.append(self._directory.file(base, "log"))
            del listing.logs[base]
        for suffix, found in by_suffix.items():
            gone = {base for base in found if base < first_base}
            if suffix == "index":
                gone |= {base for base in found if base not in listing.logs}
            doomed.extend(self._directory.file(base, suffix) for base in sorted(gone))
            found -= gone
        for path in doomed:
            self._files.unlink(path)
            self._recovery.notes.append(f"{path.name}: removed")
        if doomed:
            self._directory.sync()

    def _check_ends(self, bases: tuple[int, ...], listing: Listing, manifest: Manifest) -> None:
        if not bases or bases[0] != manifest.first_base:
            name = file_name(manifest.first_base, "log")
            raise Damaged(name, 0, manifest.first_base, "the log's first segment is missing")
        for base in sorted(listing.views | listing.states):
            # Both are written only after the segment of that base is durable.
            if base not in listing.logs:
                raise Damaged(file_name(base, "log"), 0, base, "the segment's log file is missing")

    def _check_count(self, bases: tuple[int, ...], manifest: Manifest, last: SegmentHeader) -> None:
        expected = last.ordinal - manifest.first_ordinal + 1
        if len(bases) == expected:
            return
        for before, base in pairwise(bases):
            page = self._files.open(self._directory.file(base, "log"), writable=False).pread(
                SEGMENT_HEADER_BYTES, 0
            )
            header = SegmentHeader.decode(page, self._identity, base, file_name(base, "log"))
            if header.previous_base != before:
                missing = file_name(header.previous_base, "log")
                reason = f"the file is missing: expected {expected} segments, found {len(bases)}"
                self._recovery.fenced.append(Damaged(missing, 0, header.previous_base, reason))
        if not self._recovery.fenced:
            reason = (
                f"first ordinal: {manifest.first_ordinal} does not fit the last segment's, {last.ordinal}"
            )
            self._recovery.fenced.append(Damaged(MANIFEST_NAME, 0, None, reason))
