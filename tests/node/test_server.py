"""A node's life: start, health, reflection, limits, a graceful stop; and the process around it."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from quorumlog.node.directory import DirectoryRefused
from quorumlog.proto import service_pb2, service_pb2_grpc
from quorumlog.storage.errors import Locked
from tests.node.conftest import StartNode
from tests.support.local_node import TIMEOUT_S, LocalNode, batch_of, config_for, error_info, until


async def test_health_tells_reads_from_leading(start_node: StartNode) -> None:
    node = await start_node(leads=False)
    assert await node.health_of("") == "SERVING"
    assert await node.health_of("quorumlog.v1.Log") == "SERVING"
    assert await node.health_of("leader") == "NOT_SERVING"
    watch = node.health.Watch(health_pb2.HealthCheckRequest(service="leader"), timeout=TIMEOUT_S)
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
    node.engine.lead()
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
    node.engine.follow("n2", "127.0.0.1:1")
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
    watch.cancel()


async def test_services_can_be_discovered(node: LocalNode) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(node.channel)
    call = stub.ServerReflectionInfo(timeout=TIMEOUT_S)
    await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
    names = {service.name for service in (await call.read()).list_services_response.service}
    assert {
        "quorumlog.v1.Log",
        "quorumlog.v1.Topics",
        "quorumlog.v1.Cluster",
        "grpc.health.v1.Health",
    } <= names
    call.cancel()


async def test_a_method_that_does_not_exist_is_unimplemented(node: LocalNode) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await node.channel.unary_unary("/quorumlog.v1.Log/Erase")(b"", timeout=TIMEOUT_S)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_calls_at_once_are_bounded(start_node: StartNode) -> None:
    node = await start_node(limits__concurrent_calls="3")
    await node.create("orders")
    streams = [node.log.Consume(service_pb2.ConsumeRequest(topic="orders")) for _ in range(3)]
    await until(lambda: len(node.node._parts.consuming._tails._signals) > 0)
    refused = node.log.Consume(service_pb2.ConsumeRequest(topic="orders"), timeout=TIMEOUT_S)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await refused.read()
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    for stream in streams:
        stream.cancel()


async def test_a_stop_lets_writes_finish_and_ends_streams(start_node: StartNode) -> None:
    node = await start_node(limits__shutdown_grace="10s")
    await node.create("orders")
    consumer = node.log.Consume(service_pb2.ConsumeRequest(topic="orders"), timeout=TIMEOUT_S)
    waiting = asyncio.ensure_future(node.fetch("orders", 0, max_wait_ms=20_000))
    producer = node.log.ProduceStream(timeout=TIMEOUT_S)
    node.engine.hold()
    await producer.write(service_pb2.ProduceRequest(batches=[batch_of("orders")]))
    unary = asyncio.ensure_future(node.produce(batch_of("orders")))
    await until(lambda: node.engine.waiting_count == 2)
    stopping = asyncio.ensure_future(node.node.stop())
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await consumer.read()
    assert error_info(caught.value).reason == "SHUTTING_DOWN"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await waiting
    assert error_info(caught.value).reason == "SHUTTING_DOWN"
    node.engine.release()
    assert sorted([(await producer.read()).results[0].base_offset, (await unary).base_offset]) == [0, 1]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await producer.read()
    assert error_info(caught.value).reason == "SHUTTING_DOWN"
    await stopping
    node._is_stopped = True


async def test_what_was_written_is_there_after_a_restart(start_node: StartNode) -> None:
    first = await start_node(log__segment_entries="4")
    await first.create("orders", 2)
    for number in range(11):
        await first.produce(batch_of("orders", [b"%d" % number]))
    await first.stop()
    second = await start_node(log__segment_entries="4")
    response = await second.fetch("orders", 0)
    assert [batch.base_offset for batch in response.batches] == list(range(11))
    assert (await second.produce(batch_of("orders"))).base_offset == 11


async def test_a_directory_in_use_or_of_another_is_refused(node: LocalNode, tmp_path: Path) -> None:
    with pytest.raises(Locked):
        await LocalNode.start(config_for(tmp_path / "n1"))
    with pytest.raises(DirectoryRefused):
        await LocalNode.start(config_for(tmp_path / "n1", "n2"))


async def test_a_client_port_in_use_is_an_error(node: LocalNode, tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"client\.listen: .* cannot be bound"):
        await LocalNode.start(config_for(tmp_path / "other", client__listen=node.address))


@contextmanager
def process(directory: Path, *flags: str) -> Iterator[subprocess.Popen[str]]:
    """A node process of a cluster of one, killed in the end."""
    command = [sys.executable, "-m", "quorumlog.node", "--node-id", "n1", "--data", str(directory)]
    command += ["--client-listen", "127.0.0.1:0", "--peer-listen", "127.0.0.1:0", *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as node:
        try:
            yield node
        finally:
            node.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_process_says_where_it_serves_and_ends_with_zero(tmp_path: Path, number: signal.Signals) -> None:
    with process(tmp_path / "data") as node:
        assert node.stdout is not None
        ready = json.loads(node.stdout.readline())
        assert ready["node_id"] == "n1"
        assert ready["data"] == str(tmp_path / "data")
        with grpc.insecure_channel(ready["client_address"]) as channel:
            topics = service_pb2_grpc.TopicsStub(channel)
            created = topics.CreateTopic(
                service_pb2.CreateTopicRequest(name="a", partitions=1), timeout=TIMEOUT_S
            )
            assert created.topic.name == "a"
        node.send_signal(number)
        assert node.wait(TIMEOUT_S) == 0
        assert node.stdout.read() == "", "one line, and nothing else"


def test_a_peer_port_in_use_ends_the_process_with_one(tmp_path: Path) -> None:
    with process(tmp_path / "first") as first:
        assert first.stdout is not None
        taken = json.loads(first.stdout.readline())["peer_address"]
        with process(tmp_path / "second", "--peer-listen", taken) as second:
            assert second.wait(TIMEOUT_S) == 1
            assert second.stderr is not None
            assert "cannot start" in second.stderr.read()


def test_a_process_that_cannot_start_says_why_and_ends_with_one(tmp_path: Path) -> None:
    with process(tmp_path / "data", "--cluster", "first") as node:
        assert node.stdout is not None
        node.stdout.readline()
        node.terminate()
        assert node.wait(TIMEOUT_S) == 0
    with process(tmp_path / "data", "--cluster", "second") as node:
        assert node.wait(TIMEOUT_S) == 1
        assert node.stderr is not None
        assert "the directory belongs to first" in node.stderr.read()


async def test_health_says_whether_what_is_stored_is_intact(tmp_path: Path) -> None:
    node = await LocalNode.start(config_for(tmp_path))
    assert await node.health_of("intact") == "SERVING"
    for alarms, expected in (({"DAMAGE 1.log", "DISK_FULL"}, "NOT_SERVING"), ({"DISK_FULL"}, "SERVING")):
        node.engine.alarms = alarms
        for listener in node.engine.on_alarms:
            listener()
        while await node.health_of("intact") != expected:
            pass
    assert await node.health_of("") == "SERVING"
    await node.stop()
