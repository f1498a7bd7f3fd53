"""What top shows, from one look to the next."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rich.console import Console

from quorumlog.client.describe import Member, NodeStatus, Partition, PeerStatus, Topic
from quorumlog.command.top_screen import screen, time_of
from quorumlog.command.top_view import EVENTS_KEPT, Look, View, advance, duration

INTERVAL_S = 1.0
NAMES = ("n1", "n2", "n3")
MEMBERS = tuple(Member(name, f"{name}:9651", False, "") for name in NAMES)


def node(
    name: str, role: str = "follower", *, term: int = 1, index: int = 10, uptime_ms: int = 1_000
) -> NodeStatus:
    leads = role == "leader"
    peers = tuple(PeerStatus(each, True, "replicate", index, 3, "") for each in NAMES if each != name)
    return NodeStatus(
        node_id=name,
        client_address=f"{name}:9650",
        peer_address=f"{name}:9651",
        reachable=True,
        error="",
        role=role,
        term=term,
        leader_id=name if leads else "",
        commit_index=index,
        applied_index=index,
        log_start=1,
        log_end=index,
        durable_index=index,
        peers=peers if leads else (),
        log_bytes=2048,
        segments=1,
        version="0.1.0",
        uptime_ms=uptime_ms,
        alarms=(),
        members=MEMBERS,
        not_voting="",
    )


def silent(name: str, why: str = "connection refused") -> NodeStatus:
    return replace(node(name), reachable=False, error=why, role="")


def look(at_s: float, *nodes: NodeStatus, records: int | None = None) -> Look:
    topics = () if records is None else (Topic("orders", 1, 0, (Partition(0, 0, records),)),)
    return Look(at_s, round(at_s * 1000), "test", "always", nodes, topics, at_s)


def led_by(leader: str, at_s: float, *, term: int = 1, index: int = 10, records: int | None = None) -> Look:
    nodes = [node(name, "leader" if name == leader else "follower", term=term, index=index) for name in NAMES]
    return look(at_s, *nodes, records=records)


def seen(*looks: Look) -> View:
    view: View | None = None
    for each in looks:
        view = advance(view, each, INTERVAL_S)
    assert view is not None
    return view


def told(view: View) -> list[str]:
    return [event.text for event in view.events]


def test_a_failover_is_told_with_the_time_without_a_leader() -> None:
    view = seen(
        led_by("n1", 10.0),
        led_by("n1", 10.1),
        look(10.2, silent("n1"), node("n2"), node("n3")),
        look(10.22, silent("n1"), node("n2"), node("n3", "candidate", term=2)),
    )
    assert (view.leader_id, view.without_leader_s) == ("", pytest.approx(0.12))
    view = advance(
        view, look(10.26, silent("n1"), node("n2", term=2), node("n3", "leader", term=2)), INTERVAL_S
    )
    assert told(view) == [
        "n1 lost: connection refused",
        "no leader: n1 leads no more",
        "leader n1 -> n3 (term 2) after 160 ms without one",
    ]
    assert (view.leader_id, view.term, view.without_leader_s) == ("n3", 2, None)
    view = advance(view, led_by("n3", 13.5, term=2), INTERVAL_S)
    assert told(view)[-1] == "n1 back after 3.4 s"


def test_a_leader_that_hangs_counts_as_gone_from_its_last_answer_on() -> None:
    hanging = replace(led_by("n1", 10.5), said_at_s={"n1": 10.1})
    view = seen(hanging, look(10.6, silent("n1"), node("n2", "leader", term=2), node("n3")))
    assert told(view)[-1] == "leader n1 -> n2 (term 2) after 500 ms without one"


def test_the_leader_of_the_highest_term_counts() -> None:
    cut_off = node("n1", "leader", term=1)
    assert seen(look(1, cut_off, node("n2", "leader", term=2), node("n3"))).leader_id == "n2"


def test_the_same_leader_in_another_term_is_told() -> None:
    view = seen(led_by("n1", 1.0), led_by("n1", 1.2, term=3))
    assert told(view) == ["leader n1 again (term 3) after 200 ms without one"]


def test_a_cluster_that_has_no_leader_at_first() -> None:
    nobody = look(1.0, *map(node, NAMES))
    view = seen(nobody, look(2.0, *map(node, NAMES)))
    assert (view.without_leader_s, told(view)) == (None, [])
    assert told(advance(view, led_by("n2", 2.1), INTERVAL_S)) == ["n2 leads, in term 1"]


def test_alarms_and_members_are_told() -> None:
    alarmed = replace(node("n2"), alarms=("DISK_FULL",))
    others = node("n1", "leader"), node("n3")
    learner = (*MEMBERS, Member("n4", "n4:9651", True, ""))
    voter = (*MEMBERS, Member("n4", "n4:9651", False, ""))
    view = seen(
        led_by("n1", 1.0),
        look(1.1, others[0], alarmed, others[1]),
        look(1.2, replace(others[0], members=learner), node("n2"), others[1]),
        look(1.3, replace(others[0], members=voter), node("n2"), others[1], node("n4")),
        look(1.4, *others, node("n2")),
    )
    assert told(view) == [
        "n2 raises the alarm DISK_FULL",
        "n2 drops the alarm DISK_FULL",
        "n4 takes part, as a learner",
        "n4 seen for the first time",
        "n4 has caught up and votes",
        "n4 was removed",
    ]


def test_rates_are_made_once_an_interval() -> None:
    view = seen(led_by("n1", 1.0, index=10, records=100), led_by("n1", 1.5, index=20, records=200))
    assert [row.entries_per_s for row in view.nodes] == [None] * 3
    assert view.topics[0].records_per_s is None
    view = advance(view, led_by("n1", 3.0, index=50, records=500), INTERVAL_S)
    assert [row.entries_per_s for row in view.nodes] == [20.0] * 3
    assert view.topics[0].records_per_s == 200.0
    unchanged = advance(view, led_by("n1", 3.5, index=900, records=900), INTERVAL_S)
    assert unchanged.nodes[0].entries_per_s == 20.0
    assert unchanged.revision == view.revision


def test_a_node_that_was_started_again_has_no_rate() -> None:
    restarted = look(
        2.0, node("n1", "leader", index=90), node("n2", index=90, uptime_ms=5), node("n3", index=90)
    )
    view = seen(led_by("n1", 1.0), restarted)
    assert [row.entries_per_s for row in view.nodes] == [80.0, None, 80.0]


def test_a_topic_that_was_deleted_and_made_again_has_no_rate() -> None:
    again = Topic("orders", 2, 0, (Partition(0, 0, 7),))
    view = seen(led_by("n1", 1.0, records=100), replace(led_by("n1", 2.5), topics=(again,)))
    assert (view.topics[0].records, view.topics[0].records_per_s) == (7, None)


def test_what_grows_fastest_comes_first() -> None:
    def topics(busy: int) -> tuple[Topic, ...]:
        return Topic("a", 1, 0, (Partition(0, 0, 5),)), Topic("b", 2, 0, (Partition(0, 0, busy),))

    first = replace(led_by("n1", 1.0), topics=topics(0))
    view = seen(first, replace(led_by("n1", 2.0), topics=topics(9)))
    assert [row.name for row in view.topics] == ["b", "a"]


def test_events_are_bounded() -> None:
    looks = [
        led_by(("n1", "n2")[number % 2], number / 10, term=number + 1) for number in range(2 * EVENTS_KEPT)
    ]
    assert len(seen(*looks).events) == EVENTS_KEPT


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.16, "160 ms"), (0.9999, "1.0 s"), (2.44, "2.4 s"), (185.0, "3 min 5 s")]
)
def test_durations_are_read_easily(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def shown(view: View, *, width: int = 80, height: int | None = None) -> str:
    console = Console(width=width, highlight=False, markup=False, emoji=False, color_system=None)
    with console.capture() as capture:
        console.print(screen(view, height))
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def test_the_screen_of_a_cluster_that_is_well() -> None:
    view = seen(led_by("n1", 1.0, index=10, records=100), led_by("n1", 2.0, index=1_010, records=12_100))
    assert (
        shown(view)
        == f"""\
