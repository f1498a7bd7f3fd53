"""Varint: protobuf's numbers, for messages that are put together from pieces without copying bodies."""

from __future__ import annotations


def varint(value: int) -> bytes:
    """Return protobuf's variable-length form of an unsigned number: seven bits a byte, the lowest first."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
