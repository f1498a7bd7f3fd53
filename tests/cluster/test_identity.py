"""A node refuses to start on a data directory that is not its own: it could vote in another's name."""

from __future__ import annotations

import shutil

from tests.conftest import StartCluster
from tests.support.nodes import NodeCluster, NodeProcess


def test_a_directory_of_another_node_is_refused(start_cluster: StartCluster) -> None:
    cluster = start_cluster()
    cluster.stop()
    shutil.rmtree(cluster["n2"].data)
    shutil.copytree(cluster["n1"].data, cluster["n2"].data)
    assert_refuses(cluster["n2"], "n1")


def test_a_directory_of_another_cluster_is_refused(start_cluster: StartCluster) -> None:
    ours = start_cluster(1)
    ours.stop()
    others = start_cluster(1, name="another", serving=False)
    shutil.copytree(ours["n1"].data, others["n1"].data)
    assert_refuses(others["n1"], "cluster")


def test_a_directory_that_is_in_use_is_refused(start_cluster: StartCluster) -> None:
    cluster = start_cluster(1)
    second = start_cluster(1, serving=False)
    second["n1"].data.symlink_to(cluster["n1"].data)
    assert_refuses(second["n1"], "")
    assert cluster["n1"].is_running


def assert_refuses(node: NodeProcess, reason: str) -> None:
    """Start the node; it must end by itself, without success, and say why, not show a traceback."""
    node.launch()
    assert node.wait_for_exit() not in (0, -9)
    said = node.log_tail()
    assert str(node.data) in said
    assert reason in said
    assert "Traceback" not in said


def test_a_cluster_of_one_serves(start_cluster: StartCluster) -> None:
    cluster: NodeCluster = start_cluster(1)
    replica = cluster.replica("n1")
    replica.create_topic("events")
    assert replica.produce("events", [b"value"]).base_offset == 0
    assert replica.values("events") == [b"value"]
