"""The cluster that is measured, and what is asked of a peer's cluster to do the same work."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import grpc.aio

from quorumlog.client import AsyncClient
from quorumlog.client.errors import QuorumlogError
from quorumlog.command.local_nodes import LocalNode, LocalNodes
from quorumlog.proto import service_pb2_grpc

_LOOK_AGAIN_S = 0.02
_SETTLED_S = 60.0
_CLOSE_ENTRIES = 20


class Side(Protocol):
    """A running cluster that acknowledges writes. `kind` names its writer, `conditions` describes it."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def conditions(self) -> str: ...
    @property
    def pids(self) -> list[int]:
        """Of all processes."""

    async def addresses(self) -> list[str]:
        """Where clients connect, the leader first."""

    async def target(self) -> str:
        """Make and return something new to write to."""

    async def leader(self) -> str:
        """Return the node that leads."""

    async def settled(self) -> None:
        """Wait until every node follows the leader closely."""

    async def transfer(self) -> None:
        """Hand leadership to another node."""

    async def kill(self, name: str) -> None:
        """SIGKILL; returns when it is gone."""

    def start(self, name: str) -> None:
        """Start a node that was killed."""


@dataclass(frozen=True)
class Ours:
    """Our nodes, and a client of them."""

    nodes: LocalNodes
    client: AsyncClient
    numbers: itertools.count[int]

    name = kind = "quorumlog"

    @property
    def conditions(self) -> str:
        """Replication and sync policy."""
        count = len(self.nodes.nodes)
        return f"replication {count}, sync always"

    @property
    def pids(self) -> list[int]:
        """Of all processes."""
        return [node.pid for node in self.nodes.nodes]

    async def addresses(self) -> list[str]:
        """All of them: the client finds the leader."""
        return [node.client_address for node in self.nodes.nodes]

    async def target(self, partitions: int = 1) -> str:
        """Make a topic."""
        return (await self.client.create_topic(f"bench-{next(self.numbers)}", partitions)).name

    async def leader(self) -> str:
        """Return the leader's node id."""
        return (await self.client.status()).leader_id

    async def followers(self) -> list[LocalNode]:
        """Return the other nodes."""
        leader = await self.leader()
        return [node for node in self.nodes.nodes if node.node_id != leader]

    async def settled(self) -> None:
        """Wait until every node answers and has what the leader has, nearly."""
        async with asyncio.timeout(_SETTLED_S):
            while not await self._is_settled():
                self.nodes.check()
                await asyncio.sleep(_LOOK_AGAIN_S)

    async def _is_settled(self) -> bool:
        try:
            status = await self.client.status()
        except QuorumlogError:
            return False
        if not (status.leader_id and all(node.reachable for node in status.nodes)):
            return False
        same = {(node.leader_id, node.term) for node in status.nodes}
        applied = [node.applied_index for node in status.nodes]
        count = len(self.nodes.nodes)
        return len(status.nodes) == count and len(same) == 1 and max(applied) - min(applied) < _CLOSE_ENTRIES

    async def transfer(self) -> None:
        """To the follower that is furthest."""
        await self.client.transfer_leadership()

    async def kill(self, name: str) -> None:
        """SIGKILL; returns when it is gone."""
        node = self.nodes.node(name)
        node.kill()
        assert await node.ended(_SETTLED_S)

    def start(self, name: str) -> None:
        """Start a node that was killed."""
        self.nodes.node(name).start()


def log_stub(channel: grpc.aio.Channel) -> Any:
    """Return what asks one node, without routing and retries."""
    return service_pb2_grpc.LogStub(channel)  # type: ignore[no-untyped-call]


@asynccontextmanager
async def our_side(directory: Path, count: int = 3) -> AsyncIterator[Ours]:
    """Start nodes below `directory`, wait until they follow a leader, and stop them in the end."""
    async with LocalNodes(directory, count) as nodes:
        servers = [node.client_address for node in nodes.nodes]
        async with AsyncClient(servers, connect_timeout_ms=30_000) as client:
            ours = Ours(nodes, client, itertools.count(1))
            await ours.settled()
            yield ours
