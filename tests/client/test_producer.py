"""AsyncProducer against nodes that fail on order: every record once, in order, and the truth in the end."""

from __future__ import annotations

import asyncio
import hashlib

import grpc
import pytest

from quorumlog.client import AsyncClient, errors
from quorumlog.client import producer as module
from quorumlog.client.batches import RecordMetadata
from quorumlog.proto.batch import decode_batch
from tests.support.fake_node import FakeCluster, Fault, Refused


def stored(cluster: FakeCluster, topic: str = "one", partition: int = 0) -> list[bytes | None]:
    batches = cluster.topics[topic][partition].batches
    return [value for each in batches for value in decode_batch(each.header, each.body).values]


def addresses(cluster: FakeCluster) -> list[str]:
    return [node.address for node in cluster.nodes.values()]


def all_requests(cluster: FakeCluster) -> int:
    return sum(node.requests for node in cluster.nodes.values())


async def test_a_record_is_acknowledged_with_its_place(cluster: FakeCluster) -> None:
    async with AsyncClient(addresses(cluster)) as client, client.producer() as producer:
        metadata = await producer.send("one", b"value", key=b"key", headers={"h": b"1"}, timestamp_ms=5)
        assert isinstance(metadata, RecordMetadata)
        assert metadata[:3] == ("one", 0, 0)
        assert metadata.raft_index == client.session_token == cluster.raft_index
        assert metadata.sync_policy == "always"
    (batch,) = cluster.topics["one"][0].batches
    (record,) = decode_batch(batch.header, batch.body).records()
    assert (record.value, record.key, record.headers, record.timestamp_ms) == (
        b"value",
        b"key",
        (("h", b"1"),),
        5,
    )


async def test_records_sent_together_share_a_request(cluster: FakeCluster) -> None:
    async with AsyncClient(addresses(cluster)) as client, client.producer() as producer:
        await producer.send("one", b"first")
        before = all_requests(cluster)
        sent = await asyncio.gather(*(producer.send("one", b"%d" % number) for number in range(100)))
        assert [metadata.offset for metadata in sent] == list(range(1, 101))
        assert all_requests(cluster) - before <= 3


async def test_a_leader_that_was_named_in_vain_is_asked_again(cluster: FakeCluster) -> None:
    """No pause is made where the leader is known; and nothing but its end woke the producer."""
    for node in cluster.nodes.values():
        node.opens_nothing = True
    async with (
        AsyncClient(addresses(cluster), attempt_timeout_ms=200) as client,
        client.producer() as producer,
    ):
        delivery = await producer.submit("one", b"value")
        while not producer._core._failures:  # noqa: ASYNC110 - it has no event of its own
            await asyncio.sleep(0.01)
        for node in cluster.nodes.values():
            node.opens_nothing = False
        async with asyncio.timeout(60):
            assert (await delivery).offset == 0


async def test_a_sender_that_comes_late_does_not_pass_those_who_wait(cluster: FakeCluster) -> None:
    async with AsyncClient(addresses(cluster)) as client, client.producer() as producer:
        # All of these wait to be told how many partitions there are; they go on one after the other.
        early = [asyncio.create_task(producer.submit("one", b"%d" % number)) for number in range(5)]
        while "one" not in client._connection._partitions:  # noqa: ASYNC110 - it has no event of its own
            await asyncio.sleep(0)
        await producer.submit("one", b"late")
        await asyncio.gather(*early)
    assert stored(cluster) == [b"0", b"1", b"2", b"3", b"4", b"late"]


async def test_a_client_that_knows_a_follower_goes_to_the_leader(cluster: FakeCluster) -> None:
    async with AsyncClient(cluster.nodes["n2"].address) as client, client.producer() as producer:
        await producer.send("one", b"1")
    assert cluster.nodes["n1"].requests == 1
    assert cluster.nodes["n2"].requests == 0


async def test_a_client_that_asks_for_it_leaves_forwarding_to_the_node(cluster: FakeCluster) -> None:
    async with AsyncClient(cluster.nodes["n2"].address, route="any") as client, client.producer() as producer:
        await producer.send("one", b"1")
    assert cluster.nodes["n2"].requests == 1


