"""Mutual TLS between peers: who has no certificate of the cluster's authority gets no session."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import trustme

from quorumlog.proto.peer_pb2 import AppendEntries, PeerMessage
from tests.raft.test_transport import Pair, both_up, closed_by


def contexts(own: trustme.CA, trusted: trustme.CA) -> dict[str, ssl.SSLContext]:
    """Contexts of a node whose certificate is of `own` and who believes `trusted`."""
    certificate = own.issue_cert("127.0.0.1")
    made = {}
    for side, protocol in (("server_tls", ssl.PROTOCOL_TLS_SERVER), ("client_tls", ssl.PROTOCOL_TLS_CLIENT)):
        context = ssl.SSLContext(protocol)
        context.verify_mode = ssl.CERT_REQUIRED
        certificate.configure_cert(context)
        trusted.configure_trust(context)
        made[side] = context
    return made


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
async def pair(authority: trustme.CA) -> AsyncIterator[Pair]:
    made = Pair()
    made.configs = [replace(config, **contexts(authority, authority)) for config in made.configs]
    yield made
    for transport in made.transports:
        await transport.stop()


async def test_members_talk_and_attachments_come_through(pair: Pair) -> None:
    first, _ = await both_up(pair)
    body = bytes(range(256)) * 4096
    first.send("n2", PeerMessage(term=1, append_entries=AppendEntries(count=1)), [body])
    await pair.listeners[1].until(lambda: bool(pair.listeners[1].messages))
    assert pair.listeners[1].messages[0][3] == body


async def refused(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    """Start both; the dialler must fail, again and again, and nobody may get a session."""
    with caplog.at_level("DEBUG", logger="quorumlog.raft.transport"):
        await pair.start(1)
        await pair.start(0)
        async with asyncio.timeout(20):
            while caplog.text.count("no connection to n2") + caplog.text.count("with n2 ends") < 2:
                if pair.listeners[0].opened or pair.listeners[1].opened:
                    break
                await asyncio.sleep(0.01)
    assert pair.listeners[0].opened == pair.listeners[1].opened == []


async def test_a_server_of_another_authority_is_not_believed(
    pair: Pair, authority: trustme.CA, caplog: pytest.LogCaptureFixture
) -> None:
    """Row 59."""
    pair.configs[1] = replace(pair.configs[1], **contexts(trustme.CA(), authority))
    await refused(pair, caplog)


async def test_a_server_whose_name_does_not_fit_is_not_believed(
    pair: Pair, authority: trustme.CA, caplog: pytest.LogCaptureFixture
) -> None:
    context = pair.configs[1].server_tls
    assert context is not None
    authority.issue_cert("another.example").configure_cert(context)
    await refused(pair, caplog)


async def ask(address: str, tls: ssl.SSLContext) -> None:
    """Connect and wait for a word. Raises where the other side wants none of it."""
    host, port = address.rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port), ssl=tls, server_hostname=host)
    try:
        async with asyncio.timeout(20):
            if await reader.read() == b"":
                raise ConnectionError("closed")
    finally:
        writer.transport.abort()


async def test_a_dialler_without_certificate_or_without_tls_is_cut_off(
    pair: Pair, authority: trustme.CA
) -> None:
    """Rows 59 and 62: the members stay."""
    first, _ = await both_up(pair)
    await closed_by(first.address, b"\x00" * 100)
    anonymous = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(anonymous)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await ask(first.address, anonymous)
    first.send("n2", PeerMessage(term=3))
    await pair.listeners[1].until(lambda: bool(pair.listeners[1].messages))
    assert len(pair.listeners[0].opened) == 1
