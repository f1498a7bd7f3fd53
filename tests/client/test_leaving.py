"""Leaving a block by an exception or Ctrl-C, in both flavours: bounded; it says what was not delivered."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import AsyncExitStack
from typing import Any

import pytest

from quorumlog.client import errors
from quorumlog.client import producer as producer_module
from tests.client.conftest import addresses
from tests.support.fake_node import FakeCluster, Fault
from tests.support.flavours import Connect
from tests.support.waiting import UNIT_S

Both = tuple[Connect, FakeCluster]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(producer_module, "ABORT_FLUSH_S", 0.2)


def stall(cluster: FakeCluster) -> None:
    """Let nothing be acknowledged any more."""
    for node in cluster.nodes.values():
        node.stalled = True


@pytest.mark.parametrize("inner", [True, False], ids=["producer block", "client block"])
async def test_an_exception_says_what_was_given_up(
    both: Both, inner: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(KeyError) as left:
        await leave(both, inner=inner)
    said = "4 records were given up unacknowledged (t/0: 3, t/1: 1)"
    assert left.value.__notes__ == [said]
    assert said in caplog.text


async def leave(both: Both, *, inner: bool) -> None:
    connect, cluster = both
    async with connect(addresses(cluster)) as client, AsyncExitStack() as block:
        producer = client.producer()
        if inner:
            await block.enter_async_context(producer)
        await producer.send("t", b"delivered")
        stall(cluster)
        for partition in (0, 0, 1, 0):
            await producer.submit("t", b"x", partition=partition)
        raise KeyError


async def test_what_was_refused_is_said_too_and_what_is_delivered_needs_no_word(both: Both) -> None:
    connect, cluster = both
    async with connect(addresses(cluster)) as client:
        with pytest.raises(KeyError) as left:
            await submit_and_leave(client)
        assert not hasattr(left.value, "__notes__")
        cluster.nodes["n1"].faults.append(Fault.BAD_BATCH)
        with pytest.raises(KeyError) as left:
            await submit_and_leave(client)
        (note,) = left.value.__notes__
        assert note.startswith("1 records were not delivered: bad_batch")


async def submit_and_leave(client: Any) -> None:
    async with client.producer() as producer:
        await producer.submit("one", b"x")
        raise KeyError


async def test_closing_the_client_raises_for_what_was_not_delivered_and_closes_all(both: Both) -> None:
    connect, cluster = both
    client = connect(addresses(cluster))
    await client.connect()
    first, second = client.producer(), client.producer()
    await second.send("one", b"1")
    cluster.nodes["n1"].faults.append(Fault.BAD_BATCH)
    await first.submit("one", b"2")
    with pytest.raises(errors.DeliveryFailed):
        await client.close()
    for producer in (first, second):
        with pytest.raises(errors.ClientClosed):
            await producer.send("one", b"3")


SYNCHRONOUS = """
import signal, threading
from quorumlog.client import Client, producer
producer.ABORT_FLUSH_S = 0.2
with Client("{address}") as client, client.producer() as producer:
    for number in range(5):
        producer.submit("one", b"x")
    threading.Timer(0.1, signal.raise_signal, (signal.SIGINT,)).start()
    producer.flush()
"""
ASYNCHRONOUS = """
import asyncio, signal, threading
from quorumlog.client import AsyncClient, producer
producer.ABORT_FLUSH_S = 0.2
async def main():
    async with AsyncClient("{address}") as client, client.producer() as producer:
        for number in range(5):
            await producer.submit("one", b"x")
        threading.Timer(0.1, signal.raise_signal, (signal.SIGINT,)).start()
        await producer.flush()
asyncio.run(main())
"""


@pytest.mark.parametrize("script", [SYNCHRONOUS, ASYNCHRONOUS], ids=["sync", "aio"])
async def test_ctrl_c_ends_a_flush_and_says_what_was_not_delivered(cluster: FakeCluster, script: str) -> None:
    cluster.nodes["n1"].faults.extend([Fault.HANG] * 100)
    command = [sys.executable, "-c", script.format(address=cluster.nodes["n1"].address)]
    done = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=60 * UNIT_S, check=False
    )
    assert done.returncode == -2, done.stderr  # as killed by SIGINT: what shells expect
    lines = done.stderr.splitlines()
    assert lines[-1] == "KeyboardInterrupt" or lines[-2] == "KeyboardInterrupt", done.stderr
    said = [line for line in lines if "5 records were given up unacknowledged (one/0: 5)" in line]
    assert len(said) == 2, done.stderr  # logged, and a note of the exception
