"""Batches: what goes in comes out; what was tampered with is refused before it costs anything."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Callable

import lz4.frame
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from quorumlog.proto import batch_pb2
from quorumlog.proto.batch import (
    MAX_BATCH_BYTES,
    MIB,
    BadBatch,
    BadChecksum,
    BatchTooLarge,
    Record,
    check_batch,
    check_batch_header,
    decode_batch,
    encode_batch,
    encode_values,
)
from quorumlog.proto.checksum import crc32c

CODECS = [batch_pb2.CODEC_NONE, batch_pb2.CODEC_LZ4, batch_pb2.CODEC_ZSTD]

headers = st.lists(st.tuples(st.text(max_size=5), st.binary(max_size=5)), max_size=3).map(tuple)
records = st.builds(
    Record,
    value=st.none() | st.binary(max_size=60),
    key=st.none() | st.binary(max_size=10),
    headers=headers,
    timestamp_ms=st.integers(0, 2**50),
)


@given(st.lists(records, min_size=1, max_size=20), st.sampled_from(CODECS))
def test_records_come_back(sent: list[Record], codec: batch_pb2.Codec) -> None:
    header, body = encode_batch(sent, codec)
    check_batch_header(header, body)
    check_batch(header, body)
    columns = decode_batch(header, memoryview(body))
    assert columns.records() == sent
    assert list(columns.offset_deltas) == list(range(len(sent)))
    assert (header.first_timestamp_ms, header.last_timestamp_ms) == (
        sent[0].timestamp_ms,
        sent[-1].timestamp_ms,
    )


@given(st.lists(st.binary(max_size=30), min_size=1, max_size=40), st.sampled_from(CODECS))
def test_values_alone_are_the_same_batch(values: list[bytes], codec: batch_pb2.Codec) -> None:
    assert encode_values(values, 5, codec) == encode_batch(
        [Record(value, timestamp_ms=5) for value in values], codec
    )


@pytest.mark.parametrize("codec", CODECS[1:])
def test_a_codec_is_used_where_it_pays(codec: batch_pb2.Codec) -> None:
    rng = random.Random(2)
    text = [b"the same line of a log again, number %d" % rng.randrange(10**6) for _ in range(200)]
    header, body = encode_values(text, 0, codec)
    assert header.codec == codec
    assert len(body) < 4000
    assert list(decode_batch(header, body).values) == text
    noise = random.Random(1).randbytes(2000)
    assert encode_values([noise], 0, codec)[0].codec == batch_pb2.CODEC_NONE
    # Packed so well that a record would be left with less than its floor: sent as it is.
    header, _ = encode_values([b""] * 10_000, 0, codec)
    assert (header.codec, header.count) == (batch_pb2.CODEC_NONE, 10_000)


def test_a_null_is_not_an_empty_value() -> None:
    sent = [Record(None, b""), Record(b"", None), Record(b"", b"")]
    assert decode_batch(*encode_batch(sent)).records() == sent


def test_what_is_empty_or_too_large_is_not_encoded() -> None:
    with pytest.raises(BadBatch):
        encode_batch([])
    with pytest.raises(BadBatch):
        encode_values([], 0)
    with pytest.raises(BadBatch, match="codec"):
        encode_values([bytes(1000)], 0, 9)  # type: ignore[arg-type]
    at_the_limit = bytes(MIB)
    encode_values([at_the_limit], 0)
    encode_batch([Record(at_the_limit)])
    for encode in (
        lambda: encode_values([at_the_limit + b"x"], 0),
        lambda: encode_batch([Record(at_the_limit, b"k")]),
        lambda: encode_batch([Record(at_the_limit, None, (("n", b""),))]),
    ):
        with pytest.raises(BatchTooLarge, match="record"):
            encode()
    with pytest.raises(BatchTooLarge, match="body"):
        encode_values([at_the_limit] * 9, 0)
    encode_values([bytes(2000)], 0, max_record_bytes=2000, max_batch_bytes=2003)
    with pytest.raises(BatchTooLarge):
        encode_values([bytes(2000)], 0, max_record_bytes=1999)
    with pytest.raises(BatchTooLarge):
        encode_values([bytes(2000)], 0, max_batch_bytes=2002)


def resealed(header: batch_pb2.BatchHeader, body: bytes) -> None:
    header.body_size, header.body_crc32c = len(body), crc32c(body)


Change = Callable[[batch_pb2.BatchHeader], object]


@pytest.mark.parametrize(
    "change",
    [
        lambda header: setattr(header, "encoding", 2),
        lambda header: setattr(header, "codec", 7),
        lambda header: setattr(header, "count", 0),
        lambda header: setattr(header, "count", 4),
        lambda header: setattr(header, "span", 2),
        lambda header: setattr(header, "body_size", header.body_size + 1),
        lambda header: header.offset_deltas.extend([0, 1, 2]),
        lambda header: (setattr(header, "count", 2**31), setattr(header, "span", 2**31)),
    ],
)
def test_a_header_that_contradicts_itself_or_the_body_is_refused(change: Change) -> None:
    header, body = encode_values([b"a", b"b", b"c"], 0)
    change(header)
    with pytest.raises(BadBatch):
        check_batch_header(header, body)


def test_a_body_that_is_not_what_was_sent_is_refused() -> None:
    header, body = encode_values([b"abc"], 0)
    for position in range(len(body)):
        bad = bytearray(body)
        bad[position] ^= 1
        with pytest.raises(BadChecksum):
            check_batch_header(header, bad)
    with pytest.raises(BatchTooLarge):
        check_batch_header(header, body, max_batch_bytes=len(body) - 1)


def test_a_cleaned_batch_has_gaps() -> None:
    header, body = encode_values([b"a", b"b"], 0)
    header.span = 9
    header.offset_deltas.extend([3, 8])
    check_batch(header, body)
    assert list(decode_batch(header, body).offset_deltas) == [3, 8]
    with pytest.raises(BadBatch, match="span"):
        check_batch_header(header, body)
    for deltas in ([3], [3, 3], [8, 3], [3, 9], []):
        del header.offset_deltas[:]
        header.offset_deltas.extend(deltas)
        with pytest.raises(BadBatch, match="offset_deltas"):
            check_batch(header, body)


@pytest.mark.parametrize(
    "fields",
    [
        {"values": [b"a"]},
        {"values": [b"a", b"b"], "keys": [b"k"]},
        {"values": [b"a", b"b"], "timestamp_deltas": [1]},
        {"values": [b"a", b""], "null_values": [2]},
        {"values": [b"", b""], "null_values": [1, 0]},
        {"values": [b"a", b"b"], "headers": [batch_pb2.RecordHeaders(position=2)]},
        {"values": [b"a", b"b"], "headers": [batch_pb2.RecordHeaders(position=0, names=["n"])]},
        {"values": [b"a", b"b"], "headers": [batch_pb2.RecordHeaders(position=0)] * 2},
    ],
)
def test_columns_that_do_not_fit_together_are_refused(fields: dict[str, object]) -> None:
    header, _ = encode_values([b"a", b"b"], 0)
    body = batch_pb2.BatchBody(**fields).SerializeToString()  # type: ignore[arg-type]
    body += batch_pb2.BatchBody().SerializeToString()
    resealed(header, body)
    with pytest.raises(BadBatch):
        decode_batch(header, body)


@pytest.mark.parametrize("codec", CODECS)
def test_a_body_of_garbage_is_refused(codec: batch_pb2.Codec) -> None:
    header, _ = encode_values([b"a"], 0)
    header.codec = codec
    for body in (b"\xff" * 40, b"garbage" * 9):
        resealed(header, body)
        with pytest.raises(BadBatch):
            decode_batch(header, body)


@pytest.mark.parametrize("codec", CODECS[1:])
def test_a_bomb_is_refused_before_it_goes_off(codec: batch_pb2.Codec) -> None:
    zeros = bytes(200 * MIB)
    packed = lz4.frame.compress(zeros) if codec == batch_pb2.CODEC_LZ4 else zstandard.compress(zeros)
    del zeros
    header, _ = encode_values([b"a"], 0)
    header.codec = codec
    resealed(header, packed)
    tracemalloc.start()
    try:
        with pytest.raises(BadBatch):
            decode_batch(header, packed)
        assert tracemalloc.get_traced_memory()[1] < 4 * MAX_BATCH_BYTES
    finally:
        tracemalloc.stop()


def test_a_frame_that_goes_on_or_does_not_tell_its_size_is_refused() -> None:
    header, body = encode_values([b"value"] * 100, 0)
    unsized = zstandard.ZstdCompressor(write_content_size=False).compress(body)
    for codec, packed in (
        (batch_pb2.CODEC_ZSTD, unsized),
        (batch_pb2.CODEC_ZSTD, zstandard.compress(body) + b"more"),
        (batch_pb2.CODEC_LZ4, lz4.frame.compress(body) + b"more"),
        (batch_pb2.CODEC_LZ4, lz4.frame.compress(body)[:-6]),
    ):
        header.codec = codec
        header.count = header.span = 2
        padded = packed
        resealed(header, padded)
        with pytest.raises(BadBatch):
            decode_batch(header, padded)
