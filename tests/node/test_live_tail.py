"""The live tail of a topic: newest records as server-sent events, cheap whatever the topic does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from quorumlog.node import live_tail
from quorumlog.node.live_tail import EVENT_RECORDS, preview
from quorumlog.proto import batch_pb2, service_pb2
from quorumlog.proto.batch import Record, encode_batch
from tests.node.conftest import StartNode
from tests.support.local_node import TIMEOUT_S, LocalNode, batch_of
from tests.support.web import Events, get, opened

Next = Callable[[], Any]


@pytest.fixture
async def web(start_node: StartNode, monkeypatch: pytest.MonkeyPatch) -> LocalNode:
    monkeypatch.setattr(live_tail, "PACE_S", 0.0)
    return await start_node(http__listen="127.0.0.1:0")


@asynccontextmanager
async def tail(node: LocalNode, path: str, **headers: str) -> AsyncIterator[Next]:
    """A function that awaits the next event of a tail."""
    manager = opened(
        node.node.http_address,
        path,
        headers={name.replace("_", "-"): value for name, value in headers.items()},
    )
    response = await asyncio.to_thread(manager.__enter__)
    assert response.status == 200, await asyncio.to_thread(response.read)
    assert response.headers["content-type"].startswith("text/event-stream")
    events = Events(response)
    try:
        yield lambda: asyncio.to_thread(events.next)
    finally:
        await asyncio.to_thread(manager.__exit__, None, None, None)


def values(data: Any) -> list[str]:
    return [record["value"]["text"] for record in data["records"]]


def encoded(topic: str, records: list[Record], codec: Any = batch_pb2.CODEC_NONE) -> service_pb2.TopicBatch:
    header, body = encode_batch(records, codec)
    return service_pb2.TopicBatch(topic=topic, header=header, body=body)


async def test_a_tail_shows_the_last_records_and_then_what_comes(web: LocalNode) -> None:
    await web.create("orders")
    await web.produce(batch_of("orders", [b"%d" % number for number in range(30)]))
    async with tail(web, "/topics/orders/tail?last=3") as following:
        name, data, event_id = await following()
        assert (name, values(data), data["skipped"], event_id) == ("records", ["27", "28", "29"], 0, "30")
        await web.produce(batch_of("orders", [b"30"]))
        _, data, event_id = await following()
        assert (values(data), event_id) == (["30"], "31")
        (record,) = data["records"]
        assert (record["partition"], record["offset"], record["time_ms"]) == (0, 30, 1)


async def test_a_tail_of_all_partitions_goes_on_where_it_was(web: LocalNode) -> None:
    await web.create("orders", 2)
    await web.produce(batch_of("orders", [b"a", b"b"]))
    await web.produce(batch_of("orders", [b"c"], partition=1))
    async with tail(web, "/topics/orders/tail") as following:
        _, data, event_id = await following()
        assert (sorted(values(data)), event_id) == (["a", "b", "c"], "2,1")
    await web.produce(batch_of("orders", [b"d"], partition=1))
    async with tail(web, "/topics/orders/tail", Last_Event_ID="2,1") as following:
        assert values((await following())[1]) == ["d"]
    async with tail(web, "/topics/orders/tail?partition=1", Last_Event_ID="nonsense") as following:
        assert values((await following())[1]) == ["c", "d"]


async def test_a_fast_topic_is_passed_over_not_read(web: LocalNode) -> None:
    await web.create("orders")
    await web.produce(batch_of("orders", [b"first"]))
    async with tail(web, "/topics/orders/tail") as following:
        await following()
        many = [b"%d" % number for number in range(1000)]
        await web.produce(batch_of("orders", many))
        _, data, event_id = await following()
        assert values(data) == [value.decode() for value in many[-EVENT_RECORDS:]]
        assert (data["skipped"], event_id) == (1000 - EVENT_RECORDS, "1001")


async def test_keys_headers_tombstones_and_compression_are_shown(web: LocalNode) -> None:
    await web.create("orders")
    records = [
        Record(
            b"espresso" * 30, b"table-7", (("trace", b"\x00\x01"), ("trace", b"again")), 1_700_000_000_000
        ),
        Record(None, b"table-7"),
        Record(b"", None),
    ]
    await web.produce(encoded("orders", records, batch_pb2.CODEC_ZSTD))
    async with tail(web, "/topics/orders/tail") as following:
        by_offset = {record["offset"]: record for record in (await following())[1]["records"]}
    assert by_offset[0]["key"] == {"text": "table-7", "size": 7, "cut": False}
    assert by_offset[0]["headers"] == [
        ["trace", {"hex": "00 01", "size": 2}],
        ["trace", {"text": "again", "size": 5, "cut": False}],
    ]
    assert by_offset[0]["time_ms"] == 1_700_000_000_000
    assert by_offset[1]["value"] is None
    assert (by_offset[2]["value"]["size"], by_offset[2]["key"]) == (0, None)


async def test_batches_that_are_too_large_are_only_said_to_be_there(web: LocalNode) -> None:
    await web.create("orders")
    await web.produce(encoded("orders", [Record(b"x" * 600_000), Record(b"y" * 600_000)]))
    bomb = [Record(b"z" * 900_000), Record(b"z" * 900_000)]
    await web.produce(encoded("orders", bomb, batch_pb2.CODEC_ZSTD))
    await web.produce(batch_of("orders", [b"small"]))
    async with tail(web, "/topics/orders/tail") as following:
        large = (await following())[1]["records"]
        rest = (await following())[1]["records"]
    assert [record["offset"] for record in large + rest] == [0, 2, 4]
    assert "2 records in 12000" in large[0]["note"]
    assert rest[0]["note"].startswith("2 records that are not shown: ")
    assert rest[1]["value"]["text"] == "small"


async def test_a_tail_of_a_deleted_topic_ends_with_a_word(web: LocalNode) -> None:
    await web.create("orders")
    await web.produce(batch_of("orders"))
    async with tail(web, "/topics/orders/tail") as following:
        await following()
        await web.topics.DeleteTopic(service_pb2.DeleteTopicRequest(name="orders"), timeout=TIMEOUT_S)
        name, data, _ = await following()
        assert (name, data["reason"]) == ("refused", "UNKNOWN_TOPIC")
        with pytest.raises(EOFError):
            await following()


async def test_tails_are_bounded_and_their_places_are_given_back(
    web: LocalNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_tail, "MAX_TAILS", 1)
    await web.create("orders")
    await web.produce(batch_of("orders"))
    async with tail(web, "/topics/orders/tail") as following:
        await following()
        refused = await get(web.node.http_address, "/topics/orders/tail")
        assert (refused.status, refused.json["reason"]) == (503, "BUSY")
    parts = web.node._parts.web
    assert parts is not None
    async with asyncio.timeout(TIMEOUT_S):
        while parts._live_tails._count:  # noqa: ASYNC110 - that the reader hung up has no event of its own
            await asyncio.sleep(0)
    async with tail(web, "/topics/orders/tail") as following:
        await following()


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/topics/parcels/tail", 404),
        ("/topics/orders/tail?partition=20", 404),
        ("/topics/orders/tail?partition=-1", 400),
        ("/topics/orders/tail?partition=0&last=many", 400),
        ("/topics/orders/tail", 400),  # more partitions than are followed at once
    ],
)
async def test_what_cannot_be_followed_is_refused(web: LocalNode, path: str, status: int) -> None:
    await web.create("orders", live_tail.MAX_PARTITIONS + 1)
    assert (await get(web.node.http_address, path)).status == status


async def test_a_stop_ends_tails_at_once(web: LocalNode) -> None:
    await web.create("orders")
    await web.produce(batch_of("orders"))
    async with tail(web, "/topics/orders/tail") as following:
        await following()
        waiting = asyncio.ensure_future(following())
        await web.stop()
        with pytest.raises(EOFError):
            await waiting


def test_text_is_shown_as_text_and_all_else_as_digits() -> None:
    assert preview("grüß ☕".encode(), 100) == {"text": "grüß ☕", "size": 10, "cut": False}
    assert preview("ü".encode() * 3, 3) == {"text": "ü", "size": 6, "cut": True}, "no half character"
    assert preview(b"\xff\xfe", 16) == {"hex": "ff fe", "size": 2}
    assert preview(b"\x1b[31mred", 16) == {"hex": "1b 5b", "size": 8}, "a terminal's or a browser's controls"
    assert preview(b"a\tb\r\n", 16) == {"text": "a\tb\r\n", "size": 5, "cut": False}
    assert preview(None, 16) is None
