"""What was acknowledged before a linearizable read began is in its answer, or there is no answer."""

from __future__ import annotations

import itertools

import grpc
import pytest

from quorumlog.client import Client, errors
from quorumlog.proto import service_pb2
from tests.cluster.load import Load
from tests.cluster.test_routing import error_info
from tests.support.nodes import NodeCluster
from tests.support.replica import Replica
from tests.support.waiting import UNIT_S, eventually

TOPIC = "events"


def test_any_node_shows_what_was_just_acknowledged_to_anybody(cluster: NodeCluster) -> None:
    """Without a token: the reader knows nothing of the writer."""
    cluster.replica("n1").create_topic(TOPIC)
    leader = cluster.replica(cluster.wait_for_leader())
    for number in range(30):
        for node in cluster:
            offset = leader.produce(TOPIC, [b"value-%d" % number]).base_offset
            assert end_of(cluster.replica(node.node_id)) == offset + 1, node.node_id


def test_a_leader_that_slept_through_an_election_does_not_answer_from_the_past(cluster: NodeCluster) -> None:
    """Rows 21 and 43: the question waits in its socket while others elect, and write."""
    cluster.wait_until_applied(cluster.replica("n1").create_topic(TOPIC))
    sleeper = cluster.wait_for_leader()
    others = cluster.followers()
    for _ in range(3):
        cluster[sleeper].pause()
        new = cluster.wait_for_leader(others)
        offset = cluster.replica(new).produce(TOPIC, [b"new"]).base_offset
        asked = [
            cluster.replica(sleeper).log.ListOffsets.future(end_query(), timeout=20 * UNIT_S)
            for _ in range(20)
        ]
        cluster[sleeper].resume()
        for answer in asked:
            assert answer.result().answers[0].offset == offset + 1
        sleeper, others = new, [node.node_id for node in cluster if node.node_id != new]
        cluster.wait_for_leader()


def test_a_node_without_a_majority_says_that_it_cannot_know(cluster: NodeCluster) -> None:
    """Row 43: committed reads go on, linearizable ones are refused with a reason, by leader and follower."""
    created = cluster.replica("n1").create_topic(TOPIC)
    cluster.wait_until_applied(created)
    leader, (follower, other) = cluster.wait_for_leader(), cluster.followers()
    for left, gone in ((leader, (follower, other)), (follower, (leader, other))):
        for name in gone:
            cluster[name].pause()
        assert cluster.replica(left).values(TOPIC) == []
        with pytest.raises(grpc.RpcError) as refused:
            end_of(cluster.replica(left), timeout_s=3 * UNIT_S)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert error_info(refused.value)[0] == "NOT_CONFIRMED"
        with (
            Client(
                cluster[left].client_address,
                request_timeout_ms=int(2000 * UNIT_S),
                require_leader=False,
            ) as client,
            pytest.raises(errors.Unavailable, match="no majority confirmed"),
        ):
            client.end_offsets(TOPIC, consistency="linearizable")  # it tries the sleeping ones, too
        for name in gone:
            cluster[name].resume()
        cluster.wait_for_leader()


def test_a_reader_that_changes_replicas_never_sees_the_log_go_back(cluster: NodeCluster) -> None:
    """Row 44: with its token a session reads forward, on nodes that lag, and while leadership moves."""
    cluster.replica("n1").create_topic(TOPIC)
    names = itertools.cycle(sorted(node.node_id for node in cluster))
    token = seen = 0
    with Load("load", cluster.bootstrap_servers, TOPIC) as load, Client(cluster.bootstrap_servers) as client:
        load.wait_for_more()
        for number in range(60):
            if number % 20 == 10:
                client.transfer_leadership()
            if number % 20 == 15:
                lagging = cluster.followers()[0]
                cluster[lagging].pause()
                load.wait_for_more()
                cluster[lagging].resume()
            request = end_query(service_pb2.CONSISTENCY_SESSION, token)
            answer = cluster.replica(next(names)).log.ListOffsets(request, timeout=20 * UNIT_S)
            assert answer.applied_index >= token
            assert answer.answers[0].offset >= seen
            token, seen = answer.applied_index, answer.answers[0].offset
        load.finish()
    assert seen > 0
    eventually(lambda: end_of(cluster.replica("n1")) >= seen, "everything is there in the end")


def end_of(replica: Replica, timeout_s: float = 20 * UNIT_S) -> int:
    """The end of the topic, linearizable."""
    offset: int = replica.log.ListOffsets(end_query(), timeout=timeout_s).answers[0].offset
    return offset


def end_query(
    consistency: int = service_pb2.CONSISTENCY_LINEARIZABLE, token: int = 0
) -> service_pb2.ListOffsetsRequest:
    return service_pb2.ListOffsetsRequest(
        topic=TOPIC,
        queries=[service_pb2.OffsetQuery(partition=0, latest=True)],
        consistency=consistency,  # type: ignore[arg-type]
        min_raft_index=token,
    )
