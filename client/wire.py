"""A ProduceRequest as bytes, by one join: as a protobuf message each body would be copied twice more.

ProduceRequest   { 0x0a size TopicBatch }*  and the message's other fields
TopicBatch         topic, partition, header, then 0x22 size body
"""

from __future__ import annotations

from collections.abc import Sequence

from quorumlog.proto import batch_pb2, service_pb2
from quorumlog.proto.varint import varint

_BATCHES_TAG = b"\x0a"  # ProduceRequest.batches = 1, length-delimited
_BODY_TAG = b"\x22"  # TopicBatch.body = 4, length-delimited


def topic_batch(topic: str, partition: int, header: batch_pb2.BatchHeader, body: bytes) -> list[bytes]:
    """Return the pieces of one entry of ProduceRequest.batches."""
    head = service_pb2.TopicBatch(topic=topic, partition=partition, header=header).SerializeToString()
    body_size = varint(len(body))
    size = len(head) + len(_BODY_TAG) + len(body_size) + len(body)
    return [_BATCHES_TAG, varint(size), head, _BODY_TAG, body_size, body]


def produce_request(pieces: Sequence[bytes], correlation: int, timeout_ms: int) -> bytes:
    """Return the request that holds these batches."""
    tail = service_pb2.ProduceRequest(correlation=correlation, timeout_ms=timeout_ms).SerializeToString()
    return b"".join((*pieces, tail))
