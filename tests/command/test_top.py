"""`quorumlog cluster top` against nodes of this process: what stands on stdout, and how it ends."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
from typing import Any

import pytest

from quorumlog.command.local_nodes import free_ports
from tests.command.test_main import COMMAND, run, start
from tests.support.fake_node import FakeCluster
from tests.support.waiting import UNIT_S

TOP = ("cluster", "top")


async def next_line(process: asyncio.subprocess.Process) -> dict[str, Any]:
    assert process.stdout is not None
    async with asyncio.timeout(20 * UNIT_S):
        line: dict[str, Any] = json.loads(await process.stdout.readline())
    return line


async def test_blocks_where_there_is_no_terminal(cluster: FakeCluster) -> None:
    done = await run(cluster, *TOP, "-n", "2", "-i", "0.2")
    assert (done.code, done.err) == (0, "")
    assert "\x1b" not in done.out
    blocks = done.out.strip().split("\nfake ")
    assert len(blocks) == 2
    for block in blocks:
        assert "leader n1  term 1  sync always  3 of 3 nodes answer" in block
        assert [line.split()[:1] for line in block.splitlines()[3:6]] == [["n1"], ["n2"], ["n3"]]
        assert "\nt " in block


async def test_a_leader_that_goes_is_seen_by_the_others(cluster: FakeCluster) -> None:
    process = await start(cluster, *TOP, "-o", "json", "-i", "0.1")
    assert (await next_line(process))["leader_id"] == "n1"
    await cluster.nodes["n1"].stop()
    cluster.leader = None
    told: list[str] = []
    while not any(text.startswith("no leader") for text in told):
        line = await next_line(process)
        told += [event["text"] for event in line["events"]]
    assert line["leader_id"] == ""
    cluster.leader = "n3"
    while not any(text.startswith("leader n1 -> n3") for text in told):
        line = await next_line(process)
        told += [event["text"] for event in line["events"]]
    assert line["leader_id"] == "n3"
    assert [node["role"] for node in line["nodes"]] == ["no answer", "follower", "leader"]
    assert sum(text.startswith("n1 lost") for text in told) == 1, "each event stands in one line"
    process.send_signal(signal.SIGINT)
    assert await process.wait() == 130


async def test_a_node_that_hangs_holds_up_nothing(cluster: FakeCluster) -> None:
    cluster.nodes["n2"].stalled = True
    (line,) = (await run(cluster, *TOP, "-n", "1", "-o", "json")).json
    assert isinstance(line, dict)
    assert line["leader_id"] == "n1"


async def test_others_are_found_through_one(cluster: FakeCluster) -> None:
    address = cluster.nodes["n2"].address
    (line,) = (await run(None, *TOP, "-s", address, "-n", "1", "-o", "json")).json
    assert isinstance(line, dict)
    assert [node["node_id"] for node in line["nodes"]] == ["n1", "n2", "n3"]


async def test_nobody_there_is_told() -> None:
    (port,) = free_ports(1)
    done = await run(None, *TOP, "-s", f"127.0.0.1:{port}")
    assert (done.code, done.out) == (1, "")
    assert f"tried 127.0.0.1:{port}: connection refused" in done.err


@pytest.mark.parametrize("arguments", [("-n", "0"), ("-i", "0"), ("-i", "soon")])
async def test_a_wrong_call_exits_2(cluster: FakeCluster, arguments: tuple[str, ...]) -> None:
    assert (await run(cluster, *TOP, *arguments)).code == 2


async def test_q_quits_a_terminal(cluster: FakeCluster) -> None:
    ours, theirs = pty.openpty()
    servers = ",".join(node.address for node in cluster.nodes.values())
    process = await asyncio.create_subprocess_exec(
        *COMMAND, *TOP, "-s", servers, stdin=theirs, stdout=theirs, env={**os.environ, "TERM": "xterm"}
    )
    os.close(theirs)
    try:
        shown = b""
        async with asyncio.timeout(20 * UNIT_S):
            while b"q: quit" not in shown:
                shown += await asyncio.to_thread(os.read, ours, 65536)
            os.write(ours, b"q")
            assert await process.wait() == 0
        assert b"leader n1" in shown
    finally:
        os.close(ours)
