"""What is written by hand of the peers' protocols, and how a peer that is not here is told."""

from __future__ import annotations

import pytest

from bench.peers.etcd_client import bytes_field, fields, varint
from bench.peers.processes import Missing, found


def test_fields_are_read_as_they_were_written() -> None:
    message = bytes_field(1, b"key") + varint(4 << 3) + varint(300) + bytes_field(15, bytes(200))
    assert list(fields(message)) == [(1, b"key"), (4, 300), (15, bytes(200))]


def test_a_varint_has_seven_bits_in_a_byte() -> None:
    assert varint(0) == b"\x00"
    assert varint(300) == b"\xac\x02"


def test_a_program_that_is_missing_is_told_with_its_package() -> None:
    with pytest.raises(Missing, match="apt-get install some-package"):
        found("no-such-program", "some-package")
