"""Store: the bytes of one segment's log file, below an end that only whole appends move."""

from __future__ import annotations

import errno
from collections.abc import Sequence

from quorumlog.proto.checksum import Buffer
from quorumlog.storage.errors import NoSpace, SyncFailed
from quorumlog.storage.files import MAX_BUFFERS, NO_SPACE_ERRORS, File


class Store:
    """A log file of which `[0, end)` is in use.

    - An append is there as a whole or not at all.
    - Nothing but zeros stands behind `end`: what a failed append left is cut off before anything else.
    - Appending, cutting and allocating belong to one thread; reading to any.
    """

    def __init__(self, file: File, end: int, allocated: int) -> None:
        self.file = file
        self.end = end
        self.allocated = allocated  # the file's size: writing below it needs no more space

    def append(self, buffers: Sequence[Buffer], size: int) -> int:
        """Write `buffers`, of `size` bytes together, at the end; return their position.

        Raises NoSpace with everything as it was, SyncFailed where that cannot be restored.
        """
        position = self.end
        try:
            self._write(buffers, size)
        except OSError as error:
            self._undo(error)
        self.end = position + size
        self.allocated = max(self.allocated, self.end)
        return position

    def _write(self, buffers: Sequence[Buffer], size: int) -> None:
        """One call, as a rule: more only after short writes or for very many buffers."""
        position = self.end
        while True:
            taken = self.file.pwritev(buffers[:MAX_BUFFERS], position)
            if taken == size:
                return
            if taken <= 0:
                raise OSError(errno.EIO, "a write took nothing")
            buffers = _without(buffers, taken)
            position += taken
            size -= taken

    def _undo(self, error: OSError) -> None:
        """Cut off what a failed append left, durably: no power loss may bring it back as an entry."""
        try:
            self.file.truncate(self.end)
            self.file.fsync()
        except OSError as worse:
            raise SyncFailed(f"cannot undo a failed append: {worse}") from error
        self.allocated = self.end
        if error.errno not in NO_SPACE_ERRORS:
            raise SyncFailed(f"write: {error}") from error
        raise NoSpace(f"append: {error}") from error

    def allocate(self, size: int) -> None:
        """Make room up to position `size`. Raises NoSpace with everything as it was."""
        if size <= self.allocated:
            return
        try:
            self.file.allocate(self.allocated, size - self.allocated)
        except OSError as error:
            if error.errno not in NO_SPACE_ERRORS:
                raise SyncFailed(f"allocate: {error}") from error
            raise NoSpace(f"{size - self.allocated} more bytes: {error}") from error
        self.allocated = size

    def cut(self, end: int) -> None:
        """Set the end, durably; what was behind it is gone for good. Raises SyncFailed."""
        assert end <= self.end or self.allocated >= end, f"cut at {end}: behind the end {self.end}"
        try:
            self.file.truncate(end)
            self.file.fsync()
        except OSError as error:
            raise SyncFailed(f"truncate: {error}") from error
        self.end = self.allocated = end

    def read(self, position: int, size: int) -> bytes:
        """Read bytes, which the caller verifies; short where the file ends."""
        return self.file.pread(size, position)


def _without(buffers: Sequence[Buffer], taken: int) -> list[Buffer]:
    """Return what is left of `buffers` after the first `taken` bytes, which are not all."""
    number = 0
    while taken >= len(buffers[number]):
        taken -= len(buffers[number])
        number += 1
    return [memoryview(buffers[number])[taken:], *buffers[number + 1 :]]
