"""What users import.

    from quorumlog.client import AsyncClient      # async with, await, async for
    from quorumlog.client import Client           # with, plain calls, for: the same names

The parts, from the ground up; those without I/O take clock and randomness as arguments:

    errors.py       what can go wrong, by what the caller can do; translate.py: from gRPC's errors
    retries.py      whether to try again, and when                           no I/O
    endpoints.py    which node to ask; who leads                             no I/O
    batches.py      records that share one fate; splitting.py, partitioner.py  no I/O
    stream.py       order and sequences of one partition, repair             no I/O
    core.py         the producer: what to send next, what an answer means    no I/O
    cursor.py       a consumer's place in a partition; reverse_cursor.py, starts.py, records.py   no I/O
    options.py      options by name, Kafka's too
    outgoing.py     from what is sent to bytes; tracing.py: the trace that it belongs to
    serializers.py  what makes bytes of values and back; deserializing.py
    sources.py      which replica to read; offsets.py: where things are in it
    reaching.py     how connect() finds a node, or why not
    channels.py     gRPC channels; tls.py: what they show; connection.py: calls with retries
    producer.py     AsyncProducer, deliveries.py; consumer.py: AsyncConsumer; aio.py: AsyncClient
    sync.py         Client, Producer, Consumer, on the event loop thread of loop.py

Nothing here prints or configures logging; the logger is `quorumlog.client`. Consumer groups are not
in yet. Importing the package loads nothing: names are loaded when first used, so
that `quorumlog health`, which container engines run every few seconds, starts fast. The command is
quorumlog.command.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from quorumlog.client.aio import AsyncClient
    from quorumlog.client.batches import BatchMetadata, RecordMetadata
    from quorumlog.client.comparing import Comparison, SegmentComparison, SegmentSum
    from quorumlog.client.consumer import AsyncConsumer
    from quorumlog.client.deliveries import BatchDelivery, Delivery
    from quorumlog.client.describe import (
        ClusterStatus,
        Member,
        NodeStatus,
        Partition,
        PeerStatus,
        StopCheck,
        Topic,
    )
    from quorumlog.client.errors import (
        Attempt,
        BufferTimeout,
        Busy,
        ClientClosed,
        ConnectionFailed,
        DataDamaged,
        DeliveryFailed,
        DeliveryTimeout,
        DeserializationFailed,
        DirectoryLocked,
        DirectoryRefused,
        Dropped,
        InvalidBatch,
        InvalidName,
        InvalidRequest,
        LogFailed,
        MembershipRefused,
        NoLeader,
        NoSpace,
        NotCaughtUp,
        NotConfirmed,
        NotLeader,
        OffsetOutOfRange,
        OutcomeUnknown,
        OutOfSequence,
        PermissionDenied,
        ProducerError,
        ProducerFenced,
        QuorumlogError,
        RecordTooLarge,
        ShuttingDown,
        SlowReader,
        TopicExists,
        TransferFailed,
        Unauthenticated,
        Unavailable,
        UnknownNode,
        UnknownOption,
        UnknownPartition,
        UnknownProducer,
        UnknownTopic,
        Unsupported,
    )
    from quorumlog.client.outgoing import ProducerRecord
    from quorumlog.client.places import TopicPartition
    from quorumlog.client.producer import AsyncProducer
    from quorumlog.client.records import Record, RecordBatch
    from quorumlog.client.serializers import (
        JsonDeserializer,
        JsonSerializer,
        StringDeserializer,
        StringSerializer,
    )
    from quorumlog.client.sync import Client, Consumer, PendingRecord, PendingRecords, Producer
    from quorumlog.client.tls import Tls

_HOMES = {
    "aio": ("AsyncClient",),
    "comparing": ("Comparison", "SegmentComparison", "SegmentSum"),
    "batches": ("BatchMetadata", "RecordMetadata"),
    "consumer": ("AsyncConsumer",),
    "deliveries": ("BatchDelivery", "Delivery"),
    "describe": ("ClusterStatus", "Member", "NodeStatus", "Partition", "PeerStatus", "StopCheck", "Topic"),
    "producer": ("AsyncProducer",),
    "outgoing": ("ProducerRecord",),
    "places": ("TopicPartition",),
    "records": ("Record", "RecordBatch"),
    "serializers": ("JsonDeserializer", "JsonSerializer", "StringDeserializer", "StringSerializer"),
    "sync": ("Client", "Consumer", "PendingRecord", "PendingRecords", "Producer"),
    "tls": ("Tls",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "AsyncClient",
    "AsyncConsumer",
    "AsyncProducer",
    "Attempt",
    "BatchDelivery",
    "BatchMetadata",
    "BufferTimeout",
    "Busy",
    "Client",
    "ClientClosed",
    "ClusterStatus",
    "Comparison",
    "ConnectionFailed",
    "Consumer",
    "DataDamaged",
    "Delivery",
    "DeliveryFailed",
    "DeliveryTimeout",
    "DeserializationFailed",
    "DirectoryLocked",
    "DirectoryRefused",
    "Dropped",
    "InvalidBatch",
    "InvalidName",
    "InvalidRequest",
    "JsonDeserializer",
    "JsonSerializer",
    "LogFailed",
    "Member",
    "MembershipRefused",
    "NoLeader",
    "NoSpace",
    "NodeStatus",
    "NotCaughtUp",
    "NotConfirmed",
    "NotLeader",
    "OffsetOutOfRange",
    "OutOfSequence",
    "OutcomeUnknown",
    "Partition",
    "PeerStatus",
    "PendingRecord",
    "PendingRecords",
    "PermissionDenied",
    "Producer",
    "ProducerError",
    "ProducerFenced",
    "ProducerRecord",
    "QuorumlogError",
    "Record",
    "RecordBatch",
    "RecordMetadata",
    "RecordTooLarge",
    "SegmentComparison",
    "SegmentSum",
    "ShuttingDown",
    "SlowReader",
    "StopCheck",
    "StringDeserializer",
    "StringSerializer",
    "Tls",
    "Topic",
    "TopicExists",
    "TopicPartition",
    "TransferFailed",
    "Unauthenticated",
    "Unavailable",
    "UnknownNode",
    "UnknownOption",
    "UnknownPartition",
    "UnknownProducer",
    "UnknownTopic",
    "Unsupported",
]


if not TYPE_CHECKING:  # or every misspelt name would pass

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        home = _HOME_OF.get(name, "errors")
        return getattr(import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return __all__
