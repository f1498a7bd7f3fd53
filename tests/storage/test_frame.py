"""Frames: built, parsed, and refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorumlog.proto.checksum import crc32c, masked
from quorumlog.storage.format import (
    FRAME,
    FRAME_HEADER_BYTES,
    FRAME_SUM,
    KIND_COMMANDS,
    KIND_NO_OP,
    MAX_PAYLOAD_BYTES,
)
from quorumlog.storage.frame import (
    BadFrame,
    Frame,
    count_frames,
    indexes_of_kind,
    iterate_frames,
    parse_frame,
    parse_frames,
    parse_header,
)


def chained(payloads: list[list[bytes]], first: int = 1, term: int = 1, chain: int = 7) -> list[Frame]:
    frames = []
    for number, parts in enumerate(payloads):
        kind = KIND_COMMANDS if parts else KIND_NO_OP
        frames.append(Frame.build(first + number, term, kind, parts, 0, chain))
        chain = frames[-1].chain
    return frames


def raw(frames: list[Frame]) -> bytes:
    return b"".join(frame.header + b"".join(frame.parts) for frame in frames)


@given(st.lists(st.lists(st.binary(max_size=50), max_size=4), max_size=6), st.integers(1, 2**63))
def test_what_is_built_is_parsed_alike(payloads: list[list[bytes]], first: int) -> None:
    frames = chained(payloads, first)
    buffer = raw(frames)
    parsed = parse_frames(buffer, expect_index=first, previous_chain=7, previous_term=1)
    assert [(each.header, each.payload()) for each in parsed] == [
        (each.header, each.payload()) for each in frames
    ]
    assert [each.chain for each in parsed] == [each.chain for each in frames]
    assert count_frames(buffer, first) == len(list(iterate_frames(buffer, first))) == len(frames)
    for kind in {frame.kind for frame in frames}:
        expected = [frame.index for frame in frames if frame.kind == kind]
        assert indexes_of_kind(buffer, first, kind) == expected


def test_parts_are_not_joined_or_copied() -> None:
    parts = [b"one", memoryview(b"two"), bytearray(b"three")]
    frame = Frame.build(1, 1, KIND_COMMANDS, parts, 0, 0)
    assert [id(part) for part in frame.parts] == [id(part) for part in parts]
    assert frame.payload() == b"onetwothree"
    assert frame.size == FRAME_HEADER_BYTES + 11
    single = Frame.build(1, 1, KIND_COMMANDS, parts[:1], 0, 0)
    assert single.payload() is parts[0]
    assert Frame.build(1, 1, KIND_COMMANDS, [], 0, 0).payload() == b""


def test_a_payload_above_the_limit_is_a_bug() -> None:
    with pytest.raises(AssertionError, match="at most"):
        Frame.build(1, 1, KIND_COMMANDS, [bytes(MAX_PAYLOAD_BYTES), b"x"], 0, 0)


def test_zeros_are_no_frame() -> None:
    """Row 6."""
    with pytest.raises(BadFrame, match="header crc"):
        parse_frame(bytes(4096))


def test_every_flipped_bit_is_noticed() -> None:
    """Row 8."""
    (frame,) = chained([[b"payload"]])
    good = raw([frame])
    for position in range(len(good)):
        for bit in range(8):
            bad = bytearray(good)
            bad[position] ^= 1 << bit
            for check in (lambda data: parse_frame(data), lambda data: count_frames(data, 1)):
                with pytest.raises(BadFrame):
                    check(bytes(bad))


def test_every_cut_is_noticed() -> None:
    """Row 5."""
    good = raw(chained([[b"first"], [b"second"]]))
    for size in range(1, len(good)):
        if size == FRAME_HEADER_BYTES + 5:
            continue
        with pytest.raises(BadFrame):
            parse_frames(good[:size], expect_index=1, previous_chain=7, previous_term=0)
        with pytest.raises(BadFrame):
            count_frames(good[:size], 1)
        if size < FRAME_HEADER_BYTES:
            with pytest.raises(BadFrame):
                indexes_of_kind(good[:size], 1, KIND_COMMANDS)


def test_entries_of_a_kind_are_not_overlooked_for_a_bad_header() -> None:
    good = raw(chained([[b"payload"], [], [b"payload"]]))
    for position in range(FRAME_HEADER_BYTES):
        bad = bytearray(good)
        bad[position] ^= 1
        with pytest.raises(BadFrame):
            indexes_of_kind(bytes(bad), 1, KIND_NO_OP)


def test_a_length_is_bounded_before_it_is_used() -> None:
    """Row 8."""
    fields = FRAME.pack(MAX_PAYLOAD_BYTES + 1, 1, 0, 1, 1, 0, 0, 0, 0)
    header = fields + FRAME_SUM.pack(masked(crc32c(fields)))
    with pytest.raises(BadFrame, match="length: expected at most"):
        parse_header(header, 0)


@pytest.mark.parametrize(
    ("field", "index", "chain", "term"),
    [("raft index", 2, 7, 1), ("chain", 1, 8, 1), ("raft term", 1, 7, 2)],
)
def test_what_does_not_continue_the_entry_before_is_refused(
    field: str, index: int, chain: int, term: int
) -> None:
    buffer = raw(chained([[b"x"]]))
    with pytest.raises(BadFrame, match=field) as caught:
        parse_frames(buffer, expect_index=index, previous_chain=chain, previous_term=term)
    assert caught.value.position == 0
    if field == "raft index":
        with pytest.raises(BadFrame, match=field):
            count_frames(buffer, index)


def test_the_position_of_the_first_bad_frame_is_told() -> None:
    first, second = chained([[b"first"], [b"second"]])
    bad = bytearray(raw([first, second]))
    bad[-1] ^= 1
    with pytest.raises(BadFrame) as caught:
        parse_frames(bytes(bad), expect_index=1, previous_chain=7, previous_term=0)
    assert (caught.value.position, caught.value.field) == (first.size, "payload crc")
