"""Clusters that are abused: real processes, one with TLS and one without, shared by all tests of this folder.

After each test the cluster must be unharmed: the same processes, the same leader in the same term, a write
and a read that work, memory within the test's bound, and no trace of a bug in the logs.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from quorumlog.client.tls import Tls
from quorumlog.proto import service_pb2
from tests.conftest import SHOWN_ON_FAILURE
from tests.support.certificates import TestAuthority
from tests.support.local_node import batch_of
from tests.support.nodes import NodeCluster
from tests.support.waiting import UNIT_S, eventually

# Elections are not what is tested, and the machine may be busy: a leader that is kept from its work for two
# seconds by what strangers send is one that fails these tests.
SETTINGS: dict[str, object] = {
    "raft.election_timeout_min": "2s",
    "raft.election_timeout_max": "4s",
    "raft.heartbeat": "200ms",
    "limits.write_timeout": "2s",
}
MIB = 1024 * 1024
MEMORY_BYTES = 96 * MIB  # that abuse may cost each node while it lasts, unless a test says another bound

TOPIC = "abused"

# What a bug leaves in a log. A line that somebody else wrote into it would count, too.
_TRACE = re.compile(r"^(Traceback|\S+ \S+ CRITICAL )|unexpected error|was never retrieved", re.MULTILINE)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here starts processes."""
    for item in items:
        if "/abuse/" in item.path.as_posix():
            item.add_marker(pytest.mark.cluster)


class Abused:
    """A cluster, and who leads it."""

    def __init__(self, cluster: NodeCluster, authority: TestAuthority | None) -> None:
        self.cluster = cluster
        self.authority = authority
        self.leader = cluster.wait_for_leader()
        request = service_pb2.CreateTopicRequest(name=TOPIC, partitions=1)
        cluster.replica(self.leader).topics.CreateTopic(request, timeout=20 * UNIT_S)

    @property
    def follower(self) -> str:
        """A node that does not lead."""
        return next(node.node_id for node in self.cluster if node.node_id != self.leader)

    def client_address(self, node_id: str | None = None) -> str:
        """Where the leader, or this node, hears clients."""
        return self.cluster[node_id or self.leader].client_address

    def peer_address(self, node_id: str | None = None) -> str:
        """Where the leader, or this node, hears peers."""
        return self.cluster[node_id or self.leader].peer_address

    def client(self, name: str = "anybody", *roles: str) -> Tls | None:
        """What a client of the cluster shows."""
        return self.authority.client(name, roles) if self.authority is not None else None

    def append(self) -> None:
        """Write a record by way of a follower, and read the topic's end from it."""
        replica = self.cluster.replica(self.follower)
        request = service_pb2.ProduceRequest(batches=[batch_of(TOPIC)])
        result = replica.log.Produce(request, timeout=20 * UNIT_S).results[0]
        fetch = service_pb2.FetchRequest(
            topic=TOPIC, offset=result.base_offset, consistency="CONSISTENCY_SESSION",
            min_raft_index=result.raft_index,
        )  # fmt: skip
        assert replica.log.Fetch(fetch, timeout=20 * UNIT_S).batches

    @contextmanager
    def unharmed(self, memory_bytes: int = MEMORY_BYTES) -> Iterator[None]:
        """Check that the block costs each node no more than this, and that all is as before afterwards."""
        before = self._leadership()
        pids = {node.pid for node in self.cluster}
        resident = {pid: _memory(pid, "VmRSS") for pid in pids}
        said = {node.node_id: len(node.logged()) for node in self.cluster}
        for pid in pids:
            Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak is counted anew
        yield
        assert {node.pid for node in self.cluster if node.is_running} == pids, "a process has ended"
        for pid, resident_bytes in resident.items():
            cost = _memory(pid, "VmHWM") - resident_bytes
            assert cost <= memory_bytes, f"{cost >> 20} MiB at the peak, {memory_bytes >> 20} are allowed"
        self.append()
        assert self._leadership() == before
        for node in self.cluster:
            status = self.cluster.status(node.node_id)
            assert status is not None
            assert not status.alarms, status.alarms
        for node in self.cluster:
            new = node.logged()[said[node.node_id] :]
            trace = _TRACE.search(new)
            assert trace is None, f"{node.node_id}: {new[trace.start() :][:4000]}"

    def _leadership(self) -> tuple[str, int]:
        """Leader and term, as all nodes see them."""
        self.cluster.wait_for_leader()
        statuses = [self.cluster.status(node.node_id) for node in self.cluster]
        (view,) = {(status.leader_id, status.term) for status in statuses if status is not None}
        return view

    def descriptors(self, node_id: str | None = None) -> int:
        """How many files a node has open."""
        return len(os.listdir(f"/proc/{self.cluster[node_id or self.leader].pid}/fd"))

    def memory(self, node_id: str | None = None) -> int:
        """Bytes that a node has resident."""
        return _memory(self.cluster[node_id or self.leader].pid, "VmRSS")

    def wait_for_descriptors(self, at_most: int) -> None:
        """Wait until what strangers opened is closed again."""
        eventually(lambda: self.descriptors() <= at_most, f"at most {at_most} descriptors")


def _memory(pid: int, key: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"no {key} of {pid}")


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> TestAuthority:
    return TestAuthority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def running_with_tls(tmp_path_factory: pytest.TempPathFactory, authority: TestAuthority) -> Iterator[Abused]:
    with NodeCluster(tmp_path_factory.mktemp("tls") / "c", 3, SETTINGS, authority=authority) as cluster:
        cluster.start()
        yield Abused(cluster, authority)


@pytest.fixture(scope="session")
def running_plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Abused]:
    with NodeCluster(tmp_path_factory.mktemp("plain") / "c", 3, SETTINGS) as cluster:
        cluster.start()
        yield Abused(cluster, None)


@pytest.fixture
def guarded(request: pytest.FixtureRequest, running_with_tls: Abused) -> Abused:
    """Three nodes that speak TLS."""
    request.node.stash.setdefault(SHOWN_ON_FAILURE, []).append(running_with_tls.cluster)
    return running_with_tls


@pytest.fixture
def plain(request: pytest.FixtureRequest, running_plain: Abused) -> Abused:
    """Three nodes that speak plain text: strangers' bytes reach the decoders."""
    request.node.stash.setdefault(SHOWN_ON_FAILURE, []).append(running_plain.cluster)
    return running_plain


@pytest.fixture
def dice() -> random.Random:
    """Randomness whose seed a failing test shows."""
    seed = int(os.environ.get("QUORUMLOG_TEST_SEED", random.randrange(2**32)))
    print(f"QUORUMLOG_TEST_SEED={seed}")
    return random.Random(seed)
