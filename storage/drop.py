"""Drop: retention's work on the files of a log. The start moves in the manifest, then the files before it go.

record   the manifest names the new start: a crash from here on ends with the files before it gone
remove   unlink oldest first, then sync the directory
"""

from __future__ import annotations

from quorumlog.storage.derived import DerivedFiles
from quorumlog.storage.directory import SegmentDirectory
from quorumlog.storage.errors import NoSpace, SyncFailed
from quorumlog.storage.files import NO_SPACE_ERRORS
from quorumlog.storage.install import write_manifest
from quorumlog.storage.manifest import LogIdentity, Manifest


class Drop:
    """Some segments on their way out. Log.begin_drop makes it; Log.forget comes between its two halves."""

    def __init__(
        self,
        directory: SegmentDirectory,
        identity: LogIdentity,
        derived: DerivedFiles,
        manifest: Manifest,
        bases: tuple[int, ...],
    ) -> None:
        self.manifest = manifest
        self.bases = bases  # that go, ascending
        self._directory = directory
        self._identity = identity
        self._derived = derived

    def record(self) -> None:
        """Move the start, durably, in any thread. Raises NoSpace with nothing changed, or SyncFailed."""
        try:
            write_manifest(self._directory, self._identity, self.manifest)
        except OSError as error:
            if error.errno in NO_SPACE_ERRORS:
                raise NoSpace(f"manifest: {error}") from error
            raise SyncFailed(f"manifest: {error}") from error

    def remove(self) -> None:
        """Unlink the files, which nobody looks for any more, in the thread that seals. Raises SyncFailed."""
        try:
            for base in self.bases:
                for suffix in ("log", "index", "view", "state"):
                    self._directory.unlink_if_there(base, suffix)
                self._derived.forget(base)
            self._directory.sync()
        except OSError as error:
            raise SyncFailed(f"removing segments {self.bases[0]} to {self.bases[-1]}: {error}") from error
