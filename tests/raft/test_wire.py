"""The frame around peer messages, and what it refuses."""

from __future__ import annotations

import contextlib
import pickle
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorumlog.proto.checksum import crc32c
from quorumlog.proto.peer_pb2 import AppendEntries, PeerMessage, Vote
from quorumlog.raft import wire
from quorumlog.raft.wire import Decoder, WireError, encode

Messages = list[tuple[PeerMessage, bytes | None]]


def feed(decoder: Decoder, data: bytes, cuts: list[int]) -> Messages:
    """Hand `data` over in pieces of the given sizes (as the buffers allow), the rest in one."""
    messages: Messages = []
    position = 0
    sizes = iter(cuts)
    while position < len(data):
        buffer = decoder.buffer()
        count = min(len(buffer), len(data) - position, max(1, next(sizes, len(data))))
        buffer[:count] = data[position : position + count]
        messages += [(m, None if a is None else bytes(a)) for m, a in decoder.received(count)]
        position += count
    return messages


attachments = st.one_of(st.just(b""), st.binary(min_size=1, max_size=200), st.just(bytes(200_000)))


@settings(max_examples=60, deadline=None)
@given(st.lists(attachments, max_size=6), st.lists(st.integers(1, 50_000), max_size=40))
def test_messages_survive_any_segmentation(bodies: list[bytes], cuts: list[int]) -> None:
    sent: Messages = [
        (PeerMessage(term=number, append_entries=AppendEntries(previous_index=number)), body or None)
        for number, body in enumerate(bodies)
    ]
    data = b"".join(b"".join(encode(message, [body] if body else [])) for message, body in sent)
    assert feed(Decoder(), data, cuts) == sent


def test_every_byte_of_its_own() -> None:
    data = b"".join(encode(PeerMessage(term=1, vote=Vote()), [b"abc", b"def"]))
    assert feed(Decoder(), data, [1] * len(data)) == [(PeerMessage(term=1, vote=Vote()), b"abcdef")]


@pytest.mark.parametrize(
    ("header_size", "attachment_size"),
    [
        (wire.MAX_HEADER_BYTES + 1, 0),
        (0x7FFFFFFF, 0),
        (0xFFFFFFFF, 0),
        (1, wire.MAX_ATTACHMENT_BYTES + 1),
        (1, 0xFFFFFFFF),
    ],
)
def test_sizes_are_bounded_before_anything_is_allocated(header_size: int, attachment_size: int) -> None:
    with pytest.raises(WireError, match="announced"):
        feed(Decoder(), wire.PREFIX.pack(header_size, attachment_size, 0) + b"x", [])


def test_a_stranger_may_announce_no_attachment() -> None:
    """Row 63: 18 MiB for twelve bytes, sixty times over, would be a gigabyte."""
    with pytest.raises(WireError, match="announced"):
        feed(Decoder(0), wire.PREFIX.pack(1, 1, 0) + b"x", [])


def test_a_flipped_bit_in_a_header_ends_the_connection() -> None:
    data = bytearray(b"".join(encode(PeerMessage(term=77))))
    data[-1] ^= 1
    with pytest.raises(WireError, match="checksum"):
        feed(Decoder(), bytes(data), [])


def test_what_is_no_message_is_refused() -> None:
    header = b"\xff\xff\xff\xff"
    with pytest.raises(WireError, match="no PeerMessage"):
        feed(Decoder(), wire.PREFIX.pack(len(header), 0, crc32c(header)) + header, [])


class Canary:
    """Unpickling it would be seen."""

    touched = False

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return (_Touch, ())


class _Touch:
    def __init__(self) -> None:
        Canary.touched = True


def test_a_pickle_is_never_run() -> None:
    """Hazard 18 (row 63): the engine's own transport would have run it."""
    payload = pickle.dumps(Canary())
    for data in (
        payload,
        struct.pack("<I", len(payload)) + payload,
        wire.PREFIX.pack(len(payload), 0, crc32c(payload)) + payload,
    ):
        with contextlib.suppress(WireError):
            feed(Decoder(), data + bytes(100), [])
    assert not Canary.touched


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_random_bytes_end_in_an_error_or_in_nothing(data: bytes) -> None:
    with contextlib.suppress(WireError):
        feed(Decoder(), data, [])
