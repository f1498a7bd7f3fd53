"""Bytes into lines and values into batches: nothing lost, whatever the pieces are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorumlog.client.errors import RecordTooLarge
from quorumlog.client.splitting import split_values
from quorumlog.command.lines import LineSplitter, SkippedLine


@given(st.binary(max_size=200).map(lambda text: text.replace(b"\x00", b"\n")), st.data())
def test_lines_do_not_depend_on_where_the_stream_is_cut(text: bytes, data: st.DataObject) -> None:
    splitter = LineSplitter(1000)
    lines: list[bytes] = []
    rest = text
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        lines += splitter.feed(rest[:size])
        rest = rest[size:]
    lines += splitter.finish()
    expected = text.split(b"\n")
    assert lines == (expected if expected[-1] else expected[:-1])
    assert splitter.skipped == []


def test_empty_lines_and_bytes_that_are_no_text_are_lines() -> None:
    splitter = LineSplitter(10)
    assert splitter.feed(b"\n\xff\xfe\r\n\n") == [b"", b"\xff\xfe\r", b""]
    assert splitter.finish() == []


def test_lines_that_are_too_long_are_reported_with_their_number_and_not_kept() -> None:
    splitter = LineSplitter(3)
    assert splitter.feed(b"abc\nabcd\nab") == [b"abc"]
    for _ in range(100):
        assert splitter.feed(b"x" * 100) == []
        assert sum(map(len, splitter._pending)) <= 3
    assert splitter.feed(b"\nlast") == []
    assert splitter.finish() == []
    assert splitter.skipped == [SkippedLine(2, 4), SkippedLine(3, 10_002), SkippedLine(4, 4)]


@given(st.lists(st.binary(max_size=30), max_size=60), st.integers(1, 100))
def test_values_are_split_into_bounded_batches_in_order(values: list[bytes], limit: int) -> None:
    pieces = list(split_values(values, limit, 1000))
    assert [value for piece, _ in pieces for value in piece] == values
    for piece, size in pieces:
        assert size == sum(map(len, piece))
        assert size <= limit or len(piece) == 1


def test_a_value_that_is_too_large_or_no_bytes_is_refused_before_anything_is_taken() -> None:
    with pytest.raises(RecordTooLarge, match="at most 3 bytes, got 4"):
        next(split_values([b"abc", b"abcd"], 10, 3))
    with pytest.raises(TypeError, match="got str"):
        next(split_values([b"abc", "abc"], 10, 3))  # type: ignore[list-item]
