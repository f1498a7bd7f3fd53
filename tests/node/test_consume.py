"""Fetch, Consume and ListOffsets: what is read, what is waited for, what is refused, what stays bounded."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest

from quorumlog.node import outbound as outbound_module
from quorumlog.node import reading as reading_module
from quorumlog.node.tails import Tails
from quorumlog.proto import service_pb2
from quorumlog.proto.batch import decode_batch
from tests.node.conftest import StartNode
from tests.support.local_node import TIMEOUT_S, LocalNode, batch_of, error_info, until

Pair = tuple[LocalNode, LocalNode]
LINEARIZABLE = service_pb2.CONSISTENCY_LINEARIZABLE


def values_in(response: service_pb2.FetchResponse) -> list[bytes | None]:
    return [value for batch in response.batches for value in decode_batch(batch.header, batch.body).values]


async def fill(node: LocalNode, count: int, size: int = 10, topic: str = "orders") -> list[bytes]:
    """Append batches of one record each."""
    values = [b"%d" % number + b"." * size for number in range(count)]
    for value in values:
        await node.produce(batch_of(topic, [value]))
    return values


def waiting(tails: Tails) -> int:
    """How many wait at the ends of partitions."""
    return sum(len(signal._waiters) for signal in tails._signals.values())


def counted_reads(node: LocalNode, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of what is read from the node's files, from now on."""
    served: list[int] = []
    read_body = node.engine.log.read_body

    def counted(base: int, position: int, size: int) -> bytes:
        served.append(size)
        return read_body(base, position, size)

    monkeypatch.setattr(node.engine.log, "read_body", counted)
    return served


def consume(node: LocalNode, **fields: object) -> grpc.aio.UnaryStreamCall[object, service_pb2.FetchResponse]:
    request = service_pb2.ConsumeRequest(topic="orders", **fields)
    return node.log.Consume(request, timeout=TIMEOUT_S)


async def test_fetch_returns_whole_batches_with_all_their_fields(node: LocalNode) -> None:
    await node.create("orders")
    sent = batch_of("orders", [b"a", b"b", b"c"])
    result = await node.produce(sent)
    response = await node.fetch("orders", 1)
    (batch,) = response.batches
    assert (batch.base_offset, batch.append_time_ms) == (0, result.append_time_ms)
    assert (batch.header, batch.body) == (sent.header, sent.body)
    assert (response.start_offset, response.high_watermark) == (0, 3)
    assert response.applied_index == result.raft_index


async def test_fetch_keeps_to_max_bytes_but_gives_one_batch(node: LocalNode) -> None:
    await node.create("orders")
    values = await fill(node, 10, size=1_000)
    assert values_in(await node.fetch("orders", 0, max_bytes=3_500)) == values[:3]
    assert values_in(await node.fetch("orders", 4, max_bytes=1)) == values[4:5]
    assert values_in(await node.fetch("orders", 0)) == values


async def test_fetch_reads_over_other_partitions_and_segments(start_node: StartNode) -> None:
    node = await start_node(log__segment_entries="4")
    await node.create("orders", 2)
    expected = []
    for number in range(20):
        value = b"%d" % number * 300
        await node.produce(batch_of("orders", [value], partition=number % 2))
        expected.append(value)
    response = await node.fetch("orders", 0)
    assert values_in(response) == expected[::2]
    assert values_in(await node.fetch("orders", 3, partition=1)) == expected[7::2]
    assert len(node.engine.log.segments) > 4


async def test_many_small_batches_take_several_messages(
    node: LocalNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading_module, "MAX_BATCHES", 5)
    await node.create("orders")
    values = await fill(node, 12)
    assert values_in(await node.fetch("orders", 0)) == values[:5]
    messages = [values_in(message) async for message in consume(node, until_end=True)]
    assert [len(message) for message in messages] == [5, 5, 2]
    assert [value for message in messages for value in message] == values


async def test_the_tail_is_no_error_and_is_waited_for(node: LocalNode) -> None:
    await node.create("orders")
    await fill(node, 2)
    assert values_in(await node.fetch("orders", 2)) == []
    waiting = asyncio.ensure_future(node.fetch("orders", 2, max_wait_ms=20_000))
    await node.topics.ListTopics(service_pb2.ListTopicsRequest())
    await node.produce(batch_of("orders", [b"new"]))
    assert values_in(await waiting) == [b"new"]


async def test_a_wait_at_the_tail_ends_when_its_time_is_up(node: LocalNode) -> None:
    await node.create("orders")
    response = await node.fetch("orders", 0, max_wait_ms=20)
    assert (list(response.batches), response.high_watermark) == ([], 0)


