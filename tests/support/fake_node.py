"""Nodes in this process that speak the client protocol over real gRPC, with faults on order.

A FakeCluster holds one log in memory: topics, records, producers with their sequences, as the state machine
keeps them. Its FakeNodes serve it: one leads, the others forward or name the leader. What goes wrong is
scripted per node, in order:

    node.faults.append(Fault.DROP_AFTER)     the next produce request is applied, then the connection breaks
"""

from __future__ import annotations

import asyncio
import enum
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import grpc
import grpc.aio
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from quorumlog.proto import batch_pb2, entry_pb2, service_pb2, service_pb2_grpc
from quorumlog.proto.batch import BatchError, check_batch_header

REMEMBERED = 5  # batches of each producer and partition, as the state machine does
TIME_MS = 1_700_000_000_000


class Fault(enum.Enum):
    """What becomes of a produce request."""

    DROP_BEFORE = "the connection breaks and nothing was applied"
    DROP_AFTER = "it is applied and the connection breaks"
    NOT_LEADER = "it is refused: another node leads"
    NO_LEADER = "it is refused: nobody leads"
    BUSY = "it is refused: too much waits"
    UNKNOWN_BEFORE = "its outcome is said to be unknown and it was not applied"
    UNKNOWN_AFTER = "its outcome is said to be unknown and it was applied"
    BAD_BATCH = "it is refused for good"
    HANG = "it is never answered"


_REASONS = {
    Fault.NO_LEADER: ("NO_LEADER", grpc.StatusCode.UNAVAILABLE),
    Fault.BUSY: ("BUSY", grpc.StatusCode.RESOURCE_EXHAUSTED),
    Fault.UNKNOWN_BEFORE: ("OUTCOME_UNKNOWN", grpc.StatusCode.DEADLINE_EXCEEDED),
    Fault.UNKNOWN_AFTER: ("OUTCOME_UNKNOWN", grpc.StatusCode.DEADLINE_EXCEEDED),
    Fault.BAD_BATCH: ("BAD_BATCH", grpc.StatusCode.INVALID_ARGUMENT),
}


class Refused(Exception):
    """A request that a node refuses, with its reason."""

    def __init__(self, reason: str, code: grpc.StatusCode, **metadata: object) -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = code
        self.metadata = {key: str(value) for key, value in metadata.items()}

    def failure(self) -> service_pb2.Failure:
        """Return it as the failure of one batch."""
        code: int = self.code.value[0]
        return service_pb2.Failure(
            code=code, reason=self.reason, message=self.reason.lower(), metadata=self.metadata
        )


@dataclass
class Stored:
    """A batch in the log."""

    base_offset: int
    header: batch_pb2.BatchHeader
    body: bytes
    append_time_ms: int = TIME_MS


@dataclass
class Sequences:
    """What is remembered of a producer in a partition."""

    epoch: int = 0
    expected: int = 0
    recent: deque[tuple[int, int, service_pb2.ProduceResult]] = field(
        default_factory=lambda: deque(maxlen=REMEMBERED)
    )


@dataclass
class Partition:
    """A partition's batches."""

    batches: list[Stored] = field(default_factory=list)
    start_offset: int = 0
    sequences: dict[int, Sequences] = field(default_factory=dict)

    @property
    def next_offset(self) -> int:
        """Offset of the next record."""
        return self.batches[-1].base_offset + self.batches[-1].header.span if self.batches else 0


