"""Reaching a cluster: every endpoint is asked at the same time, again and again, and why it does not do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Protocol

from quorumlog.client import errors
from quorumlog.client.errors import Attempt, QuorumlogError
from quorumlog.client.retries import Backoff
from quorumlog.proto import service_pb2

# Endpoints are asked again at most so often: one of them may just be starting.
_BACKOFF = Backoff(first_s=0.05, most_s=0.5)

# Loopback answers in less, whatever little time there is.
MIN_LOOK_S = 0.05

# What will not be better in a moment. All others are asked again until the time is over.
_FINAL_CAUSES = ("TLS handshake failed", "not a gRPC server")


class Connection(Protocol):
    """What is asked."""

    def random(self) -> float:
        """Return a number between 0 and 1."""

    async def look_at(self, address: str, timeout_s: float) -> service_pb2.StatusResponse:
        """Return what a node says of itself. Raises QuorumlogError."""


async def reach(
    connection: Connection, addresses: list[str], timeout_s: float, *, require_leader: bool
) -> None:
    """Return as soon as one node answers (and, if that is required, knows who leads).

    Raises ConnectionFailed, NoLeader where nodes answer and none leads, or what all of them say alike
    (Unsupported, Unauthenticated): with each endpoint and its cause, within `timeout_s`.
    """
    deadline_s = time.monotonic() + timeout_s
    causes: dict[str, QuorumlogError] = {}
    asking = {
        asyncio.create_task(_ask(connection, address, deadline_s, causes, require_leader=require_leader))
        for address in addresses
    }
    try:
        while asking:
            done, asking = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
            if any(task.result() for task in done):
                return
    finally:
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
    raise _failure(causes, addresses, timeout_s)


async def _ask(
    connection: Connection,
    address: str,
    deadline_s: float,
    causes: dict[str, QuorumlogError],
    *,
    require_leader: bool,
) -> bool:
    """Return True when the node does, False when it will not or the time is over: `causes` says why."""
    failures = 0
    while failures == 0 or time.monotonic() < deadline_s:
        try:
            status = await connection.look_at(address, max(MIN_LOOK_S, deadline_s - time.monotonic()))
            if status.leader_id or not require_leader:
                return True
            causes[address] = errors.NoLeader("", attempts=[Attempt(address, _no_leader(status))])
        except QuorumlogError as error:
            # At the very end there is no time for an answer: what was said before tells more.
            if address not in causes or not error.outcome_unknown:
                causes[address] = error
            if _is_final(error):
                return False
        failures += 1
        pause_s = _BACKOFF.pause_s(failures, connection.random)
        await asyncio.sleep(min(pause_s, max(0.0, deadline_s - time.monotonic())))
    return False


def _no_leader(status: service_pb2.StatusResponse) -> str:
    about = [f"{node.role} in term {status.term}" for node in status.nodes]
    about += [f"it does not vote: {node.not_voting}" for node in status.nodes if node.not_voting]
    return f"it knows no leader ({'; '.join(about)})"


def _is_final(error: QuorumlogError) -> bool:
    cause = error.attempts[-1].cause if error.attempts else ""
    return not error.retriable or cause.startswith(_FINAL_CAUSES)


def _failure(causes: Mapping[str, QuorumlogError], addresses: list[str], timeout_s: float) -> QuorumlogError:
    attempts = [attempt for address in addresses for attempt in causes[address].attempts]
    kinds = {type(error) for error in causes.values()}
    if errors.NoLeader in kinds:
        return errors.NoLeader(f"nobody leads the cluster; waited {timeout_s:g} s", attempts=attempts)
    (first, *_) = causes.values()
    if len(kinds) == 1 and not first.retriable:
        return type(first)(first.message, attempts=attempts)
    waited = "" if all(map(_is_final, causes.values())) else f" within {timeout_s:g} s"
    return errors.ConnectionFailed(f"no node answered{waited}", attempts=attempts)
