"""A consumer's place: nothing twice, nothing before or after what was asked for, damage found."""

from __future__ import annotations

import pytest

from quorumlog.client import errors
from quorumlog.client.cursor import Cursor
from quorumlog.client.records import RecordBatch
from quorumlog.proto import service_pb2
from quorumlog.proto.batch import Record, encode_batch


def fetched(base_offset: int, *values: bytes, applied_index: int = 1) -> service_pb2.FetchResponse:
    header, body = encode_batch([Record(value, timestamp_ms=5) for value in values])
    batch = service_pb2.FetchedBatch(base_offset=base_offset, append_time_ms=7, header=header, body=body)
    return service_pb2.FetchResponse(batches=[batch], high_watermark=100, applied_index=applied_index)


def take(cursor: Cursor, response: service_pb2.FetchResponse) -> list[RecordBatch]:
    cursor.arrived(response)
    return list(cursor.unpack(response))


def test_records_before_the_asked_offset_are_dropped() -> None:
    cursor = Cursor("t", 0, position=11)
    (batch,) = take(cursor, fetched(10, b"a", b"b", b"c"))
    assert list(batch.values) == [b"b", b"c"]
    assert list(batch.offsets) == [11, 12]
    assert cursor.position == cursor.fetched == 13


def test_records_behind_the_end_are_dropped() -> None:
    cursor = Cursor("t", 0, position=10, end=12)
    (batch,) = take(cursor, fetched(10, b"a", b"b", b"c"))
    assert [record.value for record in batch.records()] == [b"a", b"b"]
    assert cursor.finished
    assert cursor.exhausted


def test_a_repeated_answer_gives_nothing_twice() -> None:
    cursor = Cursor("t", 0, position=10)
    assert take(cursor, fetched(10, b"a"))
    assert take(cursor, fetched(10, b"a")) == []
    assert cursor.position == 11


def test_holes_that_the_cleaner_left_are_stepped_over() -> None:
    cursor = Cursor("t", 0, position=0, end=10)
    response = fetched(0, b"a", b"b")
    response.batches[0].header.span = 10
    response.batches[0].header.offset_deltas.extend([3, 7])
    (batch,) = take(cursor, response)
    assert list(batch.offsets) == [3, 7]
    assert cursor.finished


def test_a_damaged_body_moves_nothing() -> None:
    cursor = Cursor("t", 0, position=10)
    response = fetched(10, b"aaaa")
    response.batches[0].body = response.batches[0].body.replace(b"aaaa", b"aaab")
    with pytest.raises(errors.DataDamaged, match="t/0 at offset 10"):
        cursor.arrived(response)
    assert cursor.fetched == 10


def test_the_applied_index_never_falls() -> None:
    cursor = Cursor("t", 0, position=0)
    cursor.arrived(fetched(0, b"a", applied_index=9))
    cursor.arrived(fetched(1, b"a", applied_index=4))
    assert cursor.applied_index == 9


def test_a_record_has_everything_that_was_sent() -> None:
    sent = [
        Record(None, b"k", (("h", b"1"), ("h", b"2")), 5),
        Record(b"v", None, (), 6),
    ]
    header, body = encode_batch(sent)
    response = service_pb2.FetchResponse()
    response.batches.add(base_offset=3, append_time_ms=7, header=header, body=body)
    (batch,) = take(Cursor("t", 2, position=3), response)
    first, second = batch.records()
    assert first == ("t", 2, 3, 5, 7, b"k", None, (("h", b"1"), ("h", b"2")))
    assert second == ("t", 2, 4, 6, 7, None, b"v", ())
    assert first.datetime.year == 1970
    assert batch.keys == [b"k", None]
    assert list(batch.timestamps_ms) == [5, 6]
