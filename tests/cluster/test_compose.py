"""The cluster of deploy/compose.yaml: it becomes healthy; it stands the loss of a container or a network."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from ipaddress import ip_address

import docker
import pytest

from quorumlog.client import Client
from tests.cluster.load import Load, check_replica
from tests.conftest import SHOWN_ON_FAILURE
from tests.support.compose import NODES, ComposeCluster
from tests.support.waiting import eventually
from tests.support.web import fetch

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1200)]

TOPIC = "events"


@pytest.fixture(scope="module")
def project(docker_engine: docker.DockerClient, compose: list[str], image: str) -> Iterator[ComposeCluster]:
    """The cluster, started once for all tests here: each leaves it whole."""
    with ComposeCluster(docker_engine, compose, image) as project:
        project.up()
        yield project


@pytest.fixture
def nodes(project: ComposeCluster, request: pytest.FixtureRequest) -> ComposeCluster:
    """The started cluster, with all its nodes healthy and agreed."""
    request.node.stash[SHOWN_ON_FAILURE] = [project]
    project.wait_until_healthy(NODES)
    project.wait_for_leader()
    return project


def test_up_ends_with_healthy_nodes_and_down_leaves_nothing(
    docker_engine: docker.DockerClient,
    compose: list[str],
    image: str,
    request: pytest.FixtureRequest,
) -> None:
    with ComposeCluster(docker_engine, compose, image) as project:
        request.node.stash[SHOWN_ON_FAILURE] = [project]
        project.up()
        assert project.wait_for_leader() in NODES
        for name in NODES:
            container = project.container(name)
            assert container.exec_run(["id", "--user"]).output.strip() == b"9650"
            container.stop()
            container.reload()
            assert container.attrs["State"]["ExitCode"] == 0, "SIGTERM is a graceful stop"
        project.down()
        assert project.left() == []


def test_a_client_that_knows_one_published_port_writes_and_reads(nodes: ComposeCluster) -> None:
    leader = nodes.wait_for_leader()
    follower = next(name for name in NODES if name != leader)
    # The leader's advertised name means nothing out here: this client must stay with the port that it knows.
    with Client(nodes.addresses[follower]) as client:
        client.create_topic("one-port")
        with client.producer() as producer:
            sent = [producer.send("one-port", b"value-%d" % number) for number in range(20)]
    assert [metadata.offset for metadata in sent] == list(range(20))
    for name in NODES:
        values = nodes.replica(name).values("one-port", at_least_index=sent[-1].raft_index)
        assert values == [b"value-%d" % number for number in range(20)]


def is_ready(address: str) -> bool:
    return fetch(address, "/readyz").status == 200


def test_the_status_page_is_published_on_loopback(nodes: ComposeCluster) -> None:
    nodes.wait_for_leader()
    for address in nodes.http_addresses.values():
        eventually(partial(is_ready, address), f"{address} is ready")
        named = {node["node_id"]: node["http_address"] for node in fetch(address, "/status").json["nodes"]}
        published = {name: at.replace("127.0.0.1", "localhost") for name, at in nodes.http_addresses.items()}
        assert named == published, "links that a browser outside can follow"


def test_what_was_acknowledged_survives_the_death_of_the_leaders_container(nodes: ComposeCluster) -> None:
    nodes.replica("n1").create_topic("killed")
    leader = nodes.wait_for_leader()
    others = [name for name in NODES if name != leader]
    with Load("load", [nodes.addresses[name] for name in others], "killed") as load:
        load.wait_for_more()
        nodes.container(leader).kill()
        assert nodes.wait_for_leader(others) in others
        load.wait_for_more()
        nodes.container(leader).start()
        nodes.wait_until_healthy(NODES)
        promised = load.finish()
    for name in NODES:
        check_replica(nodes.replica(name), "killed", promised)


def test_a_node_that_loses_its_network_catches_up_when_it_is_back(nodes: ComposeCluster) -> None:
    nodes.replica("n1").create_topic("cut-off")
    leader = nodes.wait_for_leader()
    others = [name for name in NODES if name != leader]
    with Load("load", [nodes.addresses[name] for name in others], "cut-off") as load:
        load.wait_for_more()
        nodes.cut_off(leader)
        assert nodes.wait_for_leader(others) in others
        load.wait_for_more()
        nodes.connect_again(leader)
        nodes.wait_for_leader()
        promised = load.finish()
    for name in NODES:
        check_replica(nodes.replica(name), "cut-off", promised)


def test_nodes_that_come_back_with_other_addresses_are_found_again(nodes: ComposeCluster) -> None:
    """Row 40: two nodes swap their addresses under their old names; names are resolved anew, soon."""
    nodes.replica("n1").create_topic("moved")
    leader = nodes.wait_for_leader()
    moved = [name for name in NODES if name != leader]
    before = {name: nodes.address(name) for name in moved}
    with Load("load", [nodes.addresses[name] for name in NODES], "moved") as load:
        load.wait_for_more()
        for name in moved:
            nodes.cut_off(name)
        # The engine gives the lowest address that is free: who had the highest comes first.
        for name in sorted(moved, key=lambda name: ip_address(before[name]), reverse=True):
            nodes.connect_again(name)
        assert {name: nodes.address(name) for name in moved} != before, "the engine gave the same again"
        nodes.wait_for_leader()
        load.wait_for_more()
        promised = load.finish()
    for name in NODES:
        check_replica(nodes.replica(name), "moved", promised)
