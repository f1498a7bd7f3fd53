"""Wall clocks that jump: nothing that is promised rests on them."""

from __future__ import annotations

import pytest

from quorumlog.proto import service_pb2
from tests.cluster.load import Load, check_replica
from tests.cluster.test_crashes import SMALL_SEGMENTS, check_logs_are_equal
from tests.conftest import StartCluster
from tests.support.nodes import NodeCluster
from tests.support.replica import Replica
from tests.support.shim import Shim

TOPIC = "events"
HOUR_NS = 3600 * 10**9
STROBE_NS = 200 * 10**6


@pytest.fixture
def clocks(start_cluster: StartCluster) -> tuple[NodeCluster, dict[str, Shim]]:
    """Three nodes with clocks that a test can move."""
    cluster = start_cluster(settings=SMALL_SEGMENTS, serving=False)
    shims = {node.node_id: Shim(node) for node in cluster}
    cluster.start()
    cluster.wait_for_leader()
    cluster.replica("n1").create_topic(TOPIC)
    return cluster, shims


@pytest.mark.parametrize("jump_ns", [HOUR_NS, -HOUR_NS], ids=["forwards", "backwards"])
@pytest.mark.parametrize("role", ["leader", "follower"])
def test_a_clock_that_jumps_an_hour_changes_no_leader_and_loses_nothing(
    clocks: tuple[NodeCluster, dict[str, Shim]], role: str, jump_ns: int
) -> None:
    """Row 24: elections and acknowledgements know no wall clock; append times never go back."""
    cluster, shims = clocks
    leader = cluster.wait_for_leader()
    term = cluster.replica(leader).status().term
    victim = leader if role == "leader" else cluster.followers()[0]
    with Load("load", cluster.bootstrap_servers, TOPIC) as load:
        load.wait_for_more()
        shims[victim].clock_ns = jump_ns
        load.wait_for_more(300)
        shims[victim].clock_ns = 0
        load.wait_for_more(300)
        assert cluster.replica(cluster.wait_for_leader()).status().term == term, "nobody stood for election"
        promised = load.finish()
    times = append_times_ms(cluster.replica(leader))
    assert times == sorted(times)
    jumped_ms = max(times) - min(times)
    assert (jumped_ms > HOUR_NS // 2_000_000) == (role == "leader" and jump_ns > 0), (
        "the shim moves the clock"
    )
    for node in cluster:
        check_replica(cluster.replica(node.node_id), TOPIC, promised)
    check_logs_are_equal(cluster)


def test_a_new_leader_whose_clock_is_an_hour_behind_does_not_turn_back_time(
    clocks: tuple[NodeCluster, dict[str, Shim]],
) -> None:
    """Row 24: the leader's time is at least that of the last entry, whoever wrote that."""
    cluster, shims = clocks
    leader = cluster.wait_for_leader()
    for name in cluster.followers():
        shims[name].clock_ns = -HOUR_NS
    with Load("load", cluster.bootstrap_servers, TOPIC) as load:
        load.wait_for_more()
        cluster[leader].kill()
        load.wait_for_more()
        cluster.start(leader)
        promised = load.finish()
    times = append_times_ms(cluster.replica(cluster.wait_for_leader()))
    assert times == sorted(times)
    for node in cluster:
        check_replica(cluster.replica(node.node_id), TOPIC, promised)


def test_a_clock_that_strobes_is_not_noticed(clocks: tuple[NodeCluster, dict[str, Shim]]) -> None:
    """Row 24: 200 ms to and fro, on the leader, under load."""
    cluster, shims = clocks
    leader = cluster.wait_for_leader()
    term = cluster.replica(leader).status().term
    with Load("load", cluster.bootstrap_servers, TOPIC) as load:
        for number in range(40):
            shims[leader].clock_ns = STROBE_NS if number % 2 else -STROBE_NS
            load.wait_for_more(20)
        promised = load.finish()
    assert cluster.replica(cluster.wait_for_leader()).status().term == term
    times = append_times_ms(cluster.replica(leader))
    assert times == sorted(times)
    for node in cluster:
        check_replica(cluster.replica(node.node_id), TOPIC, promised)


def append_times_ms(replica: Replica) -> list[int]:
    """When each batch was appended, as the leader says, in the order of offsets."""
    times: list[int] = []
    offset = 0
    while True:
        request = service_pb2.FetchRequest(topic=TOPIC, offset=offset, max_bytes=1 << 20)
        answer = replica.log.Fetch(request, timeout=10)
        if not answer.batches:
            return times
        times += [fetched.append_time_ms for fetched in answer.batches]
        offset = answer.batches[-1].base_offset + answer.batches[-1].header.span
