"""Produce and ProduceStream on a leader: what is appended, what is refused, in which order it is answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest

from quorumlog.proto import batch_pb2, entry_pb2, service_pb2
from quorumlog.proto.checksum import crc32c
from quorumlog.raft.errors import Busy, Dropped, NoSpace, OutcomeUnknown, RaftError, Stopping
from tests.node.conftest import StartNode
from tests.support.local_node import TIMEOUT_S, LocalNode, batch_of, error_info, header_of, until


async def refusal(node: LocalNode, batch: service_pb2.TopicBatch) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await node.produce(batch)
    return caught.value.code(), error_info(caught.value).reason


async def test_batches_get_consecutive_offsets(node: LocalNode) -> None:
    await node.create("orders")
    first = await node.produce(batch_of("orders", [b"a", b"b"]))
    second = await node.produce(batch_of("orders", [b"c"]))
    assert (first.base_offset, second.base_offset) == (0, 2)
    assert second.raft_index == first.raft_index + 1
    assert first.raft_term == node.engine.term
    assert first.append_time_ms > 0
    assert not first.HasField("failure")


async def test_the_answer_names_policy_correlation_and_leader(node: LocalNode) -> None:
    await node.create("orders")
    request = service_pb2.SetSyncPolicyRequest(policy=entry_pb2.SYNC_OS)
    await node.cluster.SetSyncPolicy(request, timeout=TIMEOUT_S)
    call = node.log.Produce(service_pb2.ProduceRequest(batches=[batch_of("orders")], correlation=77))
    response = await call
    assert response.correlation == 77
    assert response.sync_policy == entry_pb2.SYNC_OS
    assert dict(await call.trailing_metadata())["x-leader"] == f"n1 {node.address}"


async def test_each_batch_of_a_request_has_its_own_outcome(node: LocalNode) -> None:
    await node.create("orders", 2)
    batches = [
        batch_of("orders", [b"a"]),
        batch_of("nowhere"),
        header_of(batch_of("orders"), body_crc32c=1),
        batch_of("orders", [b"b"]),
        batch_of("orders", [b"c"], partition=1),
    ]
    response = await node.log.Produce(service_pb2.ProduceRequest(batches=batches), timeout=TIMEOUT_S)
    assert [result.failure.reason for result in response.results] == [
        "",
        "UNKNOWN_TOPIC",
        "BAD_CHECKSUM",
        "",
        "",
    ]
    assert [result.base_offset for result in response.results] == [0, 0, 0, 1, 0]
    assert response.results[1].failure.code == grpc.StatusCode.NOT_FOUND.value[0]
    assert response.results[1].failure.metadata == {"topic": "nowhere"}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"body_crc32c": 1}, "BAD_CHECKSUM"),
        ({"body_size": 3}, "BAD_BATCH"),
        ({"count": 2}, "BAD_BATCH"),
        ({"span": 2}, "BAD_BATCH"),
        ({"count": 2, "span": 2, "offset_deltas": [0, 1]}, "BAD_BATCH"),
        ({"count": 2**32 - 1, "span": 2**32 - 1}, "BAD_BATCH"),
        ({"encoding": 9}, "BAD_BATCH"),
        ({"codec": 9}, "BAD_BATCH"),
    ],
)
async def test_a_header_that_contradicts_the_body_is_refused(
    node: LocalNode, changes: dict[str, object], reason: str
) -> None:
    """Row 64."""
    await node.create("orders")
    code, actual = await refusal(node, header_of(batch_of("orders"), **changes))
    assert (code, actual) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
    assert (await node.fetch("orders", 0)).high_watermark == 0


async def test_an_empty_batch_is_refused(node: LocalNode) -> None:
    """Row 49."""
    await node.create("orders")
    empty = service_pb2.TopicBatch(topic="orders", header=batch_pb2.BatchHeader(encoding=1))
    assert await refusal(node, empty) == (grpc.StatusCode.INVALID_ARGUMENT, "BAD_BATCH")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await node.log.Produce(service_pb2.ProduceRequest(), timeout=TIMEOUT_S)
    assert error_info(caught.value).reason == "BAD_REQUEST"


async def test_what_is_too_large_is_refused(start_node: StartNode) -> None:
    """Rows 49 and 64."""
    node = await start_node(limits__batch_bytes="2KiB", limits__record_bytes="1KiB")
    await node.create("orders")
    too_large = (grpc.StatusCode.INVALID_ARGUMENT, "BATCH_TOO_LARGE")
    assert await refusal(node, batch_of("orders", [b"x" * 1000] * 3)) == too_large
    assert await refusal(node, batch_of("orders", [b"x" * 1500])) == too_large
    padded = batch_of("orders")
    padded.header.MergeFromString(b"\xa2\x06\x80\x04" + bytes(512))  # an unknown field of 512 bytes
    assert await refusal(node, padded) == (grpc.StatusCode.INVALID_ARGUMENT, "BAD_BATCH")
    assert (await node.produce(batch_of("orders", [b"x" * 1000] * 2))).base_offset == 0


@pytest.mark.parametrize(
    ("topic", "partition", "code", "reason"),
    [
        ("nowhere", 0, grpc.StatusCode.NOT_FOUND, "UNKNOWN_TOPIC"),
        ("orders", 1, grpc.StatusCode.NOT_FOUND, "UNKNOWN_PARTITION"),
        ("orders", 2**32 - 1, grpc.StatusCode.NOT_FOUND, "UNKNOWN_PARTITION"),
        ("../orders", 0, grpc.StatusCode.INVALID_ARGUMENT, "BAD_NAME"),
        ("ord\0ers", 0, grpc.StatusCode.INVALID_ARGUMENT, "BAD_NAME"),
        ("x" * 10_240, 0, grpc.StatusCode.INVALID_ARGUMENT, "BAD_NAME"),
        ("", 0, grpc.StatusCode.INVALID_ARGUMENT, "BAD_NAME"),
    ],
)
async def test_a_place_that_does_not_exist_is_refused(
    node: LocalNode, topic: str, partition: int, code: grpc.StatusCode, reason: str
) -> None:
    await node.create("orders")
    assert await refusal(node, batch_of(topic, partition=partition)) == (code, reason)


async def test_bytes_that_are_no_request_are_refused(node: LocalNode) -> None:
    """Row 64."""
    method = node.channel.unary_unary("/quorumlog.v1.Log/Produce")
    for raw in (b"\xff\xff\xff", b"\x0a\x05abc", b"\x0a\x04\x0a\x02\xff\xfe"):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await method(raw, timeout=TIMEOUT_S)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert error_info(caught.value).reason == "BAD_REQUEST"


async def test_a_message_above_grpc_s_limit_is_refused(node: LocalNode) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await node.channel.unary_unary("/quorumlog.v1.Log/Produce")(bytes(21 << 20), timeout=TIMEOUT_S)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize(
    ("failure", "code", "reason"),
    [
        (Busy("full"), grpc.StatusCode.RESOURCE_EXHAUSTED, "BUSY"),
        (NoSpace("full"), grpc.StatusCode.RESOURCE_EXHAUSTED, "NO_SPACE"),
        (Stopping("stopping"), grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN"),
        (OutcomeUnknown("who knows"), grpc.StatusCode.DEADLINE_EXCEEDED, "OUTCOME_UNKNOWN"),
        (RuntimeError("a bug"), grpc.StatusCode.INTERNAL, "INTERNAL"),
    ],
)
async def test_what_replication_says_reaches_the_caller(
    node: LocalNode, failure: RaftError, code: grpc.StatusCode, reason: str
) -> None:
    await node.create("orders")
    node.engine.failures.append(failure)
    assert await refusal(node, batch_of("orders")) == (code, reason)


async def test_what_was_surely_not_applied_is_tried_again(node: LocalNode) -> None:
    await node.create("orders")
    node.engine.failures.append(Dropped("another took its place"))
    assert (await node.produce(batch_of("orders"))).base_offset == 0


async def test_a_deadline_that_passes_means_unknown(node: LocalNode) -> None:
    await node.create("orders")
    node.engine.hold()
    request = service_pb2.ProduceRequest(batches=[batch_of("orders")], timeout_ms=50)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await node.log.Produce(request, timeout=TIMEOUT_S)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert error_info(caught.value).reason == "OUTCOME_UNKNOWN"
    node.engine.release()
    assert (await node.fetch("orders", 0)).high_watermark == 1, "unknown is not 'no'"


async def test_a_repeat_gets_the_first_result(node: LocalNode) -> None:
    """Row 41."""
    await node.create("orders")
    opened = await node.log.OpenProducer(service_pb2.OpenProducerRequest(), timeout=TIMEOUT_S)
    assert (opened.producer_id, opened.epoch) == (1, 0)
    batch = batch_of("orders", [b"a", b"b"], producer=(1, 0, 0))
    first, second = await node.produce(batch), await node.produce(batch)
    assert (first.duplicate, second.duplicate) == (False, True)
    assert (first.base_offset, first.raft_index) == (second.base_offset, second.raft_index)
    assert (await node.fetch("orders", 0)).high_watermark == 2


async def test_sequence_and_epoch_are_checked(node: LocalNode) -> None:
    await node.create("orders")
    await node.log.OpenProducer(service_pb2.OpenProducerRequest(), timeout=TIMEOUT_S)
    precondition = grpc.StatusCode.FAILED_PRECONDITION
    gap = batch_of("orders", producer=(1, 0, 5))
    assert await refusal(node, gap) == (precondition, "OUT_OF_SEQUENCE")
    assert await refusal(node, batch_of("orders", producer=(9, 0, 0))) == (precondition, "UNKNOWN_PRODUCER")
    again = await node.log.OpenProducer(service_pb2.OpenProducerRequest(producer_id=1), timeout=TIMEOUT_S)
    assert again.epoch == 1
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await node.produce(batch_of("orders", producer=(1, 0, 0)))
    assert error_info(caught.value).reason == "FENCED_PRODUCER"
    assert error_info(caught.value).metadata["epoch"] == "1"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await node.log.OpenProducer(service_pb2.OpenProducerRequest(producer_id=9), timeout=TIMEOUT_S)
    assert error_info(caught.value).reason == "UNKNOWN_PRODUCER"


async def test_a_stream_answers_in_order(node: LocalNode) -> None:
    await node.create("orders")
    await node.log.OpenProducer(service_pb2.OpenProducerRequest(), timeout=TIMEOUT_S)

    async def requests() -> AsyncIterator[service_pb2.ProduceRequest]:
        for number in range(300):
            # Every third request has two batches: none may overtake another on its way to the log.
            count = 2 if number % 3 == 0 else 1
            batches = [
                batch_of("orders", producer=(1, 0, number + number // 3 + (number % 3 > 0) + extra))
                for extra in range(count)
            ]
            yield service_pb2.ProduceRequest(batches=batches, correlation=number)

    answers = [response async for response in node.log.ProduceStream(requests(), timeout=TIMEOUT_S)]
    assert [answer.correlation for answer in answers] == list(range(300))
    results = [result for answer in answers for result in answer.results]
    assert not [result.failure for result in results if result.HasField("failure")]
    assert [result.base_offset for result in results] == list(range(400))


async def test_a_failed_batch_does_not_end_a_stream(node: LocalNode) -> None:
    await node.create("orders")
    stream = node.log.ProduceStream(timeout=TIMEOUT_S)
    for topic in ("orders", "nowhere", "orders"):
        await stream.write(service_pb2.ProduceRequest(batches=[batch_of(topic)]))
    reasons = [(await stream.read()).results[0].failure.reason for _ in range(3)]
    assert reasons == ["", "UNKNOWN_TOPIC", ""]
    await stream.done_writing()
    assert await stream.read() is grpc.aio.EOF
    assert await stream.code() is grpc.StatusCode.OK


async def test_a_request_that_is_none_ends_the_stream_after_those_before_it(node: LocalNode) -> None:
    await node.create("orders")
    stream = node.channel.stream_stream("/quorumlog.v1.Log/ProduceStream")(timeout=TIMEOUT_S)
    request = service_pb2.ProduceRequest(batches=[batch_of("orders")]).SerializeToString()
    await stream.write(request)
    await stream.write(b"\xff")
    assert service_pb2.ProduceResponse.FromString(await stream.read()).results[0].base_offset == 0
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stream.read()
    assert error_info(caught.value).reason == "BAD_REQUEST"


async def test_a_stream_reads_no_more_than_its_window(node: LocalNode) -> None:
    await node.create("orders")
    node.engine.hold()
    stream = node.log.ProduceStream(timeout=TIMEOUT_S)
    request = service_pb2.ProduceRequest(batches=[batch_of("orders", [b"x" * 100])])
    reading = asyncio.ensure_future(stream.read())
    for _ in range(200):
        await stream.write(request)
    await until(lambda: node.engine.waiting_count >= 64)
    # The server has had every chance to read on: a call of its own is answered in the meantime.
    await node.topics.ListTopics(service_pb2.ListTopicsRequest(), timeout=TIMEOUT_S)
    assert node.engine.waiting_count == 64
    node.engine.release()
    await stream.done_writing()
    assert (await reading).results[0].base_offset == 0
    for offset in range(1, 200):
        assert (await stream.read()).results[0].base_offset == offset


async def test_a_stream_takes_requests_larger_than_its_window_of_bytes(node: LocalNode) -> None:
    await node.create("orders")
    stream = node.log.ProduceStream(timeout=60)
    large = service_pb2.ProduceRequest(batches=[batch_of("orders", [bytes(900_000)] * 8)] * 2)
    for _ in range(6):
        await stream.write(large)
    await stream.done_writing()
    answers = [await stream.read() for _ in range(6)]
    assert [result.base_offset for answer in answers for result in answer.results] == list(range(0, 96, 8))


async def test_a_caller_that_hangs_up_leaves_nothing_behind(node: LocalNode) -> None:
    await node.create("orders")
    node.engine.hold()
    before = len(asyncio.all_tasks())
    stream = node.log.ProduceStream(timeout=TIMEOUT_S)
    await stream.write(service_pb2.ProduceRequest(batches=[batch_of("orders")] * 3))
    await until(lambda: node.engine.waiting_count == 3)
    stream.cancel()
    await until(lambda: len(asyncio.all_tasks()) <= before)
    node.engine.release()
    assert (await node.produce(batch_of("orders"))).base_offset == 3


async def test_large_bodies_reach_the_log_as_they_are(node: LocalNode) -> None:
    await node.create("orders")
    batch = batch_of("orders", [bytes([number]) * 250_000 for number in range(4)])
    await node.produce(batch)
    (frame,) = node.engine.entries[-1:]
    assert len(frame.parts) == 2, "header and body were not joined"
    assert frame.parts[1] == batch.body
    assert crc32c(frame.parts[1]) == batch.header.body_crc32c
