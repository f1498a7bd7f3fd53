"""Where consumers read, in both flavours: starts, ends, backwards, assigning, seeking, pausing, replicas."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import Any

import grpc
import pytest

from quorumlog.client import TopicPartition, errors
from tests.client.conftest import addresses, fill
from tests.support.fake_node import FakeCluster, Refused
from tests.support.flavours import Connect

Both = tuple[Connect, FakeCluster]
LONG_AGO = "-20000d"
ONE, T0, T1, T2 = ("one", 0), ("t", 0), ("t", 1), ("t", 2)


def time_of(cluster: FakeCluster, offset: int) -> dt.datetime:
    """Return when a record of topic one was appended, and none before it."""
    batches = cluster.topics["one"][0].batches
    found = next(batch for batch in batches if batch.base_offset == offset)
    return dt.datetime.fromtimestamp(found.append_time_ms / 1000, dt.UTC)


async def values(consumer: Any) -> list[int]:
    return [int(record.value) async for record in consumer]


async def one_by_one(client: Any, count: int) -> None:
    async with client.producer() as producer:
        for number in range(count):
            await producer.send("one", b"%d" % number)


async def test_starts_and_ends(both: Both) -> None:
    connect, cluster = both
    async with connect(addresses(cluster)) as client:
        await one_by_one(client, 30)
        ten, twenty = time_of(cluster, 10), time_of(cluster, 20)
        for start, end, expected in [
            (LONG_AGO, "latest", range(30)),
            (LONG_AGO, 7, range(7)),
            (-5, "latest", range(25, 30)),
            (-500, -28, range(2)),
            (3, -20, range(3, 10)),
            (ten, twenty, range(10, 20)),
            (ten.isoformat(), twenty.isoformat(), range(10, 20)),
            (dt.timedelta(days=9999), "-0s", range(30)),
            ("earliest", {("one", 0): 4}, range(4)),
            (20, 10, range(0)),
        ]:
            consumer = client.consumer("one", start=start, end=end)
            assert await values(consumer) == list(expected), (start, end)
            backwards = client.consumer("one", start=start, end=end, reverse=True)
            assert await values(backwards) == list(reversed(expected)), (start, end)


@pytest.mark.parametrize("option", [{"start": "1h"}, {"end": "-1x"}, {"start": 1.5}, {"end": "tomorrow"}])
async def test_what_is_no_place_is_told_with_what_is(both: Both, option: dict[str, object]) -> None:
    connect, _ = both
    with pytest.raises(
        errors.UnknownOption, match="expected 'earliest', 'latest', an offset, -N, '\\+N', a datetime"
    ):
        connect().consumer("one", **option)


async def test_backwards_over_batches_and_answers_with_little_memory(both: Both) -> None:
    """Records of any size: an answer that is too short is asked for again from closer by."""
    connect, cluster = both
    async with connect(addresses(cluster)) as client:
        async with client.producer(max_batch_size=900) as producer:
            for number in range(400):
                await producer.submit("one", b"%06d" % number + b"x" * (number % 7 * 40))
        consumer = client.consumer("one", reverse=True, max_buffered_bytes=1, max_fetch_bytes=2000)
        async with consumer:
            assert await consumer.position("one", 0) == 399
            first = await consumer.getone()
            assert (first.offset, first.value[:6]) == (399, b"000399")
            assert await consumer.position("one", 0) == 398
            rest = [record.offset async for record in consumer]
            assert rest == list(range(398, -1, -1))
            assert await consumer.position("one", 0) == -1
            assert consumer.finished
        batches = [batch async for batch in client.consumer("one", reverse=True).batches()]
        assert [offset for batch in batches for offset in batch.offsets] == list(range(399, -1, -1))
        assert [int(value[:6]) for batch in batches for value in batch.values] == list(range(399, -1, -1))


async def test_backwards_keys_times_and_headers_stay_with_their_records(both: Both) -> None:
    connect, cluster = both
    async with connect(addresses(cluster)) as client:
        async with client.producer() as producer:
            for number in range(9):
                headers = {"h": b"%d" % number} if number % 2 else None
                await producer.submit(
                    "one", b"%d" % number, b"k%d" % number, headers, timestamp_ms=1000 + number
                )
        forwards = [record async for record in client.consumer("one", end="latest")]
        backwards = [record async for record in client.consumer("one", reverse=True)]
    assert backwards == forwards[::-1]
    assert [record.headers for record in forwards][:2] == [(), (("h", b"1"),)]


async def test_backwards_ends_at_what_retention_has_left(both: Both) -> None:
    connect, cluster = both
    async with connect(addresses(cluster)) as client:
        await one_by_one(client, 20)
        consumer = client.consumer("one", reverse=True, max_fetch_bytes=1)
        async with consumer:
            assert (await consumer.getone()).offset == 19
            cluster.topics["one"][0].start_offset = 15
            assert [record.offset async for record in consumer][-1] >= 0  # what was fetched before, at most
        gone = client.consumer("one", reverse=True, start=3)
        with pytest.raises(errors.OffsetOutOfRange):
            await values(gone)
        assert await values(client.consumer("one", reverse=True)) == [19, 18, 17, 16, 15]


async def test_backwards_goes_on_at_another_node(both: Both) -> None:
    connect, cluster = both
    async with connect(addresses(cluster)) as client:
        await fill(client, 50)
        for node in cluster.nodes.values():
            node.fetch_faults.append(Refused("DATA_DAMAGED", grpc.StatusCode.DATA_LOSS))
        assert await values(client.consumer("one", reverse=True)) == list(range(49, -1, -1))


async def test_seeking_backwards(both: Both) -> None:
    connect, cluster = both
    async with connect(addresses(cluster)) as client:
        await fill(client, 30)
        async with client.consumer("one", reverse=True) as consumer:
            await consumer.seek("one", 0, 12)
            assert await consumer.position("one", 0) == 12
            assert (await consumer.getone()).offset == 12
            await consumer.seek_to_end()
            assert (await consumer.getone()).offset == 29
            await consumer.seek_to_beginning(ONE)
            assert [record.offset async for record in consumer] == []


async def test_seeking_anywhere_a_consumer_may_start(both: Both) -> None:
    connect, cluster = both
    async with connect(addresses(cluster)) as client:
        await one_by_one(client, 30)
        async with client.consumer("one", "t") as consumer:
            for where, expected in [
                (-3, 27),
                (LONG_AGO, 0),
                (time_of(cluster, 9), 9),
                ("earliest", 0),
                (5, 5),
            ]:
                await consumer.seek("one", 0, where)
                assert await consumer.position("one", 0) == expected
                assert (await consumer.getone()).offset == expected
            await consumer.seek_to_beginning()
            assert (await consumer.getone()).offset == 0
            await consumer.seek_to_end(ONE)
            assert await consumer.getmany(20) == []
            assert await consumer.highwater(*ONE) == await consumer.high_watermark(*ONE)
            with pytest.raises(errors.UnknownOption, match="offset: expected"):
                await consumer.seek("one", 0, "begin")
            with pytest.raises(errors.UnknownPartition):
                await consumer.seek_to_end(("t", 7))


async def test_assigning_partitions(both: Both) -> None:
    connect, cluster = both
    async with connect(addresses(cluster)) as client:
        for partition in range(3):
            await fill(client, 3, "t", 10 * partition, partition)
        async with client.consumer() as consumer:
            assert await consumer.assignment() == []
            with pytest.raises(errors.UnknownOption, match="nothing to read"):
                await consumer.getmany(10)
            await consumer.assign([TopicPartition("t", 1), ("t", 2)])
            assert await consumer.assignment() == [T1, T2]
            six = [int((await consumer.getone()).value) for _ in range(6)]
            assert sorted(six) == [10, 11, 12, 20, 21, 22]
            await consumer.assign([T0, T1])  # T1 goes on where it is
            assert [int((await consumer.getone()).value) for _ in range(3)] == [0, 1, 2]
            assert await consumer.getmany(20) == []
            with pytest.raises(errors.UnknownPartition):
                await consumer.assign([("t", 3)])
            with pytest.raises(errors.UnknownTopic):
                await consumer.assign([("nope", 0)])
            assert await consumer.assignment() == [T0, T1]


async def test_pausing_gives_nothing_of_it_and_loses_nothing(both: Both) -> None:
    connect, cluster = both
    async with connect(addresses(cluster)) as client:
        await fill(client, 30, "t", 0, 0)
        await fill(client, 30, "t", 100, 1)
        async with client.consumer("t", max_buffered_bytes=1) as consumer:
            seen = [int(record.value) for record in await consumer.getmany(1000, 5)]
            await consumer.pause(T0)
            assert await consumer.paused() == [T0]
            while not set(range(100, 130)) <= set(seen):
                seen += [int(record.value) for record in await consumer.getmany(1000, 7)]
            await consumer.pause()
            assert await consumer.getmany(20) == []
            await consumer.resume()
            assert await consumer.paused() == []
            while len(seen) < 60:
                seen += [int(record.value) for record in await consumer.getmany(1000, 7)]
    assert [number for number in seen if number < 100] == list(range(30))
    assert [number for number in seen if number >= 100] == list(range(100, 130))


async def test_pausing_while_iterating(both: Both) -> None:
    """What the synchronous flavour has fetched ahead is not given either."""
    connect, cluster = both
    async with connect(addresses(cluster)) as client:
        await fill(client, 20)
        async with client.consumer("one", "t") as consumer:
            assert int((await anext(aiter(consumer))).value) == 0
            await consumer.pause(ONE)
            assert await consumer.getmany(20) == []
            assert await consumer.position(*ONE) == 1
            await consumer.resume(ONE)
            assert int((await anext(aiter(consumer))).value) == 1


async def test_offsets_of_the_log(both: Both) -> None:
    connect, cluster = both
    async with connect(addresses(cluster)) as client:
        await one_by_one(client, 10)
        five = time_of(cluster, 5)
        async with client.consumer("one", "t") as consumer:
            assert await consumer.beginning_offsets() == {ONE: 0, T0: 0, T1: 0, T2: 0}
            assert await consumer.end_offsets(ONE, T1) == {ONE: 10, T1: 0}
            milliseconds = int(five.timestamp() * 1000)
            for moment, expected in [(five, 5), (milliseconds, 5), (LONG_AGO, 0), (dt.timedelta(0), 10)]:
                assert await consumer.offsets_for_times({ONE: moment}) == {ONE: expected}
        assert await client.offsets_for_time("one", five) == {0: 5}
        assert await client.offsets_for_time("one", LONG_AGO) == {0: 0}


async def test_the_leader_is_read_and_the_next_one_when_it_goes_away(both: Both) -> None:
    connect, cluster = both
    async with connect(cluster.nodes["n2"].address) as client:
        await fill(client, 10)
        assert len(await values(client.consumer("one", from_node="leader", end="latest"))) == 10
        assert cluster.nodes["n1"].consistencies
        assert not cluster.nodes["n3"].consistencies
        cluster.leader = "n3"
        cluster.nodes["n3"].fetch_faults.append(Refused("SHUTTING_DOWN", grpc.StatusCode.UNAVAILABLE))
        assert len(await values(client.consumer("one", from_node="leader", reverse=True))) == 10
        assert len(cluster.nodes["n3"].fetches) > 1


async def test_without_a_leader_reading_it_says_so(both: Both) -> None:
    connect, cluster = both
    async with connect(addresses(cluster), request_timeout_ms=300) as client:
        cluster.leader = None
        with pytest.raises(errors.NoLeader):
            await client.consumer("one", from_node="leader").getone()


async def test_the_nearest_answers_soonest(both: Both) -> None:
    connect, cluster = both
    for far in ("n1", "n3"):
        cluster.nodes[far].status_delay_s = 0.05
    async with connect(cluster.nodes["n1"].address) as client:
        await fill(client, 10)
        assert len(await values(client.consumer("one", from_node="nearest", end="latest"))) == 10
        assert cluster.nodes["n2"].consistencies
        assert not cluster.nodes["n3"].consistencies
        cluster.nodes["n2"].fetch_faults.append(Refused("DATA_DAMAGED", grpc.StatusCode.DATA_LOSS))
        assert len(await values(client.consumer("one", from_node="nearest", end="latest"))) == 10


async def test_a_failure_before_a_seek_is_not_told_behind_it(both: Both) -> None:
    connect, cluster = both
    async with connect(addresses(cluster)) as client:
        await fill(client, 10)
        async with client.consumer("one", start=11) as consumer:
            await asyncio.sleep(0.05)
            await consumer.seek("one", 0, 4)
            assert [record.offset for record in await consumer.getmany(5000)] == [4, 5, 6, 7, 8, 9]
