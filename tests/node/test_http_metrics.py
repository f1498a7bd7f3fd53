"""/metrics: what Prometheus' own parser reads, against what a node did and what docs/metrics.md lists."""

from __future__ import annotations

import re
from pathlib import Path

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from quorumlog.node import metrics
from quorumlog.proto import service_pb2
from quorumlog.raft.alarms import DISK_FULL
from quorumlog.raft.durations import BOUNDS_S, Durations
from quorumlog.raft.engine import PeerState
from tests.node.conftest import StartNode
from tests.support.certificates import TestAuthority
from tests.support.local_node import TIMEOUT_S, LocalNode, batch_of
from tests.support.web import context_of, get

DOCUMENT = Path(__file__).parents[2] / "docs" / "metrics.md"


class Scrape:
    """One answer, parsed."""

    def __init__(self, text: str) -> None:
        self.families = list(text_string_to_metric_families(text))
        self.samples: list[Sample] = [sample for family in self.families for sample in family.samples]

    def value(self, name: str, **labels: str) -> float:
        (found,) = [s.value for s in self.samples if s.name == name and s.labels == labels]
        return found

    def labels(self, name: str, label: str) -> set[str]:
        return {sample.labels[label] for sample in self.samples if sample.name == name}


async def scrape(node: LocalNode) -> Scrape:
    answer = await get(node.node.http_address, "/metrics")
    assert answer.headers["content-type"] == metrics.CONTENT_TYPE
    return Scrape(answer.text)


@pytest.fixture
async def web(start_node: StartNode) -> LocalNode:
    return await start_node(http__listen="127.0.0.1:0")


def documented() -> dict[str, tuple[str, frozenset[str]]]:
    """Type and labels by name, as the document has them."""
    rows = re.findall(r"^\| `(quorumlog_\w+)` \| (\w+) \|([\w, ]*)\|", DOCUMENT.read_text(), re.MULTILINE)
    return {name: (kind, frozenset(labels.replace(" ", "").split(",")) - {""}) for name, kind, labels in rows}


async def test_what_is_documented_is_there_and_nothing_else(start_node: StartNode, tmp_path: Path) -> None:
    authority = TestAuthority(tmp_path / "certs")
    files = authority.node("n1")
    tls = authority.client("somebody")
    node = await start_node(
        http__listen="127.0.0.1:0",
        tls=tls,
        tls__certificate=str(files.certificate),
        tls__key=str(files.key),
        tls__authority=str(files.authority),
    )
    node.engine.peers["n2"] = PeerState("n2", "h:1", True, None, "replicate", 0)
    await node.create("orders")
    stream = node.log.Consume(service_pb2.ConsumeRequest(topic="orders", until_end=True))
    assert await stream.read() == grpc.aio.EOF
    text = (await get(node.node.http_address, "/metrics", tls=context_of(authority.file, tls))).text
    given = {}
    for family in Scrape(text).families:
        if family.name.startswith("quorumlog_"):
            assert family.documentation
            name = family.name + ("_total" if family.type == "counter" else "")
            labels = {label for sample in family.samples for label in sample.labels} - {"le"}
            given[name] = (family.type, frozenset(labels))
    assert given == documented()
    assert "process_resident_memory_bytes" in text
    expires_s = Scrape(text).value("quorumlog_tls_certificate_expires_at_timestamp_seconds")
    assert expires_s == authority.certificates("n1").current().expires_s


async def test_counts_are_of_what_was_done(web: LocalNode) -> None:
    await web.create("orders", 2)
    sent = batch_of("orders", [b"a", b"b", b"c"], partition=1)
    await web.produce(sent)
    await web.fetch("orders", 0, partition=1)
    with pytest.raises(grpc.aio.AioRpcError):
        await web.fetch("parcels", 0)
    stream = web.log.Consume(service_pb2.ConsumeRequest(topic="orders", partition=1), timeout=TIMEOUT_S)
    await stream.read()
    now = await scrape(web)
    assert now.value("quorumlog_records_in_total", topic="orders") == 3
    assert now.value("quorumlog_bytes_in_total", topic="orders") == len(sent.body)
    assert now.value("quorumlog_records_out_total", topic="orders") == 6
    assert now.value("quorumlog_bytes_out_total", topic="orders") == 2 * len(sent.body)
    assert now.value("quorumlog_log_end_offset", topic="orders", partition="0") == 0
    assert now.value("quorumlog_log_end_offset", topic="orders", partition="1") == 3
    counted = "quorumlog_request_duration_seconds_count"
    assert now.value(counted, method="Produce", code="OK") == 1
    assert now.value(counted, method="Fetch", code="OK") == 1
    assert now.value(counted, method="Fetch", code="NOT_FOUND") == 1
    assert now.value("quorumlog_streams", method="Consume") == 1
    stream.cancel()


async def test_gauges_are_of_now(web: LocalNode) -> None:
    now = await scrape(web)
    assert now.value("quorumlog_has_leader") == now.value("quorumlog_is_leader") == 1
    assert now.value("quorumlog_leader_changes_total") == 1
    assert now.value("quorumlog_alarm", alarm="disk_full") == 0
    web.engine.follow("n2", "127.0.0.1:1")
    web.engine.lose_leader()
    web.engine.follow("n2", "127.0.0.1:1")
    web.engine.alarms.add(DISK_FULL)
    web.engine.peers["n2"] = PeerState("n2", "h:1", False, None, "", 0)
    now = await scrape(web)
    assert (now.value("quorumlog_has_leader"), now.value("quorumlog_is_leader")) == (1, 0)
    assert now.value("quorumlog_leader_changes_total") == 2
    assert now.value("quorumlog_alarm", alarm="disk_full") == 1
    assert now.value("quorumlog_peer_connected", peer="n2") == 0
    assert now.labels("quorumlog_replication_lag_entries", "peer") == set(), "a follower does not know"


async def test_series_are_bounded(web: LocalNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "PARTITIONS_MAX", 5)
    monkeypatch.setattr(metrics, "TOPICS_MAX", 3)
    for name, partitions in (("a", 3), ("b", 9), ("c", 2), ("d", 1)):
        await web.create(name, partitions)
    now = await scrape(web)
    assert now.labels("quorumlog_log_end_offset", "topic") == {"a", "c"}
    assert now.labels("quorumlog_bytes_in_total", "topic") == {"a", "c"}
    assert now.value("quorumlog_metrics_omitted_topics") == 2
    assert (now.value("quorumlog_topics"), now.value("quorumlog_partitions")) == (4, 15)


async def test_many_series_are_one_metric(web: LocalNode) -> None:
    await web.create("orders", 1000)
    now = await scrape(web)
    (family,) = [each for each in now.families if each.name == "quorumlog_log_end_offset"]
    assert [sample.labels["partition"] for sample in family.samples] == [str(n) for n in range(1000)]


async def test_a_deleted_topic_has_no_series(web: LocalNode) -> None:
    await web.create("orders")
    await web.topics.DeleteTopic(service_pb2.DeleteTopicRequest(name="orders"), timeout=TIMEOUT_S)
    assert (await scrape(web)).labels("quorumlog_bytes_in_total", "topic") == set()


def test_durations_fall_into_their_buckets() -> None:
    durations = Durations()
    for value in (0.0, BOUNDS_S[0], 0.003, 11.0):
        durations.add(value)
    buckets = dict(durations.cumulative())
    assert (buckets["0.0001"], buckets["0.0025"], buckets["0.005"], buckets["10.0"]) == (2, 2, 3, 3)
    assert buckets["+Inf"] == 4
    assert durations.sum_s == pytest.approx(11.0031)
