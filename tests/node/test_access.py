"""Who may call what: every method of every service, by role; forwarding; what is denied has done nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import FileDescriptor
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from quorumlog.client.tls import Tls
from quorumlog.node import grants as grants_module
from quorumlog.node.access import CALLER, Guard
from quorumlog.node.grants import Grants
from quorumlog.node.permissions import PERMISSIONS, Scope
from quorumlog.proto import service_pb2, service_pb2_grpc
from tests.node.conftest import StartNode
from tests.support.certificates import TestAuthority
from tests.support.local_node import TIMEOUT_S, LocalNode, batch_of, until

# Who may call each method. A method that is not here fails the tests, and so does one without a permission.
EVERYBODY = frozenset(("producer", "consumer", "admin", "narrow-admin", "stranger", "node"))
ROLES = EVERYBODY - {"stranger", "node"}
MATRIX = {
    "/quorumlog.v1.Log/Produce": {"producer"},
    "/quorumlog.v1.Log/ProduceStream": {"producer"},
    "/quorumlog.v1.Log/OpenProducer": {"producer"},
    "/quorumlog.v1.Log/Fetch": {"consumer"},
    "/quorumlog.v1.Log/Consume": {"consumer"},
    "/quorumlog.v1.Log/ListOffsets": {"consumer"},
    # The narrow one may for some topics: the service asks.
    "/quorumlog.v1.Topics/CreateTopic": {"admin", "narrow-admin"},
    "/quorumlog.v1.Topics/DeleteTopic": {"admin", "narrow-admin"},
    "/quorumlog.v1.Topics/DescribeTopic": ROLES,
    "/quorumlog.v1.Topics/ListTopics": ROLES,
    "/quorumlog.v1.Cluster/Status": ROLES | {"node"},
    "/quorumlog.v1.Cluster/SetSyncPolicy": {"admin"},
    "/quorumlog.v1.Cluster/AddMember": {"admin"},
    "/quorumlog.v1.Cluster/RemoveMember": {"admin"},
    "/quorumlog.v1.Cluster/TransferLeadership": {"admin"},
    "/quorumlog.v1.Cluster/CheckStop": {"admin"},
    "/quorumlog.v1.Cluster/SumSegments": {"admin"},
    "/grpc.health.v1.Health/Check": EVERYBODY,
    "/grpc.health.v1.Health/Watch": EVERYBODY,
    "/grpc.health.v1.Health/List": EVERYBODY,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": ROLES,
}

TABLE = """
[[grant]]
clients = ["producer"]
roles = ["produce"]
[[grant]]
clients = ["consumer"]
roles = ["consume"]
[[grant]]
clients = ["admin"]
roles = ["admin"]
[[grant]]
clients = ["narrow-admin"]
roles = ["admin"]
topics = ["own-*"]
"""


def methods(file: FileDescriptor) -> Iterator[tuple[str, Any]]:
    for service in file.services_by_name.values():
        for method in service.methods:
            yield f"/{service.full_name}/{method.name}", method


METHODS = {
    name: method
    for file in (service_pb2.DESCRIPTOR, health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR)
    for name, method in methods(file)
}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> TestAuthority:
    return TestAuthority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def table(tmp_path: Path) -> Path:
    file = tmp_path / "grants.toml"
    file.write_text(TABLE)
    return file


def shown_by(authority: TestAuthority, who: str) -> Tls:
    if who != "node":
        return authority.client(who)
    node = authority.node("n1")
    return Tls(node.authority, node.certificate, node.key)


class EveryMethod:
    """A server with all methods there are, also those that no service has yet; each only says that it ran."""

    def __init__(self, authority: TestAuthority, grants: Grants, members: set[str]) -> None:
        self.ran: list[str] = []
        self.guard = Guard("test", grants, members.__contains__)
        self._server = grpc.aio.server(interceptors=[self.guard], options=[("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers([self])
        credentials = authority.certificates("n1").server_credentials()
        self.address = f"127.0.0.1:{self._server.add_secure_port('127.0.0.1:0', credentials)}"
        self._channels: dict[str, grpc.aio.Channel] = {}

    async def start(self) -> None:
        await self._server.start()

    async def stop(self) -> None:
        for channel in self._channels.values():
            await channel.close()
        await self._server.stop(None)

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        method = METHODS.get(details.method)
        if method is None:
            return None

        async def once(_: object, __: object) -> bytes:
            self.ran.append(details.method)
            return b""

        async def generator(_: object, __: object) -> AsyncIterator[bytes]:
            self.ran.append(details.method)
            yield b""

        if method.client_streaming:
            return grpc.stream_stream_rpc_method_handler(generator)
        if method.server_streaming:
            return grpc.unary_stream_rpc_method_handler(generator)
        return grpc.unary_unary_rpc_method_handler(once)

    async def call(
        self, tls: Tls, method: str, metadata: tuple[tuple[str, bytes], ...] = ()
    ) -> grpc.StatusCode:
        """Call as this client; return how it ended."""
        key = f"{tls.cert}"
        if key not in self._channels:
            self._channels[key] = grpc.aio.secure_channel(self.address, tls.credentials())
        channel = self._channels[key]
        known = METHODS.get(method)
        try:
            if known is not None and known.client_streaming:
                stream = channel.stream_stream(method)(timeout=TIMEOUT_S, metadata=metadata)
                await stream.done_writing()
                await stream.read()
                return await stream.code()
            if known is not None and known.server_streaming:
                answers = channel.unary_stream(method)(b"", timeout=TIMEOUT_S, metadata=metadata)
                await answers.read()
                return await answers.code()
            await channel.unary_unary(method)(b"", timeout=TIMEOUT_S, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            return error.code()
        return grpc.StatusCode.OK


@pytest.fixture
async def everything(authority: TestAuthority, table: Path) -> AsyncIterator[EveryMethod]:
    server = EveryMethod(authority, Grants(table), {"n1", "n2"})
    await server.start()
    yield server
    await server.stop()


def test_every_method_has_a_permission_and_a_line_in_the_matrix() -> None:
    """Row 60: a method that is added needs both."""
    newer = {"/grpc.health.v1.Health/List"}  # some versions of the library have it
    assert set(METHODS) | newer == set(PERMISSIONS) == set(MATRIX)


@pytest.mark.parametrize("who", sorted(EVERYBODY))
async def test_each_role_may_call_what_the_matrix_says(
    everything: EveryMethod, authority: TestAuthority, who: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Row 60: and nothing else runs; a denial is a line in the audit log."""
    for method in METHODS:
        allowed = MATRIX[method]
        everything.ran.clear()
        caplog.clear()
        code = await everything.call(shown_by(authority, who), method)
        expected = grpc.StatusCode.OK if who in allowed else grpc.StatusCode.PERMISSION_DENIED
        assert code is expected, (who, method)
        assert everything.ran == ([method] if who in allowed else [])
        audited = [record for record in caplog.records if record.name == "quorumlog.audit"]
        assert len(audited) == (who not in allowed)
        for record in audited:
            assert method in record.getMessage()
            assert ("node n1" if who == "node" else who) in record.getMessage()