class FakeCluster:
    """The log that all nodes serve. Everything is applied everywhere at once."""

    def __init__(self) -> None:
        self.topics: dict[str, list[Partition]] = {}
        self.producers: dict[int, int] = {}  # id -> epoch
        self.nodes: dict[str, FakeNode] = {}
        self.leader: str | None = None
        self.raft_index = 0
        self.members: dict[str, entry_pb2.Member] = {}
        self.changed = asyncio.Event()

    def create(self, topic: str, partitions: int = 1) -> None:
        """Create a topic."""
        self.raft_index += 1
        self.topics[topic] = [Partition() for _ in range(partitions)]

    def partition(self, topic: str, partition: int) -> Partition:
        """Return a partition or refuse."""
        if topic not in self.topics:
            raise Refused("UNKNOWN_TOPIC", grpc.StatusCode.NOT_FOUND, topic=topic)
        if partition >= len(self.topics[topic]):
            raise Refused("UNKNOWN_PARTITION", grpc.StatusCode.NOT_FOUND)
        return self.topics[topic][partition]

    def append(self, batch: service_pb2.TopicBatch) -> service_pb2.ProduceResult:
        """Append, or answer a repeat with its first result, or refuse."""
        partition = self.partition(batch.topic, batch.partition)
        header = batch.header
        try:
            check_batch_header(header, batch.body)
        except BatchError as error:
            raise Refused("BAD_BATCH", grpc.StatusCode.INVALID_ARGUMENT) from error
        if header.producer_id:
            repeat = self._check_sequence(partition, header)
            if repeat is not None:
                return repeat
        self.raft_index += 1
        result = service_pb2.ProduceResult(
            base_offset=partition.next_offset,
            append_time_ms=TIME_MS + self.raft_index,
            raft_index=self.raft_index,
            raft_term=1,
        )
        stored = Stored(partition.next_offset, header, batch.body, result.append_time_ms)
        partition.batches.append(stored)
        if header.producer_id:
            remembered = partition.sequences[header.producer_id]
            remembered.expected = header.sequence + header.count
            remembered.recent.append((header.sequence, header.count, result))
        self.changed.set()
        self.changed = asyncio.Event()
        return result

    def _check_sequence(
        self, partition: Partition, header: batch_pb2.BatchHeader
    ) -> service_pb2.ProduceResult | None:
        epoch = self.producers.get(header.producer_id)
        if epoch is None:
            raise Refused("UNKNOWN_PRODUCER", grpc.StatusCode.FAILED_PRECONDITION)
        if header.producer_epoch < epoch:
            raise Refused("FENCED_PRODUCER", grpc.StatusCode.FAILED_PRECONDITION, epoch=epoch)
        known = partition.sequences.setdefault(header.producer_id, Sequences(epoch))
        for sequence, count, result in known.recent:
            if (sequence, count) == (header.sequence, header.count):
                repeat = service_pb2.ProduceResult()
                repeat.CopyFrom(result)
                repeat.duplicate = True
                return repeat
        if header.sequence != known.expected:
            raise Refused("OUT_OF_SEQUENCE", grpc.StatusCode.FAILED_PRECONDITION, expected=known.expected)
        return None


