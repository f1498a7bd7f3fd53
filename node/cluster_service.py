"""quorumlog.v1.Cluster: how every node is doing, and the settings that are replicated."""

from __future__ import annotations

import asyncio
import time
from importlib import metadata

import grpc

from quorumlog.node.call import Call, Gate, parse, unary
from quorumlog.node.channels import Channels
from quorumlog.node.commands import run_alone
from quorumlog.node.config import Config
from quorumlog.node.machine import LogMachine
from quorumlog.node.reasons import Reason, Refusal
from quorumlog.node.results import PolicySet
from quorumlog.node.routing import Router, UnaryCallable, Write
from quorumlog.proto import entry_pb2, service_pb2
from quorumlog.raft.engine import Engine, PeerState

NAME = "quorumlog.v1.Cluster"

_TIMEOUT_S = 1.0  # for the other nodes' answers, where the caller names none
_TIMEOUT_S_MAX = 30.0


class ClusterService:
    """The methods of the service."""

    def __init__(
        self,
        engine: Engine,
        machine: LogMachine,
        router: Router,
        channels: Channels,
        config: Config,
        client_address: str,
    ) -> None:
        self._engine = engine
        self._machine = machine
        self._router = router
        self._channels = channels
        self._config = config
        self._client_address = client_address
        self._started = time.monotonic()
        self._version = metadata.version("quorumlog")

    def handler(self, gate: Gate) -> grpc.GenericRpcHandler:
        """Return what the gRPC server calls."""
        methods = {
            "Status": unary(self.status, gate),
            "SetSyncPolicy": unary(self.set_sync_policy, gate),
        }
        return grpc.method_handlers_generic_handler(NAME, methods)

    async def status(self, raw: bytes, call: Call) -> bytes:
        """Describe this node, and every other that answers in time."""
        request = parse(service_pb2.StatusRequest, raw)
        nodes: list[service_pb2.NodeStatus] = [self._own_status()]
        if not request.local:
            asked_s = min(request.timeout_ms / 1000, _TIMEOUT_S_MAX) if request.timeout_ms else _TIMEOUT_S
            timeout_s = call.time_left_s(asked_s)
            asking = (self._ask(peer, timeout_s) for peer in self._engine.peers.values())
            nodes += await asyncio.gather(*asking)
        nodes.sort(key=lambda node: node.node_id)
        return service_pb2.StatusResponse(
            cluster=self._config.cluster,
            leader_id=self._engine.leader_id or "",
            term=self._engine.term,
            nodes=nodes,
            sync_policy=entry_pb2.SyncPolicy.Name(self._machine.sync_policy),
        ).SerializeToString()

    async def set_sync_policy(self, raw: bytes, call: Call) -> bytes:
        """Replicate the policy that acknowledgements are given under."""
        request = parse(service_pb2.SetSyncPolicyRequest, raw)
        if request.policy not in entry_pb2.SyncPolicy.values():
            raise Refusal(Reason.BAD_REQUEST, f"policy: unknown: {request.policy}")

        async def apply(left_s: float) -> bytes:
            setting = entry_pb2.SetSyncPolicy(policy=request.policy)
            operation = entry_pb2.Operation(set_sync_policy=setting)
            committed, result = await run_alone(self._engine, operation, left_s)
            assert isinstance(result, PolicySet), f"the result of a setting is not {result!r}"
            return service_pb2.SetSyncPolicyResponse(raft_index=committed.index).SerializeToString()

        timeout_s = call.time_left_s(self._config.limits.produce_timeout_s)
        return await self._router.submit(Write(f"/{NAME}/SetSyncPolicy", raw, call, timeout_s, apply))

    def _own_status(self) -> service_pb2.NodeStatus:
        status = self._engine.status()
        by_id = sorted(status.peers.values(), key=lambda peer: peer.node_id)
        return service_pb2.NodeStatus(
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
            version=self._version,
            uptime_ms=int((time.monotonic() - self._started) * 1000),
            alarms=sorted(status.alarms),
        )

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


def _peer_status(peer: PeerState, last_index: int) -> service_pb2.PeerStatus:
    # Where this node does not lead it knows nothing of the peer's log: no state, no lag.
    lag = max(0, last_index - peer.match_index) if peer.state else 0
    return service_pb2.PeerStatus(
        node_id=peer.node_id,
        connected=peer.connected,
        state=peer.state,
        match_index=peer.match_index,
        lag=lag,
    )


def _unreachable(peer: PeerState, why: str) -> service_pb2.NodeStatus:
    return service_pb2.NodeStatus(
        node_id=peer.node_id,
        client_address=peer.client_address or "",
        peer_address=peer.peer_address,
        reachable=False,
        error=why,
    )
