"""The client port: what no well-behaved client would do, over real sockets against real processes."""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import pytest
from cryptography import x509

from quorumlog.client import AsyncClient, errors
from quorumlog.client.tls import Tls
from quorumlog.command.main import main
from quorumlog.node.config import TlsConfig
from quorumlog.proto import service_pb2
from quorumlog.proto.batch import MAX_BATCH_BYTES, encode_values
from quorumlog.proto.checksum import crc32c
from tests.abuse.conftest import MIB, TOPIC, Abused
from tests.node.test_access import METHODS
from tests.support import raw_http2
from tests.support.certificates import EXPIRED, NOT_YET, TestAuthority, dialling
from tests.support.local_node import batch_of, header_of
from tests.support.raw_http2 import RawHttp2
from tests.support.waiting import UNIT_S, eventually

TIMEOUT_S = 20 * UNIT_S
PRODUCE = "/quorumlog.v1.Log/Produce"
OK = grpc.StatusCode.OK


@contextmanager
def channel_to(abused: Abused, tls: Tls | None = None, node_id: str | None = None) -> Iterator[grpc.Channel]:
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", 64 * MIB)]
    options.append(("grpc.max_metadata_size", MIB))
    tls = tls or abused.client()
    address = abused.client_address(node_id)
    if tls is None:
        opened = grpc.insecure_channel(address, options=options)
    else:
        opened = grpc.secure_channel(address, tls.credentials(), options=options)
    with opened as channel:
        yield channel


def code_of(channel: grpc.Channel, method: str, request: bytes, metadata: object = None) -> grpc.StatusCode:
    """How a call with these bytes ends."""
    known = METHODS[method]
    make = {
        (False, False): channel.unary_unary,
        (False, True): channel.unary_stream,
        (True, True): channel.stream_stream,
    }[known.client_streaming, known.server_streaming]
    argument = iter([request]) if known.client_streaming else request
    try:
        answer = make(method)(argument, timeout=TIMEOUT_S, metadata=metadata)
        if known.server_streaming:
            next(answer, None)
            answer.cancel()
    except grpc.RpcError as error:
        code: grpc.StatusCode = error.code()
        return code
    return OK


def raw_to(abused: Abused, *, window: int = 65535) -> RawHttp2:
    if abused.authority is None:
        return RawHttp2(abused.client_address(), window=window)
    context = dialling(abused.authority.client("anybody"))
    context.set_alpn_protocols(["h2"])
    return RawHttp2(abused.client_address(), context, window=window)


def test_who_has_no_valid_certificate_of_the_cluster_is_refused(guarded: Abused, tmp_path: Path) -> None:
    """Row 59: none, foreign, expired, not yet valid; and plain text."""
    authority = guarded.authority
    assert authority is not None
    foreign = TestAuthority(tmp_path / "foreign").client("anybody")
    shown = {
        "foreign": Tls(authority.file, foreign.cert, foreign.key),
        "expired": authority.client("late", now=EXPIRED, variant="expired"),
        "not yet valid": authority.client("early", now=NOT_YET, variant="not-yet"),
    }
    status = service_pb2.StatusRequest(local=True).SerializeToString()
    with guarded.unharmed():
        for what, tls in shown.items():
            with channel_to(guarded, tls) as channel:
                code = code_of(channel, "/quorumlog.v1.Cluster/Status", status)
                assert code is grpc.StatusCode.UNAVAILABLE, what
        anonymous = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        anonymous.load_verify_locations(authority.file)
        anonymous.set_alpn_protocols(["h2"])
        with pytest.raises((ssl.SSLError, ConnectionError)):
            read_one(RawHttp2(guarded.client_address(), anonymous))
        with pytest.raises(ConnectionError):
            read_one(RawHttp2(guarded.client_address()))


def read_one(connection: RawHttp2) -> None:
    with connection:
        if connection.read() is None:
            raise ConnectionError("closed")


