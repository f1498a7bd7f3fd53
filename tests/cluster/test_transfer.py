"""Leadership is handed over under load, asked for and by a stop; who cannot take it is refused in time.

Row 55. The rules by themselves are in tests/raft/test_leadership.py.
"""

from __future__ import annotations

import re
import time
from collections import defaultdict

import pytest

from quorumlog.client import Client, errors
from tests.cluster.load import Load, check_replica
from tests.support.nodes import NodeCluster
from tests.support.waiting import UNIT_S, eventually

TOPIC = "events"
TRANSFERS = 20

_LEADS = re.compile(r"term (\d+): this node leads from entry")


def test_leadership_goes_round_under_load_and_nothing_is_lost(cluster: NodeCluster) -> None:
    """Row 55: one leader per term at most, whatever was acknowledged is there."""
    cluster.replica("n1").create_topic(TOPIC)
    names = sorted(node.node_id for node in cluster)
    with Load("load", cluster.bootstrap_servers, TOPIC) as load, Client(cluster.bootstrap_servers) as client:
        load.wait_for_more()
        for number in range(TRANSFERS):
            target = names[number % len(names)]
            assert client.transfer_leadership(target) == target
            load.wait_for_more(20)
        promised = load.finish()
    for name in names:
        check_replica(cluster.replica(name), TOPIC, promised)
    leaders = leaders_by_term(cluster)
    assert len(leaders) > TRANSFERS - len(names)
    for term, who in leaders.items():
        assert len(who) == 1, f"term {term} had several leaders: {who}"


def test_a_target_that_cannot_lead_is_told_in_time_and_writes_go_on(cluster: NodeCluster) -> None:
    """Row 55: a dead node, one that sleeps, one that is no member; the leader stays."""
    cluster.replica("n1").create_topic(TOPIC)
    leader = cluster.wait_for_leader()
    dead, alive = cluster.followers()
    with Load("load", cluster.bootstrap_servers, TOPIC) as load, Client(cluster.bootstrap_servers) as client:
        load.wait_for_more()
        with pytest.raises(errors.UnknownNode, match="members are n1, n2, n3"):
            client.transfer_leadership("n9")
        cluster[dead].pause()  # its connection stays, and it lags more and more
        load.wait_for_more()
        began = time.monotonic()
        with pytest.raises(errors.TransferFailed, match=f"{dead} did not catch up in time"):
            client.transfer_leadership(dead, timeout_ms=500)
        assert time.monotonic() - began < 5 * UNIT_S  # or writes would wait as long
        load.wait_for_more()
        cluster[dead].kill()
        reason = eventually(lambda: refusal(client, dead), "the leader misses it")
        assert "not connected" in reason
        check = eventually(lambda: unsafe(client, alive), f"{alive} is needed")
        assert "2 of 3 voters are needed" in check
        load.wait_for_more()
        promised = load.finish()
    assert cluster.wait_for_leader([leader, alive]) == leader
    check_replica(cluster.replica(leader), TOPIC, promised)


def test_a_leader_that_is_told_to_stop_hands_over_first(cluster: NodeCluster) -> None:
    """Row 26: each in turn, when the check says that it is safe; no election by silence."""
    cluster.replica("n1").create_topic(TOPIC)
    with Load("load", cluster.bootstrap_servers, TOPIC) as load, Client(cluster.bootstrap_servers) as client:
        load.wait_for_more()
        for node in cluster:
            eventually(lambda: client.check_stop(node.node_id).safe, f"{node.node_id} may be stopped")  # noqa: B023
            led = cluster.wait_for_leader() == node.node_id
            term = max(leaders_by_term(cluster))
            node.stop()
            assert ("leads now" in node.log_tail()) is led
            assert max(leaders_by_term(cluster)) == term + led
            cluster.start(node.node_id)
            load.wait_for_more()
        promised = load.finish()
    for node in cluster:
        check_replica(cluster.replica(node.node_id), TOPIC, promised)


def refusal(client: Client, target: str) -> str:
    """Why leadership cannot go there; empty where it would only take too long."""
    try:
        client.transfer_leadership(target, timeout_ms=100)
    except errors.TransferFailed as error:
        return "" if "in time" in error.message else error.message
    raise AssertionError(f"{target} leads")


def unsafe(client: Client, node_id: str) -> str:
    """Why a node may not be stopped; empty: it may."""
    check = client.check_stop(node_id)
    return "" if check.safe else check.reason


def leaders_by_term(cluster: NodeCluster) -> dict[int, set[str]]:
    """Who led which term, by what every node has logged."""
    leaders: dict[int, set[str]] = defaultdict(set)
    for node in cluster:
        for term in _LEADS.findall(node.logged()):
            leaders[int(term)].add(node.node_id)
    return dict(leaders)
