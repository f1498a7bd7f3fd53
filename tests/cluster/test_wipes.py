"""Nodes that lose their disks come back as new members; nothing that was acknowledged goes with them."""

from __future__ import annotations

import shutil

import grpc

from quorumlog.proto import service_pb2
from tests.cluster.load import Load, check_replica
from tests.cluster.test_crashes import SMALL_SEGMENTS, check_logs_are_equal
from tests.conftest import StartCluster
from tests.support.nodes import NodeCluster
from tests.support.waiting import UNIT_S, eventually

TOPIC = "events"


def test_nodes_that_were_wiped_one_after_the_other_come_back_whoever_leads(
    start_cluster: StartCluster,
) -> None:
    """Row 51: each replays a log whose older lists of members know others by directories that are gone."""
    cluster = start_cluster(settings=SMALL_SEGMENTS)
    cluster.replica("n1").create_topic(TOPIC)
    with Load("load", cluster.bootstrap_servers, TOPIC) as load:
        for wiped, leader in (("n1", "n3"), ("n2", "n1"), ("n3", "n2")):
            load.wait_for_more()
            let_lead(cluster, leader)
            replace_disk(cluster, wiped, leader)
        load.wait_for_more()
        promised = load.finish()
    for node in cluster:
        check_replica(cluster.replica(node.node_id), TOPIC, promised)
    check_logs_are_equal(cluster)


def replace_disk(cluster: NodeCluster, node_id: str, leader: str) -> None:
    """Kill a node, empty its directory, and let it join as a new member."""
    node = cluster[node_id]
    node.kill()
    shutil.rmtree(node.data)
    stub = cluster.replica(leader).cluster
    stub.RemoveMember(service_pb2.RemoveMemberRequest(node_id=node_id), timeout=20 * UNIT_S)
    cluster.start(node_id)
    request = service_pb2.AddMemberRequest(node_id=node_id, peer_address=node.peer_address, timeout_ms=20_000)
    stub.AddMember(request, timeout=21 * UNIT_S)
    cluster.wait_for_leader()


def let_lead(cluster: NodeCluster, node_id: str) -> None:
    """Move leadership to this node."""

    def leads() -> bool:
        leader = cluster.wait_for_leader()
        request = service_pb2.TransferLeadershipRequest(target=node_id)
        try:
            cluster.replica(leader).cluster.TransferLeadership(request, timeout=10 * UNIT_S)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
        return cluster.wait_for_leader() == node_id

    eventually(leads, f"{node_id} leads")
