"""Errors of storage, by what the caller can do.

    StorageError
      NoSpace          the disk is full; nothing was changed: free some and try again
      OutOfLog         the entry is not here: dropped by retention, truncated, or not yet appended
      Damaged          bytes are not what was written; they are fenced: fetch them from a peer
      SyncFailed       what is on disk is not known any more: end the process, never retry
      CannotOpen       the directory is not for us; nothing was changed
        Locked           another process has it open
        WrongIdentity    it belongs to another cluster or group
        UnknownVersion   a newer quorumlog wrote it

What only a bug of ours can cause is an AssertionError.
"""

from __future__ import annotations


class StorageError(Exception):
    """Root of this layer's errors."""


class NoSpace(StorageError):
    """The disk is full. The log is as it was before the call and goes on working."""


class OutOfLog(StorageError):
    """The log does not hold the entry."""

    def __init__(self, index: int, first: int, last: int) -> None:
        super().__init__(f"entry {index}: the log holds {first} to {last}")
        self.index = index
        self.first = first
        self.last = last


class Damaged(StorageError):
    """Bytes that were once durable are not what was written. Never truncated, never served."""

    def __init__(self, file: str, position: int, entry: int | None, reason: str) -> None:
        where = f"{file}, position {position}" + ("" if entry is None else f", entry {entry}")
        super().__init__(f"{where}: {reason}")
        self.file = file  # its name, without directories
        self.position = position  # in bytes, where the bad part begins
        self.entry = entry  # raft index, where one is concerned
        self.reason = reason  # field, expected, actual


class SyncFailed(StorageError):
    """fsync (or a write whose outcome is unknown) failed: the kernel may have dropped what was dirty."""


class CannotOpen(StorageError):
    """The directory cannot be opened as this log."""


class Locked(CannotOpen):
    """Another process has the directory open."""


class WrongIdentity(CannotOpen):
    """The directory belongs to another cluster or another group."""


class UnknownVersion(CannotOpen):
    """A file is of a version that this build does not know."""
