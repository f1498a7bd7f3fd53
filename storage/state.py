"""State file: the state machine as of the entry before a segment, so that replay starts at the segment."""

from __future__ import annotations

from quorumlog.proto.checksum import crc32c, masked
from quorumlog.storage.errors import Damaged, UnknownVersion
from quorumlog.storage.format import STATE_HEADER, STATE_HEADER_BYTES, STATE_MAGIC, SUM, VERSION


def encode_state(base: int, state: bytes) -> bytes:
    """Return the file's bytes; `state` is as of `base - 1`."""
    header = STATE_HEADER.pack(STATE_MAGIC, VERSION, 0, STATE_HEADER_BYTES, base, len(state), crc32c(state))
    return header + SUM.pack(masked(crc32c(header))) + state


def decode_state(data: bytes, base: int, name: str) -> bytes:
    """Return the state in the file of that name. Raises Damaged or UnknownVersion."""
    if len(data) < STATE_HEADER_BYTES:
        raise Damaged(name, 0, None, f"size: at least {STATE_HEADER_BYTES}, got {len(data)}")
    magic, version, _, _, stated_base, size, crc = STATE_HEADER.unpack_from(data)
    (stated,) = SUM.unpack_from(data, STATE_HEADER.size)
    actual = masked(crc32c(data[: STATE_HEADER.size]))
    if magic != STATE_MAGIC or stated != actual:
        raise Damaged(name, 0, None, f"magic {magic!r}, header crc {stated:#010x} stated, got {actual:#010x}")
    if version != VERSION:
        raise UnknownVersion(f"{name}: version: expected {VERSION}, got {version}")
    state = data[STATE_HEADER_BYTES:]
    if (stated_base, size) != (base, len(state)):
        reason = f"base and size: expected {base} and {len(state)}, got {stated_base} and {size}"
        raise Damaged(name, 0, None, reason)
    actual = crc32c(state)
    if crc != actual:
        raise Damaged(name, STATE_HEADER_BYTES, None, f"crc: {crc:#010x} stated, got {actual:#010x}")
    return state