async def test_roles_hold_from_end_to_end(guarded: Abused) -> None:
    """Row 60: the shipped client says what was denied, by way of a follower too."""
    with guarded.unharmed():
        for node_id in (guarded.leader, guarded.follower):
            address = guarded.client_address(node_id)
            async with AsyncClient(address, route="any", tls=guarded.client("reader", "consume")) as client:
                assert len((await client.describe_topic(TOPIC)).partitions) == 1
                async with client.producer(enable_idempotence=False) as producer:
                    with pytest.raises(errors.PermissionDenied, match="produce is not granted"):
                        await producer.send(TOPIC, b"no")
                with pytest.raises(errors.PermissionDenied, match="admin is not granted"):
                    await client.create_topic("mine")
                with pytest.raises(errors.PermissionDenied):
                    await client.set_sync_policy("os")
    for node_id in (guarded.leader, guarded.follower):
        assert "quorumlog.audit: denied: caller='reader'" in guarded.cluster[node_id].logged()


def test_the_command_speaks_tls_and_says_when_it_is_not_believed(
    guarded: Abused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Row 59: by options and by the environment; health too."""
    tls, address = guarded.client(), guarded.client_address()
    assert tls is not None
    files = ["--ca", str(tls.ca), "--cert", str(tls.cert), "--cert-key", str(tls.key)]
    assert main(["health", "-s", address, *files]) == 0
    assert main(["topic", "ls", "-s", address, *files]) == 0
    assert TOPIC in capsys.readouterr().out
    for option, file in (("CA", tls.ca), ("CERT", tls.cert), ("CERT_KEY", tls.key)):
        monkeypatch.setenv(f"QUORUMLOG_{option}", str(file))
    assert main(["health", "-s", address]) == 0
    foreign = TestAuthority(tmp_path / "foreign").client("anybody")
    assert main(["health", "-s", address, "--cert", str(foreign.cert), "--cert-key", str(foreign.key)]) == 1
    for option in ("CA", "CERT", "CERT_KEY"):
        monkeypatch.delenv(f"QUORUMLOG_{option}")
    assert main(["health", "-s", address]) == 1  # plain text


def test_malformed_requests_of_every_method_are_answered(plain: Abused, dice: random.Random) -> None:
    """Row 64: bytes that are no message, unknown fields, groups nested deeply, invalid UTF-8."""
    noise = [
        b"\xff" * 50,
        b"\x0b" * 10_000,  # groups within groups
        b"\x0a\x7f",  # cut off
        b"\x0a\x02\xff\xfe",  # a name that is no UTF-8
        dice.randbytes(5000),
        b"\xfa\x07\x04" + b"junk",  # an unknown field alone
    ]
    with plain.unharmed(), channel_to(plain) as channel:
        for method in METHODS:
            for raw in noise:
                if method.endswith("TransferLeadership") and raw is noise[-1]:
                    continue  # to the newest follower, and something that this version does not know
                code = code_of(channel, method, raw)
                assert code is not grpc.StatusCode.UNAVAILABLE, (method, raw[:9])
                if not method.startswith("/quorumlog"):
                    continue  # gRPC's own services say UNKNOWN
                assert code is not grpc.StatusCode.UNKNOWN, (method, raw[:9])
                if raw is noise[0]:
                    assert code is grpc.StatusCode.INVALID_ARGUMENT, method


@pytest.mark.parametrize("place", ["leader", "follower"])
def test_names_of_every_kind_stay_names(plain: Abused, place: str) -> None:
    """Row 64: ../, NUL, 10 KiB, nothing; no file outside the data directory, none inside."""
    names = [
        "../../escaped",
        "..",
        ".",
        "",
        "/etc/passwd",
        "a/b",
        "nul\0",
        "x" * 10_240,
        "a\nb",
        "café",
        "a" * 250,
    ]
    directory = plain.cluster[plain.leader].directory.parent
    before = files_in(directory)
    node_id = getattr(plain, place)
    with plain.unharmed(), channel_to(plain, node_id=node_id) as channel:
        for name in names:
            create = service_pb2.CreateTopicRequest(name=name, partitions=1).SerializeToString()
            code = code_of(channel, "/quorumlog.v1.Topics/CreateTopic", create)
            assert code is grpc.StatusCode.INVALID_ARGUMENT, name[:20]
            for method, request in (
                (PRODUCE, service_pb2.ProduceRequest(batches=[batch_of(name)])),
                ("/quorumlog.v1.Log/Fetch", service_pb2.FetchRequest(topic=name)),
                ("/quorumlog.v1.Log/Consume", service_pb2.ConsumeRequest(topic=name)),
                ("/quorumlog.v1.Topics/DeleteTopic", service_pb2.DeleteTopicRequest(name=name)),
            ):
                code = code_of(channel, method, request.SerializeToString())
                assert code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND), (
                    method,
                    name[:20],
                )
        for member in ("../n4", "n4\0", "n" * 10_240):
            add = service_pb2.AddMemberRequest(node_id=member, peer_address="127.0.0.1:1").SerializeToString()
            code = code_of(channel, "/quorumlog.v1.Cluster/AddMember", add)
            assert code is grpc.StatusCode.INVALID_ARGUMENT, member[:20]
    assert files_in(directory) == before


def files_in(directory: Path) -> set[Path]:
    """All but the files of the log, which come and go."""
    return {file for file in directory.rglob("*") if "log" not in file.parts}


def test_what_is_too_large_is_refused_before_it_is_taken(plain: Abused) -> None:
    """Row 64: messages above 20 MiB, metadata above 32 KiB; the connection's other calls go on."""
    with plain.unharmed(256 * MIB), channel_to(plain) as channel:
        for size in (21 * MIB, 60 * MIB):
            request = service_pb2.ProduceRequest(
                batches=[service_pb2.TopicBatch(topic=TOPIC, body=bytes(size))]
            ).SerializeToString()
            assert code_of(channel, PRODUCE, request) is grpc.StatusCode.RESOURCE_EXHAUSTED
        small = service_pb2.FetchRequest(topic=TOPIC).SerializeToString()
        for size in (40_000, 500_000):
            code = code_of(channel, "/quorumlog.v1.Log/Fetch", small, (("x-huge", "h" * size),))
            assert code in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE), size
        assert code_of(channel, "/quorumlog.v1.Log/Fetch", small) is OK


