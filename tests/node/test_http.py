"""What a node answers over HTTP: probes, version, status, topics; who may ask, and what that may cost."""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from quorumlog.node import http_connection
from quorumlog.node.checks import BEHIND_MAX
from quorumlog.node.config import ConfigError
from quorumlog.node.values import Address
from quorumlog.proto import service_pb2
from quorumlog.raft.alarms import DAMAGE, DISK_FULL
from quorumlog.raft.engine import REFUSED
from tests.node.conftest import StartNode
from tests.support.certificates import TestAuthority
from tests.support.local_node import TIMEOUT_S, LocalNode, batch_of, config_for, until
from tests.support.web import Answer, Events, context_of, get, opened

LISTEN = "127.0.0.1:0"


@pytest.fixture
async def web(start_node: StartNode) -> LocalNode:
    """A node that leads and serves HTTP."""
    return await start_node(http__listen=LISTEN)


def address(node: LocalNode) -> str:
    return node.node.http_address


# Configuration ----------------------------------------------------------------------------------


def test_nothing_is_served_unless_it_is_asked_for(tmp_path: Path) -> None:
    assert config_for(tmp_path).http is None
    # What it would cost in memory is not there either.
    code = (
        "import sys, quorumlog.node.server; print([m for m in ('uvicorn', 'starlette') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_the_advertised_address_is_that_of_the_clients_where_every_interface_is_listened_on(
    tmp_path: Path,
) -> None:
    config = config_for(
        tmp_path, http__listen="0.0.0.0:9652", client__listen="0.0.0.0:1", client__advertised="n1.example:1"
    )
    assert config.http is not None
    assert config.http.advertised == Address("n1.example", 9652)
    with pytest.raises(ConfigError, match=r"http\.advertised: expected http\.listen beside it"):
        config_for(tmp_path, http__advertised="n1.example:9652")


async def test_a_port_in_use_is_an_error(web: LocalNode, tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"http\.listen: .* cannot be bound"):
        await LocalNode.start(config_for(tmp_path / "other", http__listen=address(web)))


# Probes -----------------------------------------------------------------------------------------


async def test_a_leader_is_alive_and_ready(web: LocalNode) -> None:
    for path in ("/livez", "/healthz", "/readyz", "/readyz/leader"):
        answer = await get(address(web), path)
        assert (answer.status, answer.text) == (200, "ok\n"), path
    verbose = await get(address(web), "/readyz?verbose")
    assert verbose.text.splitlines() == [
        "[+]serving ok",
        "[+]leader ok",
        "[+]caught_up ok",
        "[+]member ok",
        "[+]disk_space ok",
        "[+]data_intact ok",
        "readyz check passed",
    ]
    assert (await get(address(web), "/livez?verbose")).text == "[+]ping ok\nlivez check passed\n"
    assert (await get(address(web), "/readyz/beauty")).status == 404


async def test_without_a_leader_a_node_is_alive_and_not_ready(start_node: StartNode) -> None:
    node = await start_node(leads=False, http__listen=LISTEN)
    assert (await get(address(node), "/livez")).status == 200
    answer = await get(address(node), "/readyz")
    assert answer.status == 503
    assert "[-]leader failed: no leader is known in term 1\n" in answer.text
    assert answer.text.endswith("readyz check failed\n")
    excluded = await get(address(node), "/readyz?verbose&exclude=leader&exclude=beauty")
    assert excluded.status == 200
    assert "[+]leader excluded: ok\n" in excluded.text
    assert "warn: there is no such check to exclude: beauty\n" in excluded.text


async def failing(node: LocalNode) -> list[str]:
    answer = await get(address(node), "/readyz?verbose")
    lines = [line for line in answer.text.splitlines() if line.startswith("[-]")]
    assert (answer.status == 503) is bool(lines)
    assert (await get(address(node), "/livez")).status == 200
    return lines


async def test_each_check_fails_for_a_reason_of_its_own(web: LocalNode) -> None:
    engine = web.engine
    engine.told_commit_index = engine.applied_index + BEHIND_MAX
    assert await failing(web) == []
    engine.told_commit_index += 1
    assert await failing(web) == ["[-]caught_up failed: entries up to 1002 are committed, 1 is applied here"]
    engine.told_commit_index = 0
    engine.why_not_voting = "n1 is a learner"
    engine.alarms.update((DISK_FULL, f"{DAMAGE} 00000000000000000001.log", REFUSED))
    assert await failing(web) == [
        "[-]member failed: n1 is a learner",
        "[-]disk_space failed: the disk is full",
        f"[-]data_intact failed: {DAMAGE} 00000000000000000001.log",
    ]