test {time_of(2000)[:8]}  leader n1  term 1  sync always  3 of 3 nodes answer

NODE  ROLE      TERM  COMMIT  APPLIED  LAG     SIZE  ENTRIES/S
n1    leader *     1    1010     1010    -  2.0 KiB      1,000
n2    follower     1    1010     1010    3  2.0 KiB      1,000
n3    follower     1    1010     1010    3  2.0 KiB      1,000

TOPIC   PARTITIONS  RECORDS  RECORDS/S
orders           1   12,100     12,000"""
    )


def test_the_screen_while_nobody_leads() -> None:
    view = seen(led_by("n1", 1.0), look(1.25, silent("n1"), node("n2"), node("n3", "candidate", term=2)))
    assert (
        shown(view)
        == f"""\
test {time_of(1250)[:8]}  NO LEADER for 250 ms  term 2  sync always  2 of 3 nodes answer

NODE  ROLE       TERM  COMMIT  APPLIED  LAG     SIZE  ENTRIES/S
n1    no answer     -       -        -    -        -          -
n2    follower      1      10       10    -  2.0 KiB          -
n3    candidate     2      10       10    -  2.0 KiB          -
  n1: no answer: connection refused

no topics

EVENTS
  {time_of(1250)}  n1 lost: connection refused
  {time_of(1250)}  no leader: n1 leads no more"""
    )


def test_the_screen_fits_its_terminal_whatever_a_node_complains_of() -> None:
    complaining = replace(
        led_by("n1", 1.0), nodes=(node("n1", "leader"), silent("n2", "why " * 80), node("n3"))
    )
    lines = shown(seen(complaining), height=24).splitlines()
    (note,) = [line for line in lines if line.startswith("  n2: no answer: why")]
    assert len(note) == 80


def test_the_screen_fits_its_terminal() -> None:
    many = tuple(Topic(f"topic-{number:03}", number, 0, (Partition(0, 0, 1),)) for number in range(500))
    view = seen(replace(led_by("n1", 1.0), topics=many))
    lines = shown(view, height=24).splitlines()
    assert len(lines) <= 24
    assert "  and 488 more" in lines
    assert max(map(len, lines)) <= 80