def test_batches_at_their_limits(plain: Abused) -> None:
    """Row 49: at the cap and one beyond, without records, with empty values, around 64 KiB."""
    replica = plain.cluster.replica(plain.follower)

    def outcome(batch: service_pb2.TopicBatch) -> grpc.StatusCode:
        with channel_to(plain, node_id=plain.follower) as channel:
            return code_of(channel, PRODUCE, service_pb2.ProduceRequest(batches=[batch]).SerializeToString())

    def sized(size: int) -> service_pb2.TopicBatch:
        """A batch whose body takes so many bytes, in records of less than a MiB. Servers look no deeper."""
        count = max(1, -(-size // (900 * 1024)))
        header, body = encode_values([bytes(size // count - 100)] * count, timestamp_ms=1)
        body += bytes(size - len(body))
        header.body_size, header.body_crc32c = size, crc32c(body)
        return service_pb2.TopicBatch(topic=TOPIC, header=header, body=body)

    with plain.unharmed(256 * MIB):
        assert outcome(sized(MAX_BATCH_BYTES)) is OK
        assert outcome(sized(MAX_BATCH_BYTES + 1)) is grpc.StatusCode.INVALID_ARGUMENT
        for size in range(64 * 1024 - 64, 64 * 1024 + 65, 16):
            assert outcome(sized(size)) is OK, size
        assert outcome(batch_of(TOPIC, [b""])) is OK
        assert outcome(batch_of(TOPIC, [b"", b"", b"x"])) is OK
        assert outcome(service_pb2.TopicBatch(topic=TOPIC)) is grpc.StatusCode.INVALID_ARGUMENT
        assert outcome(header_of(batch_of(TOPIC), count=2**32 - 1)) is grpc.StatusCode.INVALID_ARGUMENT
        assert outcome(header_of(batch_of(TOPIC), body_size=2**31)) is grpc.StatusCode.INVALID_ARGUMENT
        too_long = header_of(sized(900 * 1024 + 1), count=1, span=1)  # one record of more than a MiB
        too_long.body += bytes(300 * 1024)
        too_long.header.body_size, too_long.header.body_crc32c = len(too_long.body), crc32c(too_long.body)
        assert outcome(too_long) is grpc.StatusCode.INVALID_ARGUMENT
    empty = service_pb2.ProduceRequest()
    with pytest.raises(grpc.RpcError) as caught:
        replica.log.Produce(empty, timeout=TIMEOUT_S)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_storm_of_cancelled_and_expired_calls_leaves_nothing(guarded: Abused) -> None:
    """Row 50: descriptors, calls under way and memory return to what they were."""
    tls = guarded.client()
    assert tls is not None

    async def storm(count: int) -> None:
        channel = grpc.aio.secure_channel(guarded.client_address(guarded.follower), tls.credentials())
        produce = channel.unary_unary(PRODUCE)
        consume = channel.unary_stream("/quorumlog.v1.Log/Consume")
        stream = channel.stream_stream("/quorumlog.v1.Log/ProduceStream")
        fetch = channel.unary_unary("/quorumlog.v1.Log/Fetch")
        wait = service_pb2.FetchRequest(topic=TOPIC, offset=2**62, max_wait_ms=60_000).SerializeToString()
        read = service_pb2.ConsumeRequest(topic=TOPIC).SerializeToString()
        write = service_pb2.ProduceRequest(batches=[batch_of(TOPIC, [bytes(1000)])]).SerializeToString()
        for number in range(count):
            timeout = 0.001 * (number % 7)
            calls = [
                produce(write, timeout=timeout),
                fetch(wait, timeout=timeout),
                consume(read, timeout=1.0),
                stream(timeout=1.0),
            ]
            await calls[3].write(write)
            if number % 2:
                await asyncio.sleep(0)
            for call in calls:
                call.cancel()
        await channel.close()

    with guarded.unharmed(128 * MIB):
        await storm(100)  # what the allocator keeps after a first time is no leak
        descriptors, resident = guarded.descriptors(), guarded.memory(guarded.follower)
        for _ in range(4):
            await storm(100)
        await asyncio.to_thread(guarded.wait_for_descriptors, descriptors + 10)
        grown = guarded.memory(guarded.follower) - resident
        assert grown < 24 * MIB, f"{grown >> 20} MiB after 1,600 calls that nobody waited for"


def test_consumers_who_never_read_cost_a_bounded_amount(plain: Abused) -> None:
    """Row 45: 600 streams and fetches that are never taken; others are served meanwhile."""
    replica = plain.cluster.replica(plain.leader)
    big = batch_of(TOPIC, [bytes(MIB - 100)] * 4)
    for _ in range(8):
        replica.log.Produce(service_pb2.ProduceRequest(batches=[big]), timeout=TIMEOUT_S)
    consume = service_pb2.ConsumeRequest(topic=TOPIC, max_bytes=8 * MIB).SerializeToString()
    fetch = service_pb2.FetchRequest(topic=TOPIC, max_bytes=8 * MIB).SerializeToString()
    with plain.unharmed(256 * MIB), ExitStack() as open_ones:
        for _ in range(6):
            connection = open_ones.enter_context(raw_to(plain, window=0))
            for _ in range(50):
                connection.call("/quorumlog.v1.Log/Consume", consume)
                connection.call("/quorumlog.v1.Log/Fetch", fetch)
        for _ in range(5):
            begun = time.monotonic()
            plain.append()
            assert time.monotonic() - begun < 10 * UNIT_S
        eventually(
            lambda: (
                "does not read its answers: its connection is cut" in plain.cluster[plain.leader].logged()
            ),
            "those who hold most are cut",
        )


def test_a_thousand_idle_and_a_hundred_flapping_connections(guarded: Abused, dice: random.Random) -> None:
    """Row 65."""
    abused = guarded
    host, _, port = abused.client_address().rpartition(":")
    before = abused.descriptors()
    with abused.unharmed(), ExitStack() as open_ones:
        for _ in range(900):
            open_ones.enter_context(socket.create_connection((host, int(port)), timeout=TIMEOUT_S))
        for _ in range(100):
            open_ones.enter_context(raw_to(abused))  # they have said who they are, and are silent
        for _ in range(100):
            with socket.create_connection((host, int(port)), timeout=TIMEOUT_S) as flapping:
                flapping.sendall(dice.randbytes(dice.randrange(1, 100)))
        abused.append()
        abused.wait_for_descriptors(before + 150)  # who has not shaken hands is gone after 5 s
    abused.wait_for_descriptors(before + 10)


def test_http2_without_manners(plain: Abused) -> None:
    """Row 66: rapid reset, a flood of pings, requests that never end, and a window that never opens."""

    def rapid_reset(connection: RawHttp2) -> None:
        for _ in range(2000):
            stream = connection.call("/quorumlog.v1.Log/Fetch", b"")
            connection.send(raw_http2.frame(raw_http2.RST_STREAM, 0, stream, b"\0\0\0\x08"))

    def ping_flood(connection: RawHttp2) -> None:
        for _ in range(5000):
            connection.send(raw_http2.frame(raw_http2.PING, 0, 0, bytes(8)))

    def endless_requests(connection: RawHttp2) -> None:
        for _ in range(1500):  # more than the streams of one connection
            connection.call(PRODUCE, bytes(100), end=False)

    def endless_headers(connection: RawHttp2) -> None:
        block = raw_http2.literal("x", "y" * 10_000)
        connection.send(raw_http2.frame(raw_http2.HEADERS, 0, 1, block))
        for _ in range(500):
            connection.send(raw_http2.frame(9, 0, 1, block))  # CONTINUATION

    with plain.unharmed():
        for attack in (rapid_reset, ping_flood, endless_requests, endless_headers):
            ended_or_not(plain, attack)
            plain.append()


def ended_or_not(abused: Abused, attack: Callable[[RawHttp2], None]) -> None:
    with raw_to(abused) as connection:
        try:
            attack(connection)
        except ConnectionError:
            return  # sent away in the midst of it
        connection.send(raw_http2.frame(raw_http2.PING, 0, 0, bytes(8)))


def test_no_secret_is_said(guarded: Abused) -> None:
    """Row 69: neither in the logs, nor by --print-config, nor to who asks a node."""
    assert guarded.authority is not None
    secrets = [
        line
        for file in guarded.authority.directory.rglob("*.key")
        for line in file.read_text().splitlines()
        if not line.startswith("-----")
    ]
    assert len(secrets) >= 9
    said = "".join(node.logged() for node in guarded.cluster)
    said += "".join(str(guarded.cluster.status(node.node_id)) for node in guarded.cluster)
    for secret in secrets:
        assert secret not in said
    assert "PRIVATE KEY" not in said


async def test_certificates_are_replaced_under_load(guarded: Abused) -> None:
    """Row 61: the nodes', one after the other, then the client's; nothing is dropped."""
    authority = guarded.authority
    assert authority is not None
    client = authority.client("rotating")
    with guarded.unharmed():
        async with (
            AsyncClient(guarded.cluster.bootstrap_servers, tls=client) as connected,
            connected.producer() as producer,
        ):
            for node in guarded.cluster:
                replace(authority.node(node.node_id), authority.node(node.node_id, variant="renewed"))
                for _ in range(20):
                    await producer.send(TOPIC, b"rotating")
            renewed = authority.client("rotating", variant="renewed")
            replace(files_of(client), files_of(renewed))
            for _ in range(20):
                await producer.send(TOPIC, b"rotating")
        for node in guarded.cluster:
            expected = serial_of(authority.node(node.node_id).certificate)
            await asyncio.to_thread(
                eventually,
                lambda node=node, expected=expected: serial_at(node.client_address, authority) == expected,
                "the new certificate is shown",
            )


def files_of(tls: Tls) -> TlsConfig:
    return TlsConfig(Path(tls.cert), Path(tls.key), Path(tls.ca))


def replace(old: TlsConfig, new: TlsConfig) -> None:
    """As an operator does it: one file after the other, so that they do not fit for a moment."""
    new.certificate.replace(old.certificate)
    new.key.replace(old.key)


def serial_at(address: str, authority: TestAuthority) -> int:
    """Of the certificate that a node shows to a new client."""
    host, _, port = address.rpartition(":")
    context = dialling(authority.client("anybody"))
    context.set_alpn_protocols(["h2"])
    with (
        socket.create_connection((host, int(port)), timeout=TIMEOUT_S) as plain,
        context.wrap_socket(plain, server_hostname=host) as tls,
    ):
        return int((tls.getpeercert() or {})["serialNumber"], 16)


def serial_of(file: Path) -> int:
    return x509.load_pem_x509_certificate(file.read_bytes()).serial_number