@pytest.mark.parametrize(
    "fault",
    [
        Fault.DROP_BEFORE,
        Fault.DROP_AFTER,
        Fault.NO_LEADER,
        Fault.BUSY,
        Fault.UNKNOWN_BEFORE,
        Fault.UNKNOWN_AFTER,
        Fault.HANG,
    ],
)
async def test_after_any_failure_every_record_is_there_once_and_in_order(
    cluster: FakeCluster, fault: Fault
) -> None:
    expected = [b"%d" % number for number in range(300)]
    client = AsyncClient(addresses(cluster), attempt_timeout_ms=300)
    async with client, client.producer(max_batch_size=1000) as producer:
        await producer.send("one", expected[0])
        for node in cluster.nodes.values():
            node.faults.extend([fault] * 2)
        deliveries = [await producer.submit("one", value) for value in expected[1:]]
        offsets = [(await delivery).offset for delivery in deliveries]
    assert stored(cluster) == expected
    assert offsets == list(range(1, 300))


async def test_another_leader_is_found_when_the_leader_goes_away(cluster: FakeCluster) -> None:
    async with AsyncClient(cluster.nodes["n1"].address) as client, client.producer() as producer:
        await producer.send("one", b"1")
        cluster.leader = None
        await cluster.nodes["n1"].stop()
        delivery = await producer.submit("one", b"2")
        cluster.leader = "n3"
        assert (await delivery).offset == 1
    assert cluster.nodes["n3"].requests >= 1


async def test_a_leader_that_says_that_it_no_longer_leads_is_left(cluster: FakeCluster) -> None:
    async with AsyncClient(addresses(cluster)) as client, client.producer() as producer:
        await producer.send("one", b"1")
        cluster.leader = "n2"
        assert (await producer.send("one", b"2")).offset == 1
    assert cluster.nodes["n2"].requests == 1


async def test_a_record_that_is_refused_for_good_fails_and_others_do_not(cluster: FakeCluster) -> None:
    async with AsyncClient(addresses(cluster)) as client, client.producer() as producer:
        await producer.send("one", b"0")
        cluster.nodes["n1"].faults.append(Fault.BAD_BATCH)
        with pytest.raises(errors.InvalidBatch):
            await producer.send("one", b"1")
        await producer.send("one", b"2")
    assert stored(cluster) == [b"0", b"2"]


async def test_the_delivery_timeout_says_unknown_with_the_endpoints_tried(cluster: FakeCluster) -> None:
    client = AsyncClient(addresses(cluster), attempt_timeout_ms=100)
    async with client, client.producer(delivery_timeout_ms=500) as producer:
        await producer.send("one", b"1")
        for node in cluster.nodes.values():
            node.stalled = True
        with pytest.raises(errors.DeliveryTimeout, match="unknown") as failed:
            await producer.send("one", b"2")
        assert failed.value.outcome_unknown
        assert cluster.nodes["n1"].address in str(failed.value)


async def test_a_leader_that_sleeps_is_left_when_the_others_follow_another(cluster: FakeCluster) -> None:
    """Row 21: its connection stands, and it will answer when it wakes up, minutes later perhaps."""
    client = AsyncClient(addresses(cluster), attempt_timeout_ms=60_000)
    async with client, client.producer() as producer:
        await producer.send("one", b"1")
        await client.status()
        cluster.nodes["n1"].stalled = True
        cluster.leader = "n2"
        async with asyncio.timeout(20):
            await producer.send("one", b"2")
    assert stored(cluster) == [b"1", b"2"]


