"""Restarts: of all nodes again and again, and of each in turn, under load."""

from __future__ import annotations

import os

from quorumlog.proto import service_pb2
from tests.cluster.load import Load, check_replica
from tests.cluster.test_crashes import SMALL_SEGMENTS, check_logs_are_equal
from tests.conftest import StartCluster
from tests.support.nodes import NodeCluster
from tests.support.waiting import UNIT_S, eventually

TOPIC = "events"
ROUNDS = int(os.environ.get("QUORUMLOG_TEST_ROUNDS", "20"))


def test_all_nodes_restart_at_once_twenty_times(start_cluster: StartCluster) -> None:
    """Row 25: SIGTERM and SIGKILL by turns; a leader each time, equal logs, every offset intact."""
    cluster = start_cluster(settings=SMALL_SEGMENTS)
    cluster.replica("n1").create_topic(TOPIC)
    terms = [0]
    with Load("load", cluster.bootstrap_servers, TOPIC) as load:
        for number in range(ROUNDS):
            load.wait_for_more()
            if number % 2:
                cluster.kill_all()
            else:
                cluster.stop()  # checks the exit codes
            cluster.start()
            terms.append(cluster.replica(cluster.wait_for_leader()).status().term)
        load.wait_for_more()
        promised = load.finish()
    assert terms == sorted(set(terms)), "each restart has a term of its own, and none is forgotten"
    for node in cluster:
        check_replica(cluster.replica(node.node_id), TOPIC, promised)
    check_logs_are_equal(cluster)


def is_safe_to_stop(cluster: NodeCluster, node_id: str) -> bool:
    """Ask as an operator does: a leader that is new, or busy, may say 'not yet'."""
    leader = cluster.replica(cluster.wait_for_leader())
    request = service_pb2.CheckStopRequest(node_id=node_id)
    return leader.cluster.CheckStop(request, timeout=10 * UNIT_S).safe


def test_a_rolling_restart_under_load_fails_no_write(start_cluster: StartCluster) -> None:
    """Row 26: every write is acknowledged, by retries of the client; each stop is asked for first."""
    cluster = start_cluster(settings=SMALL_SEGMENTS)
    cluster.replica("n1").create_topic(TOPIC)
    with (
        Load("leader", cluster.bootstrap_servers, TOPIC) as direct,
        Load("any", cluster.bootstrap_servers, TOPIC, route="any") as forwarded,
    ):
        for _ in range(2):
            for node in cluster:
                direct.wait_for_more()
                forwarded.wait_for_more()
                name = node.node_id
                eventually(lambda: is_safe_to_stop(cluster, name), f"{name} may stop")  # noqa: B023
                node.stop()
                cluster.start(node.node_id)
                cluster.wait_for_leader()
                cluster.wait_until_applied(max(one.raft_index for one in direct.acknowledged))
        promised = [*direct.finish(), *forwarded.finish()]
    for node in cluster:
        check_replica(cluster.replica(node.node_id), TOPIC, promised)
    check_logs_are_equal(cluster)
