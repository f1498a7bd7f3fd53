"""What `quorumlog cluster top` shows: from one look at the cluster to the next. No I/O, no clock.

`advance` takes what is shown now and a new look, and returns what is shown next: rates over the last
interval, and what happened between the two looks. Looks come far more often than rates are made, so that the
time without a leader is known to a look's distance.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from quorumlog.client.describe import ClusterStatus, NodeStatus, Topic
from quorumlog.command.cluster_notes import notes_on, role_of

EVENTS_KEPT = 200

Severity: TypeAlias = Literal["good", "bad", "note"]


@dataclass(frozen=True, slots=True)
class Look:
    """The cluster at one moment, as far as it answers; `at_s` of a clock that never jumps."""

    at_s: float
    time_ms: int  # the same moment of this machine's clock, since 1970
    cluster: str
    sync_policy: str
    nodes: tuple[NodeStatus, ...]  # ascending by id
    topics: tuple[Topic, ...] = ()
    topics_at_s: float = 0.0  # when they were asked for
    said_at_s: Mapping[str, float] = field(default_factory=dict)  # by node: when it answered; else: just now

    def said(self, node_id: str) -> float:
        """Return when a node answered: a while before the look, where it does so no more."""
        return self.said_at_s.get(node_id, self.at_s)

    @property
    def leader(self) -> NodeStatus | None:
        """Who says that it leads, in the highest term: one that is cut off may think so in an older one."""
        leading = [node for node in self.nodes if node.reachable and node.role == "leader"]
        return max(leading, key=lambda node: node.term, default=None)

    @property
    def status(self) -> ClusterStatus:
        """The same as a status of the cluster."""
        leader = self.leader
        term = leader.term if leader is not None else max((node.term for node in self.nodes), default=0)
        leader_id = leader.node_id if leader is not None else ""
        return ClusterStatus(self.cluster, leader_id, term, self.nodes, _policy(self.sync_policy))


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened between two looks."""

    time_ms: int
    severity: Severity
    text: str


@dataclass(frozen=True, slots=True)
class NodeRow:
    """One node; what is not known is None."""

    node_id: str
    role: str
    term: int | None
    commit_index: int | None
    applied_index: int | None
    lag: int | None  # entries that it lacks of the leader's log
    log_bytes: int | None
    entries_per_s: float | None  # applied
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TopicRow:
    """One topic."""

    name: str
    partitions: int
    records: int
    records_per_s: float | None  # appended


@dataclass(frozen=True, slots=True)
class View:
    """What is shown. `revision` grows whenever something else is to be shown than the time."""

    look: Look
    leader_id: str  # empty: nobody leads
    term: int
    without_leader_s: float | None  # None: somebody leads, or nobody was seen to lead yet
    nodes: tuple[NodeRow, ...]
    topics: tuple[TopicRow, ...]  # those that grow fastest first
    events: tuple[Event, ...]  # the oldest first
    revision: int
    measured_from: Look  # what rates are made against next
    node_rates: Mapping[str, float]
    topic_rates: Mapping[str, float]
    led_by: str  # who led last
    led_at_s: float  # when it said so last
    lost_at_s: Mapping[str, float]  # when nodes that do not answer answered last


def advance(view: View | None, look: Look, interval_s: float) -> View:
    """Return what is shown after another look; rates are made anew when they are `interval_s` old."""
    if view is None:
        return _first(look)
    events = tuple(_events(view, look))
    is_due = look.at_s - view.measured_from.at_s >= interval_s
    leader_id = look.status.leader_id
    changed = bool(events) or is_due or leader_id != view.leader_id
    node_rates, topic_rates = view.node_rates, view.topic_rates
    if is_due:
        node_rates = _node_rates(view.measured_from, look)
        topic_rates = {**view.topic_rates, **_topic_rates(view.measured_from, look)}
    leads = bool(leader_id)
    topics_are_old = look.topics is view.look.topics and not is_due  # there may be thousands, to be sorted
    return View(
        look=look,
        leader_id=leader_id,
        term=look.status.term,
        without_leader_s=None if leads or not view.led_by else look.at_s - view.led_at_s,
        nodes=_node_rows(look, node_rates),
        topics=view.topics if topics_are_old else _topic_rows(look, topic_rates),
        events=(*view.events, *events)[-EVENTS_KEPT:],
        revision=view.revision + changed,
        measured_from=look if is_due else view.measured_from,
        node_rates=node_rates,
        topic_rates=topic_rates,
        led_by=leader_id or view.led_by,
        led_at_s=look.said(leader_id) if leads else view.led_at_s,
        lost_at_s=_lost(view, look),
    )


def _first(look: Look) -> View:
    status = look.status
    return View(
        look=look,
        leader_id=status.leader_id,
        term=status.term,
        without_leader_s=None,
        nodes=_node_rows(look, {}),
        topics=_topic_rows(look, {}),
        events=(),
        revision=0,
        measured_from=look,
        node_rates={},
        topic_rates={},
        led_by=status.leader_id,
        led_at_s=look.said(status.leader_id),
        lost_at_s={node.node_id: look.at_s for node in look.nodes if not node.reachable},
    )


# What happened


