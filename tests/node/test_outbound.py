"""Readers who do not read: told so, cut where others wait for room, and never in the way of others."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from quorumlog.node import outbound as module
from quorumlog.node.outbound import Outbound, cut_connection
from quorumlog.node.reasons import Refusal
from quorumlog.proto import service_pb2
from tests.node.conftest import StartNode
from tests.support import raw_http2
from tests.support.local_node import TIMEOUT_S, LocalNode, batch_of, error_info, until
from tests.support.raw_http2 import RawHttp2
from tests.support.waiting import UNIT_S

CONSUME = "/quorumlog.v1.Log/Consume"
FETCH = "/quorumlog.v1.Log/Fetch"


async def stuck(node: LocalNode, method: str, count: int = 1) -> RawHttp2:
    """A connection with calls whose answers it will never take."""
    request = {
        CONSUME: service_pb2.ConsumeRequest(topic="orders"),
        FETCH: service_pb2.FetchRequest(topic="orders"),
    }
    connection = await asyncio.to_thread(RawHttp2, node.address, window=0)
    for _ in range(count):
        await asyncio.to_thread(connection.call, method, request[method].SerializeToString())
    return connection


@pytest.fixture
async def node(start_node: StartNode) -> LocalNode:
    """A node that does not wait long for its readers, with some records."""
    node = await start_node(limits__write_timeout="300ms")
    await node.create("orders")
    await node.produce(batch_of("orders", [bytes(100_000)]))
    return node


def outbound_of(node: LocalNode) -> Outbound:
    return node.node._parts.door.outbound


async def until_soon(condition: Callable[[], bool]) -> None:
    """Wait for what happens on another thread or by a timer."""
    async with asyncio.timeout(20 * UNIT_S):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event of its own
            await asyncio.sleep(0.01)


async def test_a_stream_that_is_not_read_ends_and_says_why(node: LocalNode) -> None:
    """Row 45: the status is there when the reader comes back; other readers notice nothing."""
    for _ in range(100):
        await node.produce(batch_of("orders", [bytes(200_000)]))
    stream = node.log.Consume(service_pb2.ConsumeRequest(topic="orders"), timeout=TIMEOUT_S)
    first = await stream.read()
    assert first.batches
    outbound = outbound_of(node)
    time = asyncio.get_running_loop().time
    await until_soon(lambda: any(time() - held.since_s > 0.4 for held in outbound._held))
    assert len((await node.fetch("orders", 0)).batches) > 0
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await read_on(stream)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert error_info(caught.value).reason == "SLOW_READER"
    await until(lambda: outbound.held_bytes == 0)


async def test_who_does_not_read_holds_up_no_other_who_follows(node: LocalNode) -> None:
    """Row 45: what all are given is made once, and each gets it at its own pace."""
    with contextlib.closing(await stuck(node, CONSUME, 3)):
        await until_soon(lambda: len(outbound_of(node)._held) == 3)
        stream = node.log.Consume(service_pb2.ConsumeRequest(topic="orders", offset=1), timeout=TIMEOUT_S)
        for number in range(1, 20):
            await node.produce(batch_of("orders", [bytes(1000)]))
            (batch,) = (await stream.read()).batches
            assert batch.base_offset == number
        stream.cancel()


async def read_on(stream: Any) -> None:
    while await stream.read():
        pass


@pytest.mark.parametrize("method", [CONSUME, FETCH])
async def test_what_is_not_taken_counts_until_the_connection_ends(node: LocalNode, method: str) -> None:
    """Row 45: gRPC holds it, whatever was told."""
    connection = await stuck(node, method, 5)
    outbound = outbound_of(node)
    await until_soon(lambda: outbound.held_bytes >= 5 * 100_000)
    with contextlib.closing(connection):
        await asyncio.sleep(0.5)  # beyond the write timeout
        assert outbound.held_bytes >= 5 * 100_000
    await until_soon(lambda: outbound.held_bytes == 0)


@pytest.mark.parametrize("method", [CONSUME, FETCH])
async def test_who_waits_for_room_gets_it_from_those_who_do_not_read(
    node: LocalNode, method: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Row 45: memory stays within its bound, and others are served."""
    monkeypatch.setattr(module, "BYTES", 550_000)
    monkeypatch.setattr(module, "_SHORT_S", 0.05)
    outbound = outbound_of(node)
    outbound.write_timeout_s = 20.0
    with contextlib.closing(await stuck(node, method, 10)) as connection:
        await until_soon(lambda: "its connection is cut" in caplog.text)
        assert outbound.held_bytes <= 550_000
        assert (await node.fetch("orders", 0)).batches
        assert await asyncio.to_thread(connection.read_until, raw_http2.GOAWAY) is None
    await until_soon(lambda: outbound.held_bytes == 0)


async def test_too_many_overdue_answers_are_cut_and_a_few_are_left(
    node: LocalNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 45: calls that nobody reads do not use up the calls at once."""
    monkeypatch.setattr(module, "_OVERDUE_MAX", 2)
    outbound = outbound_of(node)
    connections = [await stuck(node, FETCH) for _ in range(5)]
    await until_soon(lambda: len(outbound._held) == 2)
    for connection in connections[:3]:
        assert await asyncio.to_thread(connection.read_until, raw_http2.GOAWAY) is None
    for connection in connections:
        connection.close()
    await until_soon(lambda: not outbound._held)


async def test_without_anybody_to_cut_room_is_waited_for_and_then_refused() -> None:
    outbound = Outbound(0.05, lambda peer: pytest.fail(peer))
    held = outbound.hold(module.BYTES)
    with pytest.raises(Refusal, match="wait for their readers"):
        await outbound.reserve(1)
    asyncio.get_running_loop().call_later(0.01, held.release)
    outbound.write_timeout_s = 20.0
    again = await outbound.reserve(module.BYTES)
    again.release()
    again.release()
    assert outbound.held_bytes == 0
    larger = await outbound.reserve(2 * module.BYTES)  # alone, whatever its size
    larger.release()


def test_exactly_one_connection_is_cut() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port = listening.getsockname()[1]
        local, other = socket.socketpair()  # a Unix socket has no address to compare
        clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(3)]
        servers = [listening.accept()[0] for _ in clients]
        own = clients[1].getsockname()[1]
        cut_connection(f"ipv4:127.0.0.1:{own}", port + 1)  # another port of this process
        cut_connection("unix:/tmp/x", port)
        cut_connection("nonsense", port)
        for each in servers:
            each.sendall(b"x")
        cut_connection(f"ipv4:127.0.0.1:{own}", port)
        with pytest.raises(OSError, match=r"pipe|reset"):
            servers[1].sendall(b"x")
        assert [client.recv(10) for client in clients] == [b"x"] * 3
        assert clients[1].recv(10) == b""
        for each in (servers[0], servers[2]):
            each.sendall(b"y")
        for each in (*clients, *servers, local, other):
            each.close()


async def test_an_answer_to_who_has_hung_up_counts_no_more(node: LocalNode) -> None:
    """Row 50."""
    calls = [node.log.Consume(service_pb2.ConsumeRequest(topic="orders")) for _ in range(20)]
    for call in calls:
        await call.read()
        call.cancel()
    fetches = [asyncio.ensure_future(node.fetch("orders", 1, max_wait_ms=20_000)) for _ in range(20)]
    await asyncio.sleep(0)
    for fetch in fetches:
        fetch.cancel()
    await asyncio.gather(*fetches, return_exceptions=True)
    outbound = outbound_of(node)
    await until_soon(lambda: not outbound._held)
    assert outbound.held_bytes == 0
