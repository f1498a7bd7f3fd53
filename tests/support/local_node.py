"""LocalNode: a whole node in this process, its services over real gRPC and a real log, Raft replaced.

LocalEngine stands in for the engine; everything else is what `python -m quorumlog.node` runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import grpc
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from quorumlog.client.tls import Tls
from quorumlog.node.config import Config, Given, build
from quorumlog.node.directory import NodeDirectory
from quorumlog.node.machine import LogMachine
from quorumlog.node.server import Node
from quorumlog.node.server import build as build_node
from quorumlog.node.values import Address
from quorumlog.proto import batch_pb2, service_pb2, service_pb2_grpc
from quorumlog.proto.batch import encode_values
from quorumlog.raft.engine import Engine
from quorumlog.storage.log import Log
from tests.support.local_engine import LocalEngine

TIMEOUT_S = 20.0  # of a call that is expected to be answered at once


def config_for(directory: Path, node_id: str = "n1", **settings: str) -> Config:
    """A node's configuration on free ports; a setting's dots are written as two underscores."""
    values = {
        "node_id": node_id,
        "data": str(directory),
        "cluster": "test",
        "client.listen": "127.0.0.1:0",
        "peer.listen": "127.0.0.1:0",
        **{key.replace("__", "."): value for key, value in settings.items()},
    }
    return build({key: Given(value, "test") for key, value in values.items()})


class LocalNode:
    """A running node and stubs to it."""

    def __init__(self, node: Node, engine: LocalEngine, config: Config, tls: Tls | None) -> None:
        self.node = node
        self.engine = engine
        self.config = config
        self.address = str(node.client_address)
        self._channels: list[grpc.aio.Channel] = []
        self.channel = self.channel_as(tls)
        self.log = service_pb2_grpc.LogStub(self.channel)
        self.topics = service_pb2_grpc.TopicsStub(self.channel)
        self.cluster = service_pb2_grpc.ClusterStub(self.channel)
        self.health = health_pb2_grpc.HealthStub(self.channel)
        self._is_stopped = False

    @classmethod
    async def start(cls, config: Config, *, leads: bool = True, tls: Tls | None = None) -> LocalNode:
        """Start a node that leads, or one that knows no leader yet; the stubs show `tls`."""
        engines: list[LocalEngine] = []

        def make(
            config: Config, machine: LogMachine, log: Log, directory: NodeDirectory, address: Address
        ) -> Engine:
            engines.append(LocalEngine(log, machine, config.node_id, str(address)))
            return cast(Engine, engines[0])

        node = await build_node(config, make)
        await node.start()
        (engine,) = engines
        if leads:
            engine.lead()
        return cls(node, engine, config, tls)

    def channel_as(self, tls: Tls | None) -> grpc.aio.Channel:
        """A channel of a client that shows this."""
        options = [("grpc.max_receive_message_length", 20 << 20), ("grpc.enable_http_proxy", 0)]
        options.append(("grpc.use_local_subchannel_pool", 1))  # a connection of its own
        if tls is None:
            channel = grpc.aio.insecure_channel(self.address, options=options)
        else:
            channel = grpc.aio.secure_channel(self.address, tls.credentials(), options=options)
        self._channels.append(channel)
        return channel

    async def stop(self) -> None:
        """Stop it, once."""
        for channel in self._channels:
            await channel.close()
        if not self._is_stopped:
            self._is_stopped = True
            await self.node.stop()

    def follow(self, leader: LocalNode) -> None:
        """Follow another node: take what it commits, forward to it."""
        leader.engine.followers.append(self.engine)
        self.engine.leader = leader.engine
        members = {**leader.engine.members, **self.engine.members}
        for engine in (leader.engine, *leader.engine.followers):
            engine.members = members
        for frame in leader.engine.entries[self.engine.applied_index :]:
            self.engine.receive(frame)
        self.engine.follow(leader.engine.node_id, leader.address)

    async def create(self, name: str, partitions: int = 1) -> service_pb2.TopicDescription:
        """Create a topic."""
        request = service_pb2.CreateTopicRequest(name=name, partitions=partitions)
        response: service_pb2.TopicResponse = await self.topics.CreateTopic(request, timeout=TIMEOUT_S)
        return response.topic

    async def produce(self, batch: service_pb2.TopicBatch) -> service_pb2.ProduceResult:
        """Append one batch."""
        request = service_pb2.ProduceRequest(batches=[batch])
        response: service_pb2.ProduceResponse = await self.log.Produce(request, timeout=TIMEOUT_S)
        return response.results[0]

    async def fetch(self, topic: str, offset: int, **fields: Any) -> service_pb2.FetchResponse:
        """Fetch from an offset."""
        request = service_pb2.FetchRequest(topic=topic, offset=offset, **fields)
        response: service_pb2.FetchResponse = await self.log.Fetch(request, timeout=TIMEOUT_S)
        return response

    async def health_of(self, service: str) -> str:
        """The status of a health service."""
        response = await self.health.Check(health_pb2.HealthCheckRequest(service=service), timeout=TIMEOUT_S)
        return health_pb2.HealthCheckResponse.ServingStatus.Name(response.status)


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop run until the condition holds; the timeout of the test bounds it."""
    while not condition():  # noqa: ASYNC110 - what is waited for has no event of its own
        await asyncio.sleep(0)


def batch_of(
    topic: str,
    values: Sequence[bytes] = (b"value",),
    *,
    partition: int = 0,
    producer: tuple[int, int, int] = (0, 0, 0),
) -> service_pb2.TopicBatch:
    """A batch for a ProduceRequest; `producer` is id, epoch and sequence."""
    header, body = encode_values(values, timestamp_ms=1)
    header.producer_id, header.producer_epoch, header.sequence = producer
    return service_pb2.TopicBatch(topic=topic, partition=partition, header=header, body=body)


def header_of(batch: service_pb2.TopicBatch, **changes: Any) -> service_pb2.TopicBatch:
    """The batch with some fields of its header changed."""
    changed = service_pb2.TopicBatch()
    changed.CopyFrom(batch)
    changed.header.MergeFrom(batch_pb2.BatchHeader(**changes))
    return changed


def error_info(error: grpc.aio.AioRpcError) -> error_details_pb2.ErrorInfo:
    """The ErrorInfo in a call's error."""
    details = dict(error.trailing_metadata() or ())["grpc-status-details-bin"]
    assert isinstance(details, bytes)
    status = status_pb2.Status.FromString(details)
    assert status.code == error.code().value[0]
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert info.domain == "quorumlog"
    return info
