"""The proxy does to connections what it is told, and nothing else."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from quorumlog.proto.peer_pb2 import Hello, PeerMessage
from quorumlog.raft.wire import encode
from tests.chaos.proxy import Proxy
from tests.support.nodes import free_ports
from tests.support.waiting import UNIT_S

HELLO = b"".join(encode(PeerMessage(hello=Hello(node_id="n1"))))


@contextmanager
def echo() -> Iterator[str]:
    """A server that says again what it hears."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=answer, args=(connection,), daemon=True).start()

        def answer(connection: socket.socket) -> None:
            with connection:
                while data := _received(connection):
                    connection.sendall(data)

        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def door() -> Iterator[tuple[Proxy, int]]:
    """A proxy before an echo that is called n2, and the port of its door."""
    (port,) = free_ports(1)
    with echo() as address, Proxy({"n2": (f"127.0.0.1:{port}", address)}, seed=1) as proxy:
        yield proxy, port


def dial(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=10 * UNIT_S)
    connection.sendall(HELLO)
    return connection


def _received(connection: socket.socket, size: int = 65536) -> bytes:
    try:
        return connection.recv(size)
    except ConnectionError:
        return b""


def receive(connection: socket.socket, size: int) -> bytes:
    received = b""
    while len(received) < size and (more := connection.recv(size - len(received))):
        received += more
    return received


def exchange(connection: socket.socket, data: bytes) -> bytes:
    connection.sendall(data)
    return receive(connection, len(data))


LINKS = [("n1", "n2")]
BACK = [("n2", "n1")]


def test_what_is_said_passes_unchanged(door: tuple[Proxy, int]) -> None:
    _, port = door
    with dial(port) as connection:
        assert receive(connection, len(HELLO)) == HELLO
        data = bytes(range(256)) * 4000
        threading.Thread(target=connection.sendall, args=(data,), daemon=True).start()
        assert receive(connection, len(data)) == data


def test_a_delay_is_kept_and_goes_away(door: tuple[Proxy, int]) -> None:
    proxy, port = door
    with dial(port) as connection:
        receive(connection, len(HELLO))
        proxy.shape(LINKS, delay_s=0.3)
        began = time.monotonic()
        assert exchange(connection, b"late") == b"late"
        assert time.monotonic() - began >= 0.3
        proxy.heal()
        assert exchange(connection, b"soon") == b"soon"


@pytest.mark.parametrize("links", [LINKS, BACK], ids=["there", "back"])
def test_what_is_held_in_one_direction_comes_when_it_is_released(
    door: tuple[Proxy, int], links: list[tuple[str, str]]
) -> None:
    proxy, port = door
    with dial(port) as connection:
        receive(connection, len(HELLO))
        proxy.shape(links, hold=True)
        connection.sendall(b"held")
        connection.settimeout(0.2)
        with pytest.raises(TimeoutError):
            connection.recv(4)
        proxy.heal()
        connection.settimeout(10 * UNIT_S)
        assert receive(connection, 4) == b"held"


def test_a_new_connection_reaches_nobody_while_its_link_is_held(door: tuple[Proxy, int]) -> None:
    proxy, port = door
    proxy.shape(LINKS, hold=True)
    with dial(port) as connection:
        connection.settimeout(0.2)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        proxy.heal()
        connection.settimeout(10 * UNIT_S)
        assert receive(connection, len(HELLO)) == HELLO


def test_a_cut_breaks_connections_and_refuses_new_ones_until_it_is_healed(door: tuple[Proxy, int]) -> None:
    proxy, port = door
    with dial(port) as connection:
        receive(connection, len(HELLO))
        assert proxy.cut(LINKS, refuse=True) == 1
        assert _received(connection) == b""
    with dial(port) as refused:
        assert _received(refused) == b""
    proxy.heal()
    with dial(port) as healed:
        assert receive(healed, len(HELLO)) == HELLO


def test_a_slow_link_takes_its_time(door: tuple[Proxy, int]) -> None:
    proxy, port = door
    with dial(port) as connection:
        receive(connection, len(HELLO))
        proxy.shape(LINKS, rate=100_000)
        began = time.monotonic()
        data = bytes(50_000)
        assert exchange(connection, data) == data
        assert time.monotonic() - began >= 0.4


def test_what_is_no_hello_is_not_passed_on(door: tuple[Proxy, int]) -> None:
    _, port = door
    with socket.create_connection(("127.0.0.1", port), timeout=10 * UNIT_S) as connection:
        connection.sendall(b"\xff" * 100)
        assert _received(connection) == b""
