"""How this node is doing, and the others: what the gRPC service, /status and the metrics tell alike."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from importlib import metadata

import grpc

from quorumlog.node.channels import Channels
from quorumlog.node.config import Config
from quorumlog.node.host import Host
from quorumlog.node.machine import LogMachine
from quorumlog.node.routing import UnaryCallable
from quorumlog.proto import entry_pb2, service_pb2
from quorumlog.raft.engine import Engine, PeerState

NAME = "quorumlog.v1.Cluster"  # whose Status the other nodes are asked


class Statuses:
    """The status of each node, as this one learns it."""

    def __init__(
        self,
        engine: Engine,
        machine: LogMachine,
        channels: Channels,
        config: Config,
        client_address: str,
        host: Host | None = None,
    ) -> None:
        """`host`: None leaves out what the machine under the node would say."""
        self._engine = engine
        self._machine = machine
        self._channels = channels
        self._config = config
        self._client_address = client_address
        self._host = host
        self._started = time.monotonic()
        self.version = metadata.version("quorumlog")
        self.http_address = ""  # advertised; empty: nothing is served over HTTP

    async def gather(self, timeout_s: float | None) -> service_pb2.StatusResponse:
        """Describe this node and every other that answers in time; None: this node alone."""
        nodes = [self.own()]
        if timeout_s is not None:
            asking = (self._ask(peer, timeout_s) for peer in self._engine.peers.values())
            nodes += await asyncio.gather(*asking)
        nodes.sort(key=lambda node: node.node_id)
        return service_pb2.StatusResponse(
            cluster=self._config.cluster,
            leader_id=self._engine.leader_id or "",
            term=self._engine.term,
            nodes=nodes,
            sync_policy=entry_pb2.SyncPolicy.Name(self._machine.sync_policy),
        )

    def own(self) -> service_pb2.NodeStatus:
        """Describe this node."""
        status = self._engine.status()
        by_id = sorted(status.peers.values(), key=lambda peer: peer.node_id)
        syncs = self._engine.counters().syncs
        message = service_pb2.NodeStatus(
            node_id=status.node_id,
            client_address=self._client_address,
            peer_address=str(self._config.peer.advertised),
            reachable=True,
            role=status.role.value,
            term=status.term,
            leader_id=status.leader_id or "",
            commit_index=status.commit_index,
            applied_index=status.applied_index,
            log_start=status.first_index,
            log_end=status.last_index,
            durable_index=status.durable_index,
            peers=[_peer_status(peer, status.last_index) for peer in by_id],
            log_bytes=status.log_bytes,
            segments=status.segments,
            version=self.version,
            uptime_ms=int((time.monotonic() - self._started) * 1000),
            alarms=sorted(status.alarms),
            members=sorted_members(self._engine.members),
            not_voting=self._engine.why_not_voting or "",
            http_address=self.http_address,
            fsync_count=sum(syncs.counts),
            fsync_p50_us=round(syncs.quantile_s(0.5) * 1e6),
            fsync_p99_us=round(syncs.quantile_s(0.99) * 1e6),
        )
        if self._host is not None:
            self._host.describe(message)
        return message

    async def _ask(self, peer: PeerState, timeout_s: float) -> service_pb2.NodeStatus:
        if peer.client_address is None:
            return _unreachable(peer, "never connected to this node, so its client address is not known")
        request = service_pb2.StatusRequest(local=True).SerializeToString()
        method: UnaryCallable = self._channels.to(peer.client_address).unary_unary(f"/{NAME}/Status")
        try:
            raw = await method(request, timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            return _unreachable(peer, f"{error.code().name}: {error.details()}")
        (node,) = service_pb2.StatusResponse.FromString(raw).nodes
        return node


def sorted_members(members: Mapping[str, entry_pb2.Member]) -> list[entry_pb2.Member]:
    """Return the members, ascending by id."""
    return [members[name] for name in sorted(members)]


def lag_of(peer: PeerState, last_index: int) -> int:
    """Return how many entries a peer lacks; where this node does not lead it knows nothing of that: 0."""
    return max(0, last_index - peer.match_index) if peer.state else 0


def _peer_status(peer: PeerState, last_index: int) -> service_pb2.PeerStatus:
    return service_pb2.PeerStatus(
        node_id=peer.node_id,
        connected=peer.connected,
        state=peer.state,
        match_index=peer.match_index,
        lag=lag_of(peer, last_index),
        refused=peer.refused,
    )


def _unreachable(peer: PeerState, why: str) -> service_pb2.NodeStatus:
    return service_pb2.NodeStatus(
        node_id=peer.node_id,
        client_address=peer.client_address or "",
        peer_address=peer.peer_address,
        reachable=False,
        error=why,
    )
