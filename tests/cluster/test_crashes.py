"""Nodes are killed under load: what was acknowledged is on every survivor, once and in order."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from tests.cluster.load import Load, check_replica
from tests.conftest import StartCluster
from tests.support.nodes import NodeCluster

TOPIC = "events"
# Small, so that segments roll, are sealed and are replayed within a test.
SMALL_SEGMENTS = {"log.segment_bytes": "256KiB", "log.segment_entries": 200}
SEGMENT_HEADER_BYTES = 4096


def test_what_was_acknowledged_survives_the_death_of_the_leader(cluster: NodeCluster) -> None:
    cluster.replica("n1").create_topic(TOPIC)
    survivors = cluster.followers()
    with ExitStack() as running:
        loads = [
            running.enter_context(Load("to-leader", cluster.bootstrap_servers, TOPIC)),
            running.enter_context(
                Load("by-follower", [cluster[survivors[0]].client_address], TOPIC, route="any")
            ),
        ]
        for load in loads:
            load.wait_for_more()
        cluster[cluster.wait_for_leader()].kill()
        for load in loads:
            load.wait_for_more()
        assert cluster.wait_for_leader() in survivors
        promised = [one for load in loads for one in load.finish()]
    for name in survivors:
        check_replica(cluster.replica(name), TOPIC, promised)


def test_leaders_die_one_after_the_other_and_come_back(start_cluster: StartCluster) -> None:
    """Row 1: `make chaos KILLS=100` does it a hundred times."""
    cluster = start_cluster(settings=SMALL_SEGMENTS)
    cluster.replica("n1").create_topic(TOPIC)
    with Load("load", cluster.bootstrap_servers, TOPIC) as load:
        for _ in range(5):
            load.wait_for_more(200)
            leader = cluster.wait_for_leader()
            cluster[leader].kill()
            load.wait_for_more(200)
            cluster.start(leader)
        promised = load.finish()
    cluster.wait_for_leader()
    for node in cluster:
        check_replica(cluster.replica(node.node_id), TOPIC, promised)
    check_logs_are_equal(cluster)


def test_what_was_acknowledged_survives_the_death_of_all_nodes_at_once(start_cluster: StartCluster) -> None:
    cluster = start_cluster(settings=SMALL_SEGMENTS)
    cluster.replica("n1").create_topic(TOPIC)
    with Load("load", cluster.bootstrap_servers, TOPIC) as load:
        for _ in range(3):
            load.wait_for_more(300)
            cluster.kill_all()
            cluster.start()
            cluster.wait_for_leader()
        load.wait_for_more()
        promised = load.finish()
    for node in cluster:
        check_replica(cluster.replica(node.node_id), TOPIC, promised)
    check_logs_are_equal(cluster)


def test_a_follower_that_was_away_catches_up(start_cluster: StartCluster) -> None:
    cluster = start_cluster(settings=SMALL_SEGMENTS)
    cluster.replica("n1").create_topic(TOPIC)
    away = cluster.followers()[0]
    with Load("load", cluster.bootstrap_servers, TOPIC) as load:
        load.wait_for_more()
        cluster[away].kill()
        load.wait_for_more(2000, units=60)
        cluster.start(away)
        load.wait_for_more()
        promised = load.finish()
    cluster.wait_until_applied(promised[-1].raft_index)
    check_replica(cluster.replica(away), TOPIC, promised)
    check_logs_are_equal(cluster)


def test_a_clean_restart_of_all_nodes_keeps_everything_and_goes_on(cluster: NodeCluster) -> None:
    created = cluster.replica("n1").create_topic(TOPIC)
    cluster.wait_until_applied(created)
    before = [b"before-%d" % number for number in range(50)]
    assert not cluster.replica("n1").produce(TOPIC, before).HasField("failure")
    cluster.stop()
    cluster.start()
    cluster.wait_for_leader()
    result = cluster.replica("n2").produce(TOPIC, [b"after-0"])
    assert result.base_offset == len(before)
    for node in cluster:
        values = cluster.replica(node.node_id).values(TOPIC, at_least_index=result.raft_index)
        assert values == [*before, b"after-0"]


def test_a_node_that_is_told_to_stop_under_load_ends_cleanly(cluster: NodeCluster) -> None:
    cluster.replica("n1").create_topic(TOPIC)
    with Load("load", cluster.bootstrap_servers, TOPIC) as load:
        load.wait_for_more()
        leader = cluster.wait_for_leader()
        cluster[leader].stop()  # checks the exit code
        load.wait_for_more()
        promised = load.finish()
    for name in cluster.running:
        check_replica(cluster.replica(name), TOPIC, promised)


def check_logs_are_equal(cluster: NodeCluster) -> None:
    """Kill the nodes when all have the same entries, and check that their segments have the same bytes.

    The header page differs on purpose: it says how far this node's disk was synced.
    """
    raft_index = max(status.commit_index for name in cluster.running if (status := cluster.status(name)))
    cluster.wait_until_applied(raft_index)
    cluster.kill_all()  # stopped gracefully, the last two could still elect one, which adds an entry
    first, *others = [_segments(node.data) for node in cluster]
    for segments in others:
        assert sorted(segments) == sorted(first)
        for name, frames in segments.items():
            assert frames == first[name], f"segment {name} differs between nodes"


def _segments(data: Path) -> dict[str, bytes]:
    """Frames by segment file; the space that was only preallocated is zeros."""
    files = sorted(data.glob("group-0/log/*.log"))
    assert files, f"no segments in {data}"
    return {file.name: file.read_bytes()[SEGMENT_HEADER_BYTES:].rstrip(b"\0") for file in files}
