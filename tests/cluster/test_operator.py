"""The operator's commands against real processes: a failover is watched, and what is wrong is found."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.conftest import StartCluster
from tests.support.nodes import NodeCluster
from tests.support.waiting import UNIT_S, eventually

COMMAND = (sys.executable, "-m", "quorumlog.command.main")


def run(cluster: NodeCluster, *arguments: str) -> subprocess.CompletedProcess[str]:
    servers = ("--servers", ",".join(cluster.bootstrap_servers))
    return subprocess.run(
        [*COMMAND, *arguments, *servers], capture_output=True, text=True, timeout=60 * UNIT_S, check=False
    )


@contextmanager
def watching(cluster: NodeCluster) -> Iterator[Iterator[dict[str, Any]]]:
    """What top says, line by line; Ctrl-C ends it."""
    servers = ("--servers", ",".join(cluster.bootstrap_servers))
    command = [*COMMAND, "cluster", "top", "-o", "json", "-i", "0.2", *servers]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield map(json.loads, process.stdout)
        finally:
            process.send_signal(signal.SIGINT)
            process.stdout.read()
            assert process.wait(20 * UNIT_S) == 130


def until(lines: Iterator[dict[str, Any]], beginning: str) -> dict[str, Any]:
    """Return the line with the first event that begins so; the test's own limit ends what never comes."""
    return next(line for line in lines if any(each["text"].startswith(beginning) for each in line["events"]))


@pytest.fixture
def cluster(start_cluster: StartCluster) -> NodeCluster:
    return start_cluster(settings={"http.listen": "127.0.0.1:0"})


def test_a_failover_is_watched_and_diagnosed(cluster: NodeCluster) -> None:
    leader = cluster.wait_for_leader()
    cluster.replica(leader).create_topic("orders")
    produced = cluster.replica(leader).produce("orders", [b"a"])
    cluster.wait_until_applied(produced.raft_index)

    def is_well() -> dict[str, Any] | None:  # a follower may just be hearing of the leader
        done = run(cluster, "doctor", "-o", "json")
        found: dict[str, Any] = json.loads(done.stdout)
        return found if done.returncode == 0 else None

    checks = eventually(is_well, "nothing has failed")["checks"]
    told = {
        check["name"] for check in checks if check["outcome"] != "unknown"
    }  # a busy machine may be warned of
    assert {"clock", "fsync", "disk", "http", "descriptors", "replication", "quorum"} <= told

    with watching(cluster) as lines:
        assert next(lines)["leader_id"] == leader
        cluster[leader].kill()
        seen = until(lines, f"leader {leader} -> ")
        successor = seen["leader_id"]
        assert successor in cluster.running
        assert {node["node_id"]: node["role"] for node in seen["nodes"]}[leader] == "no answer"

        assert run(cluster, "cluster", "status").returncode == 0
        diagnosis = run(cluster, "doctor")
        assert diagnosis.returncode == 1
        assert f"start, or mend: {leader}" in diagnosis.stdout

        cluster[leader].launch()
        cluster[leader].wait_until_serving()
        until(lines, f"{leader} back after ")

        for name in set(cluster.running) - {leader}:  # one that led on would notice later
            cluster[name].kill()
        nobody = next(line for line in lines if not line["leader_id"])
        assert [node["node_id"] for node in nobody["nodes"]] == ["n1", "n2", "n3"]

    def has_no_leader() -> bool:
        return run(cluster, "cluster", "status").returncode == 1

    eventually(has_no_leader, "the status fails", units=40)
    diagnosis = run(cluster, "doctor")
    assert diagnosis.returncode == 1
    assert "1 of 3 voters vote: no majority" in diagnosis.stdout


def test_a_benchmark_of_real_nodes(cluster: NodeCluster) -> None:
    done = run(cluster, "bench", "both", "--records", "2000", "--batch", "20", "-o", "json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["produce"]["records"] == found["end_to_end"]["records"] == 2_000
    assert run(cluster, "topic", "ls", "-o", "json").stdout.strip() == "[]", "its topic is gone"
