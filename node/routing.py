"""Where a write goes: to this node's engine, or to the leader's.

- A node that leads does it. Another hands the request's bytes to the leader over a channel that stays open,
  marked x-no-forward, so that a call is forwarded once and never in a circle.
- What was surely not applied (the leader has just moved, no connection was there) is tried again until the
  deadline, when leadership changes or after a short pause. What may have been applied is never repeated.
- Without a leader a call waits for an election's time, then gets NO_LEADER.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

import grpc

from quorumlog.node.call import Call
from quorumlog.node.channels import Channels
from quorumlog.node.errors import TRY_AGAIN, Relayed, relayed
from quorumlog.node.reasons import Reason, Refusal
from quorumlog.node.signals import Signal
from quorumlog.raft.engine import Engine, Role
from quorumlog.raft.errors import Dropped, NotLeader

# Requests that wait here for the leader's answer, together: the leader bounds its own queue, not ours.
_FORWARDING_BYTES = 64 * 1024 * 1024
# Between attempts while nothing is heard of a change: the other node may know of it first.
_PAUSE_S = 0.02
# Then it is asked again who leads: the one named may have just died. Connecting goes on meanwhile.
_CONNECT_S = 0.1

UnaryCallable: TypeAlias = "grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]"


class _Place(enum.Enum):
    HERE = enum.auto()
    LEADER = enum.auto()
    NOWHERE_YET = enum.auto()


@dataclass(frozen=True, slots=True)
class Write:
    """One write call. `apply` does it on this node, given the seconds that are left."""

    method: str  # full gRPC name, e.g. /quorumlog.v1.Log/Produce
    raw: bytes
    call: Call
    timeout_s: float
    apply: Callable[[float], Awaitable[bytes]]


class Router:
    """See the module."""

    def __init__(self, engine: Engine, channels: Channels, leader_wait_s: float) -> None:
        """`leader_wait_s`: how long a write waits while no leader is known."""
        self._engine = engine
        self._channels = channels
        self._leader_wait_s = leader_wait_s
        self._forwarding_bytes = 0
        self._changed = Signal()
        engine.on_role.append(self._on_role)
        engine.on_applied.append(self._on_applied)

    async def submit(self, write: Write) -> bytes:
        """Return the answer. Raises what the engine or the leader said, or a Refusal."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        deadline = start + write.timeout_s
        while True:
            seen = self._changed.count
            try:
                return await self._attempt(write, deadline - loop.time())
            except (NotLeader, Dropped) as error:
                failure: Exception = error
            except (Relayed, Refusal) as error:
                if not _may_try_again(error):
                    raise
                failure = error
            if write.call.no_forward and self._engine.role is not Role.LEADER:
                raise failure
            # Waiting for a leader is worth an election's time; for a known one to take over, the deadline.
            until = (
                deadline if self._engine.leader_id is not None else min(deadline, start + self._leader_wait_s)
            )
            if loop.time() >= until:
                raise failure
            await self._changed.wait(seen, min(_PAUSE_S, until - loop.time()))

    async def leader_channel(self, call: Call, timeout_s: float) -> grpc.aio.Channel | None:
        """Return a connected channel to the leader, to relay a stream; None where this node leads."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + min(timeout_s, self._leader_wait_s)
        while True:
            seen = self._changed.count
            place = self._place()
            if place is _Place.HERE:
                return None
            if call.no_forward and self._engine.role is not Role.LEADER:
                raise self.not_leader()
            if place is _Place.LEADER:
                channel = await self._channels.ready(
                    self._leader_address(), min(_CONNECT_S, deadline - loop.time())
                )
                if channel is not None:
                    return channel
            if loop.time() >= deadline:
                raise self.not_leader()
            await self._changed.wait(seen, min(_PAUSE_S, deadline - loop.time()))

    async def _attempt(self, write: Write, left_s: float) -> bytes:
        place = self._place()
        if place is _Place.HERE:
            return await write.apply(left_s)
        if place is _Place.NOWHERE_YET or write.call.no_forward:
            raise self.not_leader()
        return await self._forward(write, left_s)

    async def _forward(self, write: Write, left_s: float) -> bytes:
        size = len(write.raw)
        if self._forwarding_bytes + size > _FORWARDING_BYTES:
            raise Refusal(Reason.BUSY, f"{self._forwarding_bytes} bytes wait here for the leader's answer")
        self._forwarding_bytes += size
        try:
            return await self._ask_leader(write, left_s)
        finally:
            self._forwarding_bytes -= size

    async def _ask_leader(self, write: Write, left_s: float) -> bytes:
        address = self._leader_address()
        channel = await self._channels.ready(address, min(left_s, _CONNECT_S))
        if channel is None:
            raise Refusal(
                Reason.NO_LEADER, f"the leader, {self._engine.leader_id}, is not reached at {address}"
            )
        method: UnaryCallable = channel.unary_unary(write.method)
        try:
            return bytes(await method(write.raw, timeout=left_s, metadata=write.call.forwarding))
        except grpc.aio.AioRpcError as error:
            raise translated(error, address) from error

    def _place(self) -> _Place:
        engine = self._engine
        if engine.is_leader:
            return _Place.HERE
        # A leader whose first entry is not applied yet will be ready in a moment.
        if engine.role is Role.LEADER or engine.leader_client_address is None:
            return _Place.NOWHERE_YET
        return _Place.LEADER

    def _leader_address(self) -> str:
        address = self._engine.leader_client_address
        assert address is not None, "_place says where the leader is"
        return address

    def not_leader(self) -> NotLeader:
        """Return who leads instead of this node, as far as it knows."""
        engine = self._engine
        return NotLeader(engine.leader_id, engine.leader_client_address, engine.term)

    def _on_role(self, role: Role, term: int, leader_id: str | None) -> None:
        self._changed.fire()

    def _on_applied(self) -> None:
        # A leader becomes ready by applying its first entry, which is no change of role.
        if self._engine.role is Role.LEADER:
            self._changed.fire()


def _may_try_again(error: Relayed | Refusal) -> bool:
    reason = error.reason if isinstance(error, Relayed) else error.refused.reason.value
    return reason in TRY_AGAIN


def translated(error: grpc.aio.AioRpcError, address: str) -> Exception:
    """What a forwarded call's failure means. Without a word of ours, the leader may have done it."""
    from_service = relayed(error)
    if from_service is not None:
        return from_service
    if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
        # gRPC's own refusal (too many calls): the call was not begun.
        return Refusal(Reason.BUSY, f"the leader at {address}: {error.details()}")
    said = f"{error.code().name}: {error.details()}"
    return Refusal(
        Reason.OUTCOME_UNKNOWN, f"the leader at {address} gave no answer ({said}); it may have done it"
    )
