"""The frame around peer messages: bytes in, messages out. No I/O.

    0   4  u32 size of the header (little-endian, as all)
    4   4  u32 size of the attachment
    8   4  u32 crc32c of the header
    12  n  header: PeerMessage
    ..  m  attachment: frames as they stand in a segment file (each has its own checksums)

Both sizes are bounded before they allocate anything; a stranger may send no attachment at all. Nothing is
ever unpickled.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from google.protobuf.message import DecodeError

from quorumlog.proto.checksum import Buffer, crc32c
from quorumlog.proto.peer_pb2 import PeerMessage

PREFIX: Final = struct.Struct("<III")
MAX_HEADER_BYTES: Final = 64 << 10
MAX_ATTACHMENT_BYTES: Final = 18 << 20  # one entry of 16 MiB with its header, or a batch that ends in one


class WireError(Exception):
    """What a peer sent is no message of ours: the connection ends."""


def encode(message: PeerMessage, attachment: Sequence[Buffer] = ()) -> list[Buffer]:
    """Return the buffers to write; the attachment's are not copied."""
    header = message.SerializeToString()
    size = sum(map(len, attachment))
    assert len(header) <= MAX_HEADER_BYTES, len(header)
    assert size <= MAX_ATTACHMENT_BYTES, size
    return [PREFIX.pack(len(header), size, crc32c(header)) + header, *attachment]


class Decoder:
    """Turns received bytes into (message, attachment) pairs.

    The reader asks `buffer()` where the next bytes should go and says with `received(n)` how many came: an
    attachment is received straight into its own memory, and handed over without a copy.
    """

    def __init__(self, attachment_bytes_max: int = MAX_ATTACHMENT_BYTES) -> None:
        self.attachment_bytes_max = attachment_bytes_max  # may be changed between messages
        self._small = bytearray(PREFIX.size + MAX_HEADER_BYTES)
        self._filled = 0
        self._large: bytearray | None = None
        self._large_filled = 0
        self._message: PeerMessage | None = None

    def buffer(self) -> memoryview:
        """Where the next bytes go; never empty."""
        if self._large is not None:
            return memoryview(self._large)[self._large_filled :]
        return memoryview(self._small)[self._filled :]

    def received(self, count: int) -> list[tuple[PeerMessage, bytearray | None]]:
        """Take `count` bytes that were put into `buffer()`. Raises WireError."""
        complete: list[tuple[PeerMessage, bytearray | None]] = []
        if self._large is not None:
            self._large_filled += count
            if self._large_filled == len(self._large):
                assert self._message is not None
                complete.append((self._message, self._large))
                self._large = self._message = None
            return complete
        self._filled += count
        start = 0
        while (end := self._take(start, complete)) is not None:
            start = end
        self._small[: self._filled - start] = self._small[start : self._filled]
        self._filled -= start
        return complete

    def _take(self, start: int, complete: list[tuple[PeerMessage, bytearray | None]]) -> int | None:
        """Take one message that begins at `start`; return where the next begins, None when more must come."""
        if self._large is not None or self._filled - start < PREFIX.size:
            return None
        sizes: tuple[int, int, int] = PREFIX.unpack_from(self._small, start)
        header_size, attachment_size, crc = sizes
        if header_size > MAX_HEADER_BYTES or attachment_size > self.attachment_bytes_max:
            raise WireError(f"header of {header_size} and attachment of {attachment_size} bytes announced")
        body = start + PREFIX.size
        if self._filled < body + header_size:
            return None
        message = _decode_header(bytes(memoryview(self._small)[body : body + header_size]), crc)
        end = body + header_size
        if attachment_size == 0:
            complete.append((message, None))
            return end
        available = min(self._filled - end, attachment_size)
        attachment = bytearray(attachment_size)
        attachment[:available] = memoryview(self._small)[end : end + available]
        if available == attachment_size:
            complete.append((message, attachment))
        else:
            self._message, self._large, self._large_filled = message, attachment, available
        return end + available


def _decode_header(header: bytes, crc: int) -> PeerMessage:
    if crc32c(header) != crc:
        raise WireError("checksum of a message header differs")
    try:
        return PeerMessage.FromString(header)
    except DecodeError as error:
        raise WireError("a message header is no PeerMessage") from error
