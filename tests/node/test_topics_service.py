"""Topics over gRPC: made, described, listed, deleted, refused."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from quorumlog.proto import service_pb2
from tests.support.local_node import TIMEOUT_S, LocalNode, batch_of, error_info, until


async def test_a_topic_is_created_and_described(node: LocalNode) -> None:
    created = await node.create("orders", 3)
    assert (created.name, [each.partition for each in created.partitions]) == ("orders", [0, 1, 2])
    await node.produce(batch_of("orders", [b"a", b"b"], partition=1))
    response = await node.topics.DescribeTopic(service_pb2.DescribeTopicRequest(name="orders"))
    assert response.topic.topic_id == created.topic_id
    assert [each.high_watermark for each in response.topic.partitions] == [0, 2, 0]
    assert response.raft_index == node.engine.applied_index


async def test_topics_are_listed_by_name(node: LocalNode) -> None:
    for name in ("b", "c", "a"):
        await node.create(name)
    response = await node.topics.ListTopics(service_pb2.ListTopicsRequest())
    assert [topic.name for topic in response.topics] == ["a", "b", "c"]


async def test_a_deleted_topic_is_gone_and_may_be_made_again(node: LocalNode) -> None:
    first = await node.create("orders")
    await node.produce(batch_of("orders"))
    gone = await node.topics.DeleteTopic(service_pb2.DeleteTopicRequest(name="orders"))
    assert gone.topic.topic_id == first.topic_id
    for call in (
        node.topics.DescribeTopic(service_pb2.DescribeTopicRequest(name="orders")),
        node.topics.DeleteTopic(service_pb2.DeleteTopicRequest(name="orders")),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        assert error_info(caught.value).reason == "UNKNOWN_TOPIC"
    second = await node.create("orders")
    assert second.topic_id > first.topic_id
    assert (await node.fetch("orders", 0)).high_watermark == 0


@pytest.mark.parametrize(
    ("name", "partitions", "code", "reason"),
    [
        ("../orders", 1, grpc.StatusCode.INVALID_ARGUMENT, "BAD_NAME"),
        ("..", 1, grpc.StatusCode.INVALID_ARGUMENT, "BAD_NAME"),
        ("a\0b", 1, grpc.StatusCode.INVALID_ARGUMENT, "BAD_NAME"),
        ("", 1, grpc.StatusCode.INVALID_ARGUMENT, "BAD_NAME"),
        ("x" * 10_240, 1, grpc.StatusCode.INVALID_ARGUMENT, "BAD_NAME"),
        ("new", 0, grpc.StatusCode.INVALID_ARGUMENT, "BAD_REQUEST"),
        ("new", 1_001, grpc.StatusCode.INVALID_ARGUMENT, "BAD_REQUEST"),
        ("new", 2**32 - 1, grpc.StatusCode.INVALID_ARGUMENT, "BAD_REQUEST"),
        ("orders", 1, grpc.StatusCode.ALREADY_EXISTS, "TOPIC_EXISTS"),
    ],
)
async def test_what_cannot_be_a_topic_is_refused(
    node: LocalNode, name: str, partitions: int, code: grpc.StatusCode, reason: str
) -> None:
    """Row 64."""
    await node.create("orders")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await node.create(name, partitions)
    assert (caught.value.code(), error_info(caught.value).reason) == (code, reason)
    response = await node.topics.ListTopics(service_pb2.ListTopicsRequest())
    assert [topic.name for topic in response.topics] == ["orders"]


async def test_a_description_waits_for_the_entry_that_is_asked_for(node: LocalNode) -> None:
    await node.create("orders")
    request = service_pb2.DescribeTopicRequest(name="orders", min_raft_index=10_000)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await node.topics.DescribeTopic(request, timeout=0.3)
    assert error_info(caught.value).reason == "NOT_CAUGHT_UP"


async def test_bytes_that_are_no_request_are_refused(node: LocalNode) -> None:
    """Row 64."""
    for method in ("CreateTopic", "DeleteTopic", "DescribeTopic", "ListTopics"):
        call = node.channel.unary_unary(f"/quorumlog.v1.Topics/{method}")(b"\xff", timeout=TIMEOUT_S)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_linearizable_description_never_denies_what_was_acknowledged(
    pair: tuple[LocalNode, LocalNode],
) -> None:
    leader, follower = pair
    follower.engine.hold()
    await leader.create("orders")
    linearizable = service_pb2.CONSISTENCY_LINEARIZABLE
    described = asyncio.ensure_future(
        answer_of(
            follower.topics.DescribeTopic(
                service_pb2.DescribeTopicRequest(name="orders", consistency=linearizable), timeout=TIMEOUT_S
            )
        )
    )
    listed = asyncio.ensure_future(
        answer_of(
            follower.topics.ListTopics(
                service_pb2.ListTopicsRequest(consistency=linearizable), timeout=TIMEOUT_S
            )
        )
    )
    await until(lambda: follower.engine.reads_asked == 2)
    follower.engine.release()
    assert (await described).topic.name == "orders"
    assert [topic.name for topic in (await listed).topics] == ["orders"]


async def answer_of(call: Any) -> Any:
    return await call
