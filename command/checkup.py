"""What `quorumlog doctor` concludes from what it has seen. No I/O: evidence in, checks out.

ok        nothing to do
warning   it works, and will not for ever, or not as well as it could
failed    something does not work now
unknown   cannot tell: the node does not answer, or is too old to say
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from quorumlog.client.describe import ClusterStatus, NodeStatus
from quorumlog.command.cluster_notes import NO_ANSWER
from quorumlog.command.output import counted, lasting, sized

Outcome: TypeAlias = Literal["ok", "warning", "failed", "unknown"]

LAG_MOST = 1_000  # entries: a follower catches up with so many in a moment; /readyz has the same bound
ROUND_TRIP_S_MOST = 0.05  # most of an election timeout's safety is gone, and every write takes longer
CLOCK_S_MOST, CLOCK_S_FAILED = 1.0, 60.0  # timestamps and retention by age; nothing else rests on clocks
FSYNC_S_MOST, FSYNC_S_FAILED = 0.1, 1.0  # every write waits for one; a second is a heartbeat lost
DISK_PART_LEAST, DISK_BYTES_FAILED = 0.1, 256 * 1024 * 1024  # below the latter a segment does not fit
CERTIFICATE_S_LEAST, CERTIFICATE_S_FAILED = 14 * 86_400, 86_400
FILES_PART_MOST = 0.8

# By a phrase of the cause (client/translate.py), what to do.
_ADVICE = (
    (
        "does not resolve",
        "check the spelling, and the DNS or /etc/hosts of this machine; or give an IP address",
    ),
    ("connection refused", "nothing listens there: is the node started, and is it its client port?"),
    ("no route", "check the network between here and there"),
    ("unreachable", "check the network between here and there"),
    ("speaks plain text", "the node speaks no TLS: leave out --ca, --cert and --cert-key"),
    ("not of the authority", "give the authority that signed the node's certificate as --ca"),
    ("TLS handshake", "check --ca, --cert and --cert-key, and that the certificate names this address"),
    (
        "closed by the other side",
        "a node that speaks TLS (give --ca, --cert and --cert-key), or a peer port (give the client port)",
    ),
    ("not a gRPC server", "another service has this port; the HTTP port perhaps: give the client port"),
    ("another version", "another service has this port, or the versions are too far apart"),
    ("says nothing", "another service has this port, or the process is stopped"),
    ("too long", "packets are dropped on the way (a firewall?), or the machine is down"),
    ("no answer in time", "the process hangs or is stopped, or packets are dropped on the way"),
)
_TOO_OLD = "cannot tell: the node is too old to say"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at: whose (a node or an address; empty: the cluster's) and how it is."""

    name: str
    subject: str
    outcome: Outcome
    found: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Clock:
    """How far a node's clock is ahead of this machine's, give or take."""

    ahead_s: float
    give_or_take_s: float


@dataclass(frozen=True, slots=True)
class Probe:
    """An address that was asked from here. Where it did not answer, `error` says why and the rest is None."""

    address: str
    given: bool  # by the user; else a node advertises it
    error: str = ""
    node: NodeStatus | None = None
    round_trip_s: float | None = None
    clock: Clock | None = None  # None: it is too old to say


