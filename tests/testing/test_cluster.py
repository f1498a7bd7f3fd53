"""What LocalCluster does to its nodes, and what a client sees of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from quorumlog.client import QuorumlogError, UnknownTopic
from quorumlog.testing.cluster import LocalCluster

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    with LocalCluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def cluster(processes: LocalCluster) -> Iterator[LocalCluster]:
    yield processes
    processes.reset()


def read(cluster: LocalCluster, topic: str, node_id: str) -> list[bytes | None]:
    with cluster.client() as client:
        consumer = client.consumer(topic, end="latest", from_node=node_id, consistency="committed")
        return [record.value for record in consumer]


def test_a_killed_leader_is_replaced_and_comes_back(cluster: LocalCluster) -> None:
    topic = cluster.topic("orders")
    producer = cluster.client().producer()
    producer.send(topic, b"before")
    leader = cluster.wait_leader()
    cluster.kill(leader)
    producer.send(topic, b"after")
    assert cluster.wait_leader() != leader
    cluster.start(leader)
    cluster.wait_caught_up()
    assert read(cluster, topic, leader) == [b"before", b"after"]


def test_who_is_cut_off_lags_until_it_is_healed(cluster: LocalCluster) -> None:
    topic = cluster.topic()
    with cluster.client() as client, client.producer() as producer:
        producer.send(topic, b"before")
        cluster.wait_caught_up()
        follower = next(name for name in cluster.node_ids if name != cluster.wait_leader())
        cluster.partition({follower})
        producer.send(topic, b"meanwhile")
        assert read(cluster, topic, follower) == [b"before"]
        with pytest.raises(TimeoutError, match="every node has applied"):
            cluster.wait_caught_up(timeout_s=0.3)
        cluster.heal()
        cluster.wait_caught_up()
        assert read(cluster, topic, follower) == [b"before", b"meanwhile"]


def test_a_leader_that_is_cut_off_acknowledges_nothing(cluster: LocalCluster) -> None:
    topic = cluster.topic()
    leader = cluster.wait_leader()
    cluster.partition({leader}, set(cluster.node_ids) - {leader})
    with cluster.client() as client, client.producer() as producer:
        place = producer.send(topic, b"elsewhere")
    assert cluster.wait_leader() != leader
    assert read(cluster, topic, leader) == []
    cluster.heal()
    cluster.wait_caught_up()
    assert read(cluster, topic, leader) == [b"elsewhere"]
    assert place.offset == 0


def test_a_paused_leader_is_replaced(cluster: LocalCluster) -> None:
    topic = cluster.topic()
    leader = cluster.wait_leader()
    cluster.pause(leader)
    with cluster.client() as client, client.producer() as producer:
        producer.send(topic, b"meanwhile")
    cluster.resume(leader)
    cluster.wait_caught_up()
    assert read(cluster, topic, leader) == [b"meanwhile"]


async def test_it_is_awaited_too(cluster: LocalCluster) -> None:
    topic = cluster.topic()
    async with cluster.async_client() as client:
        async with client.producer() as producer:
            await producer.send(topic, b"one")
        leader = await cluster.leader()
        assert leader in cluster.node_ids
        await client.transfer_leadership(next(name for name in cluster.node_ids if name != leader))
        assert await cluster.leader() != leader
        await cluster.caught_up()


def test_a_stopped_node_hands_over(cluster: LocalCluster) -> None:
    leader = cluster.wait_leader()
    cluster.stop(leader)
    assert cluster.wait_leader() != leader


def test_a_test_finds_nothing_of_the_one_before(processes: LocalCluster) -> None:
    topic = processes.topic("orders")
    client = processes.client()
    leader = processes.wait_leader()
    other = next(name for name in processes.node_ids if name != leader)
    processes.kill(leader)
    processes.partition({other})
    processes.reset()
    processes.wait_caught_up(timeout_s=10)
    with pytest.raises(QuorumlogError):
        client.list_topics()
    with processes.client() as another, pytest.raises(UnknownTopic):
        another.describe_topic(topic)


def test_a_name_that_is_none_is_told(cluster: LocalCluster) -> None:
    with pytest.raises(ValueError, match="no nodes: n9; there are n1, n2, n3"):
        cluster.partition({"n9"})
    with pytest.raises(KeyError):
        cluster.kill("n9")


def test_no_process_is_left_behind(tmp_path: Path) -> None:
    with LocalCluster(tmp_path, 1) as cluster:
        pids = [node.pid for node in cluster._nodes.values()]
        cluster.pause("n1")
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
