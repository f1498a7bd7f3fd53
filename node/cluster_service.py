"""quorumlog.v1.Cluster: how every node is doing, who takes part and who leads, and replicated settings.

Changes of members, handing leadership over and the question whether a node can be stopped are the leader's
to answer, and go there as writes do. A leader that is to be removed hands over first; the call then goes on
at the new one by itself.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import grpc

from quorumlog.node.call import Call, Gate, generic_handler, parse
from quorumlog.node.commands import run_alone
from quorumlog.node.config import Config
from quorumlog.node.reasons import Reason, Refusal
from quorumlog.node.results import PolicySet
from quorumlog.node.routing import Router, Write
from quorumlog.node.status import NAME, Statuses, sorted_members
from quorumlog.node.sums import Sums
from quorumlog.node.values import BadValue, parse_address, parse_name
from quorumlog.proto import entry_pb2, service_pb2
from quorumlog.raft.engine import Engine

_TIMEOUT_S = 1.0  # for the other nodes' answers, where the caller names none
_TIMEOUT_S_MAX = 30.0
# For a change of members that names no deadline: a learner may have a whole log to copy.
_CHANGE_S = 30.0
_CHANGE_S_MAX = 3600.0
# Writes wait while leadership is handed over: a target that does not keep up is not worth more.
_TRANSFER_S = 2.0
_TRANSFER_S_MAX = 30.0
_NODE_ID_LENGTH_MAX = 64


class ClusterService:
    """The methods of the service."""

    def __init__(self, engine: Engine, router: Router, statuses: Statuses, config: Config) -> None:
        self._engine = engine
        self._router = router
        self._statuses = statuses
        self._config = config
        self._sums = Sums(engine)

    def handler(self, gate: Gate) -> grpc.GenericRpcHandler:
        """Return what the gRPC server calls."""
        return generic_handler(
            NAME,
            gate,
            unary={
                "Status": self.status,
                "SetSyncPolicy": self.set_sync_policy,
                "AddMember": self.add_member,
                "RemoveMember": self.remove_member,
                "TransferLeadership": self.transfer_leadership,
                "CheckStop": self.check_stop,
            },
            server_stream={"SumSegments": self._sums.sum_segments},
        )

    async def status(self, raw: bytes, call: Call) -> bytes:
        """Describe this node, and every other that answers in time."""
        request = parse(service_pb2.StatusRequest, raw)
        timeout_s = None
        if not request.local:
            asked_s = min(request.timeout_ms / 1000, _TIMEOUT_S_MAX) if request.timeout_ms else _TIMEOUT_S
            timeout_s = call.time_left_s(asked_s)
        return (await self._statuses.gather(timeout_s)).SerializeToString()

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

        timeout_s = self._config.limits.produce_timeout_s
        return await self._submit("SetSyncPolicy", raw, call, timeout_s, apply)

    async def add_member(self, raw: bytes, call: Call) -> bytes:
        """Add a node; answer when it is a full member."""
        request = parse(service_pb2.AddMemberRequest, raw)
        node_id, address = _checked(request)

        async def apply(left_s: float) -> bytes:
            return self._members(await self._engine.add_member(node_id, address, left_s))

        timeout_s = _seconds(request.timeout_ms, _CHANGE_S, _CHANGE_S_MAX)
        return await self._submit("AddMember", raw, call, timeout_s, apply)

    async def remove_member(self, raw: bytes, call: Call) -> bytes:
        """Remove a node; answer when that is committed."""
        request = parse(service_pb2.RemoveMemberRequest, raw)

        async def apply(left_s: float) -> bytes:
            self._check_known(request.node_id)
            return self._members(await self._engine.remove_member(request.node_id, left_s))

        timeout_s = _seconds(request.timeout_ms, _CHANGE_S, _CHANGE_S_MAX)
        return await self._submit("RemoveMember", raw, call, timeout_s, apply)

    async def transfer_leadership(self, raw: bytes, call: Call) -> bytes:
        """Hand leadership over; answer when the other one leads."""
        request = parse(service_pb2.TransferLeadershipRequest, raw)

        async def apply(left_s: float) -> bytes:
            leader_id = request.target
            if leader_id != self._engine.node_id:  # else what was asked for is so already
                if leader_id:
                    self._check_known(leader_id)
                leader_id = await self._engine.transfer_leadership(leader_id or None, left_s)
            return service_pb2.TransferLeadershipResponse(
                leader_id=leader_id, term=self._engine.term
            ).SerializeToString()

        timeout_s = _seconds(request.timeout_ms, _TRANSFER_S, _TRANSFER_S_MAX)
        return await self._submit("TransferLeadership", raw, call, timeout_s, apply)

    async def check_stop(self, raw: bytes, call: Call) -> bytes:
        """Say whether the cluster would go on without a node."""
        request = parse(service_pb2.CheckStopRequest, raw)

        async def apply(left_s: float) -> bytes:
            self._check_known(request.node_id)
            safe, reason = self._engine.check_stop(request.node_id)
            return service_pb2.CheckStopResponse(safe=safe, reason=reason).SerializeToString()

        return await self._submit("CheckStop", raw, call, self._config.limits.produce_timeout_s, apply)

    async def _submit(
        self,
        method: str,
        raw: bytes,
        call: Call,
        timeout_s: float,
        apply: Callable[[float], Awaitable[bytes]],
    ) -> bytes:
        left_s = call.time_left_s(timeout_s)
        return await self._router.submit(Write(f"/{NAME}/{method}", raw, call, left_s, apply))

    def _check_known(self, node_id: str) -> None:
        """Refuse a name that no member has: a slip of the pen must not look like an answer."""
        if node_id not in self._engine.members:
            names = ", ".join(sorted(self._engine.members))
            shown = node_id[:_NODE_ID_LENGTH_MAX]
            raise Refusal(Reason.UNKNOWN_NODE, f"{shown!r} is no member; members are {names}")

    def _members(self, raft_index: int) -> bytes:
        return service_pb2.MembersResponse(
            members=sorted_members(self._engine.members), raft_index=raft_index
        ).SerializeToString()


def _seconds(asked_ms: int, default_s: float, most_s: float) -> float:
    return min(asked_ms / 1000, most_s) if asked_ms else default_s


def _checked(request: service_pb2.AddMemberRequest) -> tuple[str, str]:
    """Return node id and peer address, or refuse what a configuration would: the log keeps it for good."""
    field, value = "node_id", request.node_id
    try:
        node_id = parse_name(value)
        field, value = "peer_address", request.peer_address
        address = parse_address(value)
        if address.is_wildcard or address.port == 0:
            raise BadValue("an address that the other members can connect to")
    except BadValue as error:
        raise Refusal(Reason.BAD_REQUEST, f"{field}: {error}, got {value!r}") from error
    return node_id, str(address)
