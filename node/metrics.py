"""What /metrics shows: Prometheus metrics, made when they are asked for from what is counted anyway.

Nothing on the way of a record knows of Prometheus. Names follow its practices: the prefix quorumlog_, base
units, `_total` for what only rises while the node runs. docs/metrics.md lists them; a test compares.

Series are bounded: at most TOPICS_MAX topics and PARTITIONS_MAX partitions have series of their own, those
that come first by name; `quorumlog_metrics_omitted_topics` says how many topics have none.
"""

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from prometheus_client import ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from quorumlog.node.calls import Calls
from quorumlog.node.machine import LogMachine
from quorumlog.node.status import Statuses, lag_of
from quorumlog.node.tls import Certificates
from quorumlog.node.topics import Topic
from quorumlog.node.viewers import Viewer
from quorumlog.raft.alarms import DAMAGE, DISK_FULL
from quorumlog.raft.durations import Durations
from quorumlog.raft.engine import REFUSED, Engine, Role

PREFIX: Final = "quorumlog_"
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
TOPICS_MAX: Final = 1_000
PARTITIONS_MAX: Final = 2_000
_SAMPLES_PER_PIECE: Final = 200  # 10 us of Python each: the loop is held for 2 ms
_ALARMS: Final = (DISK_FULL, DAMAGE, REFUSED)

Labels = Mapping[str, str]


