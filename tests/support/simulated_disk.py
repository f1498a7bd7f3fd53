"""A disk in memory that forgets what was not synced: the fake twin of storage.files.OsFiles.

It keeps two contents of every file, what programs see (the page cache) and what is on the platter, and
the same for names. Syncing copies the one to the other. What may be lost is lost adversarially:

- `after_kill()`         the process is gone, the page cache is not: everything written is there
- `after_power_loss(r)`  of each unsynced page any whole sectors may have reached the disk, in any
                         combination; of the unsynced operations on names any subset, each whole, in order;
                         a shrunk size may be the old one
- `write_back(r)`        what the kernel does when it pleases: some dirty pages reach the disk now

A sync that fails marks its pages clean all the same, as Linux does: they are in the cache and nowhere else,
and a second sync says nothing of them.

Faults: `kill_at(n)` raises PowerCut at the n-th step that changes something (a write then takes any part of
its bytes first), and at every one after it. `fail(...)` makes calls raise an OSError. `short_writes` makes
writes take only a part. `capacity` bytes of files fit.

No real time, no real files; what is random comes from the generator that is given, so a seed repeats all.
"""

from __future__ import annotations

import errno
import os
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from quorumlog.proto.checksum import Buffer
from quorumlog.storage.files import MAX_BUFFERS, DirectoryEntry, File, Lock

PAGE_BYTES = 4096
SECTOR_BYTES = 512
UNLIMITED = 1 << 40


class PowerCut(BaseException):
    """The process ends here. Not an Exception: nothing may handle it."""


@dataclass(slots=True)
class Fault:
    """Calls of `operation` on names that contain `name` raise `error`: `times` of them, after `after`."""

    operation: str
    error: int
    name: str
    after: int
    times: int


