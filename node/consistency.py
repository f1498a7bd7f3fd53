"""How fresh a read must be, and waiting until this node is that fresh."""

from __future__ import annotations

import asyncio

from quorumlog.node.call import Call
from quorumlog.node.reasons import Reason, Refusal
from quorumlog.proto import service_pb2
from quorumlog.raft.engine import Engine
from quorumlog.raft.errors import NotConfirmed

# For a read that names no deadline.
_WAIT_S = 10.0
# Before asking again whom everybody holds for the leader: the one that was asked may just have stepped down.
_PAUSE_S = 0.02


class Freshness:
    """Holds a read back until this node has applied what the caller asked for."""

    def __init__(self, engine: Engine, leader_wait_s: float) -> None:
        """`leader_wait_s`: how long a linearizable read waits while no leader is known."""
        self._engine = engine
        self._leader_wait_s = leader_wait_s

    async def reached(self, consistency: int, min_raft_index: int, call: Call) -> None:
        """Return when the read may be answered.

        Raises Refusal (NOT_CAUGHT_UP, BAD_REQUEST), NotConfirmed, Busy.
        """
        if consistency == service_pb2.CONSISTENCY_COMMITTED:
            return
        if consistency == service_pb2.CONSISTENCY_SESSION:
            await self.applied(min_raft_index, call)
        elif consistency == service_pb2.CONSISTENCY_LINEARIZABLE:
            await self._confirmed(min_raft_index, call)
        else:
            raise Refusal(Reason.BAD_REQUEST, f"consistency: unknown: {consistency}")

    async def applied(self, index: int, call: Call) -> None:
        """Return when entry `index` is applied here. Raises Refusal (NOT_CAUGHT_UP) at the deadline."""
        await self._applied(index, call.time_left_s(_WAIT_S))

    async def _confirmed(self, min_raft_index: int, call: Call) -> None:
        """Return when all that was acknowledged before this call is applied here."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + call.time_left_s(_WAIT_S)
        while True:
            left_s = deadline - loop.time()
            try:
                index = await self._engine.read_index(min(left_s, self._leader_wait_s))
                break
            except NotConfirmed:
                # As with writes: a leader is worth the deadline, none at all is worth two elections.
                if self._engine.leader_id is None or loop.time() + _PAUSE_S >= deadline:
                    raise
            await asyncio.sleep(_PAUSE_S)
        await self._applied(max(index, min_raft_index), deadline - loop.time())

    async def _applied(self, index: int, timeout_s: float) -> None:
        if self._engine.applied_index >= index:
            return
        try:
            await self._engine.wait_applied(index, timeout_s)
        except TimeoutError as error:
            applied = self._engine.applied_index
            problem = f"entry {index} was asked for, this node has applied {applied}"
            raise Refusal(Reason.NOT_CAUGHT_UP, problem, applied_index=applied) from error