async def test_a_node_that_stops_is_alive_and_not_ready_until_its_calls_have_ended(
    start_node: StartNode,
) -> None:
    node = await start_node(http__listen=LISTEN, limits__shutdown_grace="10s")
    await node.create("orders")
    node.engine.hold()
    write = asyncio.ensure_future(node.produce(batch_of("orders")))
    await until(lambda: node.engine.waiting_count == 1)
    stopping = asyncio.ensure_future(node.node.stop())
    node._is_stopped = True
    await asyncio.sleep(0)
    assert (await get(address(node), "/livez")).status == 200
    assert "[-]serving failed: the node is stopping" in (await get(address(node), "/readyz")).text
    node.engine.release()
    await write
    await stopping
    with pytest.raises(ConnectionRefusedError):
        await get(address(node), "/livez")


# What a node says of itself ---------------------------------------------------------------------


async def test_the_version_and_the_status_are_those_of_the_grpc_service(web: LocalNode) -> None:
    version = (await get(address(web), "/version")).json
    over_grpc = await web.cluster.Status(service_pb2.StatusRequest(), timeout=TIMEOUT_S)
    (node,) = over_grpc.nodes
    assert version["version"] == node.version
    for path in ("/status", "/status?local"):
        status = (await get(address(web), path)).json
        assert (status["cluster"], status["leader_id"], status["term"]) == ("test", "n1", 2)
        assert status["sync_policy"] == "SYNC_ALWAYS"
        (said,) = status["nodes"]
        assert set(said) == {field.name for field in node.DESCRIPTOR.fields}
        assert said["http_address"] == node.http_address == address(web)
        assert said["applied_index"] == node.applied_index
        assert said["members"] == [
            {"node_id": "n1", "peer_address": "127.0.0.1:1", "learner": False, "directory_id": ""}
        ]


async def test_topics_are_listed_and_described(web: LocalNode) -> None:
    await web.create("orders", 2)
    await web.create("payments")
    await web.produce(batch_of("orders", [b"a", b"b"]))
    sent = batch_of("orders", [b"c"], partition=1)
    await web.produce(sent)
    await web.fetch("orders", 0)
    listed = (await get(address(web), "/topics")).json
    assert (listed["count"], listed["known"]) == (2, True)
    orders, payments = listed["topics"]
    assert (orders["name"], orders["partition_count"], orders["records"]) == ("orders", 2, 3)
    assert (orders["records_out"], payments["records"]) == (2, 0)
    assert orders["bytes_in"] == orders["bytes_out"] + len(sent.body)
    (found,) = (await get(address(web), "/topics?filter=pay")).json["topics"]
    assert found["name"] == "payments"
    described = (await get(address(web), "/topics/orders")).json
    assert described["partitions"] == [
        {"partition": 0, "start_offset": 0, "next_offset": 2},
        {"partition": 1, "start_offset": 0, "next_offset": 1},
    ]
    missing = await get(address(web), "/topics/parcels")
    assert (missing.status, missing.json["reason"]) == (404, "UNKNOWN_TOPIC")