@pytest.mark.parametrize("offset", [4, 2**63, 2**64 - 1])
async def test_an_offset_beyond_the_tail_is_refused_with_the_range(node: LocalNode, offset: int) -> None:
    await node.create("orders")
    await fill(node, 3)
    for call in (node.fetch("orders", offset), consume(node, offset=offset).read()):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is grpc.StatusCode.OUT_OF_RANGE
        info = error_info(caught.value)
        assert (info.reason, dict(info.metadata)) == ("OFFSET_OUT_OF_RANGE", {"earliest": "0", "latest": "3"})


@pytest.mark.parametrize(
    ("topic", "partition", "code", "reason"),
    [
        ("nowhere", 0, grpc.StatusCode.NOT_FOUND, "UNKNOWN_TOPIC"),
        ("orders", 7, grpc.StatusCode.NOT_FOUND, "UNKNOWN_PARTITION"),
        ("../../etc/passwd", 0, grpc.StatusCode.INVALID_ARGUMENT, "BAD_NAME"),
        ("a\0b", 0, grpc.StatusCode.INVALID_ARGUMENT, "BAD_NAME"),
        ("", 0, grpc.StatusCode.INVALID_ARGUMENT, "BAD_NAME"),
    ],
)
async def test_a_place_that_does_not_exist_is_refused(
    node: LocalNode, topic: str, partition: int, code: grpc.StatusCode, reason: str
) -> None:
    await node.create("orders")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await node.fetch(topic, 0, partition=partition)
    assert (caught.value.code(), error_info(caught.value).reason) == (code, reason)


async def test_bytes_that_are_no_request_are_refused(node: LocalNode) -> None:
    for method in ("Fetch", "ListOffsets", "OpenProducer"):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await node.channel.unary_unary(f"/quorumlog.v1.Log/{method}")(b"\xff", timeout=TIMEOUT_S)
        assert error_info(caught.value).reason == "BAD_REQUEST"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await node.channel.unary_stream("/quorumlog.v1.Log/Consume")(b"\xff", timeout=TIMEOUT_S).read()
    assert error_info(caught.value).reason == "BAD_REQUEST"


async def test_consume_gives_what_is_there_and_then_what_comes(node: LocalNode) -> None:
    await node.create("orders")
    values = await fill(node, 3)
    stream = consume(node, offset=1)
    assert values_in(await stream.read()) == values[1:]
    for number in range(3):
        value = b"new %d" % number
        await node.produce(batch_of("orders", [value]))
        assert values_in(await stream.read()) == [value]
    stream.cancel()


async def test_consume_until_the_end_stops_at_the_end_of_the_moment(node: LocalNode) -> None:
    await node.create("orders")
    values = await fill(node, 5)
    stream = consume(node, until_end=True)
    assert values_in(await stream.read()) == values
    assert await stream.read() is grpc.aio.EOF
    assert await consume(node, until_end=True, offset=5).read() is grpc.aio.EOF


async def test_a_waiting_consumer_learns_that_its_topic_was_deleted(node: LocalNode) -> None:
    await node.create("orders")
    await fill(node, 1)
    stream = consume(node)
    await stream.read()
    await node.topics.DeleteTopic(service_pb2.DeleteTopicRequest(name="orders"), timeout=TIMEOUT_S)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stream.read()
    assert error_info(caught.value).reason == "UNKNOWN_TOPIC"


async def test_a_consumer_that_goes_away_leaves_nothing_behind(node: LocalNode) -> None:
    await node.create("orders")
    await fill(node, 1)
    before = len(asyncio.all_tasks())
    streams = [consume(node, offset=1) for _ in range(10)]
    await until(lambda: len(asyncio.all_tasks()) > before)
    await node.topics.ListTopics(service_pb2.ListTopicsRequest())
    for stream in streams:
        stream.cancel()
    await until(lambda: len(asyncio.all_tasks()) <= before)


