"""Whom to ask: the leader, while it can be reached; else others, in order, with pauses after failures."""

from __future__ import annotations

import pytest

from quorumlog.client.endpoints import (
    MAX_ENDPOINTS,
    STALE_HINT_S,
    Endpoints,
    Route,
    Target,
    parse_servers,
)
from quorumlog.client.errors import UnknownOption


def endpoints(*addresses: str) -> Endpoints:
    return Endpoints(list(addresses), random=lambda: 0.5)


def test_servers_are_a_list_or_one_string() -> None:
    assert parse_servers("a:1, b:2,,a:1") == ["a:1", "b:2"]
    assert parse_servers(["a", "[::1]", "[::1]:7"]) == ["a:9650", "[::1]:9650", "[::1]:7"]


@pytest.mark.parametrize("servers", ["", " , ", "a:b", "a:0", "a:70000", ":1", "::1:5", []])
def test_nonsense_is_no_list_of_servers(servers: str | list[str]) -> None:
    with pytest.raises(UnknownOption):
        parse_servers(servers)


def test_without_a_leader_those_given_are_asked_in_turn_to_name_it() -> None:
    table = endpoints("a:1", "b:1")
    assert table.for_write(0, "leader") == Target("a:1", no_forward=True)
    table.leads_not("a:1")
    assert table.for_write(0, "leader") == Target("b:1", no_forward=True)


def test_a_named_leader_is_asked_directly() -> None:
    table = endpoints("a:1")
    table.leads("b:1", "n2")
    assert table.for_write(0, "leader") == Target("b:1", no_forward=True)
    assert table.address_of("n2") == "b:1"


def test_any_node_may_forward_where_the_user_says_so() -> None:
    table = endpoints("a:1")
    table.leads("b:1")
    assert table.for_write(0, "any") == Target("a:1", no_forward=False)


def test_a_leader_that_was_never_reached_is_left_to_forwarding() -> None:
    table = endpoints("a:1")
    table.leads("10.0.0.1:1")
    table.failed("10.0.0.1:1", now_s=0)
    assert table.for_write(0.001, "leader") == Target("a:1", no_forward=False)


def test_a_leader_that_was_never_reached_is_asked_again_where_the_others_are_gone() -> None:
    """The two that are left of the first three members were asked in turn for ever."""
    table = endpoints("a:1", "b:1", "c:1")
    table.leads("b:1")
    table.failed("b:1", 0.0)
    for now_s in (10, 20):
        asked = table.for_write(now_s, "leader")
        assert asked.address != "b:1"
        assert not asked.no_forward
        table.failed(asked.address, now_s, silent=True)
    assert table.for_write(30, "leader") == Target("b:1", no_forward=True)
    table.failed("b:1", 30.0)
    assert table.for_write(30, "leader").address != "b:1"


@pytest.mark.parametrize("route", ["leader", "any"])
def test_a_node_that_knows_no_leader_is_not_left_to_forward(route: Route) -> None:
    table = endpoints("a:1", "b:1")
    table.leads("10.0.0.1:1")
    table.failed("10.0.0.1:1", now_s=0)
    asked = table.for_write(0.001, route)
    table.leads_not(asked.address)  # it answers, but it is cut off from the others
    assert table.for_write(0.002, route).address != asked.address


def test_a_leader_that_has_died_is_searched_for() -> None:
    table = endpoints("a:1", "b:1")
    table.succeeded("a:1")
    table.leads("a:1")
    table.failed("a:1", now_s=0)
    assert table.for_write(0.001, "leader") == Target("b:1", no_forward=True)


def test_a_stale_name_of_a_dead_leader_is_not_followed_but_in_the_end_left_to_forwarding() -> None:
    table = endpoints("a:1", "b:1", "c:1")
    table.succeeded("a:1")
    table.failed("a:1", now_s=0, silent=True)
    table.leads("a:1")
    target = table.for_write(0.001, "leader")
    assert target.no_forward
    assert target.address != "a:1"
    assert not table.for_write(STALE_HINT_S + 0.1, "leader").no_forward


def test_a_named_leader_that_failed_at_once_is_asked_again_when_its_pause_is_over() -> None:
    table = endpoints("a:1", "b:1", "c:1")
    table.succeeded("a:1")
    table.failed("a:1", now_s=0)
    table.leads("a:1")  # it was started again and elected
    assert table.for_write(0.001, "leader").address != "a:1"
    assert table.for_write(0.5, "leader") == Target("a:1", no_forward=True)


def test_a_named_leader_that_was_silent_is_not_asked_again_while_the_hint_may_be_stale() -> None:
    table = endpoints("a:1", "b:1", "c:1")
    table.succeeded("a:1")
    table.failed("a:1", now_s=0, silent=True)
    table.leads("a:1")  # to wait for its silence again would cost seconds
    assert table.for_write(0.5, "leader").address != "a:1"


def test_who_failed_comes_last_until_its_pause_is_over() -> None:
    table = endpoints("a:1", "b:1")
    table.failed("a:1", now_s=0)
    assert table.for_read(0.001) == "b:1"
    table.failed("b:1", now_s=0.002)
    assert table.for_read(0.003) == "a:1", "its pause ends first"
    assert table.for_read(1) == "a:1"


def test_readers_spread_over_the_nodes() -> None:
    table = endpoints("a:1", "b:1", "c:1")
    assert [table.for_read(0, start) for start in range(4)] == ["a:1", "b:1", "c:1", "a:1"]


def test_what_answers_can_add_is_bounded() -> None:
    table = endpoints("a:1")
    for number in range(1000):
        table.learn(f"h{number}:1", f"n{number}")
    assert len(list(table)) == MAX_ENDPOINTS
    table.leads("h999:1")
    assert table.leader is None
