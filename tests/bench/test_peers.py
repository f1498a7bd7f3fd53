"""What is written by hand of the peers' protocols, and how a peer that is not here is told."""

from __future__ import annotations

import pytest
from nats.js import api

from bench.peers.etcd import is_settled as etcd_is_settled
from bench.peers.etcd_client import Status, bytes_field, fields, varint
from bench.peers.nats import is_settled as nats_is_settled
from bench.peers.processes import Missing, found
from bench.readers import rotated


def test_fields_are_read_as_they_were_written() -> None:
    message = bytes_field(1, b"key") + varint(4 << 3) + varint(300) + bytes_field(15, bytes(200))
    assert list(fields(message)) == [(1, b"key"), (4, 300), (15, bytes(200))]


def test_a_varint_has_seven_bits_in_a_byte() -> None:
    assert varint(0) == b"\x00"
    assert varint(300) == b"\xac\x02"


def test_a_program_that_is_missing_is_told_with_its_package() -> None:
    with pytest.raises(Missing, match="apt-get install some-package"):
        found("no-such-program", "some-package")


def nats_stream(*replicas: api.PeerInfo, leader: str | None = "s1") -> api.StreamInfo:
    cluster = api.ClusterInfo(leader=leader, name="bench", replicas=list(replicas))
    return api.StreamInfo(api.StreamConfig(name="x"), api.StreamState(0, 0, 0, 0, 0), cluster=cluster)


def nats_replica(*, current: bool = True) -> api.PeerInfo:
    return api.PeerInfo(name="s2", current=current, active=0)


def test_a_stream_is_settled_when_as_many_replicas_as_it_should_have_are_current() -> None:
    for count in (3, 5):
        replicas = [nats_replica()] * (count - 1)
        assert nats_is_settled(nats_stream(*replicas), count)
        assert not nats_is_settled(nats_stream(*replicas[1:]), count)
        assert not nats_is_settled(nats_stream(*replicas[1:], nats_replica(current=False)), count)
        assert not nats_is_settled(nats_stream(*replicas, leader=None), count)


def test_a_stream_on_one_server_is_settled_when_it_is_told_of() -> None:
    alone = api.StreamInfo(api.StreamConfig(name="x"), api.StreamState(0, 0, 0, 0, 0))
    assert nats_is_settled(alone, 1)
    assert not nats_is_settled(None, 1)


def test_members_are_settled_when_all_of_them_follow_one_leader() -> None:
    def members(count: int) -> dict[str, Status]:
        return {f"e{number}": Status(number, 1, 100 + number) for number in range(1, count + 1)}

    assert etcd_is_settled(members(1), 1)
    assert etcd_is_settled(members(5), 5)
    assert not etcd_is_settled(members(4), 5)
    assert not etcd_is_settled(members(3) | {"e3": Status(3, 2, 103)}, 3)


def test_readers_begin_with_another_server_in_turn() -> None:
    turns = [rotated(["a", "b", "c"], turn) for turn in range(4)]
    assert turns == [["a", "b", "c"], ["b", "c", "a"], ["c", "a", "b"], ["a", "b", "c"]]
