"""Strangers at the peer port: bounded in number and time, and never in a member's way."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator

import pytest

from quorumlog.raft import accepting
from quorumlog.raft.accepting import MAX_HANDSHAKES, Acceptor
from tests.support.certificates import TestAuthority, dialling


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> TestAuthority:
    return TestAuthority(tmp_path_factory.mktemp("authority"))


class Guest(asyncio.Protocol):
    """Who came through."""

    def __init__(self, guests: asyncio.Queue[asyncio.BaseTransport]) -> None:
        self.guests = guests

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.guests.put_nowait(transport)


class Open:
    """An acceptor at work."""

    def __init__(self, authority: TestAuthority) -> None:
        self.guests: asyncio.Queue[asyncio.BaseTransport] = asyncio.Queue()
        self.strangers: list[socket.socket] = []
        self.acceptor = Acceptor(lambda: Guest(self.guests), authority.certificates("n1").accepting)
        self.address = ("", 0)

    async def start(self) -> None:
        host, _, port = (await self.acceptor.start("127.0.0.1", 0)).rpartition(":")
        self.address = host, int(port)

    async def close(self) -> None:
        await self.acceptor.stop()
        for stranger in self.strangers:
            stranger.close()

    async def knock(self) -> socket.socket:
        """Connect and say nothing."""
        knocking = socket.socket()
        knocking.setblocking(False)
        self.strangers.append(knocking)
        await asyncio.get_running_loop().sock_connect(knocking, self.address)
        return knocking

    async def enter(self, tls: ssl.SSLContext) -> None:
        """Connect as a member does, and be let in."""
        _, writer = await asyncio.open_connection(*self.address, ssl=tls, server_hostname="127.0.0.1")
        async with asyncio.timeout(20):
            guest = await self.guests.get()
        writer.transport.abort()
        guest.close()


@pytest.fixture
async def door(authority: TestAuthority) -> AsyncIterator[Open]:
    made = Open(authority)
    await made.start()
    yield made
    await made.close()


async def ended(stranger: socket.socket) -> None:
    async with asyncio.timeout(20):
        with contextlib.suppress(ConnectionError):
            assert await asyncio.get_running_loop().sock_recv(stranger, 1) == b""


async def test_strangers_beyond_the_bound_push_out_the_oldest_and_no_member(
    door: Open, authority: TestAuthority
) -> None:
    """Row 65."""
    strangers = [await door.knock() for _ in range(3 * MAX_HANDSHAKES)]
    for pushed_out in strangers[: 2 * MAX_HANDSHAKES]:
        await ended(pushed_out)
    assert len(door.acceptor._handshakes) == MAX_HANDSHAKES
    await door.enter(dialling(authority.node("n2")))
    assert door.guests.empty()


async def test_who_does_not_finish_the_handshake_is_dropped(
    door: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 66: slowloris."""
    monkeypatch.setattr(accepting, "HANDSHAKE_TIMEOUT_S", 0.05)
    stranger = await door.knock()
    await ended(stranger)
    assert door.guests.empty()


async def test_no_descriptors_left_is_waited_out(door: Open, authority: TestAuthority) -> None:
    """Row 65: EMFILE ends neither the loop nor the members' way in."""
    loop = asyncio.get_running_loop()
    accept = loop.sock_accept
    failures = iter((OSError(24, "Too many open files"), OSError(23, "Too many open files in system")))

    async def failing(listening: socket.socket) -> tuple[socket.socket, object]:
        for error in failures:
            raise error
        return await accept(listening)

    door.acceptor._loops[0].cancel()
    loop.sock_accept = failing  # type: ignore[assignment,method-assign]
    door.acceptor._loops[0] = loop.create_task(door.acceptor._accept(door.acceptor._sockets[0]))
    await door.enter(dialling(authority.node("n2")))
    assert next(failures, None) is None


async def test_a_port_in_use_is_an_error_and_leaves_nothing_open(door: Open) -> None:
    another = Acceptor(lambda: Guest(door.guests), None)
    with pytest.raises(OSError, match="in use"):
        await another.start(*door.address)
    await another.stop()
