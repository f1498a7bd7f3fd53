"""Without a majority nothing is acknowledged; what was promised before and after stays true."""

from __future__ import annotations

import grpc

from tests.cluster.load import Load, check_replica
from tests.support.nodes import NodeCluster
from tests.support.replica import Replica
from tests.support.waiting import UNIT_S, eventually

TOPIC = "events"


def test_a_minority_cannot_acknowledge(cluster: NodeCluster) -> None:
    """Row 29."""
    cluster.wait_until_applied(cluster.replica("n1").create_topic(TOPIC))
    leader = cluster.wait_for_leader()
    followers = cluster.followers()
    for name in followers:
        cluster[name].kill()
    assert not is_acknowledged(cluster.replica(leader), b"alone")
    cluster.start(followers[0])
    cluster.wait_for_leader([leader, followers[0]])
    assert eventually(
        lambda: is_acknowledged(cluster.replica(leader), b"together"), "a majority acknowledges"
    )


def test_a_minority_still_serves_what_is_committed(cluster: NodeCluster) -> None:
    created = cluster.replica("n1").create_topic(TOPIC)
    cluster.wait_until_applied(created)
    result = cluster.replica("n1").produce(TOPIC, [b"kept"])
    cluster.wait_until_applied(result.raft_index)
    for name in cluster.followers():
        cluster[name].kill()
    (left,) = cluster.running
    assert cluster.replica(left).values(TOPIC) == [b"kept"]


def test_a_leader_that_sleeps_through_an_election_follows_the_new_one(cluster: NodeCluster) -> None:
    """Row 21."""
    cluster.replica("n1").create_topic(TOPIC)
    sleeper = cluster.wait_for_leader()
    others = cluster.followers()
    with Load("load", [cluster[name].client_address for name in others], TOPIC) as load:
        load.wait_for_more()
        cluster[sleeper].pause()
        assert cluster.wait_for_leader(others) in others
        load.wait_for_more()
        cluster[sleeper].resume()
        # Forwarded or refused, its answer must be true.
        taken = is_acknowledged(cluster.replica(sleeper), b"sleeper-0")
        assert cluster.wait_for_leader() in others
        load.wait_for_more()
        promised = load.finish()
    for node in cluster:
        check_replica(cluster.replica(node.node_id), TOPIC, promised)
        if taken:
            latest = promised[-1].raft_index
            assert b"sleeper-0" in cluster.replica(node.node_id).values(TOPIC, at_least_index=latest)


def test_a_producer_goes_on_through_a_node_that_no_longer_leads(cluster: NodeCluster) -> None:
    cluster.replica("n1").create_topic(TOPIC)
    sleeper = cluster.wait_for_leader()
    # It knows no other node and leaves forwarding to this one, before and after it steps down.
    with Load("load", [cluster[sleeper].client_address], TOPIC, route="any") as load:
        load.wait_for_more()
        cluster[sleeper].pause()
        cluster.wait_for_leader([name for name in cluster.running if name != sleeper])
        cluster[sleeper].resume()
        load.wait_for_more()
        promised = load.finish()
    for node in cluster:
        check_replica(cluster.replica(node.node_id), TOPIC, promised)


def test_sleeping_followers_stop_the_leader_from_acknowledging(cluster: NodeCluster) -> None:
    """Row 22."""
    cluster.wait_until_applied(cluster.replica("n1").create_topic(TOPIC))
    leader = cluster.wait_for_leader()
    followers = cluster.followers()
    for name in followers:
        cluster[name].pause()
    assert not is_acknowledged(cluster.replica(leader), b"alone-0")
    for name in followers:
        cluster[name].resume()
    cluster.wait_for_leader()
    result = cluster.replica(leader).produce(TOPIC, [b"together-0"])
    assert not result.HasField("failure"), result.failure
    for node in cluster:
        values = cluster.replica(node.node_id).values(TOPIC, at_least_index=result.raft_index)
        assert values.count(b"together-0") == 1
        assert values.count(b"alone-0") <= 1  # its outcome was unknown, so it may be there


def is_acknowledged(replica: Replica, value: bytes) -> bool:
    """Try to append `value`; False when the node says that it could not, or that it does not know."""
    try:
        result = replica.produce(TOPIC, [value], timeout_s=3 * UNIT_S)
    except grpc.RpcError as error:
        if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
            raise
        return False
    if result.HasField("failure"):
        assert result.failure.reason in ("NO_LEADER", "NOT_LEADER", "OUTCOME_UNKNOWN", "DROPPED"), (
            result.failure
        )
        return False
    return True