async def test_every_answer_is_kept_to_this_page_and_nothing_else_is_allowed(web: LocalNode) -> None:
    page = await get(address(web), "/")
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    for path in ("/", "/metrics", "/status", "/readyz"):
        headers = (await get(address(web), path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert headers["x-frame-options"] == "DENY"
        assert "access-control-allow-origin" not in headers
        assert "server" not in headers


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_nothing_can_be_changed(web: LocalNode, method: str) -> None:
    assert (await get(address(web), "/topics", method=method)).status == 405


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:1", 200),
        ("127.0.0.1", 200),
        ("[::1]:80", 200),
        ("n1.example:9652", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example:9652", 421),
    ],
)
async def test_on_loopback_a_page_of_another_site_finds_nothing_under_its_own_name(
    start_node: StartNode, host: str, status: int
) -> None:
    node = await start_node(http__listen=LISTEN, http__advertised="n1.example:9652")
    at = f"127.0.0.1:{_port(node)}"
    assert (await get(at, "/topics", headers={"Host": host})).status == status


def _port(node: LocalNode) -> int:
    web = node.node._parts.web
    assert web is not None
    return int(web._server._acceptor._sockets[0].getsockname()[1])


# Bounds -----------------------------------------------------------------------------------------


async def raw(node: LocalNode, data: bytes) -> bytes:
    """Say something, and return all that comes until the connection is closed, in whatever way."""
    reader, writer = await asyncio.open_connection(*address(node).split(":"))
    came = b""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            writer.write(data)
            while piece := await reader.read(65536):
                came += piece
    except ConnectionError:
        pass
    finally:
        writer.close()
    return came


async def test_a_body_is_refused_and_its_connection_closed(web: LocalNode) -> None:
    said = await raw(web, b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\nabc")
    assert said.startswith(b"HTTP/1.1 413 ")


async def test_a_head_without_end_is_refused(web: LocalNode) -> None:
    said = await raw(web, b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"x" * 20_000)
    assert said.startswith(b"HTTP/1.1 400 ")


async def test_what_is_not_http_is_refused(web: LocalNode) -> None:
    assert (await raw(web, b"\x16\x03\x01 hello\r\n\r\n")).startswith(b"HTTP/1.1 400 ")


async def test_who_does_not_finish_a_head_in_time_is_cut_off(
    web: LocalNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_connection, "REQUEST_S", 0.05)
    assert await raw(web, b"GET / HTTP/1.1\r\nHost: local") == b""
    first = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
    # Nor is a second one waited for on the same connection.
    assert (await raw(web, first + b"GET /live")).count(b"HTTP/1.1 200") == 1


async def test_connections_are_bounded(web: LocalNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_connection, "MAX_CONNECTIONS", 2)
    held = [await asyncio.open_connection(*address(web).split(":")) for _ in range(2)]
    parts = web.node._parts.web
    assert parts is not None
    await until(lambda: len(parts._server._state.connections) == 2)
    assert await raw(web, b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n") == b""
    for _, writer in held:
        writer.close()
    await until(lambda: not parts._server._state.connections)
    assert (await get(address(web), "/livez")).status == 200


# TLS --------------------------------------------------------------------------------------------


@pytest.fixture
def authority(tmp_path: Path) -> TestAuthority:
    return TestAuthority(tmp_path / "certs")


GRANTS = """
[[grant]]
clients = ["reader"]
roles = ["consume"]
topics = ["orders"]

[[grant]]
clients = ["writer"]
roles = ["produce"]
topics = ["orders"]

[[grant]]
clients = ["admin"]
roles = ["admin", "produce", "consume"]
"""


@pytest.fixture
async def guarded(start_node: StartNode, authority: TestAuthority, tmp_path: Path) -> LocalNode:
    """A node with TLS and grants; two topics, a record in each."""
    files = authority.node("n1")
    (tmp_path / "grants.toml").write_text(GRANTS)
    node = await start_node(
        http__listen=LISTEN,
        tls__certificate=str(files.certificate),
        tls__key=str(files.key),
        tls__authority=str(files.authority),
        authorization__grants=str(tmp_path / "grants.toml"),
        tls=authority.client("admin"),
    )
    for name in ("orders", "secrets"):
        await node.create(name)
        await node.produce(batch_of(name, [b"value of %s" % name.encode()]))
    return node


async def asked_as(
    node: LocalNode, authority: TestAuthority, client: str | None, path: str
) -> tuple[Answer, str]:
    tls = context_of(authority.file, authority.client(client) if client is not None else None)
    answer = await get(address(node), path, tls=tls)
    return answer, answer.text


async def test_with_tls_probes_need_no_certificate_and_learn_nothing_of_topics(
    guarded: LocalNode, authority: TestAuthority
) -> None:
    for path in ("/livez", "/readyz", "/version", "/status", "/metrics", "/", "/topics"):
        answer, text = await asked_as(guarded, authority, None, path)
        assert answer.status == 200, path
        assert "orders" not in text, path
        assert "secrets" not in text, path
    for path in ("/topics/orders", "/topics/orders/tail"):
        answer, text = await asked_as(guarded, authority, None, path)
        assert answer.status == 401, path
    assert json.loads((await asked_as(guarded, authority, None, "/topics"))[1])["known"] is False


async def test_plain_text_is_not_spoken_beside_tls(guarded: LocalNode) -> None:
    assert not (await raw(guarded, b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")).startswith(b"HTTP")


@pytest.mark.parametrize("client", ["reader", "writer"])
async def test_a_client_is_shown_the_topics_that_it_is_granted(
    guarded: LocalNode, authority: TestAuthority, client: str
) -> None:
    for path in ("/topics", "/metrics"):
        _, text = await asked_as(guarded, authority, client, path)
        assert "orders" in text, path
        assert "secrets" not in text, path
    answer, _ = await asked_as(guarded, authority, client, "/topics/secrets")
    assert answer.status == 403


async def test_records_are_shown_to_those_who_may_consume(
    guarded: LocalNode, authority: TestAuthority
) -> None:
    def first() -> str:
        with opened(address(guarded), "/topics/orders/tail", tls=tls) as response:
            assert response.status == 200
            _, data, _ = Events(response).next()
            return str(data["records"][0]["value"]["text"])

    tls = context_of(authority.file, authority.client("reader"))
    assert await asyncio.to_thread(first) == "value of orders"
    answer, text = await asked_as(guarded, authority, "writer", "/topics/orders/tail")
    assert (answer.status, answer.json["reason"]) == (403, "PERMISSION_DENIED")
    assert "value of" not in text
    answer, _ = await asked_as(guarded, authority, "reader", "/topics/secrets/tail")
    assert answer.status == 403


async def test_a_node_s_certificate_shows_no_topics(guarded: LocalNode, authority: TestAuthority) -> None:
    context = context_of(authority.file)
    files = authority.node("n1")
    context.load_cert_chain(files.certificate, files.key)
    assert "orders" not in (await get(address(guarded), "/topics", tls=context)).text


async def test_a_certificate_of_another_authority_gets_no_connection(
    guarded: LocalNode, authority: TestAuthority, tmp_path: Path
) -> None:
    stranger = TestAuthority(tmp_path / "strangers").client("reader")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await get(address(guarded), "/livez", tls=context_of(authority.file, stranger))
