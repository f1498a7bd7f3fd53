"""What a type checker sees of the client. Read by mypy (test_types.py), never run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_type

from quorumlog.client import (
    AsyncClient,
    AsyncConsumer,
    AsyncProducer,
    Client,
    Consumer,
    Producer,
    ProducerRecord,
    Record,
    RecordMetadata,
    StringDeserializer,
    StringSerializer,
)


@dataclass
class Order:
    table: int

    def to_bytes(self) -> bytes:
        raise NotImplementedError

    @classmethod
    def parse(cls, content: bytes) -> Order:
        raise NotImplementedError


async def asynchronous(client: AsyncClient) -> None:
    plain = client.consumer("t")
    assert_type(plain, AsyncConsumer[bytes, bytes])
    assert_type((await plain.getone()).value, bytes | None)
    orders = client.consumer("t", key_deserializer=StringDeserializer(), value_deserializer=Order.parse)
    assert_type(orders, AsyncConsumer[str, Order])
    async with orders as consumer:
        async for record in consumer:
            assert_type(record, Record[str, Order])
            assert_type(record.key, str | None)
            assert_type(record.value, Order | None)
            assert_type(record.headers, tuple[tuple[str, bytes], ...])
    assert_type(await orders.getmany(), list[Record[str, Order]])
    assert_type(client.consumer("t", value_deserializer=Order.parse), AsyncConsumer[bytes, Order])

    assert_type(client.producer(), AsyncProducer[bytes, bytes])
    producer = client.producer(key_serializer=StringSerializer(), value_serializer=Order.to_bytes)
    assert_type(producer, AsyncProducer[str, Order])
    assert_type(await producer.send("t", Order(1), "key"), RecordMetadata)
    await producer.send("t", b"bytes")  # type: ignore[arg-type]
    await producer.send("t", Order(1), b"key")  # type: ignore[arg-type]
    await producer.send_many("t", [Order(1)])
    await producer.send_records("t", [ProducerRecord(Order(1), "key"), ProducerRecord(key="tombstone")])
    client.producer(linger=5)  # type: ignore[arg-type]
    client.consumer("t", form_node="any")  # type: ignore[arg-type]


def synchronous(client: Client) -> None:
    plain = client.consumer("t")
    assert_type(plain, Consumer[bytes, bytes])
    orders = client.consumer("t", key_deserializer=StringDeserializer(), value_deserializer=Order.parse)
    assert_type(orders, Consumer[str, Order])
    with orders as consumer:
        for record in consumer:
            assert_type(record, Record[str, Order])
            assert_type(record.value, Order | None)
    assert_type(orders.getone(), Record[str, Order])

    assert_type(client.producer(), Producer[bytes, bytes])
    producer = client.producer(key_serializer=StringSerializer(), value_serializer=Order.to_bytes)
    assert_type(producer, Producer[str, Order])
    assert_type(producer.send("t", Order(1), "key"), RecordMetadata)
    producer.send("t", b"bytes")  # type: ignore[arg-type]
    producer.submit("t", Order(1), b"key")  # type: ignore[arg-type]
    client.producer(linger=5)  # type: ignore[arg-type]


def record_of_bytes(record: Record) -> bytes | None:
    return record.value
