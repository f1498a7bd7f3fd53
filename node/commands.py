"""Commands of one operation: proposed, and their result or their refusal brought back."""

from __future__ import annotations

from quorumlog.node.reasons import Refusal, Refused
from quorumlog.node.results import OperationResult
from quorumlog.proto import entry_pb2
from quorumlog.proto.entry import command_fragment
from quorumlog.raft.engine import Engine
from quorumlog.raft.proposal import Committed, Proposal


async def run_alone(
    engine: Engine, operation: entry_pb2.Operation, timeout_s: float, *, solo: bool = False
) -> tuple[Committed, OperationResult]:
    """Replicate a command of one operation; `solo` keeps its entry to itself.

    Raises Refusal where the state machine refuses, raft.errors where replication fails.
    """
    fragment = command_fragment(entry_pb2.Command(operations=[operation]))
    committed = await engine.propose(Proposal(fragment, solo=solo), timeout_s)
    return committed, only_result(committed.result)


def only_result(result: object) -> OperationResult:
    """Return the result of the one operation in a command. Raises Refusal where it was refused."""
    if isinstance(result, Refused):
        raise Refusal.of(result)
    assert isinstance(result, tuple), f"the machine's results are tuples, not {result!r}"
    (single,) = result
    return single  # type: ignore[no-any-return]  # the engine carries results without looking at them