class Inode:
    """A file's two contents."""

    def __init__(self, path: Path) -> None:
        self.path = path  # the last name that it had: for transcripts and faults
        self.cached = bytearray()
        self.size = 0
        self.stored = bytearray()
        self.stored_size = 0
        self.dirty: set[int] = set()  # pages
        self.given_up: set[int] = set()  # pages that a failed sync has marked clean: in the cache only
        self.mapped = False  # writes through the map are not seen: any page may be dirty

    def resize(self, size: int) -> None:
        """Set the cached size; new bytes are zero."""
        if size > len(self.cached):
            # A new buffer: maps of the old one cannot be moved. Nobody writes through them any more.
            self.cached = self.cached + bytes(size - len(self.cached))
        if size < self.size:
            self.cached[size : self.size] = bytes(self.size - size)
            self.dirty.update(range(size // PAGE_BYTES, -(-self.size // PAGE_BYTES)))
        self.size = size

    def write(self, data: Buffer, position: int) -> None:
        """Write into the cache."""
        end = position + len(data)
        if end > self.size:
            self.resize(end)
        self.cached[position:end] = data
        self.dirty.update(range(position // PAGE_BYTES, -(-end // PAGE_BYTES)))
        if self.given_up:
            self.given_up -= self.dirty

    def give_up(self) -> None:
        """What a failed sync does: its pages count as clean, though they are not on the disk."""
        self.given_up |= self.dirty
        self.dirty.clear()

    def forget_clean(self) -> None:
        """Clean pages leave the cache, and are read from the disk again."""
        for page in sorted(self.given_up):
            start, end = page * PAGE_BYTES, min((page + 1) * PAGE_BYTES, self.size)
            if start < end:
                self.cached[start:end] = bytes(self.stored[start:end]).ljust(end - start, b"\0")
        self.given_up.clear()

    def dirty_pages(self) -> list[int]:
        """Pages below the size that may differ from the disk, ascending."""
        count = -(-self.size // PAGE_BYTES)
        pages = range(count) if self.mapped else sorted(page for page in self.dirty if page < count)
        return [page for page in pages if self._cached_page(page) != self._stored_page(page)]

    def _cached_page(self, page: int) -> bytes:
        start = page * PAGE_BYTES
        return bytes(self.cached[start : min(start + PAGE_BYTES, self.size)])

    def _stored_page(self, page: int) -> bytes:
        start = page * PAGE_BYTES
        data = bytes(self.stored[start : min(start + PAGE_BYTES, self.stored_size)])
        return data.ljust(min(PAGE_BYTES, self.size - start), b"\0")

    def store(self, start: int, end: int) -> None:
        """Copy a range to the disk."""
        if end > len(self.stored):
            self.stored.extend(bytes(end - len(self.stored)))
        self.stored[start:end] = self.cached[start:end]

    def store_pages(self) -> None:
        """What fdatasync does: all data, and the size where it grew; a smaller one may stay behind."""
        for page in self.dirty_pages():
            self.store(page * PAGE_BYTES, min((page + 1) * PAGE_BYTES, self.size))
        self.grow_stored()
        self.dirty.clear()

    def grow_stored(self) -> None:
        """Let the stored size reach the cached one."""
        if self.size > self.stored_size:
            if self.size > len(self.stored):
                self.stored.extend(bytes(self.size - len(self.stored)))
            self.stored_size = self.size

    def store_all(self) -> None:
        """What fsync does."""
        self.store_pages()
        self.shrink_stored()

    def shrink_stored(self) -> None:
        """Let the stored size be the cached one, where that is smaller."""
        if self.size < self.stored_size:
            self.stored[self.size :] = bytes(len(self.stored) - self.size)
            self.stored_size = self.size

    def lose(self, rng: random.Random) -> Inode:
        """Return what is there after a power loss."""
        dirty = self.dirty_pages()
        if self.size > self.stored_size and (dirty or rng.random() < 0.5):
            self.grow_stored()
        for page in dirty:
            if rng.random() < 0.5:
                continue
            whole = rng.random() < 0.5
            for start in range(page * PAGE_BYTES, min((page + 1) * PAGE_BYTES, self.size), SECTOR_BYTES):
                if whole or rng.random() < 0.5:
                    self.store(start, min(start + SECTOR_BYTES, self.size))
        if rng.random() < 0.5:
            self.shrink_stored()
        return self.rebooted()

    def rebooted(self) -> Inode:
        """Return a file whose cache is what is stored."""
        inode = Inode(self.path)
        inode.stored = self.stored[: self.stored_size]
        inode.cached = bytearray(inode.stored)
        inode.size = inode.stored_size = self.stored_size
        return inode


@dataclass(frozen=True, slots=True)
class NameChange:
    """An operation on a directory that is not durable yet."""

    directory: Path
    removed: Path | None
    added: Path | None
    inode: Inode | None


@dataclass(slots=True)
class SimulatedDisk:
    """A FileSystem. Directories need not be made; those that are, are durable at once."""

    capacity: int = UNLIMITED
    short_writes: random.Random | None = None  # set: every write takes a part of its bytes, at least one
    names: dict[Path, Inode] = field(default_factory=dict)
    stored_names: dict[Path, Inode] = field(default_factory=dict)
    changes: list[NameChange] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    calls: Counter[str] = field(default_factory=Counter)
    steps: int = 0  # of those that change something
    history: list[str] = field(default_factory=list)  # what each step was: a transcript
    keeps_history: bool = True
    locks: set[Path] = field(default_factory=set)
    _kill_at: int | None = None
    _kill_rng: random.Random | None = None

    # Faults

    def kill_at(self, step: int, rng: random.Random) -> None:
        """Raise PowerCut at that step from now on (1: the next), and at all after it."""
        self._kill_at = self.steps + step
        self._kill_rng = rng

    def spare(self) -> None:
        """Let it live, after a kill_at that was not reached."""
        self._kill_at = None

    @property
    def is_dead(self) -> bool:
        """Has the process been killed within an operation?"""
        return self._kill_at is not None and self.steps >= self._kill_at

    def fail(self, operation: str, error: int, *, name: str = "", after: int = 0, times: int = 1) -> None:
        """Make calls fail; see Fault. The operations are the methods' names."""
        self.faults.append(Fault(operation, error, name, after, times))

    def flip(self, path: Path, position: int, bit: int) -> None:
        """Flip one bit, on the disk and in the cache."""
        inode = self.names[path]
        inode.cached[position] ^= 1 << bit
        inode.store_all()

    def write_back(self, rng: random.Random) -> None:
        """Some dirty pages reach the disk."""
        for inode in self.names.values():
            for page in inode.dirty_pages():
                if rng.random() < 0.5:
                    inode.grow_stored()
                    inode.store(page * PAGE_BYTES, min((page + 1) * PAGE_BYTES, inode.size))

    def after_kill(self) -> SimulatedDisk:
        """Return the disk as the next process finds it: nothing is lost, nothing more is durable."""
        disk = SimulatedDisk(self.capacity, None, self.names, self.stored_names, self.changes)
        disk.keeps_history = self.keeps_history
        return disk

    def after_power_loss(self, rng: random.Random) -> SimulatedDisk:
        """Return the disk as it may be when the machine is back. This one is used up."""
        names = dict(self.stored_names)
        for change in self.changes:
            if rng.random() < 0.5:
                _apply(names, change)
        found: dict[int, Inode] = {}
        for inode in names.values():
            found.setdefault(id(inode), inode.lose(rng))
        rebooted = {path: found[id(inode)] for path, inode in names.items()}
        disk = SimulatedDisk(self.capacity, None, rebooted, dict(rebooted))
        disk.keeps_history = self.keeps_history
        return disk

    def copy(self) -> SimulatedDisk:
        """Return a disk with the same contents, all of it durable: for trying many things on one state."""
        names = {}
        for path, inode in self.names.items():
            twin = Inode(path)
            twin.cached = inode.cached[: inode.size]
            twin.stored = inode.cached[: inode.size]
            twin.size = twin.stored_size = inode.size
            names[path] = twin
        return SimulatedDisk(self.capacity, None, names, dict(names))

    def step(self, operation: str, path: Path) -> bool:
        """Count a step; whether the process is killed in it. Raises PowerCut where it is dead already."""
        if self._kill_at is not None and self.steps >= self._kill_at:
            raise PowerCut
        self.steps += 1
        if self.keeps_history:
            self.history.append(f"{operation} {path.name}")
        return self.steps == self._kill_at

    def call(self, operation: str, path: Path) -> None:
        """Count a call, and raise what a fault wants of it."""
        if self.keeps_history:
            self.calls[operation] += 1
        for fault in self.faults:
            if fault.operation == operation and fault.name in path.name:
                if fault.after:
                    fault.after -= 1
                elif fault.times:
                    fault.times -= 1
                    raise OSError(fault.error, os.strerror(fault.error), str(path))

    def change(self, operation: str, path: Path) -> None:
        """A step that is done whole or not at all."""
        self.call(operation, path)
        if self.step(operation, path):
            raise PowerCut

    def part_of(self, size: int, operation: str, path: Path) -> tuple[int, bool]:
        """Return how many bytes of a write are taken, and whether the process dies then."""
        killed = self.step(operation, path)
        if killed:
            assert self._kill_rng is not None
            return self._kill_rng.randrange(size + 1), True
        if self.short_writes is not None and size:
            return self.short_writes.randint(1, size), False
        return size, False

    def used(self) -> int:
        """Bytes of all files."""
        return sum(inode.size for inode in self.names.values())

    # FileSystem

    def open(self, path: Path, *, create: bool = False, writable: bool = True) -> File:
        """See storage.files."""
        self.call("create" if create else "open", path)
        inode = self.names.get(path)
        if create:
            if self.step("create", path):
                raise PowerCut
            # A new inode even where there was one: emptying a file is no safer than losing its name.
            inode = Inode(path)
            self._change_name(NameChange(path.parent, None, path, inode))
        if inode is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        return SimulatedFile(self, inode, writable)

    def rename(self, source: Path, target: Path) -> None:
        """See storage.files."""
        self.change("rename", target)
        self._change_name(NameChange(target.parent, source, target, self.names[source]))

    def unlink(self, path: Path) -> None:
        """See storage.files."""
        self.change("unlink", path)
        if path not in self.names:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        self._change_name(NameChange(path.parent, path, None, None))

    def _change_name(self, change: NameChange) -> None:
        _apply(self.names, change)
        self.changes.append(change)

    def sync_directory(self, path: Path) -> None:
        """See storage.files."""
        self.change("sync_directory", path)
        for change in self.changes:
            if change.directory == path:
                _apply(self.stored_names, change)
        self.changes = [change for change in self.changes if change.directory != path]

    def list(self, path: Path) -> list[DirectoryEntry]:
        """See storage.files."""
        self.call("list", path)
        return [
            DirectoryEntry(each.name, inode.size) for each, inode in self.names.items() if each.parent == path
        ]

    def exists(self, path: Path) -> bool:
        """See storage.files."""
        self.call("exists", path)
        return path in self.names

    def make_directory(self, path: Path) -> None:
        """See storage.files."""
        self.call("make_directory", path)

    def lock(self, path: Path) -> Lock | None:
        """See storage.files."""
        self.call("lock", path)
        if path in self.locks:
            return None
        self.locks.add(path)
        return SimulatedLock(self, path)

    def free_bytes(self, path: Path) -> int:
        """See storage.files."""
        self.call("free_bytes", path)
        return UNLIMITED if self.capacity == UNLIMITED else max(0, self.capacity - self.used())


def _apply(names: dict[Path, Inode], change: NameChange) -> None:
    if change.removed is not None:
        names.pop(change.removed, None)
    if change.added is not None:
        assert change.inode is not None
        names[change.added] = change.inode
        change.inode.path = change.added


class SimulatedLock:
    """A lock that goes with the process."""

    def __init__(self, disk: SimulatedDisk, path: Path) -> None:
        self._disk = disk
        self._path = path

    def release(self) -> None:
        """See storage.files."""
        self._disk.locks.discard(self._path)


class SimulatedFile:
    """An open file of a SimulatedDisk."""

    def __init__(self, disk: SimulatedDisk, inode: Inode, writable: bool) -> None:
        self._disk = disk
        self._inode = inode
        self._writable = writable

    @property
    def _path(self) -> Path:
        return self._inode.path

    def pread(self, size: int, position: int) -> bytes:
        """See storage.files."""
        self._disk.call("pread", self._path)
        return bytes(self._inode.cached[position : min(position + size, self._inode.size)])

    def pwritev(self, buffers: Sequence[Buffer], position: int) -> int:
        """See storage.files."""
        assert self._writable, f"{self._path} was opened for reading"
        assert len(buffers) <= MAX_BUFFERS
        self._disk.call("pwritev", self._path)
        data = b"".join(bytes(buffer) for buffer in buffers)
        taken, killed = self._disk.part_of(len(data), "write", self._path)
        room = taken
        if self._disk.capacity != UNLIMITED:
            room = self._disk.capacity - self._disk.used() + max(0, self._inode.size - position)
        if taken > room:
            taken = max(room, 0)
            if not taken:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))
        self._inode.write(data[:taken], position)
        if killed:
            raise PowerCut
        return taken

    def fdatasync(self) -> None:
        """See storage.files."""
        self._sync("fdatasync")
        self._inode.store_pages()

    def _sync(self, operation: str) -> None:
        try:
            self._disk.change(operation, self._path)
        except OSError:
            self._inode.give_up()
            raise

    def fsync(self) -> None:
        """See storage.files."""
        self._sync("fsync")
        self._inode.store_all()

    def allocate(self, position: int, size: int) -> None:
        """See storage.files."""
        assert self._writable
        self._disk.change("allocate", self._path)
        end = position + size
        if end > self._inode.size:
            limited = self._disk.capacity != UNLIMITED
            if limited and end - self._inode.size > self._disk.capacity - self._disk.used():
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))
            self._inode.resize(end)

    def truncate(self, size: int) -> None:
        """See storage.files."""
        assert self._writable
        self._disk.change("truncate", self._path)
        self._inode.resize(size)

    def forget_cache(self) -> None:
        """See storage.files."""
        self._disk.call("forget_cache", self._path)
        self._inode.forget_clean()

    def size(self) -> int:
        """See storage.files."""
        self._disk.call("size", self._path)
        return self._inode.size

    def map(self, size: int, *, writable: bool = False) -> memoryview:
        """See storage.files."""
        self._disk.call("map", self._path)
        assert 0 < size <= self._inode.size, f"a map of {size} of {self._inode.size} bytes would kill"
        if writable:
            self._inode.mapped = True
            return memoryview(self._inode.cached)[:size]
        return memoryview(self._inode.cached)[:size].toreadonly()
