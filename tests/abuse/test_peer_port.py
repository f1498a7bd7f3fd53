"""The peer port: whatever strangers send it, nothing runs, nothing grows, and the leader stays."""

from __future__ import annotations

import hashlib
import pickle
import random
import socket
import ssl
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from quorumlog.client.tls import Tls
from quorumlog.node.config import CLUSTER_ID_BYTES
from quorumlog.proto.checksum import crc32c
from quorumlog.proto.peer_pb2 import AppendEntries, Hello, HelloRefused, PeerMessage, RequestVote
from quorumlog.raft.transport import PROTOCOL
from quorumlog.raft.wire import encode
from tests.abuse.conftest import MIB, Abused
from tests.support.certificates import EXPIRED, NOT_YET, TestAuthority, dialling
from tests.support.waiting import UNIT_S, eventually

TIMEOUT_S = 20 * UNIT_S


def connected(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=TIMEOUT_S)


@contextmanager
def member(abused: Abused, tls: Tls | None = None) -> Iterator[ssl.SSLSocket]:
    """A connection with a good certificate of n9, of which the cluster knows nothing."""
    assert abused.authority is not None
    context = dialling(tls or abused.authority.node("n9"))
    with (
        connected(abused.peer_address()) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as tls_socket,
    ):
        yield tls_socket


def ends(connection: socket.socket) -> bytes:
    """What is still said before the other side closes. Fails when it does not."""
    said = bytearray()
    try:
        while more := connection.recv(65536):
            said += more
    except (ConnectionError, ssl.SSLError):
        pass
    return bytes(said)


def sent(connection: socket.socket, raw: bytes) -> bytes:
    """Send, then wait for the end of the connection."""
    try:
        connection.sendall(raw)
    except (ConnectionError, ssl.SSLError):
        return b""
    return ends(connection)


def prefix(header: int, attachment: int, crc: int = 0) -> bytes:
    return struct.pack("<III", header & 0xFFFFFFFF, attachment & 0xFFFFFFFF, crc)


def framed(header: bytes) -> bytes:
    return prefix(len(header), 0, crc32c(header)) + header


def hello(node_id: str = "n9", cluster: bytes = b"?" * 16, **changes: object) -> bytes:
    fields = {
        "protocol": PROTOCOL,
        "cluster_id": cluster,
        "node_id": node_id,
        "directory_id": b"d" * 16,
        **changes,
    }
    return b"".join(map(bytes, encode(PeerMessage(hello=Hello(**fields)))))  # type: ignore[arg-type]


def hostile(dice: random.Random) -> dict[str, bytes]:
    """What ends a connection at once."""
    return {
        "noise": dice.randbytes(64 * 1024),
        "a length of 2 GiB": prefix(0x7FFFFFFF, 0) + b"x",
        "a negative length": prefix(-1, 0) + b"x",
        "a negative attachment": prefix(4, -1) + b"x",
        "a header that is a little too long": prefix(64 * 1024 + 1, 0) + b"x",
        "an attachment from a stranger": prefix(4, 18 * MIB) + b"x",
        "a wrong checksum": prefix(4, 0, 1) + b"\x08\x01\x10\x01",
        "no protobuf": framed(b"\xff" * 100),
        "nested groups": framed(b"\x1b" * 60_000),
        "a message before the Hello": b"".join(
            map(bytes, encode(PeerMessage(term=2**63, request_vote=RequestVote(last_log_index=2**62))))
        ),
        "an empty message": framed(b""),
        "a refusal": framed(
            PeerMessage(
                hello_refused=HelloRefused(reason="\n2026-01-01 00:00:00,000 CRITICAL n1 forged")
            ).SerializeToString()
        ),
        "a Hello of another cluster": hello(),
        "a Hello of another protocol": hello(protocol=2**32 - 1),
        "HTTP": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + bytes(100),
        "a Hello twice": hello() * 2,
    }


def test_nothing_that_a_stranger_says_is_taken(plain: Abused, dice: random.Random) -> None:
    """Rows 8 and 63: noise, huge and negative lengths, nonsense; each ends its connection."""
    with plain.unharmed():
        for _ in range(3):
            for what, raw in hostile(dice).items():
                with connected(plain.peer_address()) as connection:
                    assert b"\x22" not in sent(connection, raw)[:1], what


def test_nor_from_one_with_a_good_certificate(guarded: Abused, dice: random.Random) -> None:
    """Row 63: the same behind TLS, with the certificate of a node."""
    with guarded.unharmed():
        for raw in hostile(dice).values():
            with member(guarded) as connection:
                sent(connection, raw)
        for raw in hostile(dice).values():  # and where TLS is expected
            with connected(guarded.peer_address()) as connection:
                sent(connection, raw)


def test_what_is_cut_off_anywhere_does_no_harm(plain: Abused, dice: random.Random) -> None:
    """Row 63: truncated frames."""
    raw = hello("n1") + b"".join(
        map(bytes, encode(PeerMessage(term=9, append_entries=AppendEntries(count=1))))
    )
    with plain.unharmed():
        for cut in range(len(raw)):
            with connected(plain.peer_address()) as connection:
                connection.sendall(raw[:cut])


