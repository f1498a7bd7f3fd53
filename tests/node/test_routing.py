"""Writes on a follower: forwarded once, tried again only when surely not applied, or sent back on demand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest

from quorumlog.node import routing as routing_module
from quorumlog.proto import entry_pb2, service_pb2
from quorumlog.raft.engine import Role
from quorumlog.raft.errors import Busy, NotLeader, OutcomeUnknown
from tests.node.conftest import StartNode
from tests.support.local_node import TIMEOUT_S, LocalNode, batch_of, error_info, until

Pair = tuple[LocalNode, LocalNode]

STAY = (("x-no-forward", "1"),)


def request_of(topic: str = "orders", **fields: int) -> service_pb2.ProduceRequest:
    return service_pb2.ProduceRequest(batches=[batch_of(topic)], **fields)


async def test_every_write_on_a_follower_is_done_by_the_leader(pair: Pair) -> None:
    """Row 42."""
    leader, follower = pair
    topic = await follower.create("orders", 2)
    assert [each.partition for each in topic.partitions] == [0, 1]
    assert (await follower.produce(batch_of("orders", [b"a", b"b"]))).base_offset == 0
    opened = await follower.log.OpenProducer(service_pb2.OpenProducerRequest(), timeout=TIMEOUT_S)
    assert opened.producer_id == 1
    policy = service_pb2.SetSyncPolicyRequest(policy=entry_pb2.SYNC_INTERVAL)
    await follower.cluster.SetSyncPolicy(policy, timeout=TIMEOUT_S)
    assert leader.engine.machine.sync_policy == entry_pb2.SYNC_INTERVAL
    assert (await leader.fetch("orders", 0)).high_watermark == 2
    assert (await follower.fetch("orders", 0)).high_watermark == 2
    await follower.topics.DeleteTopic(service_pb2.DeleteTopicRequest(name="orders"), timeout=TIMEOUT_S)
    assert not list(leader.engine.machine.topics)


async def test_the_leader_s_refusal_comes_back_as_it_is(pair: Pair) -> None:
    leader, follower = pair
    for topic, reason in (("nowhere", "UNKNOWN_TOPIC"), ("../x", "BAD_NAME")):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await follower.produce(batch_of(topic))
        assert error_info(caught.value).reason == reason
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await follower.channel.unary_unary("/quorumlog.v1.Log/Produce")(b"\xff", timeout=TIMEOUT_S)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    await leader.create("orders")
    for failure, reason in ((Busy("full"), "BUSY"), (OutcomeUnknown("who knows"), "OUTCOME_UNKNOWN")):
        leader.engine.failures.append(failure)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await follower.produce(batch_of("orders"))
        assert error_info(caught.value).reason == reason


async def test_a_follower_that_is_asked_not_to_forward_says_who_leads(pair: Pair) -> None:
    """Row 42."""
    leader, follower = pair
    await leader.create("orders")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await follower.log.Produce(request_of(), metadata=STAY, timeout=TIMEOUT_S)
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    info = error_info(caught.value)
    assert info.reason == "NOT_LEADER"
    assert info.metadata["leader_id"] == "n1"
    assert info.metadata["leader_address"] == leader.address
    assert info.metadata["term"] == str(follower.engine.term)
    assert dict(caught.value.trailing_metadata())["x-leader"] == f"n1 {leader.address}"
    stream = follower.log.ProduceStream(metadata=STAY, timeout=TIMEOUT_S)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stream.read()
    assert error_info(caught.value).reason == "NOT_LEADER"
    assert (await leader.log.Produce(request_of(), metadata=STAY, timeout=TIMEOUT_S)).results[
        0
    ].base_offset == 0


async def test_without_a_leader_a_write_is_unavailable(start_node: StartNode) -> None:
    node = await start_node(leads=False, raft__election_timeout_max="410ms")
    for metadata in ((), STAY):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await node.log.Produce(request_of(), metadata=metadata, timeout=TIMEOUT_S)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert error_info(caught.value).reason == "NO_LEADER"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await node.log.ProduceStream(timeout=TIMEOUT_S).read()
    assert error_info(caught.value).reason == "NO_LEADER"


async def test_a_write_waits_for_a_leader_to_be_elected(pair: Pair) -> None:
    leader, follower = pair
    await leader.create("orders")
    leader.engine.lose_leader()
    follower.engine.lose_leader()
    writes = [asyncio.ensure_future(node.produce(batch_of("orders"))) for node in pair]
    await follower.topics.ListTopics(service_pb2.ListTopicsRequest())
    leader.engine.lead()
    follower.engine.follow("n1", leader.address)
    assert sorted([(await write).base_offset for write in writes]) == [0, 1]


async def test_a_forwarded_write_follows_the_leader_when_it_moves(pair: Pair) -> None:
    first, second = pair
    await first.create("orders")
    first.engine.followers.clear()
    # The second still believes in the first, which has stepped down and knows no leader yet.
    first.engine.lose_leader()
    write = asyncio.ensure_future(second.produce(batch_of("orders")))
    await second.topics.ListTopics(service_pb2.ListTopicsRequest())
    assert not write.done()
    second.engine.lead()
    assert (await write).base_offset == 0
    assert (await second.fetch("orders", 0)).high_watermark == 1


async def test_a_leader_that_is_not_ready_yet_is_waited_for(node: LocalNode) -> None:
    await node.create("orders")
    node.engine.is_leader = False
    node.engine._set_role(Role.LEADER, "n1", node.address)
    write = asyncio.ensure_future(node.log.Produce(request_of(), metadata=STAY, timeout=TIMEOUT_S))
    await node.topics.ListTopics(service_pb2.ListTopicsRequest())
    assert not write.done()
    node.engine.lead()
    assert (await write).results[0].base_offset == 0


async def test_leadership_lost_at_the_last_moment_is_no_failure_of_the_call(pair: Pair) -> None:
    leader, follower = pair
    await leader.create("orders")
    leader.engine.failures.append(NotLeader("n2", follower.address, 9))
    assert (await follower.produce(batch_of("orders"))).base_offset == 0
    leader.engine.failures.append(NotLeader("n2", follower.address, 9))
    assert (await leader.produce(batch_of("orders"))).base_offset == 1


async def test_what_waits_for_the_leader_s_answer_is_bounded(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    leader, follower = pair
    await leader.create("orders")
    monkeypatch.setattr(routing_module, "_FORWARDING_BYTES", 100_000)
    leader.engine.hold()
    large = batch_of("orders", [bytes(60_000)])
    first = asyncio.ensure_future(follower.produce(large))
    await until(lambda: leader.engine.waiting_count == 1)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await follower.produce(large)
    assert error_info(caught.value).reason == "BUSY"
    leader.engine.release()
    assert (await first).base_offset == 0
    assert (await follower.produce(large)).base_offset == 1


async def test_two_followers_that_point_at_each_other_do_not_loop(pair: Pair) -> None:
    first, second = pair
    first.engine.follow("n2", second.address)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await first.log.Produce(request_of(), timeout=0.5)
    # Either node's word, or gRPC's own at the deadline.
    assert caught.value.code() in (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.DEADLINE_EXCEEDED)


async def test_a_leader_that_is_not_reached_was_surely_not_asked(start_node: StartNode) -> None:
    node = await start_node("n2", leads=False)
    node.engine.follow("n1", "127.0.0.1:1")  # nobody listens there
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await node.log.Produce(request_of(), timeout=1.0)
    assert caught.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
    if caught.value.code() is grpc.StatusCode.UNAVAILABLE:
        assert error_info(caught.value).reason == "NO_LEADER"


async def test_a_leader_that_vanishes_with_the_call_leaves_the_outcome_unknown(pair: Pair) -> None:
    """Row 41."""
    leader, follower = pair
    await leader.create("orders")
    leader.engine.hold()
    write = asyncio.ensure_future(follower.produce(batch_of("orders")))
    await until(lambda: leader.engine.waiting_count == 1)
    await leader.node._parts.server.stop(0)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await write
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert error_info(caught.value).reason == "OUTCOME_UNKNOWN"


async def test_a_stream_on_a_follower_is_relayed_in_order(pair: Pair) -> None:
    leader, follower = pair
    await leader.create("orders")
    await leader.log.OpenProducer(service_pb2.OpenProducerRequest(), timeout=TIMEOUT_S)

    async def requests() -> AsyncIterator[service_pb2.ProduceRequest]:
        for number in range(200):
            batch = batch_of("orders", producer=(1, 0, number))
            yield service_pb2.ProduceRequest(batches=[batch], correlation=number)

    answers = [answer async for answer in follower.log.ProduceStream(requests(), timeout=TIMEOUT_S)]
    assert [answer.correlation for answer in answers] == list(range(200))
    assert [answer.results[0].base_offset for answer in answers] == list(range(200))


async def test_a_relayed_stream_ends_as_the_leader_s_does(pair: Pair) -> None:
    leader, follower = pair
    await leader.create("orders")
    stream = follower.channel.stream_stream("/quorumlog.v1.Log/ProduceStream")(timeout=TIMEOUT_S)
    await stream.write(request_of().SerializeToString())
    await stream.write(b"\xff")
    assert service_pb2.ProduceResponse.FromString(await stream.read()).results[0].base_offset == 0
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stream.read()
    assert error_info(caught.value).reason == "BAD_REQUEST"


@pytest.mark.parametrize(("unanswered", "reason"), [(True, "OUTCOME_UNKNOWN"), (False, "NO_LEADER")])
async def test_a_relayed_stream_whose_leader_vanishes_says_what_is_known(
    pair: Pair, unanswered: bool, reason: str
) -> None:
    leader, follower = pair
    await leader.create("orders")
    stream = follower.log.ProduceStream(timeout=TIMEOUT_S)
    await stream.write(request_of())
    assert (await stream.read()).results[0].base_offset == 0
    if unanswered:
        leader.engine.hold()
        await stream.write(request_of())
        await until(lambda: leader.engine.waiting_count == 1)
    await leader.node._parts.server.stop(0)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stream.read()
    assert error_info(caught.value).reason == reason


@pytest.mark.parametrize("relayed", [False, True])
async def test_a_stream_ends_when_its_leader_steps_down_with_all_it_took_answered(
    pair: Pair, relayed: bool
) -> None:
    leader, follower = pair
    await leader.create("orders")
    stream = (follower if relayed else leader).log.ProduceStream(timeout=TIMEOUT_S)
    leader.engine.hold()
    await stream.write(request_of())
    await until(lambda: leader.engine.waiting_count == 1)
    leader.engine.follow("n3", "127.0.0.1:3")
    leader.engine.release()
    assert (await stream.read()).results[0].base_offset == 0
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stream.read()
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert error_info(caught.value).metadata["leader_address"] == "127.0.0.1:3"


@pytest.mark.parametrize(("unanswered", "reason"), [(True, "OUTCOME_UNKNOWN"), (False, "NOT_LEADER")])
async def test_a_relayed_stream_ends_when_another_leads(pair: Pair, unanswered: bool, reason: str) -> None:
    leader, follower = pair
    await leader.create("orders")
    stream = follower.log.ProduceStream(timeout=TIMEOUT_S)
    await stream.write(request_of())
    assert (await stream.read()).results[0].base_offset == 0
    if unanswered:
        leader.engine.hold()
        await stream.write(request_of())
        await until(lambda: leader.engine.waiting_count == 1)
    follower.engine.lose_leader()
    follower.engine.follow("n3", "127.0.0.1:3")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stream.read()
    assert error_info(caught.value).reason == reason


async def test_a_relay_of_a_node_that_stops_answers_what_it_passed_on_and_ends(pair: Pair) -> None:
    leader, follower = pair
    await leader.create("orders")
    stream = follower.log.ProduceStream(timeout=TIMEOUT_S)
    leader.engine.hold()
    await stream.write(request_of())
    await until(lambda: leader.engine.waiting_count == 1)
    follower.node._parts.streams.stop()
    leader.engine.release()
    assert (await stream.read()).results[0].base_offset == 0
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stream.read()
    assert error_info(caught.value).reason == "SHUTTING_DOWN"
