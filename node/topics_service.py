"""quorumlog.v1.Topics: create, delete, describe, list."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import grpc

from quorumlog.node.call import Call, Gate, generic_handler, parse
from quorumlog.node.commands import run_alone
from quorumlog.node.consistency import Freshness
from quorumlog.node.machine import LogMachine
from quorumlog.node.reading import Reader
from quorumlog.node.reasons import Reason, Refusal
from quorumlog.node.results import TopicCreated, TopicDeleted
from quorumlog.node.routing import Router, Write
from quorumlog.node.topics import MAX_PARTITIONS_PER_TOPIC, Topic, check_name
from quorumlog.proto import entry_pb2, service_pb2
from quorumlog.raft.engine import Engine

NAME = "quorumlog.v1.Topics"


class TopicsService:
    """The methods of the service. Changes are routed to the leader; descriptions are this node's."""

    def __init__(
        self,
        engine: Engine,
        machine: LogMachine,
        router: Router,
        reader: Reader,
        freshness: Freshness,
        write_timeout_s: float,
    ) -> None:
        self._engine = engine
        self._machine = machine
        self._router = router
        self._reader = reader
        self._freshness = freshness
        self._write_timeout_s = write_timeout_s

    def handler(self, gate: Gate) -> grpc.GenericRpcHandler:
        """Return what the gRPC server calls."""
        return generic_handler(
            NAME,
            gate,
            unary={
                "CreateTopic": self.create,
                "DeleteTopic": self.delete,
                "DescribeTopic": self.describe,
                "ListTopics": self.list,
            },
        )

    async def create(self, raw: bytes, call: Call) -> bytes:
        """Create a topic and describe it."""
        request = parse(service_pb2.CreateTopicRequest, raw)
        call.require(request.name)
        _check_creation(request)

        async def apply(left_s: float) -> bytes:
            creation = entry_pb2.CreateTopic(name=request.name, partitions=request.partitions)
            operation = entry_pb2.Operation(create_topic=creation)
            # Alone in its entry: the topic's id is the entry's raft index.
            committed, created = await run_alone(self._engine, operation, left_s, solo=True)
            assert isinstance(created, TopicCreated), f"the result of a creation is not {created!r}"
            topic = self._machine.topics.with_id(created.topic_id)
            described = describe(topic) if topic is not None else _empty(request, created.topic_id)
            return _answer(described, committed.index)

        return await self._submit("CreateTopic", raw, call, apply)

    async def delete(self, raw: bytes, call: Call) -> bytes:
        """Delete a topic; the answer describes what is gone."""
        request = parse(service_pb2.DeleteTopicRequest, raw)
        call.require(request.name)

        async def apply(left_s: float) -> bytes:
            topic = self._reader.topic(request.name)
            described = describe(topic)
            operation = entry_pb2.Operation(delete_topic=entry_pb2.DeleteTopic(topic_id=topic.topic_id))
            committed, deleted = await run_alone(self._engine, operation, left_s)
            assert isinstance(deleted, TopicDeleted), f"the result of a deletion is not {deleted!r}"
            return _answer(described, committed.index)

        return await self._submit("DeleteTopic", raw, call, apply)

    async def describe(self, raw: bytes, call: Call) -> bytes:
        """Describe a topic as this node has it."""
        request = parse(service_pb2.DescribeTopicRequest, raw)
        call.require(request.name)
        await self._fresh(request, call)
        return _answer(describe(self._reader.topic(request.name)), self._machine.applied_index)

    async def list(self, raw: bytes, call: Call) -> bytes:
        """Describe all topics as this node has them."""
        request = parse(service_pb2.ListTopicsRequest, raw)
        await self._fresh(request, call)
        topics = [describe(topic) for topic in self._machine.topics.by_name() if call.sees(topic.name)]
        return service_pb2.ListTopicsResponse(
            topics=topics, applied_index=self._machine.applied_index
        ).SerializeToString()

    async def _fresh(
        self, request: service_pb2.DescribeTopicRequest | service_pb2.ListTopicsRequest, call: Call
    ) -> None:
        # min_raft_index is older than consistency, and was always waited for.
        await self._freshness.applied(request.min_raft_index, call)
        await self._freshness.reached(request.consistency, request.min_raft_index, call)

    async def _submit(
        self, method: str, raw: bytes, call: Call, apply: Callable[[float], Awaitable[bytes]]
    ) -> bytes:
        timeout_s = call.time_left_s(self._write_timeout_s)
        return await self._router.submit(Write(f"/{NAME}/{method}", raw, call, timeout_s, apply))


def describe(topic: Topic) -> service_pb2.TopicDescription:
    """Return the topic as an answer has it."""
    partitions = [
        service_pb2.PartitionDescription(
            partition=number, start_offset=each.start_offset, high_watermark=each.next_offset
        )
        for number, each in enumerate(topic.partitions)
    ]
    return service_pb2.TopicDescription(
        name=topic.name, topic_id=topic.topic_id, created_ms=topic.created_ms, partitions=partitions
    )


def _check_creation(request: service_pb2.CreateTopicRequest) -> None:
    """Refuse here what the state machine would refuse in any state: it need not be replicated first."""
    bad_name = check_name(request.name)
    if bad_name is not None:
        raise Refusal.of(bad_name)
    if not 1 <= request.partitions <= MAX_PARTITIONS_PER_TOPIC:
        problem = f"partitions: expected 1 to {MAX_PARTITIONS_PER_TOPIC}, got {request.partitions}"
        raise Refusal(Reason.BAD_REQUEST, problem)


def _empty(request: service_pb2.CreateTopicRequest, topic_id: int) -> service_pb2.TopicDescription:
    """Return the description of a topic that somebody deleted before it could be described."""
    partitions = [service_pb2.PartitionDescription(partition=number) for number in range(request.partitions)]
    return service_pb2.TopicDescription(name=request.name, topic_id=topic_id, partitions=partitions)


def _answer(topic: service_pb2.TopicDescription, raft_index: int) -> bytes:
    return service_pb2.TopicResponse(topic=topic, raft_index=raft_index).SerializeToString()