@dataclass(frozen=True, slots=True)
class HttpProbe:
    """A node's /readyz: its code and text, or code 0 and why there is no answer."""

    node_id: str
    address: str
    code: int
    text: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that was seen."""

    time_ms: int
    version: str  # of this command
    probes: tuple[Probe, ...]
    status: ClusterStatus | None  # as the leader sees it, or whoever answered; None: nobody
    http: tuple[HttpProbe, ...]
    speaks_tls: bool
    certificate_expires_ms: int = 0  # of the certificate shown; 0: none is

    @property
    def nodes(self) -> tuple[NodeStatus, ...]:
        """All nodes: what each said here, else what another one said of it."""
        direct = {probe.node.node_id: probe.node for probe in self.probes if probe.node is not None}
        others = self.status.nodes if self.status is not None else ()
        merged = {**{node.node_id: node for node in others}, **direct}
        return tuple(merged[name] for name in sorted(merged))

    def reached(self, node_id: str) -> Probe | None:
        """Return the quickest probe that this node answered."""
        probes = [probe for probe in self.probes if probe.node is not None and probe.node.node_id == node_id]
        return min(probes, key=lambda probe: probe.round_trip_s or 0, default=None)


def examine(evidence: Evidence) -> list[Check]:
    """Return the checks, in the order in which things depend on each other."""
    checks = list(_servers(evidence))
    if evidence.status is None:
        return [*checks, *_own_certificate(evidence)]
    checks += _cluster(evidence, evidence.status)
    for node in evidence.nodes:
        checks += _node(evidence, evidence.status, node)
    checks += _versions(evidence)
    checks += _encryption(evidence)
    return [*checks, *_own_certificate(evidence)]


def worst(checks: list[Check]) -> Outcome:
    """Return failed before warning before unknown before ok."""
    order: tuple[Outcome, ...] = ("failed", "warning", "unknown")
    return next((each for each in order if any(check.outcome == each for check in checks)), "ok")


# From here


def _servers(evidence: Evidence) -> Iterator[Check]:
    for probe in evidence.probes:
        if not probe.given:
            continue
        if probe.node is None:
            yield Check("server", probe.address, "failed", probe.error, _advice(probe.error))
        else:
            yield Check("server", probe.address, "ok", f"{probe.node.node_id} answers")


def _advice(error: str) -> str:
    return next((advice for phrase, advice in _ADVICE if phrase in error), "")


# The cluster


def _cluster(evidence: Evidence, status: ClusterStatus) -> Iterator[Check]:
    yield _leader(evidence, status)
    yield _quorum(evidence, status)
    if status.sync_policy == "always":
        yield Check("sync policy", "", "ok", "always: what is acknowledged is on a majority's disks")
    else:
        found = f"{status.sync_policy}: a power loss on several nodes at once can take acknowledged records"
        yield Check("sync policy", "", "warning", found, "set it to always, unless that is accepted")


def _leader(evidence: Evidence, status: ClusterStatus) -> Check:
    followed = {node.leader_id for node in evidence.nodes if node.reachable}
    if not status.leader_id:
        advice = "start the missing nodes, and check that they reach each other's peer ports"
        return Check("leader", "", "failed", "nobody leads: nothing can be written", advice)
    if len(followed) > 1:
        who = ", ".join(
            f"{node.node_id} follows {node.leader_id or 'nobody'}"
            for node in evidence.nodes
            if node.reachable
        )
        advice = "an election may be going on: look again; else check the peer ports between the nodes"
        return Check("leader", "", "warning", who, advice)
    return Check("leader", "", "ok", f"{status.leader_id} leads in term {status.term}")


def _quorum(evidence: Evidence, status: ClusterStatus) -> Check:
    voters = [member.node_id for member in status.members if not member.learner]
    if not voters:
        return Check("quorum", "", "unknown", "cannot tell: nobody says who the members are")
    voting = {node.node_id for node in evidence.nodes if node.reachable and not node.not_voting}
    present = [name for name in voters if name in voting]
    spare = len(present) - (len(voters) // 2 + 1)
    found = f"{len(present)} of {counted(len(voters), 'voter')} vote"
    missing = ", ".join(name for name in voters if name not in voting)
    if spare < 0:
        return Check("quorum", "", "failed", f"{found}: no majority", f"start, or mend: {missing}")
    survives = f"it goes on without {spare} more" if spare else "the loss of one more stops all writes"
    if missing:
        return Check("quorum", "", "warning", f"{found}: {survives}", f"start, or mend: {missing}")
    if len(voters) == 1:
        return Check("quorum", "", "ok", "a single voter: while it is away nothing works")
    return Check("quorum", "", "ok", f"{found}: {survives}")


def _versions(evidence: Evidence) -> Iterator[Check]:
    versions = {node.node_id: node.version for node in evidence.nodes if node.version}
    found = ", ".join(f"{name} {version}" for name, version in versions.items())
    if len({*versions.values(), evidence.version}) > 1:
        found = f"{found}, this command {evidence.version}"
        yield Check("versions", "", "warning", found, "bring all to the same, one node after the other")
    elif versions:
        yield Check("versions", "", "ok", f"all run {evidence.version}")


# One node


def _node(evidence: Evidence, status: ClusterStatus, node: NodeStatus) -> Iterator[Check]:
    name = node.node_id
    yield from _address(evidence, node)
    if not node.reachable:
        found = f"{NO_ANSWER}, as the others say: {node.error}"
        yield Check("state", name, "failed", found, "is it running? its log says why it ended")
        return
    yield from _state(status, node)
    yield from _replication(status, node)
    yield from _round_trip(evidence.reached(name), name)
    yield from _clock(evidence.reached(name), name)
    yield _fsync(node)
    yield _disk(node)
    yield _files(node)
    yield from _http(evidence, node)
    if node.certificate_expires_ms:
        left_s = (node.certificate_expires_ms - evidence.time_ms) / 1000
        yield _certificate("certificate", name, left_s)


def _address(evidence: Evidence, node: NodeStatus) -> Iterator[Check]:
    """Can clients here use the address that the node advertises? One that was given has a check already."""
    probe = next((each for each in evidence.probes if each.address == node.client_address), None)
    if not node.client_address:
        yield Check("address", node.node_id, "unknown", "cannot tell: nobody knows what it advertises")
        return
    if probe is None or probe.given:
        return
    if probe.node is None and node.reachable:
        found = f"advertises {probe.address}, which cannot be used from here: {probe.error}"
        advice = "set client.advertise to what clients can reach; until then other nodes forward"
        yield Check("address", node.node_id, "warning", found, advice)
    elif probe.node is not None and probe.node.node_id != node.node_id:
        found = f"advertises {probe.address}, where {probe.node.node_id} answers"
        yield Check(
            "address", node.node_id, "failed", found, "set client.advertise to the node's own address"
        )
    elif probe.node is not None:
        yield Check("address", node.node_id, "ok", f"{probe.address} answers")


def _state(status: ClusterStatus, node: NodeStatus) -> Iterator[Check]:
    name = node.node_id
    for alarm in node.alarms:
        kind = alarm.split(" ")[0]
        advice = {
            "DISK_FULL": "free space on its disk: it goes on without a restart",
            "DAMAGE": "it mends itself from a peer; if the alarm stays, check the disk and that peers run",
            "REFUSED": "add it, or remove it, empty its directory and add it again",
        }.get(kind, "see what the node logs")
        yield Check("alarm", name, "failed", alarm, advice)
    learner = next((each for each in status.members if each.node_id == name and each.learner), None)
    if learner is not None:
        yield Check("state", name, "warning", "a learner: it does not count until it has caught up")
    elif node.not_voting:
        advice = "start all nodes of a new cluster once; or add it: quorumlog cluster add --help"
        yield Check("state", name, "failed", f"does not vote: {node.not_voting}", advice)
    elif not node.alarms:
        yield Check("state", name, "ok", f"{node.role}, up for {lasting(node.uptime_ms)}")


def _replication(status: ClusterStatus, node: NodeStatus) -> Iterator[Check]:
    if not status.leader_id or node.node_id == status.leader_id:
        return
    peer = status.peer(node.node_id)
    if peer is None:
        yield Check("replication", node.node_id, "unknown", "cannot tell: the leader does not speak of it")
    elif peer.refused:
        advice = "remove it, empty its data directory, add it again"
        yield Check("replication", node.node_id, "failed", f"the leader refuses it: {peer.refused}", advice)
    elif not peer.connected:
        found = f"{status.leader_id} and {node.node_id} have no session, though both run"
        advice = f"check that they reach each other's peer ports ({node.peer_address})"
        yield Check("replication", node.node_id, "failed", found, advice)
    elif peer.lag > LAG_MOST:
        found = f"{counted(peer.lag, 'entry', 'entries')} behind"
        advice = "wait; if it does not get less, its disk or network is too slow for what is written"
        yield Check("replication", node.node_id, "warning", found, advice)
    else:
        yield Check("replication", node.node_id, "ok", f"{counted(peer.lag, 'entry', 'entries')} behind")


def _round_trip(probe: Probe | None, name: str) -> Iterator[Check]:
    if probe is None or probe.round_trip_s is None:
        yield Check("round trip", name, "unknown", "cannot tell: not reached from here")
        return
    found = f"{probe.round_trip_s * 1000:.1f} ms"
    if probe.round_trip_s > ROUND_TRIP_S_MOST:
        yield Check("round trip", name, "warning", found, "the network is slow, or the node is busy")
    else:
        yield Check("round trip", name, "ok", found)


def _clock(probe: Probe | None, name: str) -> Iterator[Check]:
    if probe is None:
        yield Check("clock", name, "unknown", "cannot tell: not reached from here")
        return
    if probe.clock is None:
        yield Check("clock", name, "unknown", _TOO_OLD)
        return
    ahead_s, give_or_take_s = probe.clock.ahead_s, probe.clock.give_or_take_s
    surely_s = abs(ahead_s) - give_or_take_s
    way = "ahead of" if ahead_s > 0 else "behind"
    found = f"{_seconds(abs(ahead_s))} {way} this machine's, give or take {_seconds(give_or_take_s)}"
    if surely_s > CLOCK_S_MOST:
        outcome: Outcome = "failed" if surely_s > CLOCK_S_FAILED else "warning"
        advice = (
            "let both machines keep time by NTP: timestamps and retention by age go by the leader's clock"
        )
        yield Check("clock", name, outcome, found, advice)
    elif surely_s <= 0:
        yield Check("clock", name, "ok", f"agrees with this machine's, to {_seconds(give_or_take_s)}")
    else:
        yield Check("clock", name, "ok", found)


def _fsync(node: NodeStatus) -> Check:
    if not node.clock_ms:
        return Check("fsync", node.node_id, "unknown", _TOO_OLD)
    if not node.fsync_count:
        return Check("fsync", node.node_id, "unknown", "cannot tell: it has synced nothing yet")
    p50_s, p99_s = node.fsync_p50_us / 1e6, node.fsync_p99_us / 1e6
    found = f"half within {_seconds(p50_s)}, 99 % within {_seconds(p99_s)} ({node.fsync_count:,} syncs)"
    if p99_s > FSYNC_S_MOST:
        outcome: Outcome = "failed" if p50_s >= FSYNC_S_FAILED else "warning"
        advice = "the disk is slow, or shared with something busy: every write waits for a sync"
        return Check("fsync", node.node_id, outcome, found, advice)
    return Check("fsync", node.node_id, "ok", found)


def _disk(node: NodeStatus) -> Check:
    if not node.clock_ms:
        return Check("disk", node.node_id, "unknown", _TOO_OLD)
    if not node.disk_total_bytes:
        return Check("disk", node.node_id, "unknown", "cannot tell: the node cannot read it")
    part = node.disk_free_bytes / node.disk_total_bytes
    found = f"{sized(node.disk_free_bytes)} of {sized(node.disk_total_bytes)} free"
    found = f"{found}; the log has {sized(node.log_bytes)}"
    advice = "free space, or keep less: log.retention_bytes, log.retention_age"
    if node.disk_free_bytes < DISK_BYTES_FAILED:
        return Check("disk", node.node_id, "failed", found, advice)
    if part < DISK_PART_LEAST:
        return Check("disk", node.node_id, "warning", found, advice)
    return Check("disk", node.node_id, "ok", found)


def _files(node: NodeStatus) -> Check:
    if not node.clock_ms:
        return Check("descriptors", node.node_id, "unknown", _TOO_OLD)
    if not node.open_files_max:
        return Check("descriptors", node.node_id, "ok", f"{node.open_files} open, without a limit")
    found = f"{node.open_files:,} of {node.open_files_max:,} open"
    if node.open_files > FILES_PART_MOST * node.open_files_max:
        advice = "raise the limit (LimitNOFILE=, ulimit -n): at its end no connection is taken any more"
        return Check("descriptors", node.node_id, "warning", found, advice)
    return Check("descriptors", node.node_id, "ok", found)


def _http(evidence: Evidence, node: NodeStatus) -> Iterator[Check]:
    probe = next((each for each in evidence.http if each.node_id == node.node_id), None)
    if probe is None:
        yield Check("http", node.node_id, "ok", "not served (http.listen)")
    elif probe.code == 200:
        yield Check("http", node.node_id, "ok", f"{probe.address} says that it is ready")
    elif probe.code == 0:
        found = f"{probe.address} does not answer: {probe.text}"
        yield Check("http", node.node_id, "warning", found, "set http.advertise to what can be reached")
    else:
        failing = [line[3:] for line in probe.text.splitlines() if line.startswith("[-]")]
        found = f"{probe.address}/readyz: {'; '.join(failing) or f'code {probe.code}'}"
        yield Check("http", node.node_id, "warning", found)


# Certificates


def _encryption(evidence: Evidence) -> Iterator[Check]:
    if evidence.speaks_tls:
        yield Check("encryption", "", "ok", "mutual TLS")
    elif all(_is_loopback(node.client_address) for node in evidence.nodes):
        yield Check("encryption", "", "ok", "plain text, on this machine only")
    else:
        found = "plain text: whoever reaches the ports may read and write everything"
        yield Check("encryption", "", "warning", found, "quorumlog certs --help; docs/security.md")


def _is_loopback(address: str) -> bool:
    return address.rpartition(":")[0].strip("[]") in ("localhost", "::1") or address.startswith("127.")


def _own_certificate(evidence: Evidence) -> Iterator[Check]:
    if evidence.certificate_expires_ms:
        left_s = (evidence.certificate_expires_ms - evidence.time_ms) / 1000
        yield _certificate("certificate", "this command's", left_s)


def _certificate(name: str, subject: str, left_s: float) -> Check:
    advice = "replace it: nodes and clients take a new file within seconds, without a restart"
    if left_s <= 0:
        return Check(name, subject, "failed", f"expired {lasting(int(-left_s * 1000))} ago", advice)
    found = f"expires in {lasting(int(left_s * 1000))}"
    if left_s < CERTIFICATE_S_FAILED:
        return Check(name, subject, "failed", found, advice)
    if left_s < CERTIFICATE_S_LEAST:
        return Check(name, subject, "warning", found, advice)
    return Check(name, subject, "ok", found)


def _seconds(duration_s: float) -> str:
    if duration_s >= 1:
        return f"{duration_s:.1f} s"
    return f"{duration_s * 1000:.2g} ms" if duration_s < 0.1 else f"{duration_s * 1000:.0f} ms"