class _One(Collector):
    """What the exposition takes."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterable[Metric]:
        return (self._metric,)


class Metrics:
    """The metrics of one node."""

    def __init__(
        self,
        engine: Engine,
        machine: LogMachine,
        calls: Calls,
        statuses: Statuses,
        certificates: Certificates | None,
        data: str,
    ) -> None:
        """`data`: a path on the disk that the log is on."""
        self._engine = engine
        self._machine = machine
        self._calls = calls
        self._statuses = statuses
        self._certificates = certificates
        self._data = data
        self._process = ProcessCollector(registry=None)
        self._leader_changes = 0
        self._last_leader: str | None = engine.leader_id
        engine.on_role.append(self._note_leader)

    async def text(self, viewer: Viewer) -> bytes:
        """Return all that the viewer may see; the loop goes on between one piece and the next."""
        pieces = []
        for metric in self._collect(viewer):
            for first in range(0, max(1, len(metric.samples)), _SAMPLES_PER_PIECE):
                pieces.append(_exposed(metric, first))
                await asyncio.sleep(0)
        return b"".join(pieces)

    def _note_leader(self, role: Role, term: int, leader_id: str | None) -> None:
        if leader_id is not None and leader_id != self._last_leader:
            self._leader_changes += 1
            self._last_leader = leader_id

    def _collect(self, viewer: Viewer) -> Iterator[Metric]:
        yield from self._about_the_node()
        yield from self._about_replication()
        yield from self._about_the_disk()
        yield from self._about_calls()
        yield from self._about_topics(viewer)
        yield from self._process.collect()

    def _about_the_node(self) -> Iterator[Metric]:
        version = {"version": self._statuses.version, "python": platform.python_version()}
        yield _gauge("build_info", "Always 1; the labels say what runs.", [(version, 1)])
        raised = {alarm.split(" ")[0] for alarm in self._engine.alarms}
        alarms: list[tuple[Labels, float]] = [
            ({"alarm": alarm.lower()}, float(alarm in raised)) for alarm in _ALARMS
        ]
        yield _gauge("alarm", "1 while the alarm is raised.", alarms)
        if self._certificates is not None:
            expires_s = self._certificates.current().expires_s
            yield _gauge(
                "tls_certificate_expires_at_timestamp_seconds",
                "When the node's certificate expires, in seconds since 1970.",
                [({}, expires_s)],
            )

    def _about_replication(self) -> Iterator[Metric]:
        engine, status = self._engine, self._engine.status()
        for name, help_, value in (
            ("has_leader", "1 if this node knows who leads.", status.leader_id is not None),
            ("is_leader", "1 if this node leads.", status.role is Role.LEADER),
            ("is_voter", "1 if this node's votes and copies count.", engine.why_not_voting is None),
            ("term", "The Raft term.", status.term),
            ("members", "Nodes that take part, learners included.", len(engine.members)),
            ("commit_index", "Last raft index committed that is here.", status.commit_index),
            ("known_commit_index", "Last raft index committed, as a leader said.", engine.known_commit_index),
            ("applied_index", "Last raft index that is applied: what readers see.", status.applied_index),
            ("log_first_index", "First raft index that is kept.", status.first_index),
            ("log_last_index", "Last raft index in the log, committed or not.", status.last_index),
            ("durable_index", "Last raft index that survives a power loss here.", status.durable_index),
        ):  # fmt: skip
            yield _gauge(name, help_, [({}, value)])
        yield _counter("leader_changes", "How often another leader was seen.", [({}, self._leader_changes)])
        peers = [({"peer": peer.node_id}, peer) for peer in status.peers.values()]
        yield _gauge(
            "peer_connected",
            "1 while there is a session with the peer.",
            [(label, float(peer.connected)) for label, peer in peers],
        )
        yield _gauge(
            "replication_lag_entries",
            "Entries that the peer lacks; said by the leader alone.",
            [(label, lag_of(peer, status.last_index)) for label, peer in peers if peer.state],
        )
        counted = engine.counters()
        yield _histogram(
            "append_duration_seconds",
            "From an entry's place in the leader's log until it is applied there.",
            [({}, counted.appends)],
        )
        yield _counter("snapshots_sent", "States begun to be sent to peers.", [({}, counted.snapshots_sent)])
        yield _counter(
            "snapshots_installed", "States taken from a leader.", [({}, counted.snapshots_installed)]
        )

    def _about_the_disk(self) -> Iterator[Metric]:
        status, counted = self._engine.status(), self._engine.counters()
        yield _histogram("fsync_duration_seconds", "Syncs of the log.", [({}, counted.syncs)])
        disk = os.statvfs(self._data)
        yield _gauge("segments", "Segments of the log.", [({}, status.segments)])
        yield _gauge("disk_bytes", "Bytes of the log.", [({}, status.log_bytes)])
        yield _gauge("disk_free_bytes", "Bytes free where the log is.", [({}, disk.f_bavail * disk.f_frsize)])
        yield _counter(
            "checksum_failures", "Places in the log that failed a check.", [({}, counted.damage_met)]
        )
        yield _gauge(
            "damaged_files", "Files that are fenced until they are repaired.", [({}, counted.damaged_files)]
        )
        scrub = status.scrub
        yield _counter("scrubs", "Walks over all sealed segments that are finished.", [({}, scrub.walks)])
        yield _counter("scrub_damaged_files", "Damaged files that scrubbing found.", [({}, scrub.found)])

    def _about_calls(self) -> Iterator[Metric]:
        calls = self._calls
        yield _histogram(
            "request_duration_seconds",
            "gRPC calls with one answer.",
            [({"method": method, "code": code}, each) for (method, code), each in calls.durations.items()],
        )
        yield _gauge(
            "streams",
            "gRPC streams that are open.",
            [({"method": method}, n) for method, n in calls.open_streams.items()],
        )
        yield _counter(
            "streams_ended",
            "gRPC streams that have ended.",
            [({"method": method, "code": code}, n) for (method, code), n in calls.ended_streams.items()],
        )

    def _about_topics(self, viewer: Viewer) -> Iterator[Metric]:
        everything = list(self._machine.topics)
        yield _gauge("topics", "Topics.", [({}, len(everything))])
        partitions = sum(len(topic.partitions) for topic in everything)
        yield _gauge("partitions", "Partitions of all topics.", [({}, partitions)])
        seen = [topic for topic in self._machine.topics.by_name() if viewer.sees(topic.name)]
        shown = _bounded(seen)
        yield _gauge(
            "metrics_omitted_topics", "Topics too many to have series here.", [({}, len(seen) - len(shown))]
        )
        labelled = [({"topic": topic.name}, topic) for topic in shown]
        yield _counter(
            "records_in",
            "Records appended, since the topic was created.",
            [(label, sum(each.next_offset for each in topic.partitions)) for label, topic in labelled],
        )
        yield _counter(
            "bytes_in",
            "Bytes of batches applied here, what a start replays included.",
            [(label, topic.traffic.bytes_in) for label, topic in labelled],
        )
        yield _counter(
            "records_out",
            "Records given to readers by this node.",
            [(label, topic.traffic.records_out) for label, topic in labelled],
        )
        yield _counter(
            "bytes_out",
            "Bytes of batches given to readers by this node.",
            [(label, topic.traffic.bytes_out) for label, topic in labelled],
        )
        places = [
            ({"topic": topic.name, "partition": str(number)}, each)
            for topic in shown
            for number, each in enumerate(topic.partitions)
        ]
        yield _gauge(
            "log_start_offset",
            "First offset that can be read.",
            [(at, each.start_offset) for at, each in places],
        )
        yield _gauge(
            "log_end_offset",
            "Offset that the next record gets.",
            [(at, each.next_offset) for at, each in places],
        )


def _exposed(metric: Metric, first: int) -> bytes:
    """Return the samples of a piece as text; what describes the metric stands before the first alone."""
    piece = Metric(metric.name, metric.documentation, metric.type)
    piece.samples = metric.samples[first : first + _SAMPLES_PER_PIECE]
    text = generate_latest(_One(piece))
    return text if first == 0 else text.split(b"\n", 2)[2]


def _bounded(topics: list[Topic]) -> list[Topic]:
    room = PARTITIONS_MAX
    shown = []
    for topic in topics[:TOPICS_MAX]:
        if len(topic.partitions) <= room:
            room -= len(topic.partitions)
            shown.append(topic)
    return shown


def _gauge(name: str, help_: str, samples: Iterable[tuple[Labels, float]]) -> Metric:
    metric = GaugeMetricFamily(PREFIX + name, help_)
    for labels, value in samples:
        metric.add_sample(metric.name, dict(labels), value)
    return metric


def _counter(name: str, help_: str, samples: Iterable[tuple[Labels, float]]) -> Metric:
    metric = CounterMetricFamily(PREFIX + name, help_)
    for labels, value in samples:
        metric.add_sample(metric.name + "_total", dict(labels), value)
    return metric


def _histogram(name: str, help_: str, samples: Iterable[tuple[Labels, Durations]]) -> Metric:
    metric = HistogramMetricFamily(PREFIX + name, help_)
    for labels, durations in samples:
        buckets = durations.cumulative()
        for bound, count in buckets:
            metric.add_sample(metric.name + "_bucket", {**labels, "le": bound}, count)
        metric.add_sample(metric.name + "_count", dict(labels), buckets[-1][1])
        metric.add_sample(metric.name + "_sum", dict(labels), durations.sum_s)
    return metric
