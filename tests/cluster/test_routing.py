"""Any node takes any call: a write reaches the leader from everywhere, or its caller is told who leads."""

from __future__ import annotations

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from tests.support.nodes import NodeCluster

TOPIC = "events"


def test_records_produced_at_each_node_end_up_on_all_nodes_in_one_order(cluster: NodeCluster) -> None:
    """Row 42."""
    cluster.replica("n1").create_topic(TOPIC)
    results = []
    for node in cluster:
        for number in range(3):
            value = f"{node.node_id}-{number}".encode()
            result = cluster.replica(node.node_id).produce(TOPIC, [value])
            assert not result.HasField("failure"), result.failure
            results.append((result.base_offset, value, result.raft_index))
    assert [offset for offset, _, _ in results] == list(range(9))
    last_index = results[-1][2]
    for node in cluster:
        values = cluster.replica(node.node_id).values(TOPIC, at_least_index=last_index)
        assert values == [value for _, value, _ in results]


def test_a_topic_created_through_a_follower_is_known_everywhere(cluster: NodeCluster) -> None:
    created = cluster.replica(cluster.followers()[0]).create_topic(TOPIC, partitions=3)
    cluster.wait_until_applied(created)
    for node in cluster:
        result = cluster.replica(node.node_id).produce(TOPIC, [node.node_id.encode()], partition=2)
        assert not result.HasField("failure"), result.failure


def test_a_follower_that_shall_not_forward_names_the_leader(cluster: NodeCluster) -> None:
    """Row 42."""
    cluster.replica("n1").create_topic(TOPIC)
    leader = cluster.wait_for_leader()
    follower = cluster.followers()[0]
    with pytest.raises(grpc.RpcError) as refused:
        cluster.replica(follower).produce(TOPIC, [b"value"], forward=False)
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    reason, metadata = error_info(refused.value)
    assert reason == "NOT_LEADER"
    assert metadata["leader_id"] == leader
    assert metadata["leader_address"] == cluster[leader].client_address
    assert cluster.replica(leader).values(TOPIC) == []


def test_the_leader_takes_what_shall_not_be_forwarded(cluster: NodeCluster) -> None:
    leader = cluster.wait_for_leader()
    cluster.replica(leader).create_topic(TOPIC)
    result = cluster.replica(leader).produce(TOPIC, [b"value"], forward=False)
    assert (result.base_offset, result.HasField("failure")) == (0, False)


def error_info(error: grpc.RpcError) -> tuple[str, dict[str, str]]:
    """Reason and metadata of the google.rpc.ErrorInfo that the error carries."""
    status = rpc_status.from_call(error)
    assert status is not None, f"no details in {error}"
    info = error_details_pb2.ErrorInfo()
    assert any(detail.Unpack(info) for detail in status.details), f"no ErrorInfo in {status}"
    return info.reason, dict(info.metadata)
