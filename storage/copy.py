"""Copy: a sealed file on its way into the place of a damaged one.

It grows under another name (`<name>.copy.tmp`, which opening a log removes), is checked there, made durable,
and then renamed: whenever the power goes, the file of the name is the damaged one or the good one.
"""

from __future__ import annotations

from quorumlog.proto.checksum import Buffer
from quorumlog.storage.directory import SegmentDirectory
from quorumlog.storage.errors import NoSpace, SyncFailed
from quorumlog.storage.fences import SealedFile
from quorumlog.storage.files import NO_SPACE_ERRORS, File, write_all


class Copy:
    """`write`, `sync` and `discard` may be called in any one thread; `rename` belongs to the log's."""

    def __init__(self, directory: SegmentDirectory, file: SealedFile) -> None:
        """Begin an empty one, in the place of what an earlier attempt left. Raises NoSpace or SyncFailed."""
        self.file = file
        self.size = 0
        self._directory = directory
        self._path = directory.path / f"{file.name}.copy.tmp"
        try:
            self.content: File = directory.files.open(self._path, create=True)
        except OSError as error:
            raise self._translated(error) from error

    def write(self, data: Buffer) -> None:
        """Append bytes. Raises NoSpace or SyncFailed."""
        try:
            write_all(self.content, data, self.size)
        except OSError as error:
            raise self._translated(error) from error
        self.size += len(data)

    def sync(self) -> None:
        """Make the bytes durable. Raises SyncFailed."""
        try:
            self.content.fsync()
        except OSError as error:
            raise SyncFailed(f"{self._path.name}: fsync: {error}") from error

    def rename(self) -> None:
        """Give it the name, durably. Raises OSError with nothing changed, or SyncFailed."""
        self._directory.files.rename(self._path, self._directory.file(self.file.base, self.file.suffix))
        try:
            self._directory.sync()
        except OSError as error:
            raise SyncFailed(f"{self.file.name}: fsync of its directory: {error}") from error

    def discard(self) -> None:
        """Remove it. Raises SyncFailed."""
        try:
            self._directory.files.unlink(self._path)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise SyncFailed(f"{self._path.name}: {error}") from error

    def _translated(self, error: OSError) -> NoSpace | SyncFailed:
        if error.errno in NO_SPACE_ERRORS:
            return NoSpace(f"{self._path.name}: {error}")
        return SyncFailed(f"{self._path.name}: {error}")
