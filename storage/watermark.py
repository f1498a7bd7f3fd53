"""Watermark: up to where a segment is known to be durable, on disk in two slots of its header page.

It is what tells torn from corrupt after a power loss: a bad frame below it was once good. The slot that
is written before an fdatasync holds what the previous one made durable, so the mark trails by one sync
and is never ahead of the truth. The slots are written alternately; a torn write spoils one of them.
"""

from __future__ import annotations

import struct
from threading import Lock

from quorumlog.proto.checksum import crc32c, masked
from quorumlog.storage.files import File, write_all
from quorumlog.storage.format import SEGMENT_HEADER_BYTES, SUM, SYNCED_SLOT, SYNCED_SLOT_POSITIONS

_BASE = struct.Struct("<Q")


class Watermark:
    """Two slots in an open segment file.

    - `position` is durable; it is raised and lowered by the log's thread, and written by any.
    - What is written is the position at that very moment, under the lock: a truncation in between has
      lowered it.
    """

    def __init__(self, file: File, base: int, sequence: int, position: int) -> None:
        self._file = file
        self._base = base
        self._sequence = sequence
        self._written: int | None = None  # position in the newest slot; None: write in any case
        self._lock = Lock()
        self.position = position

    @staticmethod
    def initial(base: int) -> list[tuple[int, bytes]]:
        """Return both slots of a new segment, with their positions: nothing but the header is durable."""
        return [
            (at, encode_slot(base, sequence, SEGMENT_HEADER_BYTES, clean=False))
            for sequence, at in zip((2, 1), SYNCED_SLOT_POSITIONS, strict=True)
        ]

    def raise_to(self, position: int) -> None:
        """A sync has proved that all below `position` is durable."""
        with self._lock:
            self.position = max(self.position, position)

    def record(self) -> None:
        """Write the position into the older slot, unless the newer one says so already."""
        with self._lock:
            if self._written != self.position:
                self._write(clean=False)

    def record_clean(self) -> None:
        """Write that the log was closed at the position."""
        with self._lock:
            self._write(clean=True)

    def set_both(self, position: int) -> None:
        """Write `position` into both slots: neither may say more than will be there."""
        with self._lock:
            self.position = position
            self._write(clean=False)
            self._write(clean=False)

    def _write(self, *, clean: bool) -> None:
        self._sequence += 1
        slot = encode_slot(self._base, self._sequence, self.position, clean=clean)
        write_all(self._file, slot, SYNCED_SLOT_POSITIONS[self._sequence % 2])
        self._written = None if clean else self.position


class ReadSlots:
    """What the two slots of a header page say."""

    def __init__(self, page: bytes, base: int) -> None:
        slots = [decode_slot(page, at, base) for at in SYNCED_SLOT_POSITIONS]
        valid = [slot for slot in slots if slot is not None]
        self.bad_count = len(slots) - len(valid)
        self.sequence, self.position, self.is_clean = max(valid, default=(0, 0, False))


def encode_slot(base: int, sequence: int, position: int, *, clean: bool) -> bytes:
    """Return a slot's bytes. The sum covers the base too, though it is not stored in the slot."""
    fields = SYNCED_SLOT.pack(sequence, position, clean)
    return fields + SUM.pack(masked(crc32c(_BASE.pack(base) + fields)))


def decode_slot(page: bytes, at: int, base: int) -> tuple[int, int, bool] | None:
    """Return sequence, position and clean of the slot at that place of the page; None where it is bad."""
    fields = page[at : at + SYNCED_SLOT.size]
    sequence, position, clean = SYNCED_SLOT.unpack(fields)
    (stated,) = SUM.unpack_from(page, at + SYNCED_SLOT.size)
    if stated != masked(crc32c(_BASE.pack(base) + fields)) or position < SEGMENT_HEADER_BYTES:
        return None
    return sequence, position, bool(clean)