async def test_a_slow_leader_that_the_others_follow_is_waited_for(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SUSPECT_S", 0.02)
    client = AsyncClient(addresses(cluster), attempt_timeout_ms=60_000)
    async with client, client.producer() as producer:
        await producer.send("one", b"1")
        call = producer._call
        cluster.nodes["n1"].stalled = True
        asked = cluster.nodes["n2"].statuses
        waiting = asyncio.create_task(producer.send("one", b"2"))
        while cluster.nodes["n2"].statuses < asked + 3:  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert producer._call is call
        assert not waiting.done()
        await cluster.nodes["n1"].stop()
        cluster.leader = "n2"
        await waiting
    assert stored(cluster) == [b"1", b"2"]


async def test_flush_raises_what_was_not_delivered_and_nobody_awaited(cluster: FakeCluster) -> None:
    async with AsyncClient(addresses(cluster)) as client:
        producer = client.producer()
        await producer.send("one", b"0")
        cluster.nodes["n1"].faults.append(Fault.BAD_BATCH)
        await producer.submit("one", b"1")
        with pytest.raises(errors.DeliveryFailed, match="1 records were not delivered") as failed:
            await producer.flush()
        assert failed.value.count == 1
        await producer.close()


async def test_leaving_the_block_flushes(cluster: FakeCluster) -> None:
    async with AsyncClient(addresses(cluster)) as client:
        async with client.producer() as producer:
            for number in range(50):
                await producer.submit("one", b"%d" % number)
        assert len(stored(cluster)) == 50
        with pytest.raises(errors.ClientClosed):
            await producer.send("one", b"late")


async def test_leaving_the_client_flushes_its_producers(cluster: FakeCluster) -> None:
    async with AsyncClient(addresses(cluster)) as client:
        await client.producer().submit("one", b"1")
    assert stored(cluster) == [b"1"]


async def test_the_buffer_is_bounded_and_senders_wait_in_turn(cluster: FakeCluster) -> None:
    client = AsyncClient(addresses(cluster))
    async with client, client.producer(buffer_memory=1000, max_batch_size=300) as producer:
        await producer.send("one", b"first")
        cluster.nodes["n1"].stalled = True
        tasks = [asyncio.create_task(producer.submit("one", b"%03d" % number)) for number in range(100)]
        await asyncio.wait(tasks, timeout=0.3)
        waiting = sum(not task.done() for task in tasks)
        assert 80 < waiting < 100
        cluster.nodes["n1"].stalled = False
        await cluster.nodes["n1"].stop()
        cluster.leader = "n2"
        await asyncio.gather(*tasks)
    assert stored(cluster) == [b"first", *(b"%03d" % number for number in range(100))]


async def test_a_full_buffer_that_never_empties_is_an_error(cluster: FakeCluster) -> None:
    async with AsyncClient(addresses(cluster), attempt_timeout_ms=10_000) as client:
        producer = client.producer(buffer_memory=1, delivery_timeout_ms=300)
        await producer.send("one", b"first")
        cluster.nodes["n1"].stalled = True
        delivery = await producer.submit("one", b"1")
        with pytest.raises((errors.BufferTimeout, errors.DeliveryTimeout)):
            await producer.send("one", b"2")
        with pytest.raises(errors.DeliveryTimeout):
            await delivery
        await producer.close()


async def test_cancelling_one_sender_leaves_the_others_alone(cluster: FakeCluster) -> None:
    async with AsyncClient(addresses(cluster)) as client, client.producer() as producer:
        await producer.send("one", b"0")
        one, other = (asyncio.create_task(producer.send("one", value)) for value in (b"1", b"2"))
        await asyncio.sleep(0)
        one.cancel()
        assert (await other).offset == 2
    assert stored(cluster) == [b"0", b"1", b"2"]


async def test_many_values_are_stored_in_order_in_few_batches(cluster: FakeCluster) -> None:
    values = [b"%d" % number for number in range(10_000)]
    async with AsyncClient(addresses(cluster)) as client, client.producer(max_batch_size=8192) as producer:
        batches = await producer.send_many("one", values)
        spread = await producer.send_many("t", values)
    assert stored(cluster) == values
    assert sum(batch.count for batch in batches) == 10_000
    assert batches[1].record(5).offset == batches[0].count + 5
    assert {batch.partition for batch in spread} == {0, 1, 2}


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
async def test_values_may_be_compressed(cluster: FakeCluster, codec: str) -> None:
    lines = [hashlib.md5(b"%d" % number).hexdigest().encode() * 2 for number in range(1000)]
    async with AsyncClient(addresses(cluster)) as client, client.producer(compression_type=codec) as producer:
        await producer.send_many("one", lines)
    assert stored(cluster) == lines
    assert sum(len(batch.body) for batch in cluster.topics["one"][0].batches) < 50_000


async def test_keys_decide_the_partition_and_nulls_stay_nulls(cluster: FakeCluster) -> None:
    async with AsyncClient(addresses(cluster)) as client, client.producer() as producer:
        places = {(await producer.send("t", None, key=b"foobar")).partition for _ in range(3)}
        (place,) = places
        assert (await producer.send("t", b"", key=b"foobar", partition=2)).partition == 2
    assert stored(cluster, "t", place)[:3] == [None] * 3


async def test_what_can_never_work_is_told_at_once(cluster: FakeCluster) -> None:
    async with AsyncClient(addresses(cluster)) as client, client.producer(max_record_size=10) as producer:
        with pytest.raises(errors.UnknownTopic) as unknown:
            await producer.send("nope", b"1")
        assert "quorumlog topic create nope" in unknown.value.hint
        with pytest.raises(errors.UnknownPartition, match="0 to 2, got 3"):
            await producer.send("t", b"1", partition=3)
        with pytest.raises(errors.RecordTooLarge, match="at most 10 bytes"):
            await producer.send("t", b"x" * 11)
        with pytest.raises(TypeError, match="value: expected bytes or None, got str"):
            await producer.send("t", "text")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="headers"):
            await producer.send("t", b"1", headers=[("a", "b")])  # type: ignore[list-item]
    assert all_requests(cluster) == 0


