"""Fake clusters of one to three nodes in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from quorumlog.client import AsyncClient
from quorumlog.client.loop import LoopThread
from tests.support.fake_node import FakeCluster, FakeNode
from tests.support.flavours import Connect, synchronous


@pytest.fixture
async def cluster() -> AsyncIterator[FakeCluster]:
    """Three nodes; n1 leads; topic "t" has three partitions and "one" has one."""
    async with AsyncExitStack() as running:
        yield await started(running)


@pytest.fixture
def distant() -> Iterator[FakeCluster]:
    """The same, on the loop of the synchronous clients: grpc.aio serves a process best through one."""
    thread, running = LoopThread.shared(), AsyncExitStack()
    yield thread.run(started(running))
    thread.run(running.aclose())


@pytest.fixture(params=["aio", "sync"])
def both(request: pytest.FixtureRequest) -> tuple[Connect, FakeCluster]:
    """A cluster, and how to connect to it: one test for both flavours."""
    if request.param == "aio":
        return AsyncClient, request.getfixturevalue("cluster")
    return synchronous, request.getfixturevalue("distant")


async def started(running: AsyncExitStack) -> FakeCluster:
    cluster = FakeCluster()
    for node_id in ("n1", "n2", "n3"):
        await running.enter_async_context(FakeNode(cluster, node_id))
    cluster.leader = "n1"
    cluster.create("t", partitions=3)
    cluster.create("one")
    return cluster


def addresses(cluster: FakeCluster) -> list[str]:
    """Return the addresses of all nodes."""
    return [node.address for node in cluster.nodes.values()]


async def fill(client: Any, count: int, topic: str = "one", first: int = 0, partition: int = 0) -> None:
    """Send numbers, in small batches."""
    async with client.producer(max_batch_size=700) as producer:
        for number in range(first, first + count):
            await producer.submit(topic, b"%d" % number, partition=partition)
