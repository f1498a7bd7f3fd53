"""What a producer makes of what it is given, in both flavours: serializers, partitions, callbacks, traces."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from quorumlog.client import (
    JsonDeserializer,
    JsonSerializer,
    ProducerRecord,
    RecordMetadata,
    StringDeserializer,
    StringSerializer,
    errors,
)
from quorumlog.client.partitioner import partition_of_key
from quorumlog.proto import entry_pb2
from tests.client.conftest import addresses
from tests.support.fake_node import FakeCluster, Fault
from tests.support.flavours import Connect

Both = tuple[Connect, FakeCluster]


@dataclass
class Order:
    table: int

    def to_bytes(self) -> bytes:
        return b"%d" % self.table

    @classmethod
    def parse(cls, content: bytes) -> Order:
        return cls(int(content))


async def read(client: Any, topic: str = "one", **options: Any) -> list[Any]:
    return [record async for record in client.consumer(topic, end="latest", **options)]


async def test_values_and_keys_of_any_kind(both: Both) -> None:
    connect, cluster = both
    async with connect(addresses(cluster)) as client:
        serializers = {"value_serializer": Order.to_bytes, "key_serializer": StringSerializer()}
        async with client.producer(**serializers) as producer:
            await producer.send("one", Order(1), "käse")
            await (await producer.submit("one", None, "tombstone"))
            await producer.send_many("one", [Order(2), Order(3)])
            await producer.send_records("one", [ProducerRecord(Order(4), "k")])
        deserializers = {"value_deserializer": Order.parse, "key_deserializer": StringDeserializer()}
        records = await read(client, **deserializers)
        assert [record.value for record in records] == [Order(1), None, Order(2), Order(3), Order(4)]
        assert [record.key for record in records] == ["käse", "tombstone", None, None, "k"]
        assert [record.value for record in await read(client)][:2] == [b"1", None]


async def test_json(both: Both) -> None:
    connect, cluster = both
    value = {"drink": "espresso", "amount": [1, 2.5, None], "größe": True}
    async with connect(addresses(cluster)) as client:
        async with client.producer(value_serializer=JsonSerializer()) as producer:
            await producer.send("one", value)
            with pytest.raises(TypeError, match="not JSON serializable"):
                await producer.send("one", dt.date(2025, 1, 31))
        async with client.producer(value_serializer=JsonSerializer(default=str)) as producer:
            await producer.send("one", dt.date(2025, 1, 31))
        records = await read(client, value_deserializer=JsonDeserializer())
        assert [record.value for record in records] == [value, "2025-01-31"]
        raw = (await read(client))[0].value
        assert raw == json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


async def test_protobuf_messages_by_their_own_methods(both: Both) -> None:
    connect, cluster = both
    member = entry_pb2.Member(node_id="n1")
    async with connect(addresses(cluster)) as client:
        async with client.producer(value_serializer=entry_pb2.Member.SerializeToString) as producer:
            await producer.send("one", member)
        (record,) = await read(client, value_deserializer=entry_pb2.Member.FromString)
        assert record.value == member


async def test_what_is_not_bytes_is_told_with_what_to_do(both: Both) -> None:
    connect, cluster = both
    async with connect(addresses(cluster)) as client, client.producer() as producer:
        with pytest.raises(
            TypeError, match="value: expected bytes or None, got str; encode it, or give a value_ser"
        ):
            await producer.send("one", "text")
    async with connect(addresses(cluster)) as client, client.producer(value_serializer=str) as producer:
        with pytest.raises(TypeError, match="value: expected bytes"):
            await producer.send("one", 5)


@pytest.mark.parametrize("at_once", [1, 500])
async def test_a_record_that_cannot_be_read_is_told_once_and_nothing_else_is_lost(
    both: Both, at_once: int
) -> None:
    connect, cluster = both
    async with connect(addresses(cluster)) as client:
        async with client.producer() as producer:
            await producer.send_many("one", [b"0", b"1", b"bad", b"3", b"bad"], 0)
        async with client.consumer("one", value_deserializer=int) as consumer:
            seen: list[Any] = []
            for place in (2, 4):
                failed = pytest.raises(
                    errors.DeserializationFailed, match=f"one/0 at offset {place}: the value"
                )
                with failed as bad:
                    await take_all(consumer, at_once, seen)
                assert (bad.value.record.offset, bad.value.record.value) == (place, b"bad")
                assert isinstance(bad.value.__cause__, ValueError)
                assert await consumer.position("one", 0) == place
            assert [record.value for record in seen] == [0, 1, 3]
            with pytest.raises(errors.DeserializationFailed):
                await client.consumer("one", start=4, value_deserializer=int).getone()


async def take_all(consumer: Any, at_once: int, seen: list[Any]) -> None:
    while True:
        seen += await consumer.getmany(1000, at_once)


async def test_records_carry_keys_headers_times_and_partitions(both: Both) -> None:
    connect, cluster = both
    records = [
        ProducerRecord(b"0", b"a", {"h": b"1"}, 2, 1111),
        ProducerRecord(b"1", b"b", [("h", b"1"), ("h", b"2")], 2, 2222),
        ProducerRecord(None, b"c", None, 2, 3333),
        ProducerRecord(b"3", b"key"),
    ]
    async with connect(addresses(cluster)) as client:
        async with client.producer() as producer:
            places = await producer.send_records("t", records)
            await producer.flush()
        assert [(place.partition, place.offset) for place in places[:3]] == [(2, 0), (2, 1), (2, 2)]
        assert places[3].partition == partition_of_key(b"key", 3)
        found = await read(client, "t", partitions=[2])
        assert [(r.value, r.key, r.headers, r.timestamp_ms) for r in found[:3]] == [
            (b"0", b"a", (("h", b"1"),), 1111),
            (b"1", b"b", (("h", b"1"), ("h", b"2")), 2222),
            (None, b"c", (), 3333),
        ]


async def test_the_users_partitioner_decides_unless_a_partition_is_given(both: Both) -> None:
    connect, cluster = both
    asked: list[tuple[bytes | None, int]] = []

    def last(key: bytes | None, partitions: int) -> int:
        asked.append((key, partitions))
        return partitions - 1 if key != b"wrong" else partitions

    async with connect(addresses(cluster)) as client, client.producer(partitioner=last) as producer:
        assert (await producer.send("t", b"1", b"k")).partition == 2
        assert (await producer.send("t", b"1", b"k", partition=0)).partition == 0
        assert [batch.partition for batch in await producer.send_many("t", [b"1"])] == [2]
        assert asked == [(b"k", 3), (None, 3)]
        with pytest.raises(errors.UnknownPartition, match="partitioner: expected 0 to 2, got 3"):
            await producer.send("t", b"1", b"wrong")


async def test_a_callback_is_told_of_each_record_how_it_went(both: Both) -> None:
    connect, cluster = both
    told: list[tuple[str | None, int]] = []
    own: list[int] = []

    def on_delivery(error: errors.QuorumlogError | None, metadata: RecordMetadata) -> None:
        told.append((error.code if error else None, metadata.offset))
        assert metadata.topic == "one"
        raise RuntimeError("logged, and nothing else")

    async with connect(addresses(cluster)) as client:
        producer = client.producer(on_delivery=on_delivery)
        async with producer:
            await producer.send("one", b"0")
            await producer.send_many("one", [b"1", b"2"])
            await producer.submit("one", b"3", on_delivery=lambda _, metadata: own.append(metadata.offset))
            await producer.flush()
            assert sorted(told, key=str) == [(None, offset) for offset in range(4)]
            assert own == [3]
            cluster.nodes["n1"].faults.append(Fault.BAD_BATCH)
            await producer.submit("one", b"4", on_delivery=lambda _, metadata: own.append(metadata.offset))
            with pytest.raises(errors.DeliveryFailed):
                await producer.flush()
            assert told[4:] == [("BAD_BATCH", -1)]
            assert own == [3, -1]


async def test_records_linger_for_others_until_they_are_waited_for(both: Both) -> None:
    connect, cluster = both
    requests = cluster.nodes["n1"]
    async with connect(addresses(cluster)) as client, client.producer(linger_ms=600_000) as producer:
        for number in range(10):
            await producer.submit("one", b"%d" % number)
        assert producer.pending == 10
        assert requests.requests == 0
        await producer.flush()
        assert requests.requests == 1
    async with connect(addresses(cluster)) as client, client.producer(linger_ms=1) as producer:
        assert (await producer.send("one", b"10")).offset == 10  # by itself, when its time is over
    full = {"linger_ms": 600_000, "max_batch_size": 200}
    async with connect(addresses(cluster)) as client, client.producer(**full) as producer:
        first = await producer.submit("one", b"x" * 100)
        await producer.submit("one", b"x" * 100)  # does not fit: the first batch is full
        assert (await first).offset == 11


TRACE = SpanContext(0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331, False, TraceFlags(1))
TRACEPARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def test_an_active_span_travels_in_the_headers(both: Both) -> None:
    connect, cluster = both
    async with connect(addresses(cluster)) as client:
        async with client.producer() as producer:
            await producer.send("one", b"before")
            with trace.use_span(NonRecordingSpan(TRACE)):
                await producer.send("one", b"1", headers={"h": b"v"})
                await producer.send_records("one", [ProducerRecord(b"2")])
                await producer.send("one", b"3", headers={"Traceparent": b"the user's own"})
            await producer.send("one", b"after")
        found = {record.value: record.headers for record in await read(client)}
    assert found == {
        b"before": (),
        b"1": (("h", b"v"), ("traceparent", TRACEPARENT)),
        b"2": (("traceparent", TRACEPARENT),),
        b"3": (("Traceparent", b"the user's own"),),
        b"after": (),
    }


def test_without_opentelemetry_nothing_of_it_is_imported() -> None:
    script = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "opentelemetry":
            raise ModuleNotFoundError(name=name)
sys.meta_path.insert(0, Missing())
from quorumlog.client.tracing import trace_injector
assert trace_injector() is None
assert not [name for name in sys.modules if name.startswith("opentelemetry")]
"""
    subprocess.run([sys.executable, "-c", script], check=True)
