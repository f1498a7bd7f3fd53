"""Nodes in this process, for the tests of the services."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from quorumlog.client.tls import Tls
from tests.support.local_node import LocalNode, config_for

StartNode = Callable[..., Awaitable[LocalNode]]


@pytest.fixture
async def start_node(tmp_path: Path) -> AsyncIterator[StartNode]:
    """A function that starts a node; all are stopped in the end."""
    nodes: list[LocalNode] = []

    async def start(
        node_id: str = "n1", *, leads: bool = True, tls: Tls | None = None, **settings: str
    ) -> LocalNode:
        # Nothing is left to wait for when a test ends: a stop that hangs shall not hide behind a long grace.
        settings.setdefault("limits__shutdown_grace", "2s")
        config = config_for(tmp_path / node_id, node_id, **settings)
        nodes.append(await LocalNode.start(config, leads=leads, tls=tls))
        return nodes[-1]

    yield start
    for node in reversed(nodes):
        await node.stop()


@pytest.fixture
async def node(start_node: StartNode) -> LocalNode:
    """A node that leads."""
    return await start_node()


@pytest.fixture
async def pair(start_node: StartNode) -> tuple[LocalNode, LocalNode]:
    """A leader, and a follower that takes what it commits."""
    leader = await start_node("n1")
    follower = await start_node("n2", leads=False)
    follower.follow(leader)
    return leader, follower
