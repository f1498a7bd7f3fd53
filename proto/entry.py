"""The payload of an entry of kind COMMANDS: a header, then the batches' bodies, one after another.

    +---------+-------------+--------+--------+-- - -
    | u32 LE  | EntryHeader | body 0 | body 1 |
    | size s  | s bytes     |        |        |
    +---------+-------------+--------+--------+-- - -
    0         4             4 + s

The bodies stand in the order of the appends in the header, so the place of each is a sum of sizes, and a
reader fetches one without touching the rest. The header is built by concatenation: protobuf merges the
fields of messages that are written one after another, so each caller's command is serialized once, where
it arrives, and an entry of many commands is a join of bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from google.protobuf.message import DecodeError

from quorumlog.proto import entry_pb2
from quorumlog.proto.checksum import Buffer

_SIZE = struct.Struct("<I")
SIZE_BYTES = _SIZE.size


class BadEntry(ValueError):
    """The bytes are not the payload of an entry."""


def command_fragment(command: entry_pb2.Command) -> bytes:
    """Return the bytes of an EntryHeader that holds `command` alone; fragments join into one header."""
    return entry_pb2.EntryHeader(commands=[command]).SerializeToString()


def entry_parts(
    time_ms: int, feature_level: int, fragments: Sequence[bytes], bodies: Sequence[bytes]
) -> list[bytes]:
    """Return the payload in pieces, the first of which is its size field and the whole header."""
    prefix = entry_pb2.EntryHeader(time_ms=time_ms, feature_level=feature_level).SerializeToString()
    size = len(prefix) + sum(map(len, fragments))
    return [b"".join((_SIZE.pack(size), prefix, *fragments)), *bodies]


def parse_entry(payload: Buffer) -> tuple[entry_pb2.EntryHeader, int]:
    """Return the header and the position of the first body, from a payload or its first part."""
    if len(payload) < SIZE_BYTES:
        raise BadEntry(f"payload: at least {SIZE_BYTES} bytes, got {len(payload)}")
    (size,) = _SIZE.unpack_from(payload)
    end = SIZE_BYTES + size
    if end > len(payload):
        raise BadEntry(f"header size: at most {len(payload) - SIZE_BYTES}, got {size}")
    header = entry_pb2.EntryHeader()
    try:
        header.ParseFromString(bytes(memoryview(payload)[SIZE_BYTES:end]))
    except DecodeError as error:
        raise BadEntry(f"header: {error}") from error
    return header, end
