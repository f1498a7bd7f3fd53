"""Disks of real processes: full, failing, slow, gone. What was acknowledged survives, the cluster goes on."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import pytest

from quorumlog.proto import service_pb2
from quorumlog.raft.errors import EXIT_SYNC_FAILED
from tests.cluster.load import Load, check_replica
from tests.cluster.test_crashes import SMALL_SEGMENTS, check_logs_are_equal
from tests.conftest import StartCluster
from tests.support.nodes import NodeCluster
from tests.support.replica import Replica
from tests.support.shim import Shim
from tests.support.smalldisk import SmallDisk
from tests.support.waiting import eventually, stays

TOPIC = "events"
DISK_BYTES = 48 << 20
BATCH = [b"x" * 1000] * 200


@pytest.fixture
def shims(start_cluster: StartCluster) -> tuple[NodeCluster, dict[str, Shim]]:
    """Three nodes, each with a shim that does nothing yet."""
    cluster = start_cluster(settings=SMALL_SEGMENTS, serving=False)
    shims = {node.node_id: Shim(node) for node in cluster}
    cluster.start()
    cluster.wait_for_leader()
    cluster.replica("n1").create_topic(TOPIC)
    return cluster, shims


@contextmanager
def small_disk(cluster: NodeCluster, node_id: str) -> Iterator[SmallDisk]:
    """Give a node that does not run yet a small disk."""
    if not SmallDisk.works():
        pytest.skip("mounting a small file system needs root")
    with SmallDisk(cluster[node_id].data, DISK_BYTES) as disk:
        yield disk


@pytest.mark.parametrize("role", ["leader", "follower"])
def test_a_node_whose_fsync_fails_ends_and_the_cluster_goes_on(
    shims: tuple[NodeCluster, dict[str, Shim]], role: str
) -> None:
    """Row 14: one EIO, the next fsync would succeed: it is never asked."""
    cluster, shim = shims
    leader = cluster.wait_for_leader()
    victim = leader if role == "leader" else cluster.followers()[0]
    with Load("load", cluster.bootstrap_servers, TOPIC) as load:
        load.wait_for_more()
        shim[victim].failing_syncs = 1
        assert cluster[victim].wait_for_exit() == EXIT_SYNC_FAILED
        assert shim[victim].failed_syncs == 1
        load.wait_for_more()
        cluster.start(victim)
        load.wait_for_more()
        promised = load.finish()
    for node in cluster:
        check_replica(cluster.replica(node.node_id), TOPIC, promised)
    check_logs_are_equal(cluster)


def test_a_node_whose_last_fsync_fails_while_it_stops_says_so(
    shims: tuple[NodeCluster, dict[str, Shim]],
) -> None:
    """Row 14: nothing waits for that sync any more, but who started the node must learn of its disk."""
    cluster, shim = shims
    cluster.wait_for_leader()
    victim = cluster.followers()[0]
    shim[victim].failing_syncs = 1
    os.kill(cluster[victim].pid, signal.SIGTERM)
    assert cluster[victim].wait_for_exit() == EXIT_SYNC_FAILED
    cluster.start(victim)
    check_replica(cluster.replica(victim), TOPIC, [])


@pytest.mark.parametrize("number", [errno.EIO, errno.EROFS], ids=["EIO", "EROFS"])
@pytest.mark.parametrize("role", ["leader", "follower"])
def test_a_node_whose_disk_takes_no_writes_is_done_without(
    shims: tuple[NodeCluster, dict[str, Shim]], role: str, number: int
) -> None:
    """Rows 15 and 16: the data directory cannot be written any more; others lead, nothing is lost."""
    cluster, shim = shims
    leader = cluster.wait_for_leader()
    victim = leader if role == "leader" else cluster.followers()[0]
    others = [node.node_id for node in cluster if node.node_id != victim]
    with Load("load", [cluster[name].client_address for name in others], TOPIC) as load:
        load.wait_for_more()
        shim[victim].write_errno = number
        assert cluster[victim].wait_for_exit() not in (0, -9)
        assert shim[victim].failed_writes > 0
        assert cluster.wait_for_leader(others) in others
        load.wait_for_more()
        shim[victim].write_errno = 0
        cluster.start(victim)
        promised = load.finish()
    for node in cluster:
        check_replica(cluster.replica(node.node_id), TOPIC, promised)
    check_logs_are_equal(cluster)


def test_a_leader_whose_data_directory_vanishes_is_done_without(start_cluster: StartCluster) -> None:
    """Row 16: what is open can still be written; the next file cannot be made, and the node ends."""
    cluster = start_cluster(settings=SMALL_SEGMENTS)
    cluster.replica("n1").create_topic(TOPIC)
    victim = cluster.wait_for_leader()
    data = cluster[victim].data
    others = cluster.followers()
    with Load("load", [cluster[name].client_address for name in others], TOPIC) as load:
        load.wait_for_more()
        data.rename(data.with_name("gone"))
        assert cluster[victim].wait_for_exit(units=60) not in (0, -9)
        assert cluster.wait_for_leader(others) in others
        load.wait_for_more()
        data.with_name("gone").rename(data)  # it is mounted again
        cluster.start(victim)
        promised = load.finish()
    for node in cluster:
        check_replica(cluster.replica(node.node_id), TOPIC, promised)
    check_logs_are_equal(cluster)


def test_a_full_disk_refuses_writes_serves_reads_and_resumes_by_itself(start_cluster: StartCluster) -> None:
    """Row 13: RESOURCE_EXHAUSTED, reads go on, and the same process takes writes when there is room again."""
    cluster = start_cluster(1, SMALL_SEGMENTS, serving=False)
    with small_disk(cluster, "n1") as disk:
        cluster.start()
        replica, pid = cluster.replica("n1"), cluster["n1"].pid
        replica.create_topic(TOPIC)
        taken = 0
        assert is_taken(replica)
        taken += len(BATCH)
        disk.fill()
        while is_taken(replica):  # what was preallocated
            taken += len(BATCH)
        assert "DISK_FULL" in replica.status().alarms
        stays(lambda: not is_taken(replica), "writes are refused")
        assert len(replica.values(TOPIC)) == taken
        disk.free()
        eventually(lambda: is_taken(replica), "writes are taken again")
        taken += len(BATCH)
        assert len(replica.values(TOPIC)) == taken
        assert replica.status().alarms == []
        assert cluster["n1"].pid == pid
        cluster.kill_all()
        cluster.start()
        cluster.wait_for_leader()
        assert len(eventually(lambda: cluster.replica("n1").values(TOPIC), "it has replayed")) == taken


def test_a_log_that_has_reached_its_limit_goes_on_when_the_limit_is_raised(
    start_cluster: StartCluster,
) -> None:
    """Row 72: the limit is the size of its file system, which grows while the node runs."""
    cluster = start_cluster(1, SMALL_SEGMENTS, serving=False)
    with small_disk(cluster, "n1") as disk:
        cluster.start()
        replica, pid = cluster.replica("n1"), cluster["n1"].pid
        replica.create_topic(TOPIC)
        taken = 0
        while is_taken(replica):
            taken += len(BATCH)
        assert len(replica.values(TOPIC)) == taken
        disk.resize(2 * DISK_BYTES)
        eventually(lambda: is_taken(replica), "writes are taken again")
        assert len(replica.values(TOPIC)) == taken + len(BATCH)
        assert cluster["n1"].pid == pid


def test_a_follower_with_a_full_disk_does_not_stop_the_others_and_catches_up(
    start_cluster: StartCluster,
) -> None:
    """Row 13: the same in a cluster; a full leader may hand over or refuse, and loses nothing."""
    cluster = start_cluster(settings=SMALL_SEGMENTS, serving=False)
    with small_disk(cluster, "n3") as disk:
        cluster.start()
        leader = cluster.wait_for_leader()
        cluster.replica("n1").create_topic(TOPIC)
        with Load("load", cluster.bootstrap_servers, TOPIC) as load:
            load.wait_for_more()
            disk.fill()
            if leader != "n3":
                load.wait_for_more(2000, units=60)
            else:
                eventually(lambda: "DISK_FULL" in cluster.replica("n3").status().alarms, "it has noticed")
            assert cluster["n3"].is_running
            disk.free()
            load.wait_for_more()
            promised = load.finish()
        for node in cluster:
            check_replica(cluster.replica(node.node_id), TOPIC, promised)
        check_logs_are_equal(cluster)


def test_a_leader_with_a_full_disk_still_leads_and_resumes(start_cluster: StartCluster) -> None:
    """Row 13: refused with RESOURCE_EXHAUSTED by the leader, taken by the same one later."""
    cluster = start_cluster(settings=SMALL_SEGMENTS, serving=False)
    with small_disk(cluster, "n3") as disk:
        cluster.start()
        lead(cluster, "n3")
        cluster.replica("n3").create_topic(TOPIC)
        taken = 0
        disk.fill()
        while is_taken(cluster.replica("n3")):
            taken += len(BATCH)
        assert len(cluster.replica("n3").values(TOPIC)) == taken
        disk.free()
        eventually(lambda: is_taken(cluster.replica("n3")), "writes are taken again")
        assert len(cluster.replica("n3").values(TOPIC)) == taken + len(BATCH)
        check_logs_are_equal(cluster)


@pytest.mark.parametrize("role", ["leader", "follower"])
def test_a_slow_disk_costs_no_leadership_and_a_slow_follower_no_time(
    shims: tuple[NodeCluster, dict[str, Shim]], role: str
) -> None:
    """Row 37: every fsync takes half a second longer on one node."""
    cluster, shim = shims
    leader = cluster.wait_for_leader()
    victim = leader if role == "leader" else cluster.followers()[0]
    term = cluster.replica(leader).status().term
    shim[victim].sync_us = 500_000
    with Load("load", cluster.bootstrap_servers, TOPIC) as load:
        load.wait_for_more(500, units=120)
        assert cluster.wait_for_leader() == leader
        assert cluster.replica(leader).status().term == term, "nobody stood for election"
        shim[victim].sync_us = 0
        promised = load.finish()
    for node in cluster:
        check_replica(cluster.replica(node.node_id), TOPIC, promised)


def is_taken(replica: Replica) -> bool:
    """Append a batch; False when the node says that its disk is full, and nothing else."""
    try:
        result = replica.produce(TOPIC, BATCH)
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
            raise
        return False
    if result.HasField("failure"):
        assert result.failure.reason == "NO_SPACE", result.failure
        assert result.failure.code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
        return False
    return True


def lead(cluster: NodeCluster, node_id: str) -> None:
    """Let this node lead."""

    def leads() -> bool:
        leader = cluster.wait_for_leader()
        if leader != node_id:
            request = service_pb2.TransferLeadershipRequest(target=node_id)
            cluster.replica(leader).cluster.TransferLeadership(request, timeout=20)
        return cluster.wait_for_leader() == node_id

    eventually(leads, f"{node_id} leads")