async def test_a_consumer_that_never_reads_is_not_read_for(
    node: LocalNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    await node.create("orders")
    for _ in range(12):
        await node.produce(batch_of("orders", [bytes(900_000)] * 4))
    served = counted_reads(node, monkeypatch)
    stream = consume(node)
    await until(lambda: len(served) > 0)
    quick = [
        sum(len(batch.body) for batch in message.batches) async for message in consume(node, until_end=True)
    ]
    assert sum(quick) > 40_000_000, "another consumer is served in the meantime"
    # HTTP/2's windows, which gRPC widens to 16 MiB where answers take long, and what is about to go out: the
    # rest of these 43 MB stays on disk until the consumer reads.
    assert sum(served) - sum(quick) < 28_000_000
    stream.cancel()


async def test_all_who_follow_get_the_same_bytes_which_are_read_once(
    node: LocalNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    await node.create("orders")
    await fill(node, 1)
    served = counted_reads(node, monkeypatch)
    streams = [consume(node, offset=1) for _ in range(5)]
    tails = node.node._parts.consuming._tails
    await until(lambda: waiting(tails) == 5)
    result = await node.produce(batch_of("orders", [b"new"]))
    messages = [await stream.read() for stream in streams]
    assert [values_in(message) for message in messages] == [[b"new"]] * 5
    assert {message.applied_index for message in messages} == {result.raft_index}
    assert len(served) == 1
    for stream in streams:
        stream.cancel()
    await until(lambda: not tails.is_awaited)


async def test_what_is_kept_for_others_is_given_only_where_it_is_the_answer(node: LocalNode) -> None:
    """Another place at the same offset, less room, another offset, and what was applied since."""
    for topic in ("orders", "others"):
        await node.create(topic, 2)
    values = await fill(node, 3)
    await node.produce(batch_of("others", [b"other"]))
    await node.produce(batch_of("orders", [b"beside"], partition=1))
    first = await node.fetch("orders", 0)
    assert values_in(first) == values
    assert values_in(await node.fetch("others", 0)) == [b"other"]
    assert values_in(await node.fetch("orders", 0)) == values
    assert values_in(await node.fetch("orders", 0, partition=1)) == [b"beside"]
    assert values_in(await node.fetch("orders", 0)) == values
    assert values_in(await node.fetch("orders", 0, max_bytes=1)) == values[:1]
    assert values_in(await node.fetch("orders", 0)) == values
    assert values_in(await node.fetch("orders", 1)) == values[1:]
    later = await node.produce(batch_of("others", [b"more"]))
    again = await node.fetch("orders", 0)
    assert (values_in(again), again.applied_index) == (values, later.raft_index)
    await node.produce(batch_of("orders", [b"last"]))
    assert values_in(await node.fetch("orders", 0)) == [*values, b"last"]
    await node.topics.DeleteTopic(service_pb2.DeleteTopicRequest(name="orders"), timeout=TIMEOUT_S)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await node.fetch("orders", 0)
    assert error_info(caught.value).reason == "UNKNOWN_TOPIC"


async def test_many_slow_consumers_get_smaller_messages(
    node: LocalNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbound_module, "BYTES", 8 * 64_000)
    monkeypatch.setattr(outbound_module, "SHARE_BYTES_MIN", 1_000)
    await node.create("orders")
    await fill(node, 30, size=10_000)
    first = await consume(node).read()
    assert 5 <= len(first.batches) <= 7


async def test_a_damaged_body_is_never_served(node: LocalNode, tmp_path: Path) -> None:
    await node.create("orders")
    values = await fill(node, 3, size=100)
    damage(tmp_path / "n1", values[1])
    assert values_in(await node.fetch("orders", 0, max_bytes=1)) == values[:1]
    for offset in (0, 1):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await node.fetch("orders", offset)
        assert caught.value.code() is grpc.StatusCode.DATA_LOSS
        assert error_info(caught.value).reason == "DATA_DAMAGED"
        assert ".log, position " in caught.value.details()
    assert values_in(await node.fetch("orders", 2)) == values[2:]
    assert node.engine.log.damage, "storage knows of it, too"


def damage(data: Path, value: bytes) -> None:
    """Change one bit of a record in the log file."""
    (file,) = (data / "group-0" / "log").glob("*.log")
    content = bytearray(file.read_bytes())
    content[content.index(value)] ^= 1
    with file.open("r+b") as opened:
        opened.write(content)


async def test_offsets_by_name_and_time(node: LocalNode) -> None:
    await node.create("orders", 2)
    times = [(await node.produce(batch_of("orders", [b"x", b"y"]))).append_time_ms for _ in range(3)]
    query = service_pb2.OffsetQuery
    request = service_pb2.ListOffsetsRequest(
        topic="orders",
        queries=[
            query(earliest=True),
            query(latest=True),
            query(append_time_ms=0),
            query(append_time_ms=times[-1] + 1),
            query(partition=1, latest=True),
            query(partition=1, append_time_ms=0),
        ],
    )
    response = await node.log.ListOffsets(request, timeout=TIMEOUT_S)
    assert [answer.offset for answer in response.answers] == [0, 6, 0, 6, 0, 0]
    assert [answer.partition for answer in response.answers] == [0, 0, 0, 0, 1, 1]
    assert response.answers[2].append_time_ms == times[0]
    assert response.answers[3].append_time_ms == 0
    assert response.applied_index == node.engine.applied_index


async def test_queries_are_checked(node: LocalNode) -> None:
    await node.create("orders")
    query = service_pb2.OffsetQuery
    for queries, reason in (
        ([query(partition=3, latest=True)], "UNKNOWN_PARTITION"),
        ([query()], "BAD_REQUEST"),
        ([query(latest=True)] * 10_001, "BAD_REQUEST"),
    ):
        request = service_pb2.ListOffsetsRequest(topic="orders", queries=queries)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await node.log.ListOffsets(request, timeout=TIMEOUT_S)
        assert error_info(caught.value).reason == reason


async def test_a_session_read_waits_for_its_entry(pair: tuple[LocalNode, LocalNode]) -> None:
    leader, follower = pair
    await leader.create("orders")
    follower.engine.hold()
    result = await leader.produce(batch_of("orders", [b"mine"]))
    session = {"consistency": service_pb2.CONSISTENCY_SESSION, "min_raft_index": result.raft_index}
    reading = asyncio.ensure_future(follower.fetch("orders", 0, **session))
    assert values_in(await follower.fetch("orders", 0)) == [], "a committed read may lag"
    follower.engine.release()
    assert values_in(await reading) == [b"mine"]


async def test_a_session_read_that_is_not_reached_in_time_says_how_far_it_is(
    pair: tuple[LocalNode, LocalNode],
) -> None:
    leader, follower = pair
    await leader.create("orders")
    follower.engine.hold()
    result = await leader.produce(batch_of("orders"))
    request = service_pb2.FetchRequest(
        topic="orders", consistency=service_pb2.CONSISTENCY_SESSION, min_raft_index=result.raft_index
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await follower.log.Fetch(request, timeout=0.3)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    info = error_info(caught.value)
    assert info.reason == "NOT_CAUGHT_UP"
    assert info.metadata["applied_index"] == str(follower.engine.applied_index)


async def test_a_linearizable_read_waits_for_what_the_leader_has_acknowledged(pair: Pair) -> None:
    leader, follower = pair
    await leader.create("orders")
    follower.engine.hold()
    await leader.produce(batch_of("orders", [b"acknowledged"]))
    assert not (await follower.fetch("orders", 0)).batches  # committed may lag
    reads = [
        asyncio.ensure_future(follower.fetch("orders", 0, consistency=LINEARIZABLE)),
        asyncio.ensure_future(first_of_stream(follower)),
    ]
    queries = [service_pb2.OffsetQuery(partition=0, latest=True)]
    asked = service_pb2.ListOffsetsRequest(topic="orders", queries=queries, consistency=LINEARIZABLE)
    offsets = asyncio.ensure_future(waited_for(follower.log.ListOffsets(asked, timeout=TIMEOUT_S)))
    await until(lambda: follower.engine.reads_asked == 3)
    assert not any(read.done() for read in (*reads, offsets))
    follower.engine.release()
    for read in reads:
        assert [batch.base_offset for batch in (await read).batches] == [0]
    assert [answer.offset for answer in (await offsets).answers] == [1]


async def test_a_consumer_is_confirmed_at_the_start_of_its_stream_only(pair: Pair) -> None:
    leader, follower = pair
    await leader.create("orders")
    await leader.produce(batch_of("orders"))
    stream = consume(follower, consistency=LINEARIZABLE)
    assert (await stream.read()).batches[0].base_offset == 0
    await leader.produce(batch_of("orders"))
    assert (await stream.read()).batches[0].base_offset == 1
    assert follower.engine.reads_asked == 1
    stream.cancel()


async def test_a_read_that_nobody_confirms_is_refused_and_says_why(node: LocalNode) -> None:
    await node.create("orders")
    node.engine.lose_leader()
    for read in (node.fetch("orders", 0, consistency=LINEARIZABLE), first_of_stream(node)):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await read
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert error_info(caught.value).reason == "NOT_CONFIRMED"
        assert "no majority" in str(caught.value.details())


async def test_a_linearizable_read_is_asked_again_while_somebody_leads(pair: Pair) -> None:
    leader, follower = pair
    await leader.create("orders")
    await leader.produce(batch_of("orders"))
    follower.engine.unconfirmed = 2
    assert (await follower.fetch("orders", 0, consistency=LINEARIZABLE)).high_watermark == 1
    assert follower.engine.reads_asked == 3
    follower.engine.unconfirmed = 1_000_000
    request = service_pb2.FetchRequest(topic="orders", consistency=LINEARIZABLE)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await follower.log.Fetch(request, timeout=0.3)
    assert error_info(caught.value).reason == "NOT_CONFIRMED"


async def test_an_unknown_consistency_is_refused(node: LocalNode) -> None:
    await node.create("orders")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await node.fetch("orders", 0, consistency=9)
    assert error_info(caught.value).reason == "BAD_REQUEST"


async def first_of_stream(node: LocalNode) -> service_pb2.FetchResponse:
    stream = consume(node, consistency=LINEARIZABLE)
    response: service_pb2.FetchResponse = await stream.read()
    stream.cancel()
    return response


async def waited_for(call: Any) -> Any:
    return await call