async def test_a_method_without_a_permission_is_denied_and_one_that_is_not_there_unimplemented(
    everything: EveryMethod, authority: TestAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 60: forgetting the table closes a method, it does not open it."""
    monkeypatch.delitem(PERMISSIONS, "/quorumlog.v1.Cluster/AddMember")
    admin = authority.client("admin")
    code = await everything.call(admin, "/quorumlog.v1.Cluster/AddMember")
    assert code is grpc.StatusCode.PERMISSION_DENIED
    assert await everything.call(admin, "/no/such") is grpc.StatusCode.UNIMPLEMENTED
    assert "/no/such" not in everything.guard._guarded


async def test_only_a_member_speaks_for_others(everything: EveryMethod, authority: TestAuthority) -> None:
    """Row 60: and the leader judges whom it speaks for."""
    produce = "/quorumlog.v1.Log/Produce"
    node, stranger = shown_by(authority, "node"), authority.client("stranger")
    assert await everything.call(node, produce, ((CALLER, b"producer"),)) is grpc.StatusCode.OK
    for caller in (b"consumer", b"stranger", b"node n1"):
        code = await everything.call(node, produce, ((CALLER, caller),))
        assert code is grpc.StatusCode.PERMISSION_DENIED, caller
    for caller in (b"\xff", b"x" * 5000):
        code = await everything.call(node, produce, ((CALLER, caller),))
        assert code is grpc.StatusCode.INVALID_ARGUMENT, caller[:9]
    for client in (stranger, authority.client("producer")):
        code = await everything.call(client, produce, ((CALLER, b"producer"),))
        assert code is grpc.StatusCode.PERMISSION_DENIED
    removed = authority.node("n9")  # its certificate is good, but it takes part no longer
    tls = Tls(removed.authority, removed.certificate, removed.key)
    code = await everything.call(tls, produce, ((CALLER, b"producer"),))
    assert code is grpc.StatusCode.PERMISSION_DENIED
    assert everything.ran == [produce]


async def test_a_certificate_that_speaks_for_nobody_is_unauthenticated(
    everything: EveryMethod, authority: TestAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 59."""
    monkeypatch.setattr(everything.guard, "_cluster", "another")
    for method in ("/quorumlog.v1.Cluster/Status", "/grpc.health.v1.Health/Check"):
        code = await everything.call(authority.client("admin"), method)
        assert code is grpc.StatusCode.UNAUTHENTICATED
    assert not everything.ran


async def test_a_certificate_that_expires_while_connected_ends_with_its_validity(
    everything: EveryMethod, authority: TestAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 59: TLS itself looks only once."""
    admin, status = authority.client("admin"), "/quorumlog.v1.Cluster/Status"
    assert await everything.call(admin, status) is grpc.StatusCode.OK
    now_s = time.time()
    monkeypatch.setattr("quorumlog.node.access.time.time", lambda: now_s + 366 * 86400)
    assert await everything.call(admin, status) is grpc.StatusCode.UNAUTHENTICATED


async def test_without_a_table_certificates_say_what_they_may(authority: TestAuthority) -> None:
    """Row 60: and one that says nothing may do everything, as the documentation warns."""
    server = EveryMethod(authority, Grants(None), {"n1"})
    await server.start()
    try:
        reader = authority.client("reader", ["consume"])
        fetch, produce = "/quorumlog.v1.Log/Fetch", "/quorumlog.v1.Log/Produce"
        assert await server.call(reader, fetch) is grpc.StatusCode.OK
        assert await server.call(reader, produce) is grpc.StatusCode.PERMISSION_DENIED
        node = shown_by(authority, "node")
        forwarded = ((CALLER, b"reader\nconsume"),)
        assert await server.call(node, produce, forwarded) is grpc.StatusCode.PERMISSION_DENIED
        assert await server.call(node, fetch, forwarded) is grpc.StatusCode.OK
        for method in METHODS:
            assert await server.call(authority.client("anybody"), method) is grpc.StatusCode.OK
    finally:
        await server.stop()


# Real nodes.


def tls_settings(authority: TestAuthority, node_id: str, **more: str) -> dict[str, str]:
    files = authority.node(node_id)
    return {
        "tls__certificate": str(files.certificate),
        "tls__key": str(files.key),
        "tls__authority": str(files.authority),
        **more,
    }


TOPICS = """
[[grant]]
clients = ["admin"]
roles = ["admin", "produce", "consume"]
[[grant]]
clients = ["shop"]
roles = ["produce"]
topics = ["orders", "own-*"]
[[grant]]
clients = ["shop"]
roles = ["consume", "admin"]
topics = ["own-*"]
"""


@pytest.fixture
async def guarded(
    start_node: StartNode, authority: TestAuthority, tmp_path: Path
) -> tuple[LocalNode, LocalNode]:
    """A leader and a follower that ask for grants; their stubs show the administrator."""
    file = tmp_path / "grants.toml"
    file.write_text(TOPICS)
    admin = authority.client("admin")
    nodes = []
    for node_id in ("n1", "n2"):
        settings = tls_settings(authority, node_id, authorization__grants=str(file))
        nodes.append(await start_node(node_id, leads=node_id == "n1", tls=admin, **settings))
    leader, follower = nodes
    follower.follow(leader)
    for topic in ("orders", "own-a", "secret"):
        await leader.create(topic)
        await leader.produce(batch_of(topic))
    return leader, follower


class Shop:
    """The client called shop at one node."""

    def __init__(self, node: LocalNode, authority: TestAuthority) -> None:
        channel = node.channel_as(authority.client("shop"))
        self.log = service_pb2_grpc.LogStub(channel)
        self.topics = service_pb2_grpc.TopicsStub(channel)
        self.cluster = service_pb2_grpc.ClusterStub(channel)

    def calls(self, topic: str) -> dict[str, Callable[[], Any]]:
        """Each method that names a topic, called with this one."""
        pb = service_pb2
        query = pb.OffsetQuery(latest=True)
        return {
            "Produce": lambda: self.log.Produce(
                pb.ProduceRequest(batches=[batch_of(topic)]), timeout=TIMEOUT_S
            ),
            "Fetch": lambda: self.log.Fetch(pb.FetchRequest(topic=topic), timeout=TIMEOUT_S),
            "Consume": lambda: self.log.Consume(pb.ConsumeRequest(topic=topic), timeout=TIMEOUT_S).read(),
            "ListOffsets": lambda: self.log.ListOffsets(
                pb.ListOffsetsRequest(topic=topic, queries=[query]), timeout=TIMEOUT_S
            ),
            "DescribeTopic": lambda: self.topics.DescribeTopic(
                pb.DescribeTopicRequest(name=topic), timeout=TIMEOUT_S
            ),
            "CreateTopic": lambda: self.topics.CreateTopic(
                pb.CreateTopicRequest(name=topic + "2", partitions=1), timeout=TIMEOUT_S
            ),
            "DeleteTopic": lambda: self.topics.DeleteTopic(
                pb.DeleteTopicRequest(name=topic), timeout=TIMEOUT_S
            ),
        }

    async def denied_on(self, topic: str) -> set[str]:
        """Which of them are denied; the others must succeed."""
        denied = set()
        for name, call in self.calls(topic).items():
            try:
                await call()
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.PERMISSION_DENIED:
                    raise
                denied.add(name)
        return denied


@pytest.mark.parametrize("place", [0, 1])
async def test_grants_end_at_their_topics_wherever_the_call_arrives(
    guarded: tuple[LocalNode, LocalNode], authority: TestAuthority, place: int
) -> None:
    """Row 60: every method that names a topic, at the leader and forwarded by a follower."""
    shop = Shop(guarded[place], authority)
    before = guarded[0].engine.applied_index
    all_of_them = {
        name.rpartition("/")[2]
        for name, permission in PERMISSIONS.items()
        if permission.scope is Scope.TOPIC and "Stream" not in name
    }
    assert await shop.denied_on("secret") == all_of_them
    assert await shop.denied_on("no-such-topic") == all_of_them, "nobody learns which topics there are"
    assert await shop.denied_on("../secret") == all_of_them
    assert guarded[0].engine.applied_index == before, "what is denied has written nothing"
    assert await shop.denied_on("orders") == all_of_them - {"Produce", "DescribeTopic"}
    assert await shop.denied_on("own-a") == set()


async def test_a_list_shows_only_what_is_granted(
    guarded: tuple[LocalNode, LocalNode], authority: TestAuthority
) -> None:
    shop = Shop(guarded[0], authority)
    listed = await shop.topics.ListTopics(service_pb2.ListTopicsRequest(), timeout=TIMEOUT_S)
    assert [topic.name for topic in listed.topics] == ["orders", "own-a"]


async def test_a_grant_for_some_topics_is_none_for_the_cluster(
    guarded: tuple[LocalNode, LocalNode], authority: TestAuthority
) -> None:
    """Row 60."""
    request = service_pb2.SetSyncPolicyRequest(policy="SYNC_OS")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await Shop(guarded[0], authority).cluster.SetSyncPolicy(request, timeout=TIMEOUT_S)
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize("place", [0, 1])
async def test_on_a_stream_each_batch_is_judged_for_itself(
    guarded: tuple[LocalNode, LocalNode], authority: TestAuthority, place: int
) -> None:
    """Row 60."""
    stream = Shop(guarded[place], authority).log.ProduceStream(timeout=TIMEOUT_S)
    request = service_pb2.ProduceRequest(batches=[batch_of("orders"), batch_of("secret")])
    await stream.write(request)
    done, denied = (await stream.read()).results
    assert (done.base_offset, done.failure.reason) == (1, "")
    assert denied.failure.reason == "PERMISSION_DENIED"
    await stream.done_writing()
    assert (await guarded[0].fetch("secret", 0)).high_watermark == 1


async def test_a_role_that_is_taken_away_ends_the_streams_it_opened(
    guarded: tuple[LocalNode, LocalNode],
    authority: TestAuthority,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Row 59: revoked."""
    monkeypatch.setattr(grants_module, "_LOOK_AGAIN_S", 0.0)
    leader, _ = guarded
    shop = Shop(leader, authority)
    consumer = shop.log.Consume(service_pb2.ConsumeRequest(topic="own-a"), timeout=TIMEOUT_S)
    assert len((await consumer.read()).batches) == 1
    producer = shop.log.ProduceStream(timeout=TIMEOUT_S)
    await producer.write(service_pb2.ProduceRequest(batches=[batch_of("orders")]))
    assert not (await producer.read()).results[0].failure.reason
    file = tmp_path / "grants.toml"
    (tmp_path / "new.toml").write_text(TOPICS.replace('"shop"', '"somebody-else"'))
    (tmp_path / "new.toml").replace(file)
    await producer.write(service_pb2.ProduceRequest(batches=[batch_of("orders")]))
    assert (await producer.read()).results[0].failure.reason == "PERMISSION_DENIED"
    await leader.produce(batch_of("own-a"))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await consumer.read()
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    file.write_text("[[grant]]\nnonsense = 1\n")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await shop.log.Fetch(service_pb2.FetchRequest(topic="own-a"), timeout=TIMEOUT_S)
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED, "a broken table opens nothing"
    producer.cancel()


async def test_of_two_who_follow_a_topic_only_the_one_who_still_may_gets_what_comes(
    guarded: tuple[LocalNode, LocalNode],
    authority: TestAuthority,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Row 59: what is made for one reader is given to another only after its own grant was looked at."""
    monkeypatch.setattr(grants_module, "_LOOK_AGAIN_S", 0.0)
    leader, _ = guarded
    table = TOPICS + '[[grant]]\nclients = ["warehouse"]\nroles = ["consume"]\n'
    write_table(tmp_path, table)
    warehouse = service_pb2_grpc.LogStub(leader.channel_as(authority.client("warehouse")))
    request = service_pb2.ConsumeRequest(topic="own-a")
    streams = [
        log.Consume(request, timeout=TIMEOUT_S) for log in (warehouse, Shop(leader, authority).log, warehouse)
    ]
    for stream in streams:
        assert len((await stream.read()).batches) == 1
    write_table(tmp_path, table.replace('"shop"', '"somebody-else"'))
    result = await leader.produce(batch_of("own-a"))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await streams[1].read()
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    for stream in (streams[0], streams[2]):
        (batch,) = (await stream.read()).batches
        assert batch.base_offset == result.base_offset
        stream.cancel()


def write_table(directory: Path, text: str) -> None:
    """Replace the table of grants, at once."""
    new = directory / "new.toml"
    new.write_text(text)
    new.replace(directory / "grants.toml")


async def test_nodes_ask_each_other_for_their_status_over_tls(guarded: tuple[LocalNode, LocalNode]) -> None:
    leader, follower = guarded
    assert await leader.health_of("leader") == "SERVING"
    await until(lambda: follower.engine.applied_index == leader.engine.applied_index)
    channel = follower.node._parts.channels.to(leader.address)
    request = service_pb2.StatusRequest(local=True)
    answer = await channel.unary_unary("/quorumlog.v1.Cluster/Status")(
        request.SerializeToString(), timeout=TIMEOUT_S
    )
    assert service_pb2.StatusResponse.FromString(answer).nodes[0].node_id == "n1"


async def test_channels_between_nodes_are_renewed_with_the_certificate(
    guarded: tuple[LocalNode, LocalNode], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 61: calls under way go on over the old one."""
    channels = guarded[1].node._parts.channels
    address = guarded[0].address
    old = channels.to(address)
    assert channels.to(address) is old
    stream = old.stream_stream("/quorumlog.v1.Log/ProduceStream")(metadata=((CALLER, b"shop"),))
    request = service_pb2.ProduceRequest(batches=[batch_of("orders")])
    await stream.write(request.SerializeToString())
    assert await stream.read()
    generation, credentials = channels._credentials()  # type: ignore[misc]
    monkeypatch.setattr(channels, "_credentials", lambda: (generation + 1, credentials))
    assert channels.to(address) is not old
    await stream.write(request.SerializeToString())
    assert await stream.read()
    await asyncio.sleep(0)
    stream.cancel()
