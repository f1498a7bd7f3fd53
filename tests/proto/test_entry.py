"""Entry payloads and checksums."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorumlog.proto import entry_pb2
from quorumlog.proto.checksum import crc32c, masked
from quorumlog.proto.entry import BadEntry, command_fragment, entry_parts, parse_entry


def create(name: str) -> entry_pb2.Command:
    operation = entry_pb2.Operation(create_topic=entry_pb2.CreateTopic(name=name, partitions=1))
    return entry_pb2.Command(operations=[operation])


@given(st.lists(st.text(max_size=9), max_size=5), st.integers(-5, 2**60), st.lists(st.binary(max_size=20)))
def test_fragments_join_into_one_header(names: list[str], time_ms: int, bodies: list[bytes]) -> None:
    commands = [create(name) for name in names]
    parts = entry_parts(time_ms, 3, [command_fragment(command) for command in commands], bodies)
    header, position = parse_entry(b"".join(parts))
    assert header == entry_pb2.EntryHeader(time_ms=time_ms, feature_level=3, commands=commands)
    assert b"".join(parts)[position:] == b"".join(bodies)
    assert parts[1:] == bodies
    # The first part is enough, whatever kind of buffer it is.
    assert parse_entry(memoryview(parts[0])) == (header, position)


@pytest.mark.parametrize(
    "payload", [b"", b"abc", struct.pack("<I", 5) + b"1234", struct.pack("<I", 2**32 - 1), b"\x01\0\0\0\xff"]
)
def test_what_is_no_entry_is_refused(payload: bytes) -> None:
    with pytest.raises(BadEntry):
        parse_entry(payload)


@given(st.binary(), st.binary())
def test_a_checksum_goes_on(first: bytes, second: bytes) -> None:
    assert crc32c(second, crc32c(first)) == crc32c(first + second)
    assert crc32c(bytearray(first)) == crc32c(memoryview(first)) == crc32c(first)


def test_checksums_are_the_known_ones() -> None:
    assert crc32c(b"123456789") == 0xE3069283  # the check value of CRC-32C
    assert crc32c(b"") == 0
    assert masked(crc32c(b"")) == 0xA282EAD8
    assert masked(0xFFFFFFFF) == (0xFFFFFFFF + 0xA282EAD8) & 0xFFFFFFFF