def test_options_that_do_not_exist_or_fit_are_refused() -> None:
    client = AsyncClient()
    with pytest.raises(errors.UnknownOption, match="compression_type"):
        client.producer(compression_type="gzip")
    with pytest.raises(errors.UnknownOption, match="max_batch_size"):
        client.producer(max_batch_size=0)
    with pytest.raises(errors.UnknownOption, match="route"):
        AsyncClient(route="nearest")  # type: ignore[arg-type]


async def test_a_deleted_topic_is_told(cluster: FakeCluster) -> None:
    async with AsyncClient(addresses(cluster)) as client, client.producer() as producer:
        await producer.send("one", b"1")
        del cluster.topics["one"]
        with pytest.raises(errors.UnknownTopic):
            await producer.send("one", b"2")


@pytest.mark.parametrize("idempotent", [True, False])
async def test_a_stream_that_is_refused_is_no_unknown_outcome(cluster: FakeCluster, idempotent: bool) -> None:
    """gRPC's core forgets the status where a write comes between: it was 'unknown' once in a while."""
    denied = Refused("PERMISSION_DENIED", grpc.StatusCode.PERMISSION_DENIED)
    for node in cluster.nodes.values():
        node.refuses_streams = denied
    async with AsyncClient(addresses(cluster)) as client:
        for _ in range(50):
            producer = client.producer(enable_idempotence=idempotent)
            with pytest.raises(errors.PermissionDenied):
                await producer.send("one", b"no")
    assert stored(cluster) == []


async def test_a_stream_that_no_leader_takes_is_tried_again_without_idempotence_too(
    cluster: FakeCluster,
) -> None:
    """Nothing of a stream that was refused is unknown."""
    busy = Refused("NO_LEADER", grpc.StatusCode.UNAVAILABLE)
    for node in cluster.nodes.values():
        node.refuses_streams = busy
    async with AsyncClient(addresses(cluster)) as client:
        producer = client.producer(enable_idempotence=False)
        sending = asyncio.ensure_future(producer.send("one", b"value"))
        while not any(node.streams_refused for node in cluster.nodes.values()):
            await client.list_topics()
        for node in cluster.nodes.values():
            node.refuses_streams = None
        assert (await sending).offset == 0
    assert stored(cluster) == [b"value"]
