"""What is written by hand of the peers' protocols, and how a peer that is not here is told."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest
from nats.js import JetStreamContext, api
from nats.js.errors import TooManyStalledMsgsError

from bench import run as run_module
from bench.peers.etcd import is_settled as etcd_is_settled
from bench.peers.etcd_client import Status, bytes_field, fields, varint
from bench.peers.nats import is_settled as nats_is_settled
from bench.peers.nats_client import publish_async
from bench.peers.processes import Missing, found
from bench.readers import rotated
from bench.run import Run


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


class Full:
    """A stream of nats-py whose room never comes."""

    def __init__(self) -> None:
        self.waited = asyncio.Event()

    async def publish_async(self, _subject: str, _payload: bytes) -> None:
        try:
            self.waited.set()
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            raise TooManyStalledMsgsError from None


async def test_a_publish_that_is_cancelled_says_so_whatever_the_library_makes_of_it() -> None:
    full = Full()
    publishing = asyncio.create_task(publish_async(cast(JetStreamContext, full), "subject", b"x"))
    await full.waited.wait()
    publishing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await publishing


async def test_a_side_that_cannot_be_had_is_told_by_its_own_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Ready:
        def __init__(self, _directory: Path, _count: int) -> None: ...
        async def __aenter__(self) -> Ready:
            return self

        async def __aexit__(self, *_: object) -> None: ...

    def missing(_directory: Path, _count: int) -> Any:
        raise Missing("no sync_interval")

    monkeypatch.setattr(run_module, "PEERS", {"nats": {"nats": Ready, "nats-sync": missing}})
    monkeypatch.setattr(Run, "ours", lambda *_: Ready(tmp_path, 3))
    run = Run(tmp_path, cast(Any, None), repeats=1)
    async with run.sides("nats") as sides:
        assert sides.absent == ["nats-sync left out: no sync_interval"]
        assert len(sides.peers) == 1
