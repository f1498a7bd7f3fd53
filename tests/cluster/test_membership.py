"""Nodes join, leave, lose their disks and come back, under load: what was promised stays, nobody disturbs.

Rows 51 to 54 of the catalogue, on real processes; tests/raft/test_membership.py has each rule by itself.
"""

from __future__ import annotations

import pytest

from quorumlog.client import Client, StopCheck, errors
from quorumlog.proto import service_pb2
from tests.cluster.load import Load, check_replica
from tests.cluster.test_crashes import SMALL_SEGMENTS
from tests.conftest import StartCluster
from tests.support.nodes import NodeCluster
from tests.support.waiting import UNIT_S, eventually, stays

TOPIC = "events"
LONG_MS = int(60_000 * UNIT_S)


def test_a_node_that_joins_under_load_counts_also_after_a_restart(start_cluster: StartCluster) -> None:
    """Rows 52 and 54: the log says who takes part; configuration files name the old members."""
    cluster = start_cluster(settings=SMALL_SEGMENTS)
    cluster.replica("n1").create_topic(TOPIC)
    with Load("load", cluster.bootstrap_servers, TOPIC) as load, Client(cluster.bootstrap_servers) as client:
        load.wait_for_more(500)  # some segments, that it has to copy
        fourth = cluster.another("n4")
        cluster.start("n4")
        assert_not_voting(cluster, "n4", "not a member")
        members = client.add_member("n4", fourth.peer_address, timeout_ms=LONG_MS)
        assert [(member.node_id, member.learner) for member in members] == [
            (name, False) for name in ("n1", "n2", "n3", "n4")
        ]
        assert all(len(member.directory_id) == 32 for member in members)
        eventually(lambda: not status_of(cluster, "n4").not_voting, "n4 votes")
        # Of four voters three are needed: with one of the old ones gone, nothing goes without the new one.
        gone = cluster.followers()[0]
        cluster[gone].kill()
        load.wait_for_more()
        left = [member.node_id for member in client.remove_member(gone)]
        cluster.kill_all()
        cluster.start()  # the removed one, too
        cluster.wait_for_leader(left)
        load.wait_for_more()
        promised = load.finish()
    for name in left:
        assert [member.node_id for member in status_of(cluster, name).members] == left
        check_replica(cluster.replica(name), TOPIC, promised)
    assert not status_of(cluster, gone).leader_id


def test_the_leader_is_removed_under_load_and_disturbs_nobody(cluster: NodeCluster) -> None:
    """Row 52."""
    cluster.replica("n1").create_topic(TOPIC)
    gone = cluster.wait_for_leader()
    left = cluster.followers()
    with Load("load", cluster.bootstrap_servers, TOPIC) as load:
        load.wait_for_more()
        with Client(cluster.bootstrap_servers) as client:
            assert [member.node_id for member in client.remove_member(gone)] == left
        leader = cluster.wait_for_leader(left)
        assert_not_voting(cluster, gone, "not a member")
        term = status_of(cluster, leader).term
        load.wait_for_more(500)
        cluster[gone].kill()
        cluster.start(gone)  # from a log that may not know that it was removed
        eventually(lambda: "REFUSED" in status_of(cluster, gone).alarms, f"{gone} is told")
        load.wait_for_more(500)
        promised = load.finish()
    assert (status_of(cluster, leader).term, cluster.wait_for_leader(left)) == (term, leader)
    for name in left:
        check_replica(cluster.replica(name), TOPIC, promised)


def test_a_dead_node_is_replaced_by_another(cluster: NodeCluster) -> None:
    """Row 52: a node that does not answer is removed; one whose removal would leave no majority is not."""
    cluster.replica("n1").create_topic(TOPIC)
    leader = cluster.wait_for_leader()
    dead, alive = cluster.followers()
    cluster[dead].kill()
    fourth = cluster.another("n4")
    cluster.start("n4")
    with Load("load", cluster.bootstrap_servers, TOPIC) as load, Client(cluster.bootstrap_servers) as client:
        load.wait_for_more()
        assert not eventually_settled(client, alive).safe
        with pytest.raises(errors.MembershipRefused, match="no majority"):
            client.remove_member(alive)
        assert [member.node_id for member in client.remove_member(dead)] == sorted((leader, alive))
        assert len(client.add_member("n4", fourth.peer_address, timeout_ms=LONG_MS)) == 3
        cluster[alive].kill()  # the new one stands in for it
        load.wait_for_more()
        promised = load.finish()
    check_replica(cluster.replica("n4"), TOPIC, promised)


def test_a_wiped_node_is_refused_until_it_is_removed_and_added(cluster: NodeCluster) -> None:
    """Row 51: it has forgotten what it voted for and acknowledged, and must not count under its old name."""
    cluster.replica("n1").create_topic(TOPIC)
    wiped, other = cluster.followers()
    with Load("load", cluster.bootstrap_servers, TOPIC) as load, Client(cluster.bootstrap_servers) as client:
        load.wait_for_more()
        eventually(lambda: all(member.directory_id for member in client.members()), "names are bound")
        cluster[wiped].kill()
        cluster[wiped].wipe()
        cluster.start(wiped)
        assert_not_voting(cluster, wiped, "is not the one that is a member")
        leader = eventually(lambda: client.status().leader_id, "somebody leads")
        eventually(lambda: refusal_of(cluster, leader, wiped), "the leader says why it refuses it")
        assert "this node does not vote: the data directory is empty" in cluster[wiped].log_tail()
        with pytest.raises(errors.MembershipRefused, match="remove"):
            client.add_member(wiped, "127.0.0.1:1")
        # Its vote would make two of three.
        cluster[other].kill()
        acknowledged = len(load.acknowledged)
        stays(lambda: status_of(cluster, wiped).leader_id == "", f"{wiped} follows nobody", 2)
        assert len(load.acknowledged) <= acknowledged + 64  # what was under way
        cluster.start(other)
        load.wait_for_more()
        assert len(client.remove_member(wiped)) == 2
        assert len(client.add_member(wiped, cluster[wiped].peer_address, timeout_ms=LONG_MS)) == 3
        load.wait_for_more()
        promised = load.finish()
    assert status_of(cluster, wiped).not_voting == ""
    for node in cluster:
        check_replica(cluster.replica(node.node_id), TOPIC, promised)


def assert_not_voting(cluster: NodeCluster, node_id: str, why: str) -> None:
    """The node says, to whoever asks and in its log, that it does not vote, and why."""
    eventually(lambda: why in status_of(cluster, node_id).not_voting, f"{node_id} says why it does not vote")
    assert why in cluster[node_id].log_tail()


def status_of(cluster: NodeCluster, node_id: str) -> service_pb2.NodeStatus:
    """What a node that runs says of itself."""
    return eventually(lambda: cluster.status(node_id), f"{node_id} answers")


def refusal_of(cluster: NodeCluster, leader: str, node_id: str) -> bool:
    """Whether the leader says that this is not the member's data directory."""
    (peer,) = (peer for peer in status_of(cluster, leader).peers if peer.node_id == node_id)
    return "is not the one that is a member" in peer.refused


def eventually_settled(client: Client, node_id: str) -> StopCheck:
    """Whether a node may be stopped, when the leader has noticed who is gone."""
    eventually(lambda: not client.check_stop(node_id).safe, "the leader misses the dead node")
    return client.check_stop(node_id)
