"""The seam to the file system: everything that storage asks of one, and the real thing.

Tests put a simulated disk behind the same two protocols, which loses what was not synced, page by page.
Calls raise OSError as the kernel does; the callers translate it, because only they know what it means.

A file is not closed by whoever opened it but when its last reference goes: a reader or a sync in another
thread keeps a descriptor alive for the length of its call, and no lock is needed. CPython counts
references, so that is at once.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from quorumlog.proto.checksum import Buffer
from quorumlog.storage.errors import SyncFailed

# Of one pwritev; Linux takes no more (UIO_MAXIOV).
MAX_BUFFERS = 1024

# What the kernel says when there is no room: on the disk, or in the user's quota.
NO_SPACE_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclass(frozen=True, slots=True)
class DirectoryEntry:
    """A file in a listing."""

    name: str
    size: int  # bytes


class File(Protocol):
    """An open file. Positions and sizes are bytes."""

    def pread(self, size: int, position: int) -> bytes:
        """Read; short only at the end of the file."""

    def pwritev(self, buffers: Sequence[Buffer], position: int) -> int:
        """Write at most MAX_BUFFERS buffers, one after another; return how many bytes were taken."""

    def fdatasync(self) -> None:
        """Make the bytes durable, and the size where the bytes need it."""

    def fsync(self) -> None:
        """Make bytes and size durable."""

    def allocate(self, position: int, size: int) -> None:
        """Reserve space, so that writing there cannot fail for want of it; new bytes are zero."""

    def truncate(self, size: int) -> None:
        """Set the size; what was beyond it is gone."""

    def forget_cache(self) -> None:
        """Drop clean pages from the cache: the next read comes from the disk."""

    def size(self) -> int:
        """Return the size."""

    def map(self, size: int, *, writable: bool = False) -> memoryview:
        """Map the first `size` bytes. The mapping lives as long as the view of it."""


class Lock(Protocol):
    """A lock on a path, held until it is released or the process ends."""

    def release(self) -> None:
        """Let others have it."""


class FileSystem(Protocol):
    """The operations on names. Those that change a directory are durable only after sync_directory."""

    def open(self, path: Path, *, create: bool = False, writable: bool = True) -> File:
        """Open an existing file; with `create`, an empty new one in the place of whatever was there."""

    def rename(self, source: Path, target: Path) -> None:
        """Rename; a file in the target's place is replaced."""

    def unlink(self, path: Path) -> None:
        """Remove a file."""

    def sync_directory(self, path: Path) -> None:
        """Make the names in a directory durable."""

    def list(self, path: Path) -> list[DirectoryEntry]:
        """List the files in a directory, in no order."""

    def exists(self, path: Path) -> bool:
        """Say whether there is something of that name."""

    def make_directory(self, path: Path) -> None:
        """Make a directory, with its parents, durably; nothing happens where it is there."""

    def lock(self, path: Path) -> Lock | None:
        """Lock the file of that name, made if need be; None where another process holds it."""

    def free_bytes(self, path: Path) -> int:
        """Return the free space of the file system that holds a directory."""


class OsFile:
    """A file of the operating system."""

    __slots__ = ("_descriptor",)

    def __init__(self, path: Path, flags: int) -> None:
        self._descriptor = -1  # so that __del__ finds one where open raises
        self._descriptor = os.open(path, flags | os.O_CLOEXEC, 0o644)

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def pread(self, size: int, position: int) -> bytes:
        """See File."""
        data = os.pread(self._descriptor, size, position)
        if len(data) == size or not data:
            return data
        # A signal may cut a large read short; the end of the file gives nothing at the next try.
        return data + self.pread(size - len(data), position + len(data))

    def pwritev(self, buffers: Sequence[Buffer], position: int) -> int:
        """See File."""
        return os.pwritev(self._descriptor, buffers, position)

    def fdatasync(self) -> None:
        """See File."""
        os.fdatasync(self._descriptor)

    def fsync(self) -> None:
        """See File."""
        os.fsync(self._descriptor)

    def allocate(self, position: int, size: int) -> None:
        """See File."""
        os.posix_fallocate(self._descriptor, position, size)

    def truncate(self, size: int) -> None:
        """See File."""
        os.ftruncate(self._descriptor, size)

    def forget_cache(self) -> None:
        """See File."""
        os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_DONTNEED)

    def size(self) -> int:
        """See File."""
        return os.fstat(self._descriptor).st_size

    def map(self, size: int, *, writable: bool = False) -> memoryview:
        """See File."""
        access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
        return memoryview(mmap.mmap(self._descriptor, size, access=access))


class OsLock:
    """An advisory lock (flock) on a file of its own."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def release(self) -> None:
        """See Lock."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __del__(self) -> None:
        self.release()


class OsFiles:
    """The file system of the operating system."""

    def open(self, path: Path, *, create: bool = False, writable: bool = True) -> File:
        """See FileSystem."""
        flags = os.O_RDWR if writable else os.O_RDONLY
        return OsFile(path, flags | (os.O_CREAT | os.O_TRUNC if create else 0))

    def rename(self, source: Path, target: Path) -> None:
        """See FileSystem."""
        os.rename(source, target)

    def unlink(self, path: Path) -> None:
        """See FileSystem."""
        os.unlink(path)

    def sync_directory(self, path: Path) -> None:
        """See FileSystem."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def list(self, path: Path) -> list[DirectoryEntry]:
        """See FileSystem."""
        with os.scandir(path) as entries:
            return [DirectoryEntry(each.name, each.stat().st_size) for each in entries if each.is_file()]

    def exists(self, path: Path) -> bool:
        """See FileSystem."""
        return path.exists()

    def make_directory(self, path: Path) -> None:
        """See FileSystem."""
        if not path.exists():
            self.make_directory(path.parent)
            path.mkdir(mode=0o755, exist_ok=True)
            self.sync_directory(path.parent)

    def lock(self, path: Path) -> Lock | None:
        """See FileSystem."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return OsLock(descriptor)

    def free_bytes(self, path: Path) -> int:
        """See FileSystem."""
        status = os.statvfs(path)
        return status.f_bavail * status.f_frsize


def write_all(file: File, data: Buffer, position: int) -> None:
    """Write `data` at `position`, going on after short writes."""
    rest = memoryview(data)
    while rest:
        taken = file.pwritev([rest], position)
        position += taken
        rest = rest[taken:]


def replace_file(files: FileSystem, path: Path, data: Buffer) -> None:
    """Put `data` under a name, whole or not at all, whenever the power goes; durable on return.

    Raises OSError with the file as it was, SyncFailed where what is there is not known.
    """
    temporary = path.with_name(path.name + ".tmp")
    file = files.open(temporary, create=True)
    write_all(file, data, 0)
    try:
        file.fsync()
    except OSError as error:
        raise SyncFailed(f"{temporary.name}: fsync: {error}") from error
    files.rename(temporary, path)
    try:
        files.sync_directory(path.parent)
    except OSError as error:
        raise SyncFailed(f"{path.name}: fsync of its directory: {error}") from error


def read_file(files: FileSystem, path: Path) -> bytes | None:
    """Return a small file's bytes; None where there is none."""
    try:
        file = files.open(path, writable=False)
    except FileNotFoundError:
        return None
    return file.pread(file.size(), 0)
