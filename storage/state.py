"""State file: the state machine as of the entry before a segment, so that replay starts at the segment."""

from __future__ import annotations

from dataclasses import dataclass

from quorumlog.proto.checksum import crc32c, masked
from quorumlog.storage.errors import Damaged, UnknownVersion
from quorumlog.storage.files import File
from quorumlog.storage.format import STATE_HEADER, STATE_HEADER_BYTES, STATE_MAGIC, SUM, VERSION


def encode_state(base: int, state: bytes) -> bytes:
    """Return the file's bytes; `state` is as of `base - 1`."""
    header = STATE_HEADER.pack(STATE_MAGIC, VERSION, 0, STATE_HEADER_BYTES, base, len(state), crc32c(state))
    return header + SUM.pack(masked(crc32c(header))) + state


@dataclass(frozen=True, slots=True)
class StateHeader:
    """What a state file says of its state."""

    size: int  # of the state, in bytes
    crc: int  # of the state

    @classmethod
    def decode(cls, data: bytes, base: int, name: str) -> StateHeader:
        """Read the first bytes of the file of that name. Raises Damaged or UnknownVersion."""
        if len(data) < STATE_HEADER_BYTES:
            raise Damaged(name, 0, None, f"size: at least {STATE_HEADER_BYTES}, got {len(data)}")
        magic, version, _, _, stated_base, size, crc = STATE_HEADER.unpack_from(data)
        (stated,) = SUM.unpack_from(data, STATE_HEADER.size)
        actual = masked(crc32c(data[: STATE_HEADER.size]))
        if magic != STATE_MAGIC or stated != actual:
            reason = f"magic {magic!r}, header crc {stated:#010x} stated, got {actual:#010x}"
            raise Damaged(name, 0, None, reason)
        if version != VERSION:
            raise UnknownVersion(f"{name}: version: expected {VERSION}, got {version}")
        if stated_base != base:
            raise Damaged(name, 0, None, f"base: expected {base}, got {stated_base}")
        return cls(size, crc)


def decode_state(data: bytes, base: int, name: str) -> bytes:
    """Return the state in the file of that name. Raises Damaged or UnknownVersion."""
    header = StateHeader.decode(data, base, name)
    state = data[STATE_HEADER_BYTES:]
    if header.size != len(state):
        raise Damaged(name, 0, None, f"size: expected {header.size}, got {len(state)}")
    _check_crc(header.crc, crc32c(state), name)
    return state


class StateFile:
    """A state that is read piece by piece. It stays readable when its segment is dropped.

    - The pieces are verified as a whole: who reads all of them, in order, is told of damage with the last.
    """

    def __init__(self, file: File, base: int, name: str) -> None:
        """Raises Damaged or UnknownVersion."""
        header = StateHeader.decode(file.pread(STATE_HEADER_BYTES, 0), base, name)
        self.size, self.crc = header.size, header.crc
        if file.size() != STATE_HEADER_BYTES + self.size:
            reason = f"size: expected {file.size() - STATE_HEADER_BYTES}, got {self.size}"
            raise Damaged(name, 0, None, reason)
        self._file = file
        self._name = name
        self._read_crc = 0  # of the first `_read` bytes
        self._read = 0

    def read(self, position: int, size: int) -> bytes:
        """Return so many bytes of the state, fewer at its end. Raises Damaged."""
        data = self._file.pread(min(size, self.size - position), STATE_HEADER_BYTES + position)
        if position == 0:
            self._read_crc = self._read = 0  # from the beginning, again
        if position == self._read:
            self._read_crc = crc32c(data, self._read_crc)
            self._read += len(data)
            if self._read == self.size:
                _check_crc(self.crc, self._read_crc, self._name)
        return data


def _check_crc(stated: int, actual: int, name: str) -> None:
    if stated != actual:
        raise Damaged(name, STATE_HEADER_BYTES, None, f"crc: {stated:#010x} stated, got {actual:#010x}")
