"""AsyncConsumer: where it starts and stops, which replica it reads, what it does when one goes away."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable

import grpc
import pytest

from quorumlog.client import AsyncClient, errors
from quorumlog.client import consumer as consumer_module
from quorumlog.client.cursor import Cursor
from quorumlog.client.endpoints import Target
from quorumlog.proto import service_pb2
from tests.support.fake_node import FakeCluster, Refused
from tests.support.waiting import UNIT_S


def addresses(cluster: FakeCluster) -> list[str]:
    return [node.address for node in cluster.nodes.values()]


async def fill(client: AsyncClient, count: int, topic: str = "one", first: int = 0) -> None:
    async with client.producer(max_batch_size=700) as producer:
        for number in range(first, first + count):
            await producer.submit(topic, b"%d" % number)


async def test_records_come_in_order_from_the_start_and_then_as_they_are_appended(
    cluster: FakeCluster,
) -> None:
    async with AsyncClient(addresses(cluster)) as client:
        await fill(client, 20)
        async with client.consumer("one") as consumer:
            seen = [await consumer.getone() for _ in range(20)]
            assert [record.offset for record in seen] == list(range(20))
            assert await consumer.position("one", 0) == 20
            later = asyncio.create_task(consumer.getone())
            await fill(client, 1, first=20)
            assert (await later).value == b"20"


@pytest.mark.parametrize(
    ("start", "expected"),
    [("earliest", 0), ("latest", 30), (7, 7), (-5, 25), (-500, 0), (dt.timedelta(days=9999), 0)],
)
async def test_it_starts_where_it_is_told(cluster: FakeCluster, start: object, expected: int) -> None:
    async with AsyncClient(addresses(cluster)) as client:
        await fill(client, 30)
        consumer = client.consumer("one", start=start, end="latest")
        values = [record.value async for record in consumer]
        assert values == [b"%d" % number for number in range(expected, 30)]
        assert consumer.finished


async def test_several_partitions_and_topics_are_read_each_in_its_order(cluster: FakeCluster) -> None:
    async with AsyncClient(addresses(cluster)) as client:
        async with client.producer() as producer:
            for number in range(90):
                await producer.submit("t", b"%02d" % number, partition=number % 3)
        await fill(client, 5)
        seen: dict[tuple[str, int], list[bytes | None]] = {}
        async for record in client.consumer("t", "one", end="latest"):
            seen.setdefault((record.topic, record.partition), []).append(record.value)
    assert sorted(seen) == [("one", 0), ("t", 0), ("t", 1), ("t", 2)]
    assert all(values == sorted(values) for values in seen.values())
    assert sum(map(len, seen.values())) == 95


async def test_nothing_is_an_empty_list_not_an_error(cluster: FakeCluster) -> None:
    async with AsyncClient(addresses(cluster)) as client, client.consumer("one") as consumer:
        assert await consumer.getmany() == []
        assert await consumer.getmany(timeout_ms=20) == []
        await fill(client, 10)
        records = []
        while len(records) < 10:
            got = await consumer.getmany(timeout_ms=1000, max_records=4)
            assert 1 <= len(got) <= 4
            records += got
        assert [record.offset for record in records] == list(range(10))


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("at_once", [1, 7, 29, 30, 31])
async def test_it_is_finished_when_the_last_record_was_given_and_not_before(
    cluster: FakeCluster, at_once: int, reverse: bool
) -> None:
    async with AsyncClient(addresses(cluster)) as client:
        await fill(client, 30)
        consumer = client.consumer("one", end=None if reverse else "latest", reverse=reverse)
        seen: list[int] = []
        while not consumer.finished:
            seen += [record.offset for record in await consumer.getmany(1000, at_once)]
        assert sorted(seen) == list(range(30))


async def test_a_last_record_that_cannot_be_read_is_told_before_it_is_finished(cluster: FakeCluster) -> None:
    async with AsyncClient(addresses(cluster)) as client:
        await fill(client, 3)
        consumer = client.consumer(
            "one", end="latest", value_deserializer=lambda value: 1 // (2 - int(value))
        )
        seen = [record.value for record in await consumer.getmany(1000)]
        assert (seen, consumer.finished) == ([0, 1], False)
        with pytest.raises(errors.DeserializationFailed):
            await consumer.getmany(1000)
        assert await consumer.getmany(0) == []
        assert consumer.finished


async def test_batches_give_columns(cluster: FakeCluster) -> None:
    async with AsyncClient(addresses(cluster)) as client:
        await fill(client, 50)
        values = [
            value
            async for batch in client.consumer("one", start=3, end="latest").batches()
            for value in batch.values
        ]
    assert values == [b"%d" % number for number in range(3, 50)]


async def test_it_goes_on_at_the_next_offset_when_its_node_goes_away(cluster: FakeCluster) -> None:
    async with AsyncClient(addresses(cluster)) as client:
        await fill(client, 100)
        for node in cluster.nodes.values():
            node.fetch_limit = 1
        async with client.consumer("one", max_buffered_bytes=1) as consumer:
            values = [(await consumer.getone()).value for _ in range(10)]
            # Whichever it reads: all go away in turn.
            for node_id in ("n1", "n2", "n3"):
                await cluster.nodes[node_id].stop()
                await cluster.nodes[node_id].start()
                values += [(await consumer.getone()).value for _ in range(10)]
            values += [(await consumer.getone()).value for _ in range(60)]
    assert values == [b"%d" % number for number in range(100)]


async def test_a_replica_with_damaged_data_is_left_for_another(cluster: FakeCluster) -> None:
    async with AsyncClient(addresses(cluster)) as client:
        await fill(client, 10)
        for node in cluster.nodes.values():
            node.fetch_faults.append(Refused("DATA_DAMAGED", grpc.StatusCode.DATA_LOSS))
        values = [record.value async for record in client.consumer("one", end="latest")]
    assert len(values) == 10


async def test_a_named_node_is_read_and_no_other(cluster: FakeCluster) -> None:
    async with AsyncClient(cluster.nodes["n1"].address, request_timeout_ms=300) as client:
        await fill(client, 10)
        consumer = client.consumer("one", from_node="n3")
        assert (await consumer.getone()).value == b"0"
        assert cluster.nodes["n3"].consistencies
        await cluster.nodes["n3"].stop()
        assert len(await consumer.getmany(max_records=9)) <= 9
        consumer._buffer.drop(next(iter(consumer._cursors.values())))
        with pytest.raises(errors.Unavailable) as gone:
            await consumer.getmany(timeout_ms=5000)
        assert {attempt.address for attempt in gone.value.attempts} == {cluster.nodes["n3"].address}
        with pytest.raises(errors.UnknownOption, match="no node 'n9'; the cluster has n1, n2, n3"):
            await client.consumer("one", from_node="n9").start()


async def test_a_client_sees_its_own_writes_on_any_replica(cluster: FakeCluster) -> None:
    async with AsyncClient(addresses(cluster)) as client:
        await fill(client, 1)
        await client.consumer("one", from_node="n2").getone()
        session = service_pb2.CONSISTENCY_SESSION
        assert set(cluster.nodes["n2"].consistencies) == {(session, client.session_token)}


async def test_committed_reads_ask_for_nothing_and_after_asks_for_what_is_given(cluster: FakeCluster) -> None:
    async with AsyncClient(addresses(cluster)) as client:
        async with client.producer() as producer:
            metadata = await producer.send("one", b"1")
        await client.consumer("one", from_node="n2", consistency="committed").getone()
        offsets, stream = cluster.nodes["n2"].consistencies
        assert offsets == (service_pb2.CONSISTENCY_COMMITTED, 0)
        # Wherever it reads on: never behind what said where to start.
        assert stream == (service_pb2.CONSISTENCY_SESSION, metadata.raft_index)
        cluster.nodes["n2"].consistencies.clear()
        await client.consumer("one", from_node="n2", start=0, consistency="committed").getone()
        assert cluster.nodes["n2"].consistencies == [(service_pb2.CONSISTENCY_COMMITTED, 0)]
    async with AsyncClient(addresses(cluster)) as other:
        await other.consumer("one", from_node="n3", after=metadata).getone()
        session = service_pb2.CONSISTENCY_SESSION
        assert set(cluster.nodes["n3"].consistencies) == {(session, metadata.raft_index)}


async def test_linearizable_reads_ask_a_majority_with_every_stream(cluster: FakeCluster) -> None:
    async with AsyncClient(addresses(cluster)) as client:
        await fill(client, 1)
        node = cluster.nodes["n2"]
        consumer = client.consumer("one", from_node="n2", end="latest", consistency="linearizable")
        assert [record.value async for record in consumer] == [b"0"]
        linearizable = service_pb2.CONSISTENCY_LINEARIZABLE
        assert [consistency for consistency, _ in node.consistencies] == [linearizable] * 2
        node.fetch_faults.append(Refused("NOT_CONFIRMED", grpc.StatusCode.UNAVAILABLE))
        assert (
            await client.consumer("one", from_node="n2", consistency="linearizable").getone()
        ).value == b"0"
        assert [consistency for consistency, _ in node.consistencies] == [linearizable] * 5


async def test_an_offset_that_is_not_there_is_told_with_what_is(cluster: FakeCluster) -> None:
    async with AsyncClient(addresses(cluster)) as client:
        await fill(client, 10)
        with pytest.raises(errors.OffsetOutOfRange) as wrong:
            await client.consumer("one", start=11).getone()
        assert (wrong.value.earliest, wrong.value.latest) == (0, 10)


async def test_seeking_goes_back_and_forth(cluster: FakeCluster) -> None:
    async with AsyncClient(addresses(cluster)) as client:
        await fill(client, 30)
        async with client.consumer("one") as consumer:
            await consumer.getone()
            await consumer.seek("one", 0, 20)
            assert (await consumer.getone()).offset == 20
            await consumer.seek("one", 0, 0)
            assert (await consumer.getone()).offset == 0
            with pytest.raises(errors.UnknownPartition):
                await consumer.seek("one", 1, 0)


async def test_a_slow_consumer_buffers_only_so_much(cluster: FakeCluster) -> None:
    async with AsyncClient(addresses(cluster)) as client:
        async with client.producer(max_batch_size=100_000) as producer:
            await producer.send_many("one", [b"x" * 10_000] * 300)
        for node in cluster.nodes.values():
            node.fetch_limit = 100_000
        async with client.consumer("one", max_buffered_bytes=500_000) as consumer:
            await consumer.getone()
            async with asyncio.timeout(60):
                while consumer._buffer.size < 500_000:  # noqa: ASYNC110 - it has no event of its own
                    await asyncio.sleep(0.01)
            for _ in range(200):  # turns of the loop in which it could fetch more
                await asyncio.sleep(0)
            assert consumer._buffer.size < 1_000_000
            assert [record.offset for record in await consumer.getmany(1000, 3)] == [1, 2, 3]


async def test_a_topic_that_is_not_there_is_told(cluster: FakeCluster) -> None:
    async with AsyncClient(addresses(cluster)) as client:
        with pytest.raises(errors.UnknownTopic, match="unknown_topic"):
            await client.consumer("nope").getone()
        with pytest.raises(errors.UnknownPartition):
            await client.consumer("one", partitions=[1]).start()
        with pytest.raises(errors.UnknownOption, match="start"):
            client.consumer("one", start="begin")
        with pytest.raises(errors.UnknownOption, match="nothing to read"):
            await client.consumer().getone()


async def test_closing_wakes_who_waits(cluster: FakeCluster) -> None:
    async with AsyncClient(addresses(cluster)) as client:
        consumer = client.consumer("one")
        waiting = asyncio.create_task(consumer.getone())
        await consumer.start()
        await asyncio.sleep(0.01)
        await consumer.close()
        with pytest.raises(errors.ClientClosed):
            await waiting


async def test_a_stream_whose_records_nobody_takes_is_closed_and_opened_again(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 45: a user who is slow for a while holds nothing on the node, and loses nothing."""
    monkeypatch.setattr(consumer_module, "_HOLD_STREAM_S", 0.05)
    async with AsyncClient(addresses(cluster)) as client:
        await fill(client, 2000)
        async with client.consumer("one", max_buffered_bytes=500, max_fetch_bytes=100) as consumer:
            assert (await consumer.getone()).value == b"0"
            reader = consumer._readers["one", 0]
            opened: list[int] = []
            read_stream = consumer._read_stream

            async def counted(cursor: Cursor, target: Target, first_timeout_s: float) -> None:
                opened.append(cursor.fetched)
                await read_stream(cursor, target, first_timeout_s)

            monkeypatch.setattr(consumer, "_read_stream", counted)
            await eventually_async(lambda: bool(opened))
            assert not reader.done()
            rest = [(await consumer.getone()).value for _ in range(1999)]
            assert rest == [b"%d" % number for number in range(1, 2000)]


async def eventually_async(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20 * UNIT_S):
        while not condition():  # noqa: ASYNC110 - a timer that nobody can wait for
            await asyncio.sleep(0.01)
