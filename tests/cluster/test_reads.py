"""Reading from any replica: what is committed, and with a session token at least what its holder wrote."""

from __future__ import annotations

import grpc
import pytest

from quorumlog.client import Client
from quorumlog.proto import service_pb2
from tests.cluster.test_routing import error_info
from tests.support.nodes import NodeCluster
from tests.support.waiting import UNIT_S, eventually

TOPIC = "events"


def test_every_node_serves_what_was_produced(cluster: NodeCluster) -> None:
    cluster.replica("n1").create_topic(TOPIC)
    values = [b"value-%d" % number for number in range(100)]
    assert not cluster.replica("n1").produce(TOPIC, values).HasField("failure")
    for node in cluster:
        replica = cluster.replica(node.node_id)
        # Without a token a replica may lag, but it shows a prefix of the log at any time, and all of it soon.
        seen = replica.values(TOPIC)
        assert seen == values[: len(seen)]
        eventually(lambda: cluster.replica(node.node_id).values(TOPIC) == values, f"{node.node_id} has all")  # noqa: B023


def test_a_follower_shows_its_reader_what_it_just_wrote(cluster: NodeCluster) -> None:
    """Row 44."""
    leader = cluster.wait_for_leader()
    follower = cluster.followers()[0]
    cluster.replica(leader).create_topic(TOPIC)
    for number in range(30):
        value = b"value-%d" % number
        result = cluster.replica(leader).produce(TOPIC, [value])
        values = cluster.replica(follower).values(TOPIC, at_least_index=result.raft_index)
        assert values[result.base_offset] == value


def test_a_lagging_follower_waits_before_it_answers_a_session_read(cluster: NodeCluster) -> None:
    """Rows 43 and 44."""
    leader = cluster.wait_for_leader()
    follower = cluster.followers()[0]
    created = cluster.replica(leader).create_topic(TOPIC)
    cluster.wait_until_applied(created)
    for number in range(3):
        cluster[follower].pause()
        value = b"value-%d" % number
        result = cluster.replica(leader).produce(TOPIC, [value])
        request = session_read(number, result.raft_index)
        asked = cluster.replica(follower).log.Fetch.future(request, timeout=20 * UNIT_S)
        cluster[follower].resume()
        assert asked.result().batches[0].base_offset == number


def test_a_session_read_that_cannot_be_reached_says_how_far_the_replica_is(cluster: NodeCluster) -> None:
    """Rows 43 and 44: behind, it says so; it does not answer with less."""
    created = cluster.replica("n1").create_topic(TOPIC)
    cluster.wait_until_applied(created)
    follower = cluster.followers()[0]
    with pytest.raises(grpc.RpcError) as refused:
        cluster.replica(follower).log.Fetch(session_read(0, created + 1_000_000), timeout=2 * UNIT_S)
    # Either end may see the deadline first.
    if refused.value.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        reason, metadata = error_info(refused.value)
        assert reason == "NOT_CAUGHT_UP"
        assert int(metadata["applied_index"]) >= created


def test_a_client_that_knows_one_address_writes_and_reads(cluster: NodeCluster) -> None:
    follower = cluster.followers()[0]
    with Client(cluster[follower].client_address) as client:
        client.create_topic(TOPIC)
        with client.producer() as producer:
            sent = [producer.send(TOPIC, b"value-%d" % number) for number in range(20)]
        assert [metadata.offset for metadata in sent] == list(range(20))
        with client.consumer(TOPIC, end="latest") as consumer:
            received = [record.value for record in consumer]
    assert received == [b"value-%d" % number for number in range(20)]


def session_read(offset: int, raft_index: int) -> service_pb2.FetchRequest:
    """A fetch that must reflect at least `raft_index`."""
    return service_pb2.FetchRequest(
        topic=TOPIC,
        partition=0,
        offset=offset,
        consistency=service_pb2.CONSISTENCY_SESSION,
        min_raft_index=raft_index,
    )
