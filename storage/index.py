"""Index: where each entry of one segment stands. Fixed-width slots in a map, so a lookup is arithmetic.

It holds nothing that the log file does not. While its segment is active, what is on disk is not believed
(except after a clean stop); once sealed, it is believed only if its sums match and its chain is the one
that the next segment begins with. So an old index that a power loss brought back is never taken for the
right one; a scan of the log makes a new one.
"""

from __future__ import annotations

from collections.abc import Sequence

from quorumlog.proto.checksum import crc32c, masked
from quorumlog.storage.errors import NoSpace
from quorumlog.storage.files import NO_SPACE_ERRORS, File
from quorumlog.storage.format import (
    INDEX_HEADER,
    INDEX_HEADER_BYTES,
    INDEX_MAGIC,
    INDEX_SLOT,
    SUM,
    VERSION,
)


class Index:
    """The slots of the entries from `base` on.

    - Slots below `count` are published: other threads may read them at any time.
    - Positions rise from slot to slot without gaps.
    """

    def __init__(self, file: File | None, base: int, data: memoryview, count: int, chain: int = 0) -> None:
        self._file = file  # None: in memory, and never to grow
        self._data = data
        self._capacity = (len(data) - INDEX_HEADER_BYTES) // INDEX_SLOT.size
        self.base = base
        self.count = count
        self.chain = chain  # after the last entry, as the header of a sealed one says

    @classmethod
    def create(cls, file: File, base: int, capacity: int) -> Index:
        """Return an empty index, with room for `capacity` entries or what the file has. Raises NoSpace."""
        size = file.size()
        capacity = max(capacity, (size - INDEX_HEADER_BYTES) // INDEX_SLOT.size)
        return cls(file, base, _mapped(file, size, capacity), 0)

    @classmethod
    def load(cls, file: File, base: int) -> Index | None:
        """Return a sealed index; None where it cannot be believed."""
        size = file.size()
        if size < INDEX_HEADER_BYTES:
            return None
        data = file.map(size)
        magic, version, _, _, stated_base, chain, count, crc, _ = INDEX_HEADER.unpack_from(data)
        (header_sum,) = SUM.unpack_from(data, INDEX_HEADER.size)
        end = INDEX_HEADER_BYTES + count * INDEX_SLOT.size
        believable = (
            magic == INDEX_MAGIC
            and version == VERSION
            and header_sum == masked(crc32c(data[: INDEX_HEADER.size]))
            and stated_base == base
            and end == size
            and crc == crc32c(data[INDEX_HEADER_BYTES:])
        )
        return cls(file, base, data, count, chain) if believable else None

    @staticmethod
    def encode(base: int, slots: Sequence[tuple[int, int, int]], chain: int) -> bytes:
        """Return the file of a sealed index, from position, frame size and term of each entry."""
        packed = b"".join(INDEX_SLOT.pack(*slot) for slot in slots)
        return Index.encode_header(base, chain, len(slots), crc32c(packed)) + packed

    @staticmethod
    def encode_header(base: int, chain: int, count: int, slots_crc: int) -> bytes:
        """Return the header of a sealed index."""
        fields = INDEX_HEADER.pack(
            INDEX_MAGIC, VERSION, 0, INDEX_HEADER_BYTES, base, chain, count, slots_crc, 0
        )
        return fields + SUM.pack(masked(crc32c(fields)))

    @property
    def last(self) -> int:
        """Raft index of the last entry; base - 1 where there is none."""
        return self.base + self.count - 1

    def slot(self, index: int) -> tuple[int, int, int]:
        """Return position, frame size and term of an entry, which must be here."""
        return INDEX_SLOT.unpack_from(self._data, INDEX_HEADER_BYTES + (index - self.base) * INDEX_SLOT.size)

    def reserve(self, count: int) -> None:
        """Make room for `count` more entries. Raises NoSpace."""
        missing = self.count + count - self._capacity
        if missing > 0:
            # Another leader's segments may hold more entries than ours would.
            self._remap(self._capacity + max(missing, self._capacity))
        elif self._data.readonly:
            # It was sealed, and its segment is in use again.
            self._remap(self._capacity)

    def _remap(self, capacity: int) -> None:
        if self._file is None:
            raise NoSpace(f"index of segment {self.base}: there was no room to write it")
        self._data = _mapped(self._file, len(self._data), capacity)
        self._capacity = capacity

    def add(self, position: int, size: int, term: int) -> None:
        """Publish the next entry; room for it is reserved."""
        INDEX_SLOT.pack_into(
            self._data, INDEX_HEADER_BYTES + self.count * INDEX_SLOT.size, position, size, term
        )
        self.count += 1

    def cut(self, count: int) -> None:
        """Forget all but the first `count` entries."""
        assert count <= self.count
        self.count = count

    def seal(self, chain: int) -> None:
        """Write the header and trim the file. Raises OSError.

        Not synced: what a power loss leaves is checked, and made again if need be.
        """
        if self._file is None:
            return
        if self._data.readonly:
            self._remap(self._capacity)
        end = INDEX_HEADER_BYTES + self.count * INDEX_SLOT.size
        slots = bytes(self._data[INDEX_HEADER_BYTES:end])
        self._data[:INDEX_HEADER_BYTES] = Index.encode_header(self.base, chain, self.count, crc32c(slots))
        self._file.truncate(end)
        self._data = self._file.map(end)
        self._capacity = self.count
        self.chain = chain

    def sync(self) -> None:
        """Make it durable, which only a clean stop needs. Raises OSError."""
        if self._file is not None:
            self._file.fsync()

    def last_at_or_below(self, first: int, limit: int) -> int:
        """Return the last entry whose frame ends at or below position `limit`, but at least `first`."""
        low, high = first, self.last
        while low < high:
            middle = (low + high + 1) // 2
            position, size, _ = self.slot(middle)
            if position + size <= limit:
                low = middle
            else:
                high = middle - 1
        return low


def _mapped(file: File, allocated: int, capacity: int) -> memoryview:
    size = INDEX_HEADER_BYTES + capacity * INDEX_SLOT.size
    try:
        if size > allocated:
            # Allocated, not only extended: a write to a map without space behind it kills the process.
            file.allocate(allocated, size - allocated)
        return file.map(size, writable=True)
    except OSError as error:
        if error.errno in NO_SPACE_ERRORS:
            raise NoSpace(f"index of {capacity} entries: {error}") from error
        raise
