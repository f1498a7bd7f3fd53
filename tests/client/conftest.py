"""Fake clusters of one to three nodes in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from tests.support.fake_node import FakeCluster, FakeNode


@pytest.fixture
async def cluster() -> AsyncIterator[FakeCluster]:
    """Three nodes; n1 leads; topic "t" has three partitions and "one" has one."""
    cluster = FakeCluster()
    async with AsyncExitStack() as running:
        for node_id in ("n1", "n2", "n3"):
            await running.enter_async_context(FakeNode(cluster, node_id))
        cluster.leader = "n1"
        cluster.create("t", partitions=3)
        cluster.create("one")
        yield cluster
