"""Real nodes under load, and a byte that changes on one disk: noticed, fenced, fetched, equal again."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path

import grpc
import pytest

from tests.cluster.load import Load, check_replica
from tests.conftest import StartCluster
from tests.support.nodes import NodeCluster
from tests.support.waiting import UNIT_S, eventually

SETTINGS = {"log.segment_bytes": "64KiB", "log.scrub_mb_per_s": 0}


def sealed_logs(cluster: NodeCluster, node_id: str) -> list[Path]:
    """The log files that are final on a node, oldest first: those whose successor's state is there."""
    directory = cluster[node_id].data / "group-0" / "log"
    states = {int(path.stem) for path in directory.glob("*.state")}
    logs = sorted(directory.glob("*[0-9].log"))
    return [path for path, after in itertools.pairwise(logs) if int(after.stem) in states]


def content(path: Path) -> bytes:
    """A log file without its synced slots, in which replicas differ; any other as it is."""
    data = bytearray(path.read_bytes())
    if path.suffix == ".log":
        data[1024:1048] = data[2048:2072] = bytes(24)
    return bytes(data)


def flip(path: Path, position: int) -> None:
    with path.open("r+b") as file:
        file.seek(position)
        (byte,) = file.read(1)
        file.seek(position)
        file.write(bytes([byte ^ 16]))


def verify(cluster: NodeCluster) -> tuple[int, dict[str, object]]:
    """Run `quorumlog verify` against the cluster."""
    command = [sys.executable, "-m", "quorumlog.command.main", "verify", "--json"]
    command += ["--servers", ",".join(cluster.bootstrap_servers)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60 * UNIT_S, check=False)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def alarms(cluster: NodeCluster, node_id: str) -> list[str] | None:
    status = cluster.status(node_id)
    return None if status is None else list(status.alarms)


@pytest.mark.parametrize("suffix", ["log", "view", "state"])
def test_a_flipped_byte_is_found_by_verify_and_repaired_under_load(
    start_cluster: StartCluster, suffix: str
) -> None:
    """Row 7: other replicas serve, nothing is truncated, and the files are equal in the end."""
    cluster = start_cluster(settings=SETTINGS)
    cluster.replica("n1").create_topic("t")
    damaged = cluster.followers()[0]
    with Load("a", cluster.bootstrap_servers, "t") as load:
        while len(sealed_logs(cluster, damaged)) < 4:
            load.wait_for_more(200)
        victim = sealed_logs(cluster, damaged)[1].with_suffix(f".{suffix}")
        before = content(victim)
        flip(victim, len(before) - 3)
        code, report = verify(cluster)
        assert code == 1
        assert list(report["damage"]) == [damaged]  # type: ignore[call-overload]
        load.wait_for_more()
        eventually(lambda: content(victim) == before, f"{victim.name} is repaired", 60)
        eventually(lambda: alarms(cluster, damaged) == [], "the alarm is cleared", 30)
        load.wait_for_more()
        promised = load.finish()
    for node in cluster:
        check_replica(cluster.replica(node.node_id), "t", promised)
    log = cluster[damaged].log_text()
    assert f"damaged, not served until it is repaired: {victim.name}" in log
    assert f"{victim.name} is whole again" in log
    code, report = verify(cluster)
    assert (code, report["equal"], report["damage"]) == (0, True, {})
    for path in sealed_logs(cluster, damaged):
        others = [cluster[name].data / "group-0" / "log" / path.name for name in cluster.running]
        assert len({content(other) for other in others}) == 1, path.name


def test_the_scrub_finds_it_by_itself_and_readers_are_told_meanwhile(start_cluster: StartCluster) -> None:
    """With its peers away the node keeps the fence: DATA_LOSS with the segment, and the rest is served."""
    settings = {**SETTINGS, "log.scrub_mb_per_s": 100, "log.scrub_period": "200ms"}
    cluster = start_cluster(settings=settings)
    cluster.replica("n1").create_topic("t")
    damaged = cluster.followers()[0]
    with Load("a", cluster.bootstrap_servers, "t") as load:
        while len(sealed_logs(cluster, damaged)) < 3:
            load.wait_for_more(200)
        promised = load.finish()
    cluster.wait_until_applied(promised[-1].raft_index)
    others = [node.node_id for node in cluster if node.node_id != damaged]
    for name in others:
        cluster[name].kill()
    victim = sealed_logs(cluster, damaged)[1]
    flip(victim, victim.stat().st_size - 3)
    eventually(lambda: alarms(cluster, damaged) == [f"DAMAGE {victim.name}"], "the scrub finds it", 60)
    with pytest.raises(grpc.RpcError) as caught:
        cluster.replica(damaged).values("t")
    assert caught.value.code() == grpc.StatusCode.DATA_LOSS
    assert victim.name in caught.value.details()
    cluster.start(*others)
    eventually(lambda: alarms(cluster, damaged) == [], "it is repaired when a peer is back", 60)
    check_replica(cluster.replica(damaged), "t", promised)