class FakeNode:
    """One node. `async with` starts and stops it; stop() breaks its connections as a kill does."""

    def __init__(self, cluster: FakeCluster, node_id: str) -> None:
        self.cluster = cluster
        self.node_id = node_id
        self.address = ""
        self.faults: deque[Fault] = deque()
        self.fetch_faults: deque[Refused] = deque()
        self.fetches: list[int] = []  # offsets that were asked for one by one
        self.requests = 0  # produce requests that arrived
        self.fetch_limit = 1 << 20
        self.stalled = False  # answers nothing at all
        self.refuses_streams: Refused | None = None  # to produce on, before anything is read
        self.streams_refused = 0
        self.opens_nothing = False  # says to who opens a producer that the leader does that
        self.status_delay_s = 0.0  # how far away it is
        self.statuses = 0  # how often it was asked for its status
        self.replays = False  # was just started again: it knows topics only where a leader confirms it
        self.consistencies: list[tuple[int, int]] = []  # of the reads, with their min_raft_index
        self.change_faults: deque[Refused] = deque()  # of the next changes of members, transfers, checks
        self.change_is_done = False  # a change that then fails is done nevertheless
        self._server: grpc.aio.Server | None = None
        cluster.nodes[node_id] = self
        cluster.members[node_id] = entry_pb2.Member(node_id=node_id, peer_address=f"{node_id}:9651")

    async def __aenter__(self) -> FakeNode:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Serve, at the same port as before where it had one."""
        # Without it two servers may share a port, and a stopped one would swallow connections.
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0), *_SIZES])
        service_pb2_grpc.add_LogServicer_to_server(_Log(self), self._server)
        service_pb2_grpc.add_TopicsServicer_to_server(_Topics(self), self._server)
        service_pb2_grpc.add_ClusterServicer_to_server(_Cluster(self), self._server)
        port = self._server.add_insecure_port(self.address or "127.0.0.1:0")
        self.address = f"127.0.0.1:{port}"
        await self._server.start()

    async def stop(self) -> None:
        """Break all connections."""
        server, self._server = self._server, None
        if server is not None:
            await server.stop(None)

    @property
    def leads(self) -> bool:
        """True on the leader."""
        return self.cluster.leader == self.node_id

    def check_leader(self, context: Any) -> None:
        """Refuse where the caller asked not to forward and this node does not lead."""
        if self.leads:
            return
        if self.cluster.leader is None:
            raise Refused("NO_LEADER", grpc.StatusCode.UNAVAILABLE)
        if ("x-no-forward", "1") in tuple(context.invocation_metadata() or ()):
            raise self.not_leader()

    def not_leader(self) -> Refused:
        """Return the refusal that names the leader."""
        leader = self.cluster.nodes[self.cluster.leader or self.node_id]
        code = grpc.StatusCode.FAILED_PRECONDITION
        return Refused("NOT_LEADER", code, leader_id=leader.node_id, leader_address=leader.address, term=1)

    async def produce(
        self, request: service_pb2.ProduceRequest, context: Any
    ) -> service_pb2.ProduceResponse | None:
        """Answer, under the next fault; None: hang."""
        self.requests += 1
        fault = self.faults.popleft() if self.faults else None
        if fault is Fault.HANG or self.stalled:
            return None
        if fault is Fault.DROP_BEFORE:
            raise Refused("", grpc.StatusCode.UNAVAILABLE)
        if fault is Fault.NOT_LEADER:
            raise self.not_leader()
        response = service_pb2.ProduceResponse(correlation=request.correlation)
        for batch in request.batches:
            response.results.append(self._produce_batch(batch, fault))
        if fault is Fault.DROP_AFTER:
            raise Refused("", grpc.StatusCode.UNAVAILABLE)
        return response

    def _produce_batch(self, batch: service_pb2.TopicBatch, fault: Fault | None) -> service_pb2.ProduceResult:
        try:
            if fault in _REASONS and fault is not Fault.UNKNOWN_AFTER:
                raise Refused(*_REASONS[fault])
            result = self.cluster.append(batch)
            if fault is Fault.UNKNOWN_AFTER:
                raise Refused(*_REASONS[fault])
        except Refused as refused:
            return service_pb2.ProduceResult(failure=refused.failure())
        return result


_SIZES = (
    ("grpc.max_receive_message_length", 20 * 1024 * 1024),
    ("grpc.max_send_message_length", 20 * 1024 * 1024),
)


async def _abort(context: Any, refused: Refused) -> None:
    if not refused.reason:
        await context.abort(refused.code, "Socket closed")
    info = error_details_pb2.ErrorInfo(reason=refused.reason, domain="quorumlog", metadata=refused.metadata)
    detail = any_pb2.Any()
    detail.Pack(info)
    message = refused.reason.lower()
    code: int = refused.code.value[0]
    status = rpc_status.to_status(status_pb2.Status(code=code, message=message, details=[detail]))
    await context.abort(refused.code, message, status.trailing_metadata)


class _Log(service_pb2_grpc.LogServicer):
    def __init__(self, node: FakeNode) -> None:
        self._node = node
        self._cluster = node.cluster

    async def Produce(self, request: Any, context: Any) -> Any:
        try:
            self._node.check_leader(context)
            response = await self._node.produce(request, context)
        except Refused as refused:
            await _abort(context, refused)
        if response is None:
            await asyncio.Event().wait()
        return response

    async def ProduceStream(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        try:
            if self._node.refuses_streams is not None:
                self._node.streams_refused += 1
                raise self._node.refuses_streams
            self._node.check_leader(context)
            await context.send_initial_metadata((("x-accepted", "1"),))
            async for request in requests:
                self._node.check_leader(context)
                response = await self._node.produce(request, context)
                if response is None:
                    await asyncio.Event().wait()
                yield response
        except Refused as refused:
            await _abort(context, refused)

    async def OpenProducer(self, request: Any, context: Any) -> Any:
        if self._node.stalled:
            await asyncio.Event().wait()
        try:
            self._node.check_leader(context)
            if self._node.opens_nothing:
                raise self._node.not_leader()
        except Refused as refused:
            await _abort(context, refused)
        self._cluster.raft_index += 1
        producer_id = request.producer_id or 1000 + len(self._cluster.producers)
        epoch = self._cluster.producers.get(producer_id, -1) + 1
        self._cluster.producers[producer_id] = epoch
        return service_pb2.OpenProducerResponse(
            producer_id=producer_id, epoch=epoch, raft_index=self._cluster.raft_index
        )

    async def ListOffsets(self, request: Any, context: Any) -> Any:
        self._node.consistencies.append((request.consistency, request.min_raft_index))
        response = service_pb2.ListOffsetsResponse(applied_index=self._cluster.raft_index)
        try:
            for query in request.queries:
                partition = self._cluster.partition(request.topic, query.partition)
                response.answers.add(partition=query.partition, offset=_offset(partition, query))
        except Refused as refused:
            await _abort(context, refused)
        return response

    async def Fetch(self, request: Any, context: Any) -> Any:
        self._node.consistencies.append((request.consistency, request.min_raft_index))
        self._node.fetches.append(request.offset)
        try:
            if self._node.fetch_faults:
                raise self._node.fetch_faults.popleft()
            partition = self._cluster.partition(request.topic, request.partition)
            _check_offset(partition, request.offset)
            limit = min(self._node.fetch_limit, request.max_bytes)
            return self._answer(partition, _batches_from(partition, request.offset, limit))
        except Refused as refused:
            await _abort(context, refused)

    async def Consume(self, request: Any, context: Any) -> AsyncIterator[Any]:
        self._node.consistencies.append((request.consistency, request.min_raft_index))
        offset = request.offset
        try:
            while True:
                if self._node.fetch_faults:
                    raise self._node.fetch_faults.popleft()
                partition = self._cluster.partition(request.topic, request.partition)
                _check_offset(partition, offset)
                changed = self._cluster.changed
                batches = _batches_from(partition, offset, self._node.fetch_limit)
                if not batches or self._node.stalled:
                    await changed.wait()
                    continue
                offset = batches[-1].base_offset + batches[-1].header.span
                yield self._answer(partition, batches)
        except Refused as refused:
            await _abort(context, refused)

    def _answer(self, partition: Partition, batches: Sequence[Stored]) -> service_pb2.FetchResponse:
        response = service_pb2.FetchResponse(
            high_watermark=partition.next_offset,
            start_offset=partition.start_offset,
            applied_index=self._cluster.raft_index,
        )
        for stored in batches:
            response.batches.add(
                base_offset=stored.base_offset,
                append_time_ms=stored.append_time_ms,
                header=stored.header,
                body=stored.body,
            )
        return response


class _Topics(service_pb2_grpc.TopicsServicer):
    def __init__(self, node: FakeNode) -> None:
        self._node = node
        self._cluster = node.cluster

    async def CreateTopic(self, request: Any, context: Any) -> Any:
        try:
            self._node.check_leader(context)
            if request.name in self._cluster.topics:
                raise Refused("TOPIC_EXISTS", grpc.StatusCode.ALREADY_EXISTS)
        except Refused as refused:
            await _abort(context, refused)
        self._cluster.create(request.name, request.partitions or 1)
        return self._response(request.name)

    async def DeleteTopic(self, request: Any, context: Any) -> Any:
        response = await self.DescribeTopic(service_pb2.DescribeTopicRequest(name=request.name), context)
        del self._cluster.topics[request.name]
        return response

    async def DescribeTopic(self, request: Any, context: Any) -> Any:
        self._node.consistencies.append((request.consistency, request.min_raft_index))
        linearizable = request.consistency == service_pb2.CONSISTENCY_LINEARIZABLE
        try:
            if self._node.replays and not linearizable:
                raise Refused("UNKNOWN_TOPIC", grpc.StatusCode.NOT_FOUND, topic=request.name)
            self._cluster.partition(request.name, 0)
        except Refused as refused:
            await _abort(context, refused)
        return self._response(request.name)

    async def ListTopics(self, request: Any, context: Any) -> Any:
        topics = [self._response(name).topic for name in sorted(self._cluster.topics)]
        return service_pb2.ListTopicsResponse(topics=topics, applied_index=self._cluster.raft_index)

    def _response(self, name: str) -> service_pb2.TopicResponse:
        response = service_pb2.TopicResponse(raft_index=self._cluster.raft_index)
        response.topic.name = name
        response.topic.created_ms = TIME_MS
        for number, partition in enumerate(self._cluster.topics[name]):
            response.topic.partitions.add(
                partition=number,
                start_offset=partition.start_offset,
                high_watermark=partition.next_offset,
            )
        return response


class _Cluster(service_pb2_grpc.ClusterServicer):
    def __init__(self, node: FakeNode) -> None:
        self._node = node

    async def Status(self, request: Any, context: Any) -> Any:
        cluster = self._node.cluster
        self._node.statuses += 1
        if self._node.stalled:
            await asyncio.Event().wait()
        await asyncio.sleep(self._node.status_delay_s)
        response = service_pb2.StatusResponse(cluster="fake", leader_id=cluster.leader or "", term=1)
        for node in [self._node] if request.local else cluster.nodes.values():
            response.nodes.add(
                node_id=node.node_id,
                client_address=node.address,
                reachable=node._server is not None,
                role="leader" if node.leads else "follower",
                term=1,
                commit_index=cluster.raft_index,
                applied_index=cluster.raft_index,
                members=self._members(),
                peers=self._peers() if node.leads else (),
            )
        return response

    def _members(self) -> list[entry_pb2.Member]:
        return [member for _, member in sorted(self._node.cluster.members.items())]

    def _peers(self) -> list[service_pb2.PeerStatus]:
        cluster = self._node.cluster
        return [
            service_pb2.PeerStatus(node_id=name, connected=name in cluster.nodes, lag=7)
            for name in cluster.members
            if name != cluster.leader
        ]

    async def AddMember(self, request: Any, context: Any) -> Any:
        member = entry_pb2.Member(node_id=request.node_id, peer_address=request.peer_address)
        return await self._change(
            context, lambda: self._node.cluster.members.update({request.node_id: member})
        )

    async def RemoveMember(self, request: Any, context: Any) -> Any:
        def remove() -> None:
            if self._node.cluster.members.pop(request.node_id, None) is None:
                raise Refused("UNKNOWN_NODE", grpc.StatusCode.NOT_FOUND)

        return await self._change(context, remove)

    async def TransferLeadership(self, request: Any, context: Any) -> Any:
        def transfer() -> None:
            self._node.cluster.leader = request.target or "n2"

        await self._change(context, transfer)
        return service_pb2.TransferLeadershipResponse(leader_id=self._node.cluster.leader or "", term=2)

    async def CheckStop(self, request: Any, context: Any) -> Any:
        await self._change(context, lambda: None)
        safe = request.node_id != "n3"
        return service_pb2.CheckStopResponse(safe=safe, reason="2 of 3 keep up" if safe else "1 keeps up")

    async def _change(self, context: Any, change: Callable[[], None]) -> Any:
        """Do what the leader does, under the next fault."""
        node = self._node
        try:
            node.check_leader(context)
            fault = node.change_faults.popleft() if node.change_faults else None
            if fault is None or node.change_is_done:
                change()
            if fault is not None:
                raise fault
        except Refused as refused:
            await _abort(context, refused)
        node.cluster.raft_index += 1
        return service_pb2.MembersResponse(members=self._members(), raft_index=node.cluster.raft_index)

    async def SetSyncPolicy(self, request: Any, context: Any) -> Any:
        self._node.cluster.raft_index += 1
        return service_pb2.SetSyncPolicyResponse(raft_index=self._node.cluster.raft_index)


def _check_offset(partition: Partition, offset: int) -> None:
    if not partition.start_offset <= offset <= partition.next_offset:
        raise Refused(
            "OFFSET_OUT_OF_RANGE",
            grpc.StatusCode.OUT_OF_RANGE,
            earliest=partition.start_offset,
            latest=partition.next_offset,
        )


def _offset(partition: Partition, query: service_pb2.OffsetQuery) -> int:
    if query.WhichOneof("at") == "append_time_ms":
        later = (each for each in partition.batches if each.append_time_ms >= query.append_time_ms)
        return max(partition.start_offset, next((each.base_offset for each in later), partition.next_offset))
    return partition.next_offset if query.WhichOneof("at") == "latest" else partition.start_offset


def _batches_from(partition: Partition, offset: int, limit: int) -> list[Stored]:
    wanted = [each for each in partition.batches if each.base_offset + each.header.span > offset]
    taken, size = [], 0
    for stored in wanted:
        if taken and size + len(stored.body) > limit:
            break
        taken.append(stored)
        size += len(stored.body)
    return taken
