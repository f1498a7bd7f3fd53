"""AsyncClient: the cluster for asyncio programs. sync.py has the same names for all others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Never, get_args

import grpc.aio
from grpc_health.v1 import health_pb2

from quorumlog.client import errors
from quorumlog.client.comparing import Comparison, SegmentSum, comparison
from quorumlog.client.connection import Connection, ConnectionOptions
from quorumlog.client.consumer import (
    AsyncConsumer,
    Consistency,
    ConsumerOptions,
    End,
    Token,
    consistency_of,
)
from quorumlog.client.core import MIB, ProducerOptions
from quorumlog.client.deliveries import OnDelivery
from quorumlog.client.describe import (
    ClusterStatus,
    Member,
    NodeStatus,
    Partition,
    PeerStatus,
    StopCheck,
    SyncPolicy,
    Topic,
    cluster_status,
    members_of,
    topic_description,
)
from quorumlog.client.endpoints import Route
from quorumlog.client.offsets import look_up
from quorumlog.client.options import CLIENT_NAMES, CONSUMER_NAMES, PRODUCER_NAMES, with_given
from quorumlog.client.partitioner import Partitioner
from quorumlog.client.producer import AsyncProducer
from quorumlog.client.records import K, V
from quorumlog.client.starts import EARLIEST, LATEST, Moment, Start, StartAt, parse_moment
from quorumlog.client.tls import Tls
from quorumlog.client.translate import from_rpc
from quorumlog.proto import service_pb2
from quorumlog.proto.batch import MAX_RECORD_BYTES

__all__ = [
    "AsyncClient",
    "ClusterStatus",
    "Member",
    "NodeStatus",
    "Partition",
    "PeerStatus",
    "StopCheck",
    "Topic",
]


class AsyncClient:
    """A cluster, seen from a program.

        async with AsyncClient("host1:9650,host2:9650") as client:
            await client.create_topic("orders", partitions=3)
            async with client.producer() as producer:
                await producer.send("orders", b"value")

    `bootstrap_servers`: one reachable node is enough; the others are found. `route`: "leader" sends writes
    to the leader directly where it can be reached, "any" leaves forwarding to the nodes. `tls`: the files
    of a certificate; without them the client speaks plain text. `require_leader`: connect() fails while
    nobody leads; without it a node that can only be read is enough. Use it from one event loop only.
    """

    def __init__(
        self,
        bootstrap_servers: str | Sequence[str] = "localhost:9650",
        *,
        client_id: str = "quorumlog",
        route: Route = "leader",
        connect_timeout_ms: int = 5_000,
        request_timeout_ms: int = 30_000,
        attempt_timeout_ms: int = 5_000,
        tls: Tls | None = None,
        require_leader: bool = True,
        config: Mapping[str, Any] | None = None,
        **others: Never,
    ) -> None:
        """`config`: options by name, dotted or not, also Kafka's where they mean the same.

        Raises UnknownOption with the nearest valid name.
        """
        options = ConnectionOptions(
            bootstrap_servers,
            client_id,
            route,
            connect_timeout_ms,
            request_timeout_ms,
            attempt_timeout_ms,
            tls,
            require_leader,
        )
        self._connection = Connection(with_given(options, {**(config or {}), **others}, CLIENT_NAMES))

    async def __aenter__(self) -> AsyncClient:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end(error)

    async def connect(self) -> None:
        """Reach a node that knows who leads; with require_leader=False, any node.

        All endpoints are asked at the same time. Raises within `connect_timeout_ms`, with every endpoint and
        why it does not do: NoLeader where nodes answer and nobody leads, Unsupported or Unauthenticated where
        all say so, else ConnectionFailed.
        """
        await self._connection.connect()

    async def close(self) -> None:
        """Flush and close what was made from this client, then the connections. Raises as flush() does."""
        await self._end(None)

    async def _end(self, error: BaseException | None) -> None:
        """End everything, though some of it fails; a block that is left by an error waits only a moment."""
        parts = [*self._connection.producers, *self._connection.consumers]
        try:
            ended = await asyncio.gather(
                *(part.__aexit__(type(error) if error is not None else None, error, None) for part in parts),
                return_exceptions=True,
            )
        finally:
            await self._connection.close()
        for failure in ended:
            if failure is not None:
                raise failure

    @property
    def session_token(self) -> int:
        """The raft index of this client's newest write; `after=` it, other clients see that write too."""
        return self._connection.session

    # Producing and consuming.

    def producer(
        self,
        *,
        delivery_timeout_ms: int = 120_000,
        max_batch_size: int = MIB,
        buffer_memory: int = 32 * MIB,
        compression_type: str | None = None,
        enable_idempotence: bool = True,
        max_record_size: int = MAX_RECORD_BYTES,
        linger_ms: int = 0,
        partitioner: Partitioner | None = None,
        on_delivery: OnDelivery | None = None,
        key_serializer: Callable[[K], bytes] | None = None,
        value_serializer: Callable[[V], bytes] | None = None,
        config: Mapping[str, Any] | None = None,
        **others: Never,
    ) -> AsyncProducer[K, V]:
        """Return a producer: see AsyncProducer.

        `delivery_timeout_ms`: from accepting a record to its acknowledgement, all retries included.
        `max_batch_size`, `linger_ms`: how many bytes of a partition may gather, and how long a record may
        wait for others where nothing is under way; by default it leaves at once.
        `buffer_memory`: bytes of all that is not acknowledged; more has to wait.
        `compression_type`: None, "lz4" or "zstd".
        `partitioner`: given the key as bytes (or None) and how many partitions there are, returns one; by
        default Kafka's murmur2 hash of the key decides.
        `on_delivery`: called for each record with (None, its RecordMetadata), or with the error and metadata
        whose offset is -1; on the client's event loop, so it must not block. flush() raises nevertheless.
        `key_serializer`, `value_serializer`: make bytes of what is sent; not shown None.
        `config`: options by name, dotted or not, also Kafka's where they mean the same.
        Raises UnknownOption, with the nearest valid name.
        """
        options = ProducerOptions(
            delivery_timeout_ms,
            max_batch_size,
            buffer_memory,
            compression_type,
            enable_idempotence,
            max_record_size,
            linger_ms,
            partitioner,
            on_delivery,
            key_serializer,
            value_serializer,
        )
        given = with_given(options, {**(config or {}), **others}, PRODUCER_NAMES)
        return AsyncProducer(self._connection, given)

    def consumer(
        self,
        *topics: str,
        partitions: Sequence[int] | None = None,
        start: Start = "earliest",
        end: End = None,
        from_node: str | None = None,
        consistency: Consistency = "session",
        after: Token = None,
        max_buffered_bytes: int = 16 * MIB,
        max_fetch_bytes: int = MIB,
        reverse: bool = False,
        key_deserializer: Callable[[bytes], K] | None = None,
        value_deserializer: Callable[[bytes], V] | None = None,
        config: Mapping[str, Any] | None = None,
        **others: Never,
    ) -> AsyncConsumer[K, V]:
        """Return a consumer: see AsyncConsumer.

        `topics`: all their partitions, or `partitions`; none: what assign() says.
        `start`: "earliest", "latest", an offset, -N for the last N of each partition, a datetime (or the
        same as ISO 8601), or how long ago: a timedelta, "-1h30m".
        `end`: the same, settled when it starts; the record there is not read any more. None follows.
        `reverse`: the newest first, each partition for itself, from `end` back to `start`.
        `from_node`: "any", "leader", "nearest" (by round trip), settled when a stream starts; or a node's id
        or address.
        `consistency`: "session" sees this client's own writes on every replica, "committed" whatever the
        replica has, "linearizable" all that was acknowledged to anybody before reading began (a majority
        confirms it when a stream starts, not for each record).
        `after`: the metadata or raft index of a write that must be seen.
        `key_deserializer`, `value_deserializer`: make of bytes what records shall have; not shown null.
        `config`: options by name, dotted or not, also Kafka's where they mean the same.
        Raises UnknownOption, with the nearest valid name.
        """
        options = ConsumerOptions(
            partitions,
            start,
            end,
            from_node,
            consistency,
            after,
            max_buffered_bytes,
            max_fetch_bytes,
            reverse,
            key_deserializer,
            value_deserializer,
        )
        given = with_given(options, {**(config or {}), **others}, CONSUMER_NAMES)
        return AsyncConsumer(self._connection, topics, given)

    # Topics.

    async def create_topic(self, name: str, partitions: int = 1) -> Topic:
        """Create a topic. Raises TopicExists, InvalidName."""
        request = service_pb2.CreateTopicRequest(name=name, partitions=partitions)
        call = self._connection.call(lambda stubs: stubs.topics.CreateTopic, request, write=True)
        answer = await call
        self._connection.saw(answer.raft_index)
        self._connection.forget_topic(name)
        return topic_description(answer.topic)

    async def ensure_topic(self, name: str, partitions: int = 1) -> Topic:
        """Return the topic, created if there is none; one that is there may have other partitions."""
        try:
            return await self.create_topic(name, partitions)
        except errors.TopicExists:
            return await self.describe_topic(name)

    async def delete_topic(self, name: str) -> None:
        """Delete a topic and its records. Raises UnknownTopic."""
        request = service_pb2.DeleteTopicRequest(name=name)
        answer = await self._connection.call(lambda stubs: stubs.topics.DeleteTopic, request, write=True)
        self._connection.saw(answer.raft_index)
        self._connection.forget_topic(name)

    async def describe_topic(self, name: str, *, consistency: Consistency = "session") -> Topic:
        """Return a topic's partitions and offsets. Raises UnknownTopic."""
        request = service_pb2.DescribeTopicRequest(name=name, **self._fresh(consistency))
        answer = await self._connection.call(lambda stubs: stubs.topics.DescribeTopic, request)
        return topic_description(answer.topic)

    async def list_topics(self, *, consistency: Consistency = "session") -> list[Topic]:
        """Return all topics, ascending by name."""
        request = service_pb2.ListTopicsRequest(**self._fresh(consistency))
        answer = await self._connection.call(lambda stubs: stubs.topics.ListTopics, request)
        return [topic_description(topic) for topic in answer.topics]

    # Offsets. `consistency` as for a consumer.

    async def beginning_offsets(self, topic: str, *, consistency: Consistency = "session") -> dict[int, int]:
        """Return each partition's first readable offset."""
        return await self._offsets(topic, consistency, EARLIEST)

    async def end_offsets(self, topic: str, *, consistency: Consistency = "session") -> dict[int, int]:
        """Return each partition's offset after the last readable record."""
        return await self._offsets(topic, consistency, LATEST)

    async def offsets_for_time(
        self, topic: str, moment: Moment, *, consistency: Consistency = "session"
    ) -> dict[int, int]:
        """Return each partition's first offset appended at or after `moment`, or its end.

        `moment`: a datetime, milliseconds since 1970, or how long ago: a timedelta or "-1h30m".
        """
        return await self._offsets(topic, consistency, parse_moment(moment))

    async def _offsets(self, topic: str, consistency: Consistency, where: StartAt) -> dict[int, int]:
        partitions = range(await self._connection.partitions(topic))
        wanted = [(partition, where) for partition in partitions]
        offsets, _ = await look_up(self._connection, topic, wanted, self._fresh(consistency))
        return dict(zip(partitions, offsets, strict=True))

    def _fresh(self, consistency: Consistency) -> dict[str, Any]:
        """Return the fields that say how fresh an answer must be."""
        token = 0 if consistency == "committed" else self.session_token
        return {"consistency": consistency_of(consistency), "min_raft_index": token}

    # The cluster.

    async def status(self, *, local: bool = False, node: str = "", timeout_ms: int = 0) -> ClusterStatus:
        """Return the state of every node that answers, or with `local` of the asked one alone.

        Without `node`, another one is asked where the first knows no leader: it may be cut off, or removed.
        """
        request = service_pb2.StatusRequest(local=local, timeout_ms=timeout_ms)
        address = await self._connection.address_of(node) if node else ""
        answer = await self._connection.call(lambda stubs: stubs.cluster.Status, request, node=address)
        if not (local or node or answer.leader_id):
            answer = await self._connection.status_of_others(request) or answer
        return cluster_status(answer)

    async def set_sync_policy(self, policy: SyncPolicy) -> None:
        """Set when nodes sync: "always" (before acknowledging), "interval" or "os"."""
        if policy not in get_args(SyncPolicy):
            expected = ", ".join(get_args(SyncPolicy))
            raise errors.UnknownOption(f"policy: expected one of {expected}, got {policy!r}")
        request = service_pb2.SetSyncPolicyRequest(policy=f"SYNC_{policy.upper()}")
        answer = await self._connection.call(lambda stubs: stubs.cluster.SetSyncPolicy, request, write=True)
        self._connection.saw(answer.raft_index)

    async def sum_segments(self, node: str, *, bytes_per_second: int = 0) -> list[SegmentSum]:
        """Have one node, given by id or address, read, verify and sum up its sealed segments.

        The node reads at that rate; 0 leaves it to the node. It takes as long as it takes.
        """
        address = await self._connection.address_of(node)
        request = service_pb2.SumSegmentsRequest(bytes_per_second=bytes_per_second)
        try:
            return [
                SegmentSum(each.base, each.last_index, each.bytes, each.crc32c, each.chain, each.error)
                async for each in self._connection.stubs(address).cluster.SumSegments(request)
            ]
        except grpc.aio.AioRpcError as error:
            raise from_rpc(error, address) from error

    async def compare_replicas(self, *, bytes_per_second: int = 0) -> Comparison:
        """Have every node sum up its sealed segments, one node after the other, and compare them.

        Each reads at that rate; 0 leaves it to the node. Damage and silence are part of the answer.
        """
        sums: dict[str, list[SegmentSum]] = {}
        silent: dict[str, str] = {}
        for node in (await self.status()).nodes:
            if not node.reachable:
                silent[node.node_id] = node.error
                continue
            try:
                sums[node.node_id] = await self.sum_segments(node.node_id, bytes_per_second=bytes_per_second)
            except errors.QuorumlogError as error:
                silent[node.node_id] = error.message
        return comparison(sums, silent)

    async def check_health(self, service: str = "", *, node: str = "", timeout_ms: int = 3_000) -> bool:
        """Ask a node, given by id or address (or any), whether it serves: by the gRPC health protocol.

        `service`: "" serves reads; "leader" leads; "voter" counts in elections; "intact" has nothing damaged.
        Raises UnknownOption where there is no such service, ConnectionFailed where the node does not answer.
        """
        address = await self._connection.address_of(node) if node else ""
        request = health_pb2.HealthCheckRequest(service=service)
        try:
            answer = await self._connection.call(
                lambda stubs: stubs.health.Check, request, node=address, timeout_s=timeout_ms / 1000
            )
        except errors.InvalidRequest as error:
            raise errors.UnknownOption(f"service: the node knows no {service!r}") from error
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    # Who takes part.

    async def members(self) -> tuple[Member, ...]:
        """Return the members, ascending by node id, as the leader has them."""
        return (await self.status()).members

    async def add_member(
        self, node_id: str, peer_address: str, *, timeout_ms: int = 60_000
    ) -> tuple[Member, ...]:
        """Add a node, wait until it is a full member, and return the members.

        It is a learner until it has caught up. Raises MembershipRefused; OutcomeUnknown where it has not by
        then: it goes on by itself, and asking again waits on.
        """
        request = service_pb2.AddMemberRequest(node_id=node_id, peer_address=peer_address)
        try:
            answer = await self._connection.call(
                lambda stubs: stubs.cluster.AddMember, request, write=True, timeout_s=timeout_ms / 1000
            )
        except errors.OutcomeUnknown as error:
            error.hint = (
                f"{node_id} is made a full member as soon as it runs and has caught up: ask again to wait "
                "on, and see `quorumlog cluster members`"
            )
            raise
        return self._changed(answer)

    async def remove_member(self, node_id: str, *, timeout_ms: int = 30_000) -> tuple[Member, ...]:
        """Remove a node and return the members that are left. One that leads hands over first.

        Raises UnknownNode, MembershipRefused, TransferFailed, OutcomeUnknown.
        """
        request = service_pb2.RemoveMemberRequest(node_id=node_id)
        try:
            answer = await self._connection.call(
                lambda stubs: stubs.cluster.RemoveMember, request, write=True, timeout_s=timeout_ms / 1000
            )
        except errors.UnknownNode as error:
            if not error.repeated:
                raise
            return await self.members()  # an attempt whose answer was lost has done it
        return self._changed(answer)

    async def transfer_leadership(self, target: str = "", *, timeout_ms: int = 0) -> str:
        """Hand leadership to a node, or without `target` to the follower that is furthest; return who leads.

        Writes wait meanwhile, so `timeout_ms` is short: 2 s where it is 0. Raises UnknownNode,
        TransferFailed.
        """
        request = service_pb2.TransferLeadershipRequest(target=target, timeout_ms=timeout_ms)
        answer = await self._connection.call(
            lambda stubs: stubs.cluster.TransferLeadership, request, write=True
        )
        return str(answer.leader_id)

    async def check_stop(self, node_id: str) -> StopCheck:
        """Ask the leader whether the cluster would go on without this node. Raises UnknownNode."""
        request = service_pb2.CheckStopRequest(node_id=node_id)
        answer = await self._connection.call(lambda stubs: stubs.cluster.CheckStop, request, write=True)
        return StopCheck(node_id, answer.safe, answer.reason)

    def _changed(self, answer: service_pb2.MembersResponse) -> tuple[Member, ...]:
        self._connection.saw(answer.raft_index)
        return members_of(answer.members)
