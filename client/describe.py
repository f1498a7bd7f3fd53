"""What the cluster tells about itself, as values."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from quorumlog.client.core import policy_name
from quorumlog.client.translate import cause_of
from quorumlog.proto import entry_pb2, service_pb2

SyncPolicy: TypeAlias = Literal["always", "interval", "os"]


@dataclass(frozen=True, slots=True)
class Partition:
    """One partition; offsets from `start_offset` up to, not including, `high_watermark` are readable."""

    partition: int
    start_offset: int
    high_watermark: int

    @property
    def records(self) -> int:
        """How many offsets are readable."""
        return self.high_watermark - self.start_offset


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as one node sees it."""

    name: str
    topic_id: int
    created_ms: int
    partitions: tuple[Partition, ...]

    @property
    def created(self) -> dt.datetime:
        """When it was created, in UTC."""
        return dt.datetime.fromtimestamp(self.created_ms / 1000, dt.UTC)

    @property
    def records(self) -> int:
        """How many offsets are readable in all partitions."""
        return sum(partition.records for partition in self.partitions)


@dataclass(frozen=True, slots=True)
class Member:
    """A node that takes part. A learner is replicated to and not counted, until it has caught up."""

    node_id: str
    peer_address: str
    learner: bool
    directory_id: str  # of the data directory that may vote under this name; empty: none has yet


@dataclass(frozen=True, slots=True)
class StopCheck:
    """May a node be stopped now? `reason` says why not, or what will happen."""

    node_id: str
    safe: bool
    reason: str


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """A node as another one sees it; `lag` in entries, known to the leader.

    `refused`: why it gets no connection, when it came last; empty: it was not refused.
    """

    node_id: str
    connected: bool
    state: str
    match_index: int
    lag: int
    refused: str


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """One node. Where it is not reachable, `error` says why and the rest is empty."""

    node_id: str
    client_address: str
    peer_address: str
    reachable: bool
    error: str
    role: str
    term: int
    leader_id: str
    commit_index: int
    applied_index: int
    log_start: int
    log_end: int
    durable_index: int
    peers: tuple[PeerStatus, ...]
    log_bytes: int
    segments: int
    version: str
    uptime_ms: int
    alarms: tuple[str, ...]
    members: tuple[Member, ...]  # as of its log
    not_voting: str  # why its votes do not count; empty: they do
    http_address: str = ""  # advertised; empty: nothing is served over HTTP
    clock_ms: int = 0  # its clock when it answered; 0: a node that is too old to say this and what follows
    disk_free_bytes: int = 0  # where the log is
    disk_total_bytes: int = 0  # 0: not known
    fsync_count: int = 0  # since it started
    fsync_p50_us: int = 0  # half of them took at most so long
    fsync_p99_us: int = 0  # and 99 in 100
    open_files: int = 0  # descriptors of its process
    open_files_max: int = 0  # 0: no limit, or not known
    certificate_expires_ms: int = 0  # 0: plain text


@dataclass(frozen=True, slots=True)
class ClusterStatus:
    """The cluster as the asked node sees it; `leader_id` is empty where it knows none."""

    cluster: str
    leader_id: str
    term: int
    nodes: tuple[NodeStatus, ...]
    sync_policy: str

    def node(self, node_id: str) -> NodeStatus:
        """Return one node's status. Raises KeyError."""
        for node in self.nodes:
            if node.node_id == node_id:
                return node
        raise KeyError(node_id)

    @property
    def members(self) -> tuple[Member, ...]:
        """Who takes part, as the leader has it, or whoever is furthest of those that answered."""
        answering = [node for node in self.nodes if node.reachable]
        if not answering:
            return ()
        return max(answering, key=lambda node: (node.node_id == self.leader_id, node.commit_index)).members

    def peer(self, node_id: str) -> PeerStatus | None:
        """Return how the leader sees another node; None where that is not known."""
        leader = next((node for node in self.nodes if node.node_id == self.leader_id), None)
        peers = leader.peers if leader is not None else ()
        return next((peer for peer in peers if peer.node_id == node_id), None)


def topic_description(message: service_pb2.TopicDescription) -> Topic:
    """Return the value for a message."""
    partitions = tuple(
        Partition(each.partition, each.start_offset, each.high_watermark) for each in message.partitions
    )
    return Topic(message.name, message.topic_id, message.created_ms, partitions)


def cluster_status(message: service_pb2.StatusResponse) -> ClusterStatus:
    """Return the value for a message."""
    return ClusterStatus(
        cluster=message.cluster,
        leader_id=message.leader_id,
        term=message.term,
        nodes=tuple(node_status(node) for node in message.nodes),
        sync_policy=policy_name(message.sync_policy),
    )


def members_of(messages: Iterable[entry_pb2.Member]) -> tuple[Member, ...]:
    """Return the values for messages."""
    return tuple(
        Member(each.node_id, each.peer_address, each.learner, each.directory_id.hex()) for each in messages
    )


def node_status(message: service_pb2.NodeStatus) -> NodeStatus:
    """Return the value for a message."""
    peers = tuple(
        PeerStatus(each.node_id, each.connected, each.state, each.match_index, each.lag, each.refused)
        for each in message.peers
    )
    return NodeStatus(
        node_id=message.node_id,
        client_address=message.client_address,
        peer_address=message.peer_address,
        reachable=message.reachable,
        error=cause_of(message.error),
        role=message.role,
        term=message.term,
        leader_id=message.leader_id,
        commit_index=message.commit_index,
        applied_index=message.applied_index,
        log_start=message.log_start,
        log_end=message.log_end,
        durable_index=message.durable_index,
        peers=peers,
        log_bytes=message.log_bytes,
        segments=message.segments,
        version=message.version,
        uptime_ms=message.uptime_ms,
        alarms=tuple(message.alarms),
        members=members_of(message.members),
        not_voting=message.not_voting,
        http_address=message.http_address,
        clock_ms=message.clock_ms,
        disk_free_bytes=message.disk_free_bytes,
        disk_total_bytes=message.disk_total_bytes,
        fsync_count=message.fsync_count,
        fsync_p50_us=message.fsync_p50_us,
        fsync_p99_us=message.fsync_p99_us,
        open_files=message.open_files,
        open_files_max=message.open_files_max,
        certificate_expires_ms=message.certificate_expires_ms,
    )
