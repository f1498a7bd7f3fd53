"""Retention among real processes: a node that lacks what is gone comes back (rows 47, 48, 56)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.cluster.load import Acknowledged, Load
from tests.conftest import StartCluster
from tests.support.nodes import NodeCluster
from tests.support.waiting import eventually

TOPIC = "events"
# So little that segments go while a test looks on.
SETTINGS = {"log.segment_bytes": "64KiB", "log.segment_entries": 100, "log.retention_bytes": "64KiB"}
SLOTS = slice(1024, 4096)  # of a log file's header page: the only part in which replicas may differ


def test_a_node_that_was_stopped_while_retention_dropped_what_it_lacks(start_cluster: StartCluster) -> None:
    cluster = start_cluster(settings=SETTINGS)
    cluster.replica("n1").create_topic(TOPIC)
    away, other = cluster.followers()
    with Load("load", cluster.bootstrap_servers, TOPIC) as load:
        load.wait_for_more(200)
        last = log_range(cluster, away)[1]
        cluster[away].kill()
        eventually(lambda: log_range(cluster, other)[0] > last + 1, "what it lacks is gone", 60)
        cluster.start(away)
        load.wait_for_more(500, units=60)
        again = cluster.followers()[0]
        cluster[again].stop()  # and once more, with a clean stop of whoever follows
        last = log_range(cluster, cluster.wait_for_leader())[1]
        eventually(
            lambda: log_range(cluster, cluster.wait_for_leader())[0] > last + 1, "that is gone too", 60
        )
        cluster.start(again)
        load.wait_for_more(300, units=60)
        promised = load.finish()
    eventually(lambda: "begins anew at entry" in cluster[away].log_text(), "it took a state", 60)
    for node in cluster:
        check_from_the_start(cluster, node.node_id, promised)
    check_files_are_equal(cluster)


def test_retention_goes_on_while_nodes_die(start_cluster: StartCluster) -> None:
    """Rows 3 and 4: SIGKILL at any moment of rolls, seals, drops and installs."""
    cluster = start_cluster(settings=SETTINGS)
    cluster.replica("n1").create_topic(TOPIC)
    with Load("load", cluster.bootstrap_servers, TOPIC) as load:
        for _ in range(2):
            for name in ("n1", "n2", "n3"):
                load.wait_for_more(300, units=60)
                cluster[name].kill()
                load.wait_for_more(300, units=60)
                cluster.start(name)
        promised = load.finish()
    cluster.wait_for_leader()
    for node in cluster:
        check_from_the_start(cluster, node.node_id, promised)
    assert log_range(cluster, "n1")[0] > 1
    check_files_are_equal(cluster)


def log_range(cluster: NodeCluster, name: str) -> tuple[int, int]:
    """First and last raft index that the node keeps."""
    status = eventually(lambda: cluster.status(name), f"{name} answers")
    return status.log_start, status.log_end


def check_from_the_start(cluster: NodeCluster, name: str, promised: Sequence[Acknowledged]) -> None:
    """Everything that was acknowledged and is not gone is there, once, in order."""
    replica = cluster.replica(name)
    cluster.wait_until_applied(max(one.raft_index for one in promised), [name], units=60)
    earliest = replica.earliest(TOPIC)
    assert earliest > 0
    records = replica.read_all(TOPIC, 0, first=earliest)
    found = {record.offset: record.value for record in records}
    assert list(found) == list(range(earliest, earliest + len(records)))
    assert len(set(found.values())) == len(found)
    kept = [one for one in promised if one.offset >= earliest]
    assert len(kept) > 50
    for one in kept:
        assert found.get(one.offset) == one.value, one


def check_files_are_equal(cluster: NodeCluster) -> None:
    """I7: kill the nodes when all keep the same entries; logs, views and states have the same bytes."""

    def ranges() -> set[tuple[int, int]]:
        return {log_range(cluster, node.node_id) for node in cluster}

    def is_level() -> bool:
        # The files of what is kept no longer go a moment after the entries.
        return len(ranges()) == 1 and len({frozenset(_log_names(node.data)) for node in cluster}) == 1

    eventually(is_level, "all keep the same entries, and no other files", 60)
    cluster.kill_all()
    first, *others = [_files(node.data) for node in cluster]
    for files in others:
        assert {name for name in files if name.endswith(".log")} == {
            name for name in first if name.endswith(".log")
        }
        for name in files.keys() & first.keys():  # of views and states the newest may be on its way
            assert files[name] == first[name], f"{name} differs between nodes"


def _log_names(data: Path) -> set[str]:
    return {path.name for path in (data / "group-0" / "log").glob("*.log")}


def _files(data: Path) -> dict[str, bytes]:
    files = {}
    for path in (data / "group-0" / "log").iterdir():
        if path.suffix in (".log", ".view", ".state"):
            content = bytearray(path.read_bytes())
            if path.suffix == ".log":
                content[SLOTS] = b""
                content = content.rstrip(b"\0")  # what was only preallocated
            files[path.name] = bytes(content)
    assert files, f"no segments in {data}"
    return files
