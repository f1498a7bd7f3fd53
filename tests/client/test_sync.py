"""Client, Producer, Consumer: the same names, without asyncio; the nodes run on another thread."""

from __future__ import annotations

import inspect
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack

import pytest

from quorumlog.client import (
    AsyncClient,
    AsyncConsumer,
    AsyncProducer,
    Client,
    Consumer,
    Producer,
    errors,
)
from quorumlog.client.loop import LoopThread
from quorumlog.command.local_nodes import free_ports
from tests.support.fake_node import FakeCluster, FakeNode
from tests.support.waiting import UNIT_S


@pytest.fixture
def address() -> Iterator[str]:
    """A fake node. It runs on the clients' own loop: grpc.aio serves a process best through one."""
    thread = LoopThread.shared()
    running = AsyncExitStack()

    async def start() -> str:
        cluster = FakeCluster()
        node = await running.enter_async_context(FakeNode(cluster, "n1"))
        cluster.leader = "n1"
        cluster.create("one")
        cluster.create("t", partitions=3)
        return node.address

    yield thread.run(start())
    thread.run(running.aclose())


def test_produce_and_consume(address: str) -> None:
    with Client(address) as client:
        with client.producer() as producer:
            assert producer.send("one", b"0").offset == 0
            pending = producer.submit("one", b"1", key=b"k", headers={"h": b"v"})
            assert pending.result().offset == 1
            assert pending.done
            (many,) = producer.submit_many("one", [b"2", b"3"])
            assert many.result().count == 2
            producer.send_many("one", [b"4"])
        with client.consumer("one", end="latest") as consumer:
            assert [record.value for record in consumer] == [b"0", b"1", b"2", b"3", b"4"]
            assert consumer.position("one", 0) == 5
        assert [len(batch) for batch in client.consumer("one", start=-1, end="latest").batches()] == [1]
        assert client.end_offsets("one") == {0: 5}
        assert client.session_token > 0


def test_iterating_follows_and_may_be_left_and_taken_up_again(address: str) -> None:
    with Client(address) as client, client.producer() as producer, client.consumer("one") as consumer:
        producer.send_many("one", [b"0", b"1", b"2"])
        assert next(consumer).value == b"0"
        assert consumer.position("one", 0) == 1
        assert consumer.getone().value == b"1"
        consumer.seek("one", 0, 0)
        assert [record.value for record in consumer.getmany(1000, 2)] == [b"0", b"1"]
        later = threading.Timer(0.05, producer.send, ("one", b"3"))
        later.start()
        assert [next(consumer).value for _ in range(2)] == [b"2", b"3"]
        later.join()
        assert consumer.getmany() == []


def test_what_was_submitted_is_delivered_when_the_block_is_left_by_an_exception(address: str) -> None:
    with Client(address) as client:
        with pytest.raises(RuntimeError, match="mine"):
            leave_by_an_exception(client)
        assert client.end_offsets("one") == {0: 1}


def leave_by_an_exception(client: Client) -> None:
    with client.producer() as producer:
        producer.submit("one", b"1")
        raise RuntimeError("mine")


def test_errors_are_the_same(address: str) -> None:
    with Client(address) as client:
        with pytest.raises(errors.UnknownTopic):
            client.producer().send("nope", b"1")
        with pytest.raises(errors.TopicExists):
            client.create_topic("one")
    (closed,) = free_ports(1)
    with pytest.raises(errors.ConnectionFailed, match="connection refused"):
        Client(f"127.0.0.1:{closed}", connect_timeout_ms=200).connect()


def test_ctrl_c_interrupts_a_call_that_waits(address: str) -> None:
    script = f"""
import signal, threading
from quorumlog.client import Client
with Client("{address}") as client:
    threading.Timer(0.2, signal.raise_signal, (signal.SIGINT,)).start()
    try:
        next(client.consumer("one"))
    except KeyboardInterrupt:
        print("interrupted")
"""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30 * UNIT_S, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "interrupted\n", "")


def test_calling_from_the_clients_own_loop_is_told_instead_of_hanging() -> None:
    thread = LoopThread.shared()

    async def call() -> None:
        Client().list_topics()

    with pytest.raises(RuntimeError, match="use AsyncClient"):
        thread.run(call())


@pytest.mark.parametrize(
    ("asynchronous", "synchronous"),
    [(AsyncClient, Client), (AsyncProducer, Producer), (AsyncConsumer, Consumer)],
)
def test_both_flavours_have_the_same_names_arguments_and_docstrings(
    asynchronous: type, synchronous: type
) -> None:
    only_async = {"start"}  # entering the block starts
    for name, member in inspect.getmembers(asynchronous):
        if (name.startswith("_") and name != "__init__") or name in only_async:
            continue
        assert hasattr(synchronous, name), f"{synchronous.__name__}.{name} is missing"
        other = getattr(synchronous, name)
        if name != "__init__" or asynchronous is AsyncClient:
            assert inspect.getdoc(member) == inspect.getdoc(other), f"{synchronous.__name__}.{name}"
        if inspect.isfunction(member) and name != "__init__":
            assert parameters(member) == parameters(other), f"{synchronous.__name__}.{name}"


def parameters(function: Callable[..., object]) -> list[tuple[str, object, object]]:
    """Return the name, the kind and the default of each."""
    found = inspect.signature(function).parameters.values()
    return [(each.name, each.kind, each.default) for each in found]
