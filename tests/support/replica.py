"""One node as a test sees it over the wire: plain stubs, no routing, no retries: THIS node answers."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import grpc

from quorumlog.client.tls import Tls
from quorumlog.proto import batch, service_pb2, service_pb2_grpc
from tests.support.waiting import UNIT_S

_MESSAGE_BYTES_MAX = 20 * 1024 * 1024
_OPTIONS = (
    ("grpc.max_receive_message_length", _MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", _MESSAGE_BYTES_MAX),
    # A node that was killed and started again is to be reached at once, not after gRPC's back-off.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
    # Channels to one address share connections by default: a fresh one must not inherit a back-off.
    ("grpc.use_local_subchannel_pool", 1),
)


@dataclass(frozen=True, slots=True)
class Read:
    """One record as a replica gave it."""

    offset: int
    value: bytes


class Replica:
    """Stubs to one node; made by `connected`."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.log = service_pb2_grpc.LogStub(channel)  # type: ignore[no-untyped-call]
        self.topics = service_pb2_grpc.TopicsStub(channel)  # type: ignore[no-untyped-call]
        self.cluster = service_pb2_grpc.ClusterStub(channel)  # type: ignore[no-untyped-call]

    def status(self, timeout_s: float = UNIT_S) -> service_pb2.NodeStatus:
        """What the node says of itself."""
        request = service_pb2.StatusRequest(local=True)
        answer = self.cluster.Status(request, timeout=timeout_s)
        assert len(answer.nodes) == 1, f"a local status has one node, got {answer}"
        status: service_pb2.NodeStatus = answer.nodes[0]
        return status

    def produce(
        self,
        topic: str,
        values: Sequence[bytes],
        partition: int = 0,
        *,
        forward: bool = True,
        timeout_s: float = 10 * UNIT_S,
    ) -> service_pb2.ProduceResult:
        """Append one batch, without a producer id; the result may hold a failure. Raises grpc.RpcError."""
        header, body = batch.encode_values(values, timestamp_ms=time.time_ns() // 1_000_000)
        request = service_pb2.ProduceRequest(timeout_ms=int(timeout_s * 1000))
        request.batches.add(topic=topic, partition=partition, header=header, body=body)
        metadata = () if forward else (("x-no-forward", "1"),)
        answer = self.log.Produce(request, timeout=timeout_s, metadata=metadata)
        assert len(answer.results) == 1, f"one batch has one result, got {answer}"
        result: service_pb2.ProduceResult = answer.results[0]
        return result

    def create_topic(self, name: str, partitions: int = 1) -> int:
        """Create a topic; returns the raft index of its creation."""
        request = service_pb2.CreateTopicRequest(name=name, partitions=partitions)
        raft_index: int = self.topics.CreateTopic(request, timeout=10 * UNIT_S).raft_index
        return raft_index

    def read_all(self, topic: str, partition: int, *, at_least_index: int = 0, first: int = 0) -> list[Read]:
        """What this replica can read from `first` on, with `at_least_index` (a raft index) applied."""
        return list(self._records(topic, partition, at_least_index, first))

    def earliest(self, topic: str, partition: int = 0) -> int:
        """The first offset that this replica can read."""
        query = service_pb2.OffsetQuery(partition=partition, earliest=True)
        request = service_pb2.ListOffsetsRequest(topic=topic, queries=[query])
        offset: int = self.log.ListOffsets(request, timeout=10 * UNIT_S).answers[0].offset
        return offset

    def values(self, topic: str, partition: int = 0, *, at_least_index: int = 0) -> list[bytes]:
        """The values of `read_all`, after a check that the offsets run from 0 without a gap."""
        records = self.read_all(topic, partition, at_least_index=at_least_index)
        offsets = [record.offset for record in records]
        assert offsets == list(range(len(offsets))), f"offsets have gaps or repeats: {offsets[:20]}..."
        return [record.value for record in records]

    def _records(self, topic: str, partition: int, at_least_index: int, first: int) -> Iterator[Read]:
        offset = first
        while True:
            answer = self.log.Fetch(_fetch(topic, partition, offset, at_least_index), timeout=10 * UNIT_S)
            for fetched in answer.batches:
                batch.check_batch(fetched.header, fetched.body)
                columns = batch.decode_batch(fetched.header, fetched.body)
                for delta, value in zip(columns.offset_deltas, columns.values, strict=True):
                    if fetched.base_offset + delta >= offset:
                        yield Read(fetched.base_offset + delta, value or b"")
                offset = fetched.base_offset + fetched.header.span
            if not answer.batches or offset >= answer.high_watermark:
                return


def _fetch(topic: str, partition: int, offset: int, at_least_index: int) -> service_pb2.FetchRequest:
    return service_pb2.FetchRequest(
        topic=topic,
        partition=partition,
        offset=offset,
        max_bytes=4 * 1024 * 1024,
        consistency=service_pb2.CONSISTENCY_SESSION if at_least_index else service_pb2.CONSISTENCY_COMMITTED,
        min_raft_index=at_least_index,
    )


@contextmanager
def connected(address: str, tls: Tls | None = None) -> Iterator[Replica]:
    """A channel of its own to the node at `address`, closed afterwards."""
    if tls is None:
        opened = grpc.insecure_channel(address, options=_OPTIONS)
    else:
        opened = grpc.secure_channel(address, tls.credentials(), options=_OPTIONS)
    with opened as channel:
        yield Replica(channel)
