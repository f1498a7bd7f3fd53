"""What doctor concludes: each thing that can be wrong, with what to do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from quorumlog.client.describe import ClusterStatus, Member, NodeStatus, PeerStatus
from quorumlog.command.checkup import (
    Check,
    Clock,
    Evidence,
    HttpProbe,
    Outcome,
    Probe,
    examine,
    worst,
)

NAMES = ("n1", "n2", "n3")
NOW_MS = 1_700_000_000_000
DAY_MS = 86_400_000
GIB = 1 << 30


def node(name: str, *, leads: bool = False) -> NodeStatus:
    peers = tuple(PeerStatus(each, True, "replicate", 10, 0, "") for each in NAMES if each != name)
    return NodeStatus(
        node_id=name,
        client_address=f"{name}:9650",
        peer_address=f"{name}:9651",
        reachable=True,
        error="",
        role="leader" if leads else "follower",
        term=3,
        leader_id="n1",
        commit_index=10,
        applied_index=10,
        log_start=1,
        log_end=10,
        durable_index=10,
        peers=peers if leads else (),
        log_bytes=2048,
        segments=1,
        version="1.0",
        uptime_ms=60_000,
        alarms=(),
        members=tuple(Member(each, f"{each}:9651", False, "") for each in NAMES),
        not_voting="",
        http_address=f"{name}:9652",
        clock_ms=NOW_MS,
        disk_free_bytes=50 * GIB,
        disk_total_bytes=100 * GIB,
        fsync_count=100,
        fsync_p50_us=500,
        fsync_p99_us=2_500,
        open_files=40,
        open_files_max=1024,
        certificate_expires_ms=NOW_MS + 90 * DAY_MS,
    )


NODES = (node("n1", leads=True), node("n2"), node("n3"))
CLOCK = Clock(0.0002, 0.001)


def probe(of: NodeStatus, *, given: bool = True, clock: Clock | None = CLOCK, trip_s: float = 0.001) -> Probe:
    return Probe(of.client_address, given, "", of, trip_s, clock)


def evidence(*nodes: NodeStatus, leader_id: str = "n1") -> Evidence:
    """All that is seen of these nodes; those that are not reachable answer nobody."""
    probes = tuple(
        probe(each) if each.reachable else Probe(each.client_address, True, "connection refused")
        for each in nodes
    )
    http = tuple(HttpProbe(each.node_id, each.http_address, 200, "ok\n") for each in nodes if each.reachable)
    status = ClusterStatus("test", leader_id, 3, nodes, "always")
    return Evidence(NOW_MS, "1.0", probes, status, http, True, NOW_MS + 90 * DAY_MS)


WELL = evidence(*NODES)


def with_node(changed: NodeStatus) -> Evidence:
    return evidence(*(changed if each.node_id == changed.node_id else each for each in NODES))


def with_probe(changed: Probe) -> Evidence:
    kept = [each for each in WELL.probes if each.node is None or each.node.node_id != "n2"]
    return replace(WELL, probes=(*kept, changed))


def with_n2(**changes: Any) -> Evidence:
    return with_node(replace(NODES[1], **changes))


def troubles(seen: Evidence) -> list[Check]:
    return [check for check in examine(seen) if check.outcome != "ok"]


def test_a_cluster_that_is_well_has_nothing_to_do() -> None:
    checks = examine(WELL)
    assert troubles(WELL) == []
    assert worst(checks) == "ok"
    assert {check.name for check in checks} == {
        "server", "leader", "quorum", "sync policy", "state", "replication", "round trip", "clock", "fsync",
        "disk", "descriptors", "http", "certificate", "versions", "encryption",
    }  # fmt: skip
    assert not any(check.advice for check in checks)


SILENT = replace(node("n3"), reachable=False, error="UNAVAILABLE: refused")
REFUSED = replace(
    NODES[0],
    peers=(PeerStatus("n2", False, "", 0, 0, "not a member"), PeerStatus("n3", True, "replicate", 10, 0, "")),
)
CUT = replace(
    NODES[0], peers=(PeerStatus("n2", False, "", 0, 0, ""), PeerStatus("n3", True, "replicate", 10, 0, ""))
)
BEHIND = replace(
    NODES[0],
    peers=(PeerStatus("n2", True, "probe", 10, 5_000, ""), PeerStatus("n3", True, "replicate", 10, 0, "")),
)
UNSAFE = ClusterStatus("test", "n1", 3, NODES, "os")
NOT_READY = HttpProbe("n2", "n2:9652", 503, "[-]caught_up failed: far behind\n[+]leader ok\n")
LEARNER = replace(NODES[0], members=(*NODES[0].members[:2], Member("n3", "n3:9651", True, "")))


@pytest.mark.parametrize(
    ("seen", "name", "subject", "outcome", "found", "advice"),
    [
        (evidence(*NODES[:2], SILENT), "state", "n3", "failed", "UNAVAILABLE: refused", "is it running"),
        (evidence(*NODES[:2], SILENT), "quorum", "", "warning", "2 of 3 voters", "start, or mend: n3"),
        (
            evidence(NODES[0], replace(SILENT, node_id="n2"), SILENT, leader_id=""),
            "quorum",
            "",
            "failed",
            "1 of 3 voters vote: no majority",
            "n2, n3",
        ),
        (evidence(*NODES, leader_id=""), "leader", "", "failed", "nobody leads", "peer ports"),
        (with_n2(leader_id="n3"), "leader", "", "warning", "n2 follows n3", "look again"),
        (replace(WELL, status=UNSAFE), "sync policy", "", "warning", "os", "always"),
        (with_n2(alarms=("DISK_FULL",)), "alarm", "n2", "failed", "DISK_FULL", "free space"),
        (with_n2(not_voting="empty"), "state", "n2", "failed", "empty", "cluster add"),
        (with_node(LEARNER), "state", "n3", "warning", "a learner", ""),
        (with_node(REFUSED), "replication", "n2", "failed", "not a member", "remove it"),
        (with_node(CUT), "replication", "n2", "failed", "no session", "n2:9651"),
        (with_node(BEHIND), "replication", "n2", "warning", "5,000 entries behind", "wait"),
        (with_probe(probe(NODES[1], trip_s=0.2)), "round trip", "n2", "warning", "200.0 ms", "slow"),
        (
            with_probe(probe(NODES[1], clock=Clock(3, 0.01))),
            "clock",
            "n2",
            "warning",
            "3.0 s ahead of",
            "NTP",
        ),
        (
            with_probe(probe(NODES[1], clock=Clock(-90, 0.01))),
            "clock",
            "n2",
            "failed",
            "90.0 s behind",
            "NTP",
        ),
        (with_probe(probe(NODES[1], clock=None)), "clock", "n2", "unknown", "too old", ""),
        (with_n2(fsync_p99_us=250_000), "fsync", "n2", "warning", "250 ms", "disk"),
        (
            with_n2(fsync_p99_us=2_500_000, fsync_p50_us=1_000_000),
            "fsync",
            "n2",
            "failed",
            "2.5 s",
            "disk",
        ),
        (with_n2(fsync_count=0), "fsync", "n2", "unknown", "nothing yet", ""),
        (with_n2(disk_free_bytes=5 * GIB), "disk", "n2", "warning", "5.0 GiB of", "retention"),
        (with_n2(disk_free_bytes=0), "disk", "n2", "failed", "0 B of", "retention"),
        (with_n2(disk_total_bytes=0), "disk", "n2", "unknown", "cannot tell", ""),
        (with_n2(clock_ms=0), "disk", "n2", "unknown", "too old", ""),
        (with_n2(open_files=1000), "descriptors", "n2", "warning", "1,000 of 1,024", "limit"),
        (with_n2(version="0.9"), "versions", "", "warning", "n2 0.9", "one node after"),
        (replace(WELL, version="2.0"), "versions", "", "warning", "this command 2.0", "one node after"),
        (replace(WELL, speaks_tls=False), "encryption", "", "warning", "plain text", "certs"),
        (
            replace(WELL, certificate_expires_ms=NOW_MS - DAY_MS),
            "certificate",
            "this command's",
            "failed",
            "expired 24 h ago",
            "replace it",
        ),
        (
            with_n2(certificate_expires_ms=NOW_MS + 5 * DAY_MS),
            "certificate",
            "n2",
            "warning",
            "expires in 5 d",
            "replace it",
        ),
        (
            replace(WELL, http=(NOT_READY,)),
            "http",
            "n2",
            "warning",
            "caught_up failed: far behind",
            "",
        ),
        (
            replace(WELL, http=(HttpProbe("n2", "n2:9652", 0, "Connection refused"),)),
            "http",
            "n2",
            "warning",
            "does not answer: Connection refused",
            "http.advertise",
        ),
        (
            with_probe(Probe("n2:9650", False, "the name does not resolve")),
            "address",
            "n2",
            "warning",
            "the name does not resolve",
            "client.advertise",
        ),
        (
            with_probe(probe(replace(NODES[2], client_address="n2:9650"), given=False)),
            "address",
            "n2",
            "failed",
            "where n3 answers",
            "own address",
        ),
    ],
)
def test_what_is_wrong_is_told_with_what_to_do(
    seen: Evidence, name: str, subject: str, outcome: Outcome, found: str, advice: str
) -> None:
    (check,) = [each for each in troubles(seen) if (each.name, each.subject) == (name, subject)]
    assert check.outcome == outcome
    assert found in check.found
    assert advice in check.advice
    assert worst(examine(seen)) in (outcome, "failed", "warning")


@pytest.mark.parametrize(
    ("cause", "advice"),
    [
        ("the name does not resolve", "DNS"),
        ("connection refused", "is the node started"),
        ("TLS handshake failed: it speaks plain text", "leave out --ca"),
        ("TLS handshake failed: its certificate is not of the authority given", "as --ca"),
        ("connection closed by the other side", "give --ca"),
        ("not a gRPC server (it speaks HTTP/1)", "client port"),
        ("not a quorumlog node, or of another version: it does not know the request", "versions"),
        ("no answer in time", "hangs"),
    ],
)
def test_a_server_that_cannot_be_reached_has_failed(cause: str, advice: str) -> None:
    seen = Evidence(NOW_MS, "1.0", (Probe("n1:9650", True, cause),), None, (), False)
    (check,) = examine(seen)
    assert (check.name, check.outcome, check.found) == ("server", "failed", cause)
    assert advice in check.advice


def test_nodes_that_run_in_containers_are_reached_through_one() -> None:
    """Only the first is published; the others advertise names that mean nothing here."""
    unknown = [Probe(each.client_address, False, "the name does not resolve") for each in NODES]
    published = replace(probe(NODES[0]), address="localhost:9650")
    seen = replace(WELL, probes=(published, *unknown))
    told = {(check.name, check.subject): check.outcome for check in examine(seen)}
    assert told["quorum", ""] == "ok"
    assert [told["address", name] for name in NAMES] == ["warning"] * 3
    assert [told["clock", name] for name in NAMES] == ["ok", "unknown", "unknown"]
    assert told["disk", "n3"] == "ok", "what others pass on counts"


def test_a_single_voter_is_told_what_it_means() -> None:
    alone = replace(NODES[0], members=NODES[0].members[:1], peers=())
    (check,) = [each for each in examine(evidence(alone)) if each.name == "quorum"]
    assert check == Check("quorum", "", "ok", "a single voter: while it is away nothing works")