def test_who_says_half_a_word_and_waits_is_dropped(plain: Abused) -> None:
    """Row 66: slowloris."""
    with plain.unharmed(), ExitStack() as open_ones:
        waiting = [open_ones.enter_context(connected(plain.peer_address())) for _ in range(20)]
        for connection in waiting:
            connection.sendall(hello()[:20])
        for connection in waiting:
            assert ends(connection) == b""


class Canary:
    """Unpickled, it makes a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Callable[[str, str], object], tuple[str, str]]:
        return open, (str(self.file), "w")


def test_a_pickle_is_never_opened(plain: Abused, guarded: Abused, tmp_path: Path) -> None:
    """Row 63: in every place where bytes of others arrive; the canary itself works."""
    file = tmp_path / "canary"
    canary = pickle.dumps(Canary(file), protocol=2)
    pickle.loads(canary).close()
    file.unlink()
    forms = [
        canary,
        struct.pack(">I", len(canary)) + canary,  # pysyncobj's own framing
        framed(canary),
        prefix(0, len(canary)) + canary,
        hello() + canary,
        hello(directory_id=canary, client_address="x" * 100),
        hello("n1") + framed(canary),
    ]
    with plain.unharmed(), guarded.unharmed():
        for form in forms:
            for node in plain.cluster:
                with connected(node.peer_address) as connection:
                    connection.sendall(form)
                    connection.shutdown(socket.SHUT_WR)
                    ends(connection)
            with member(guarded) as connection:
                connection.sendall(form)
    assert not file.exists()


def test_only_a_nodes_certificate_gets_past_the_handshake(guarded: Abused, tmp_path: Path) -> None:
    """Rows 59 and 62: none, foreign, self-made, expired, not yet valid, a client's, another cluster's."""
    authority = guarded.authority
    assert authority is not None
    foreign = TestAuthority(tmp_path / "foreign")
    another = TestAuthority(tmp_path / "another", "another")
    shown: dict[str, ssl.SSLContext] = {
        "foreign": dialling(foreign.node("n2"), authority.file),
        "of another cluster": dialling(another.node("n2"), authority.file),
        "expired": dialling(authority.node("n2", now=EXPIRED, variant="expired")),
        "not yet valid": dialling(authority.node("n2", now=NOT_YET, variant="not-yet")),
        "a client's": dialling(authority.client("billing", ["admin"])),
        "none": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
    }
    shown["none"].load_verify_locations(authority.file)
    good = hello("n2", directory_id=b"e" * 16)
    with guarded.unharmed():
        for what, context in shown.items():
            try:
                with (
                    connected(guarded.peer_address()) as plain,
                    context.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
                ):
                    assert sent(connection, good) == b"", what  # not even a HelloRefused
            except (ssl.SSLError, ConnectionError):
                continue


def test_a_member_cannot_speak_under_another_name(guarded: Abused) -> None:
    """Row 62: the sessions of the members stay."""
    cluster_id = hashlib.blake2b(b"test", digest_size=CLUSTER_ID_BYTES).digest()
    with guarded.unharmed():
        for name in ("n1", "n2", "n3"):
            with member(guarded) as connection:
                answer = sent(connection, hello(name, cluster_id))
            expected = b"both are called" if name == guarded.leader else b"the certificate is of node 'n9'"
            assert expected in answer
        with member(guarded) as connection:
            assert b"is not a" in sent(connection, hello("n9", cluster_id))


def test_captured_traffic_cannot_be_replayed(guarded: Abused) -> None:
    """Row 68: a node's own bytes, recorded from the first to the last, open nothing a second time."""
    assert guarded.authority is not None
    context = dialling(guarded.authority.node("n9"))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    recorded = bytearray()
    with connected(guarded.peer_address()) as connection:

        def flush() -> None:
            raw = outgoing.read()
            recorded.extend(raw)
            connection.sendall(raw)

        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                flush()
                incoming.write(connection.recv(65536))
        tls.write(hello("n9"))
        flush()
        assert connection.recv(65536), "the first time it is answered"
    with guarded.unharmed():
        for _ in range(5):
            with connected(guarded.peer_address()) as connection:
                said = sent(connection, bytes(recorded))
                # At most the server's own handshake and an alert: it cannot read what was recorded.
                assert b"n9" not in said
                assert not opened_session(guarded, "n9")


def opened_session(abused: Abused, name: str) -> bool:
    return any(f"with {name} opened" in node.logged() for node in abused.cluster)


@pytest.mark.parametrize("tls", [False, True])
def test_a_thousand_idle_and_a_hundred_flapping_connections(
    plain: Abused, guarded: Abused, tls: bool, dice: random.Random
) -> None:
    """Row 65: descriptors stay bounded, members keep their sessions, the leader its term."""
    abused = guarded if tls else plain
    before = abused.descriptors()
    with abused.unharmed(), ExitStack() as open_ones:
        for _ in range(1000):
            open_ones.enter_context(connected(abused.peer_address()))
        for _ in range(100):
            with connected(abused.peer_address()) as flapping:
                flapping.sendall(dice.randbytes(dice.randrange(1, 100)))
        eventually(lambda: abused.descriptors() < before + 250, "strangers are dropped")
        abused.append()
    abused.wait_for_descriptors(before + 10)
