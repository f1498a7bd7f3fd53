"""How fresh a read must be, and waiting until this node is that fresh."""

from __future__ import annotations

from quorumlog.node.call import Call
from quorumlog.node.reasons import Reason, Refusal
from quorumlog.proto import service_pb2
from quorumlog.raft.engine import Engine

# For a read that names no deadline.
_WAIT_S = 10.0


class Freshness:
    """Holds a read back until this node has applied what the caller asked for."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def reached(self, consistency: int, min_raft_index: int, call: Call) -> None:
        """Return when the read may be answered. Raises Refusal: NOT_CAUGHT_UP, UNSUPPORTED, BAD_REQUEST."""
        if consistency == service_pb2.CONSISTENCY_COMMITTED:
            return
        if consistency == service_pb2.CONSISTENCY_SESSION:
            await self.applied(min_raft_index, call)
            return
        if consistency == service_pb2.CONSISTENCY_LINEARIZABLE:
            raise Refusal(Reason.UNSUPPORTED, "consistency: linearizable reads are not available yet")
        raise Refusal(Reason.BAD_REQUEST, f"consistency: unknown: {consistency}")

    async def applied(self, index: int, call: Call) -> None:
        """Return when entry `index` is applied here. Raises Refusal (NOT_CAUGHT_UP) at the deadline."""
        if self._engine.applied_index >= index:
            return
        try:
            await self._engine.wait_applied(index, call.time_left_s(_WAIT_S))
        except TimeoutError as error:
            applied = self._engine.applied_index
            problem = f"entry {index} was asked for, this node has applied {applied}"
            raise Refusal(Reason.NOT_CAUGHT_UP, problem, applied_index=applied) from error
