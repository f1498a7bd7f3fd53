"""The HTTP side of real processes: each tells the same story, and a failover is seen in it."""

from __future__ import annotations

import json

from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import StartCluster
from tests.support.nodes import NodeCluster
from tests.support.waiting import eventually
from tests.support.web import Events, fetch, opened


def metric(address: str, name: str, **labels: str) -> float | None:
    """One value; None where there is no such series."""
    for family in text_string_to_metric_families(fetch(address, "/metrics").text):
        for sample in family.samples:
            if sample.name == f"quorumlog_{name}" and sample.labels == labels:
                return float(sample.value)
    return None


def addresses(cluster: NodeCluster) -> dict[str, str]:
    return {node.node_id: node.wait_until_serving()["http_address"] for node in cluster}


def test_three_nodes_and_a_failover_over_http(start_cluster: StartCluster) -> None:
    cluster = start_cluster(settings={"http.listen": "127.0.0.1:0"})
    at = addresses(cluster)
    leader = cluster.wait_for_leader()
    follower, other = cluster.followers()
    stubs = cluster.replica(follower)
    stubs.create_topic("orders")
    produced = stubs.produce("orders", [b"a", b"b"])
    cluster.wait_until_applied(produced.raft_index)

    for name in at:
        assert fetch(at[name], "/livez").status == fetch(at[name], "/readyz").status == 200
        assert metric(at[name], "is_leader") == (name == leader)
        assert metric(at[name], "records_in_total", topic="orders") == 2
        assert (metric(at[name], "applied_index") or 0) >= produced.raft_index
        status = fetch(at[name], "/status").json
        assert status["leader_id"] == leader
        assert {node["node_id"]: node["http_address"] for node in status["nodes"]} == at
    assert metric(at[leader], "replication_lag_entries", peer=follower) is not None
    assert metric(at[follower], "replication_lag_entries", peer=leader) is None
    for durations in ("fsync", "append"):
        assert (metric(at[leader], f"{durations}_duration_seconds_count") or 0) > 0, durations

    with opened(at[other], "/topics/orders/tail") as response:
        events = Events(response)
        assert [record["value"]["text"] for record in events.next()[1]["records"]] == ["a", "b"]
        cluster[leader].kill()
        successor = cluster.wait_for_leader()
        cluster.replica(successor).produce("orders", [b"after"])
        assert json.dumps(events.next()[1]["records"]).count("after") == 1, "a tail outlives the leader"
    assert metric(at[successor], "is_leader") == 1
    assert (metric(at[other], "leader_changes_total") or 0) >= 2

    cluster[successor].kill()
    (left,) = cluster.running
    alone = eventually(lambda: (answer := fetch(at[left], "/readyz")).status == 503 and answer, "not ready")
    assert "[-]leader failed" in alone.text
    assert fetch(at[left], "/livez").status == 200, "being alive depends on nobody else"

    def reachable() -> list[str] | None:  # what the nodes said is kept for a second
        status = fetch(at[left], "/status").json
        named = [node["node_id"] for node in status["nodes"] if node["reachable"]]
        return None if status["leader_id"] else named

    assert eventually(reachable, "no leader in the status") == [left]
    assert metric(at[left], "has_leader") == 0
    cluster[left].stop()
