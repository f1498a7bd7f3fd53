"""`quorumlog doctor` against nodes of this process, and against what is none."""

from __future__ import annotations

import json
from typing import Any

from quorumlog.command.local_nodes import free_ports
from tests.command.test_main import Done, run
from tests.support.fake_node import FakeCluster


def checks(done: Done) -> dict[tuple[str, str], dict[str, Any]]:
    return {(check["name"], check["subject"]): check for check in json.loads(done.out)["checks"]}


async def test_what_a_node_is_too_old_to_say_is_told_as_that(cluster: FakeCluster) -> None:
    done = await run(cluster, "doctor", "-o", "json")
    told = checks(done)
    assert (done.code, json.loads(done.out)["outcome"]) == (0, "unknown")
    assert told["leader", ""]["found"] == "n1 leads in term 1"
    assert told["quorum", ""]["outcome"] == "ok"
    for name in ("clock", "disk", "fsync", "descriptors"):
        assert told[name, "n2"]["outcome"] == "unknown"
        assert "too old to say" in told[name, "n2"]["found"]


async def test_a_node_that_is_gone_is_a_failure(cluster: FakeCluster) -> None:
    gone = cluster.nodes["n3"].address
    await cluster.nodes["n3"].stop()
    done = await run(cluster, "doctor")
    assert done.code == 1
    line, advice = next(
        (line, below)
        for line, below in zip(done.out.splitlines(), done.out.splitlines()[1:], strict=False)
        if line.split()[:3] == ["failed", "server", gone]
    )
    assert line.endswith("connection refused")
    assert advice.strip().startswith("do: nothing listens there")
    assert "the loss of one more stops all writes" in done.out


async def test_nobody_leads(cluster: FakeCluster) -> None:
    cluster.leader = None
    done = await run(cluster, "doctor", "-o", "json")
    assert done.code == 1
    assert checks(done)["leader", ""]["outcome"] == "failed"


async def test_nobody_is_there() -> None:
    (port,) = free_ports(1)
    done = await run(None, "doctor", "-s", f"127.0.0.1:{port}")
    assert done.code == 1
    assert done.out.startswith(f"failed  server  127.0.0.1:{port}  connection refused\n")
    assert done.out.endswith("\n1 check: 1 failed\n")
