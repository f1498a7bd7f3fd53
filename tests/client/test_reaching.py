"""connect(), in both flavours: it fails in time, with every endpoint and its cause."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import grpc.aio
import pytest

from quorumlog.client import errors
from quorumlog.command.local_nodes import free_ports
from tests.client.conftest import addresses
from tests.support.fake_node import FakeCluster
from tests.support.flavours import Connect
from tests.support.waiting import UNIT_S

Both = tuple[Connect, FakeCluster]


@contextmanager
def listening() -> Iterator[str]:
    """Something that is no node: it takes connections and says nothing."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield f"127.0.0.1:{listener.getsockname()[1]}"


async def test_every_endpoint_is_asked_and_each_says_why(both: Both) -> None:
    connect, _ = both
    (closed,) = free_ports(1)
    with listening() as silent:
        servers = [silent, f"127.0.0.1:{closed}", "no-such-host.invalid:1"]
        async with asyncio.timeout(20 * UNIT_S):
            with pytest.raises(errors.ConnectionFailed, match=r"no node answered within 1 s") as failed:
                await connect(servers, connect_timeout_ms=1000).connect()
    causes = {attempt.address: attempt.cause for attempt in failed.value.attempts}
    assert list(causes) == servers
    assert causes[servers[1]] == "connection refused"
    assert causes[servers[2]] == "the name does not resolve"


async def test_endpoints_that_do_not_answer_delay_nobody(both: Both) -> None:
    connect, cluster = both
    with listening() as first, listening() as second:
        client = connect([first, second, *addresses(cluster)], connect_timeout_ms=int(600_000 * UNIT_S))
        await client.connect()
        await client.close()


async def test_without_a_leader_every_node_says_so(both: Both) -> None:
    connect, cluster = both
    cluster.leader = None
    with pytest.raises(errors.NoLeader, match=r"nobody leads the cluster; waited 0\.3 s") as failed:
        await connect(addresses(cluster), connect_timeout_ms=300).connect()
    assert [attempt.address for attempt in failed.value.attempts] == addresses(cluster)
    assert all("it knows no leader (follower in term 1)" in each.cause for each in failed.value.attempts)
    async with connect(addresses(cluster), require_leader=False) as client:
        assert await client.end_offsets("one") == {0: 0}


async def test_a_leader_that_comes_in_time_is_enough(both: Both) -> None:
    connect, cluster = both
    cluster.leader = None
    connecting = asyncio.create_task(connect(addresses(cluster), connect_timeout_ms=60_000).connect())
    asked = cluster.nodes["n1"]
    while not asked.statuses:  # noqa: ASYNC110 - the nodes may run on another loop
        await asyncio.sleep(0.01)
    cluster.leader = "n2"
    await connecting


async def test_what_is_not_a_node_is_told_at_once_and_does_not_stand_in_the_way(both: Both) -> None:
    connect, cluster = both
    alien = grpc.aio.server()
    address = f"127.0.0.1:{alien.add_insecure_port('127.0.0.1:0')}"
    await alien.start()
    try:
        with pytest.raises(errors.Unsupported, match="not a quorumlog node, or of another version"):
            await connect(address, connect_timeout_ms=int(600_000 * UNIT_S)).connect()
        async with connect([address, *addresses(cluster)], route="any") as client:
            for number in range(4):  # whatever is asked first
                async with client.producer() as producer:
                    assert (await producer.send("one", b"x")).offset == number
                assert await client.end_offsets("one") == {0: number + 1}
                assert (await client.consumer("one", start=number).getone()).offset == number
    finally:
        await alien.stop(None)
