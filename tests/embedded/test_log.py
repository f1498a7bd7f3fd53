"""A log within a program: everything that a client can do, the same files, one process at a time."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import quorumlog
from quorumlog.client import (
    AsyncClient,
    ClientClosed,
    DataDamaged,
    DirectoryLocked,
    DirectoryRefused,
    TopicPartition,
    UnknownOption,
    UnknownTopic,
)
from quorumlog.command.local_nodes import free_ports
from quorumlog.node.directory import open_directory
from quorumlog.raft import membership
from quorumlog.raft.membership import Member, decode, encode
from tests.embedded.conftest import Open
from tests.support.waiting import UNIT_S

_WRITER = """
import quorumlog, sys
with quorumlog.open(sys.argv[1]) as log:
    log.ensure_topic("orders")
    with log.producer() as producer:
        for number in range(10**9):
            place = producer.send("orders", b"%d" % number)
            print(place.offset, flush=True)
"""


async def values(log: Any, topic: str = "orders", **options: Any) -> list[bytes]:
    async with log.consumer(topic, end="latest", **options) as consumer:
        return [record.value async for record in consumer]


async def test_what_was_sent_is_read_and_is_there_when_it_is_opened_again(open_log: Open, path: Path) -> None:
    async with open_log(path) as log:
        topic = await log.ensure_topic("orders", partitions=2)
        assert len(topic.partitions) == 2
        async with log.producer(compression_type="zstd") as producer:
            place = await producer.send("orders", b"one", key=b"k", headers={"h": b"1"}, partition=1)
            assert (place.partition, place.offset, place.sync_policy) == (1, 0, "always")
            await producer.send_many("orders", [b"%d" % number for number in range(1000)], partition=0)
        assert await values(log, partitions=[0], start=-2) == [b"998", b"999"]
        with pytest.raises(UnknownTopic, match="nothing"):
            await values(log, "nothing")
    async with open_log(path) as log:
        assert await log.end_offsets("orders") == {0: 1000, 1: 1}
        async with log.consumer(end="latest") as consumer:
            await consumer.assign([TopicPartition("orders", 1)])
            (record,) = [record async for record in consumer]
        assert (record.key, record.value, record.headers) == (b"k", b"one", (("h", b"1"),))


async def test_a_consumer_follows_and_a_transactionless_repeat_is_no_duplicate(
    open_log: Open, path: Path
) -> None:
    async with open_log(path) as log:
        await log.ensure_topic("orders")
        async with log.consumer("orders") as consumer, log.producer() as producer:
            for number in range(20):
                sent = asyncio.ensure_future(producer.send("orders", b"%d" % number))
                assert (await consumer.getone()).value == b"%d" % number
                await sent


async def test_administration(open_log: Open, path: Path) -> None:
    async with open_log(path) as log:
        status = await log.status()
        assert [(node.node_id, node.role) for node in status.nodes] == [("n1", "leader")]
        assert await log.check_health()
        await log.set_sync_policy("os")
        assert (await log.status()).sync_policy == "os"
        await log.create_topic("orders")
        await log.delete_topic("orders")
        assert await log.list_topics(consistency="linearizable") == []
        assert (await log.compare_replicas()).equal
        assert not (await log.check_stop("n1")).safe


async def test_one_at_a_time_opens_a_directory(open_log: Open, path: Path) -> None:
    async with open_log(path):
        with pytest.raises(DirectoryLocked, match=str(path)) as locked:
            async with open_log(path):
                pass
        assert "quorumlog serve" in locked.value.hint
        other = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", "import quorumlog, sys; quorumlog.open(sys.argv[1])", str(path)),
            stderr=subprocess.PIPE,
        )
        _, said = await other.communicate()
        assert (other.returncode, b"DirectoryLocked" in said) == (1, True)
    async with open_log(path):
        pass


async def test_no_port_is_opened(open_log: Open, path: Path) -> None:
    def listening() -> set[str]:
        found = set()
        for name in os.listdir("/proc/self/fd"):
            try:
                with socket.socket(fileno=os.dup(int(name))) as each:
                    if each.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                        found.add(str(each.getsockname()))
            except OSError:
                continue
        return found

    before = listening()
    async with open_log(path) as log:
        await log.ensure_topic("orders")
        assert listening() == before


async def test_settings_are_those_of_a_node(open_log: Open, path: Path) -> None:
    async with open_log(path, settings={"log.segment_bytes": "64KiB"}) as log:
        await log.ensure_topic("orders")
        async with log.producer() as producer:
            for _ in range(4):
                await producer.send("orders", bytes(40_000))
        assert (await log.status()).nodes[0].segments > 1
    with pytest.raises(UnknownOption, match=r"the nearest is log\.segment_bytes"):
        async with open_log(path, settings={"log.segment_byte": 1}):
            pass
    for key in ("client.listen", "peers", "tls.key", "node_id"):
        with pytest.raises(UnknownOption, match="quorumlog serve"):
            async with open_log(path, settings={key: "x"}):
                pass


async def test_whose_directory_it_is(open_log: Open, path: Path, tmp_path: Path) -> None:
    async with open_log(path, node_id="home", cluster="house"):
        pass
    async with open_log(path) as log:  # as what it was made
        status = await log.status()
        assert (status.cluster, status.leader_id) == ("house", "home")
    with pytest.raises(DirectoryRefused, match="the directory belongs to home"):
        async with open_log(path, node_id="n2"):
            pass
    file = tmp_path / "file"
    file.write_text("no directory")
    with pytest.raises(OSError, match="Not a directory"):
        async with open_log(file):
            pass
    (path / "node-id").write_text("something else")
    with pytest.raises(DirectoryRefused, match="not the identity of a node"):
        async with open_log(path):
            pass


async def test_a_node_of_a_larger_cluster_is_refused(
    open_log: Open, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_log(path) as log:
        while not (await log.status()).members[0].directory_id:  # the log says who they are from then on
            await log.list_topics(consistency="linearizable")
    members = [Member(node_id=name, peer_address=f"{name}:1") for name in ("n1", "n2", "n3")]
    three = decode(1, encode(members))
    monkeypatch.setattr(membership, "decode", lambda index, payload: three)
    with pytest.raises(DirectoryRefused, match="a cluster with n2, n3"):
        async with open_log(path):
            pass
    monkeypatch.undo()
    async with open_log(path):  # it was let go of
        pass


async def test_damage_is_told_and_nothing_is_cut_off(open_log: Open, path: Path) -> None:
    async with open_log(path) as log:
        await log.ensure_topic("orders")
        async with log.producer() as producer:
            await producer.send("orders", b"precious" * 100)
    (file,) = (path / "group-0" / "log").glob("*.log")
    at = file.read_bytes().index(b"precious")
    with file.open("r+b") as damaged:
        damaged.seek(at)
        damaged.write(b"PRECIOUS")
    with pytest.raises(DataDamaged, match=file.name):
        async with open_log(path):
            pass
    with file.open("r+b") as mended:  # which shows that what follows is still there
        mended.seek(at)
        mended.write(b"precious")
    async with open_log(path) as log:
        assert await values(log) == [b"precious" * 100]


async def test_nothing_works_before_it_is_opened_or_after_it_is_closed(path: Path) -> None:
    log = quorumlog.open_async(path)
    with pytest.raises(ClientClosed, match="not open"):
        await log.list_topics()
    async with log:
        await log.ensure_topic("orders")
    with pytest.raises(ClientClosed):
        await log.list_topics()


def test_what_was_acknowledged_survives_the_process(path: Path) -> None:
    writer = subprocess.Popen([sys.executable, "-c", _WRITER, str(path)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    offsets = [int(writer.stdout.readline()) for _ in range(50)]
    writer.send_signal(signal.SIGKILL)
    offsets += [int(line) for line in writer.stdout]
    writer.wait()
    writer.stdout.close()
    assert offsets == list(range(len(offsets)))
    with quorumlog.open(path) as log, log.consumer("orders", end="latest") as consumer:
        read = [record.value for record in consumer]
    assert read[: len(offsets)] == [b"%d" % number for number in offsets]
    assert len(read) - len(offsets) in (0, 1)  # one may have been written and not acknowledged


@pytest.mark.cluster
async def test_a_node_serves_the_same_directory_later(open_log: Open, path: Path) -> None:
    async with open_log(path) as log:
        await log.ensure_topic("orders")
        async with log.producer() as producer:
            await producer.send("orders", b"embedded")
    client, peer = (f"127.0.0.1:{port}" for port in free_ports(2))
    node = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "quorumlog.command.main", "serve", "--data", str(path), "--node-id", "n1"),
        *("--client-listen", client, "--peer-listen", peer),
        stdout=subprocess.PIPE,
    )
    try:
        async with AsyncClient(client, connect_timeout_ms=int(30_000 * UNIT_S)) as served:
            assert await values(served) == [b"embedded"]
            async with served.producer() as producer:
                await producer.send("orders", b"served")
        with pytest.raises(DirectoryLocked):
            async with open_log(path):
                pass
    finally:
        node.terminate()
        await node.communicate()
    assert node.returncode == 0
    async with open_log(path) as log:
        assert await values(log) == [b"embedded", b"served"]


def test_the_identity_of_a_new_directory_is_that_of_serve(path: Path) -> None:
    with quorumlog.open(path):
        pass
    assert open_directory(path, "n1", "quorumlog").path == path


async def test_two_who_open_one_object_at_once_share_it(path: Path) -> None:
    log = quorumlog.open_async(path)
    await asyncio.gather(log.connect(), log.connect())
    await log.close()