def _events(view: View, look: Look) -> Iterator[Event]:
    before = {node.node_id: node for node in view.look.nodes}
    for node in look.nodes:
        for severity, text in _about_node(view, before.get(node.node_id), node, look.at_s):
            yield Event(look.time_ms, severity, text)
    for severity, text in _about_members(view.look.status, look.status):
        yield Event(look.time_ms, severity, text)
    for severity, text in _about_leader(view, look):
        yield Event(look.time_ms, severity, text)


def _about_node(
    view: View, before: NodeStatus | None, node: NodeStatus, at_s: float
) -> Iterator[tuple[Severity, str]]:
    if before is None:
        yield "note", f"{node.node_id} seen for the first time"
        return
    if before.reachable and not node.reachable:
        yield "bad", f"{node.node_id} lost: {node.error or 'no answer'}"
    if node.reachable and not before.reachable:
        gone_s = at_s - view.lost_at_s.get(node.node_id, at_s)
        yield "good", f"{node.node_id} back after {duration(gone_s)}"
    if node.reachable and before.reachable:
        for alarm in sorted(set(node.alarms) - set(before.alarms)):
            yield "bad", f"{node.node_id} raises the alarm {alarm}"
        for alarm in sorted(set(before.alarms) - set(node.alarms)):
            yield "good", f"{node.node_id} drops the alarm {alarm}"


def _about_members(before: ClusterStatus, after: ClusterStatus) -> Iterator[tuple[Severity, str]]:
    """Tell changes of members, where a leader says so both times: others may be behind."""
    if not before.leader_id or not after.leader_id:
        return
    old = {member.node_id: member for member in before.members}
    new = {member.node_id: member for member in after.members}
    for name in sorted(new.keys() - old.keys()):
        yield "note", f"{name} takes part, as a {'learner' if new[name].learner else 'voter'}"
    for name in sorted(old.keys() - new.keys()):
        yield "note", f"{name} was removed"
    for name in sorted(old.keys() & new.keys()):
        if old[name].learner and not new[name].learner:
            yield "good", f"{name} has caught up and votes"


def _about_leader(view: View, look: Look) -> Iterator[tuple[Severity, str]]:
    leader = look.leader
    if leader is None:
        if view.leader_id:
            yield "bad", f"no leader: {view.leader_id} leads no more"
        return
    gap = duration(look.at_s - view.led_at_s)
    if not view.led_by:
        yield "good", f"{leader.node_id} leads, in term {leader.term}"
    elif leader.node_id != view.led_by:
        yield "good", f"leader {view.led_by} -> {leader.node_id} (term {leader.term}) after {gap} without one"
    elif not view.leader_id or leader.term != view.term:
        yield "good", f"leader {leader.node_id} again (term {leader.term}) after {gap} without one"


def _lost(view: View, look: Look) -> dict[str, float]:
    """Return when those that do not answer answered last."""
    return {
        node.node_id: view.lost_at_s.get(node.node_id, view.look.said(node.node_id))
        for node in look.nodes
        if not node.reachable
    }


# What is shown


def _node_rows(look: Look, rates: Mapping[str, float]) -> tuple[NodeRow, ...]:
    status = look.status
    return tuple(_node_row(status, node, rates.get(node.node_id)) for node in look.nodes)


def _node_row(status: ClusterStatus, node: NodeStatus, rate: float | None) -> NodeRow:
    role, notes = role_of(status, node), tuple(notes_on(status, node.node_id))
    if not node.reachable:
        return NodeRow(node.node_id, role, None, None, None, None, None, None, notes)
    peer = status.peer(node.node_id)
    return NodeRow(
        node.node_id,
        role,
        node.term,
        node.commit_index,
        node.applied_index,
        peer.lag if peer is not None else None,
        node.log_bytes,
        rate,
        notes,
    )


def _topic_rows(look: Look, rates: Mapping[str, float]) -> tuple[TopicRow, ...]:
    rows = [
        TopicRow(topic.name, len(topic.partitions), topic.records, rates.get(topic.name))
        for topic in look.topics
    ]
    return tuple(sorted(rows, key=lambda row: (-(row.records_per_s or 0), row.name)))


def _node_rates(before: Look, after: Look) -> dict[str, float]:
    """Return entries applied in a second; of a node that was started again meanwhile nothing is known."""
    old = {node.node_id: node for node in before.nodes if node.reachable}
    elapsed_s = after.at_s - before.at_s
    return {
        node.node_id: max(0, node.applied_index - old[node.node_id].applied_index) / elapsed_s
        for node in after.nodes
        if node.reachable and node.node_id in old and node.uptime_ms >= old[node.node_id].uptime_ms
    }


def _topic_rates(before: Look, after: Look) -> dict[str, float]:
    """Return records appended in a second; nothing where the topics are the same answer."""
    elapsed_s = after.topics_at_s - before.topics_at_s
    if elapsed_s <= 0:
        return {}
    old = {topic.topic_id: topic for topic in before.topics}
    return {
        topic.name: max(0, _end(topic) - _end(old[topic.topic_id])) / elapsed_s
        for topic in after.topics
        if topic.topic_id in old
    }


def _end(topic: Topic) -> int:
    return sum(each.high_watermark for each in topic.partitions)


def duration(seconds: float) -> str:
    """Return how long, as people read it: 160 ms, 2.4 s, 3 min 5 s."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{int(seconds) // 60} min {int(seconds) % 60} s"


def _policy(name: str) -> Literal["always", "interval", "os"]:
    return "interval" if name == "interval" else "os" if name == "os" else "always"
