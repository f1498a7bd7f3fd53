"""Status of every node, and what is said of those that do not answer."""

from __future__ import annotations

import grpc
import pytest

from quorumlog.proto import entry_pb2, service_pb2
from quorumlog.raft.engine import PeerState
from tests.support.local_node import TIMEOUT_S, LocalNode, error_info


def peer(node_id: str, address: str | None, match: int = 0, state: str = "") -> PeerState:
    return PeerState(node_id, "127.0.0.1:1", address is not None, address, state, match)


async def test_a_node_describes_itself(node: LocalNode) -> None:
    await node.create("orders")
    response = await node.cluster.Status(service_pb2.StatusRequest(local=True), timeout=TIMEOUT_S)
    (own,) = response.nodes
    assert (response.cluster, response.leader_id, response.term) == ("test", "n1", node.engine.term)
    assert response.sync_policy == entry_pb2.SYNC_ALWAYS
    assert (own.node_id, own.role, own.reachable) == ("n1", "leader", True)
    assert own.client_address == node.address
    assert (own.log_start, own.log_end, own.applied_index, own.durable_index) == (1, 2, 2, 2)
    assert own.segments == 1
    assert own.log_bytes > 4096
    assert own.version


async def test_all_nodes_are_asked_and_those_that_do_not_answer_are_listed_with_why(
    pair: tuple[LocalNode, LocalNode],
) -> None:
    leader, follower = pair
    await leader.create("orders")
    leader.engine.peers = {
        "n4": peer("n4", None),
        "n3": peer("n3", "127.0.0.1:1"),
        "n2": peer("n2", follower.address, 1, "replicate"),
    }
    leader.engine.alarms.add("DISK_FULL")
    response = await leader.cluster.Status(service_pb2.StatusRequest(), timeout=TIMEOUT_S)
    assert [node.node_id for node in response.nodes] == ["n1", "n2", "n3", "n4"]
    own, second, third, fourth = response.nodes
    assert (second.role, second.leader_id, second.applied_index) == ("follower", "n1", 2)
    assert not third.reachable
    assert "UNAVAILABLE" in third.error
    assert not fourth.reachable
    assert "never connected" in fourth.error
    assert [(each.node_id, each.state, each.match_index, each.lag) for each in own.peers] == [
        ("n2", "replicate", 1, 1),
        ("n3", "", 0, 0),
        ("n4", "", 0, 0),
    ]
    assert list(own.alarms) == ["DISK_FULL"]


async def test_an_unknown_policy_is_refused(node: LocalNode) -> None:
    request = service_pb2.SetSyncPolicyRequest(policy=9)  # type: ignore[arg-type]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await node.cluster.SetSyncPolicy(request, timeout=TIMEOUT_S)
    assert error_info(caught.value).reason == "BAD_REQUEST"
    assert node.engine.machine.sync_policy == entry_pb2.SYNC_ALWAYS


async def test_bytes_that_are_no_request_are_refused(node: LocalNode) -> None:
    for method in ("Status", "SetSyncPolicy"):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await node.channel.unary_unary(f"/quorumlog.v1.Cluster/{method}")(b"\xff", timeout=TIMEOUT_S)
        assert error_info(caught.value).reason == "BAD_REQUEST"
