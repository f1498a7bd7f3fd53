"""Mutual TLS between peers: who has no certificate of a node of this cluster gets no session."""

from __future__ import annotations

import asyncio
import datetime as dt
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from quorumlog.node.config import TlsConfig
from quorumlog.proto.identity import BadIdentity, identify
from quorumlog.proto.peer_pb2 import AppendEntries, Hello, PeerMessage
from quorumlog.raft.transport import PROTOCOL
from quorumlog.raft.wire import Decoder, encode
from tests.raft.test_transport import Pair, both_up, closed_by
from tests.support.certificates import EXPIRED, NOT_YET, TestAuthority, dialling


@dataclass
class AnyTls:
    """transport.PeerTls with any certificate, however bad, where a node would refuse to start with it."""

    files: TlsConfig
    trusted: Path | None = None

    def accepting(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(self.trusted or self.files.authority)
        context.load_cert_chain(self.files.certificate, self.files.key)
        return context

    def dialling(self) -> ssl.SSLContext:
        return dialling(self.files, self.trusted)

    def node_of(self, certificate: Mapping[str, Any]) -> str:
        uris = [value for kind, value in certificate["subjectAltName"] if kind == "URI"]
        identity = identify("test", uris)
        if not identity.is_node:
            raise BadIdentity("of a client")
        return identity.name


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> TestAuthority:
    return TestAuthority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
async def pair(authority: TestAuthority) -> AsyncIterator[Pair]:
    made = Pair()
    made.configs = [replace(config, tls=authority.certificates(config.node_id)) for config in made.configs]
    yield made
    for transport in made.transports:
        await transport.stop()


async def test_members_talk_and_attachments_come_through(pair: Pair) -> None:
    first, _ = await both_up(pair)
    body = bytes(range(256)) * 4096
    first.send("n2", PeerMessage(term=1, append_entries=AppendEntries(count=1)), [body])
    await pair.listeners[1].until(lambda: bool(pair.listeners[1].messages))
    assert pair.listeners[1].messages[0][3] == body


async def refused(pair: Pair, caplog: pytest.LogCaptureFixture, *reasons: str) -> None:
    """Start both; the dialler must fail, again and again, and nobody may get a session."""
    reasons = reasons or ("no connection to n2", "with n2 ends", "connection ended before it said")
    with caplog.at_level("DEBUG", logger="quorumlog.raft"):
        await pair.start(1)
        await pair.start(0)
        async with asyncio.timeout(20):
            while sum(caplog.text.count(reason) for reason in reasons) < 2:
                if pair.listeners[0].opened or pair.listeners[1].opened:
                    break
                await asyncio.sleep(0.01)
    assert pair.listeners[0].opened == pair.listeners[1].opened == []


async def test_a_server_of_another_authority_is_not_believed(
    pair: Pair, authority: TestAuthority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Row 59."""
    foreign = TestAuthority(tmp_path / "foreign")
    pair.configs[1] = replace(pair.configs[1], tls=AnyTls(foreign.node("n2"), authority.file))
    await refused(pair, caplog)


@pytest.mark.parametrize("now", [EXPIRED, NOT_YET])
@pytest.mark.parametrize("number", [0, 1])
async def test_a_peer_whose_certificate_is_not_valid_now_is_not_believed(
    pair: Pair, authority: TestAuthority, caplog: pytest.LogCaptureFixture, number: int, now: dt.datetime
) -> None:
    """Row 59: whichever side it is on."""
    files = authority.node(pair.configs[number].node_id, now=now, variant=str(now.year))
    pair.configs[number] = replace(pair.configs[number], tls=AnyTls(files))
    await refused(pair, caplog)


async def test_a_server_whose_name_does_not_fit_is_not_believed(
    pair: Pair, authority: TestAuthority, caplog: pytest.LogCaptureFixture
) -> None:
    files = authority.node("n2", ["another.example"], variant="-elsewhere")
    pair.configs[1] = replace(pair.configs[1], tls=AnyTls(files))
    await refused(pair, caplog)


@pytest.mark.parametrize("number", [0, 1])
async def test_a_member_under_another_members_name_is_refused(
    pair: Pair, authority: TestAuthority, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    """Row 62: n3's certificate is good, but not for n1 or n2."""
    pair.configs[number] = replace(pair.configs[number], tls=AnyTls(authority.node("n3")))
    await refused(pair, caplog, "the certificate is of node")


async def test_a_clients_certificate_opens_no_session(
    pair: Pair, authority: TestAuthority, caplog: pytest.LogCaptureFixture
) -> None:
    """Row 62."""
    client = authority.client("billing", ["admin"])
    files = TlsConfig(Path(client.cert), Path(client.key), authority.file)
    pair.configs[0] = replace(pair.configs[0], tls=AnyTls(files))
    await refused(pair, caplog, "the certificate is not of a node")


async def test_a_node_of_another_cluster_is_refused_by_its_certificate(
    pair: Pair, authority: TestAuthority, caplog: pytest.LogCaptureFixture
) -> None:
    """Row 62: the Hello says the right cluster, the certificate another one."""
    tls = authority.certificates("n2")
    tls._cluster = "another"
    pair.configs[1] = replace(pair.configs[1], tls=tls)
    await refused(pair, caplog, "the certificate is of cluster")


async def test_a_hello_under_another_name_ends_the_connection(pair: Pair, authority: TestAuthority) -> None:
    """Row 62: the certificate is a member's, the Hello names another member."""
    first = await pair.start(0)
    reader, writer = await connected(first.address, dialling(authority.node("n3")))
    hello = Hello(
        protocol=PROTOCOL, cluster_id=b"c" * 16, group=0, node_id="n2", directory_id=b"d" * 16, session=1
    )
    writer.writelines([bytes(part) for part in encode(PeerMessage(hello=hello))])
    async with asyncio.timeout(20):
        answer = await reader.read()
    writer.transport.abort()
    assert first_message(answer).hello_refused.reason == "the certificate is of node 'n3'"
    assert pair.listeners[0].opened == []


def first_message(raw: bytes) -> PeerMessage:
    decoder = Decoder()
    decoder.buffer()[: len(raw)] = raw
    return decoder.received(len(raw))[0][0]


async def connected(
    address: str, tls: ssl.SSLContext | None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = address.rsplit(":", 1)
    return await asyncio.open_connection(host, int(port), ssl=tls, server_hostname=host if tls else None)


async def ask(address: str, tls: ssl.SSLContext) -> None:
    """Connect and wait for a word. Raises where the other side wants none of it."""
    reader, writer = await connected(address, tls)
    try:
        async with asyncio.timeout(20):
            if await reader.read() == b"":
                raise ConnectionError("closed")
    finally:
        writer.transport.abort()


async def test_a_dialler_without_certificate_or_without_tls_is_cut_off(
    pair: Pair, authority: TestAuthority
) -> None:
    """Rows 59 and 62: the members stay."""
    first, _ = await both_up(pair)
    await closed_by(first.address, b"\x00" * 100)
    anonymous = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anonymous.load_verify_locations(authority.file)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await ask(first.address, anonymous)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await ask(first.address, dialling(authority.client("shop")))
    first.send("n2", PeerMessage(term=3))
    await pair.listeners[1].until(lambda: bool(pair.listeners[1].messages))
    assert len(pair.listeners[0].opened) == 1


async def test_a_replaced_certificate_serves_the_next_connection_and_cuts_none(
    pair: Pair, authority: TestAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 61."""
    monkeypatch.setattr("quorumlog.node.tls._LOOK_AGAIN_S", 0.0)
    first, _ = await both_up(pair)
    before = await serial_of(first.address, authority)
    old, new = authority.node("n1"), authority.node("n1", variant="-new")
    new.key.replace(old.key)  # for a moment the files do not fit each other
    assert await serial_of(first.address, authority) == before
    new.certificate.replace(old.certificate)
    assert await serial_of(first.address, authority) != before
    first.send("n2", PeerMessage(term=3))
    await pair.listeners[1].until(lambda: bool(pair.listeners[1].messages))
    assert len(pair.listeners[0].opened) == 1


async def serial_of(address: str, authority: TestAuthority) -> str:
    _, writer = await connected(address, dialling(authority.node("n3")))
    serial: str = writer.get_extra_info("peercert")["serialNumber"]
    writer.transport.abort()
    return serial
