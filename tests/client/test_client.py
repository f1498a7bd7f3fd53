"""AsyncClient: connecting, topics, offsets, status; each error as what a caller can do."""

from __future__ import annotations

import asyncio
import datetime as dt
import pickle
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import pytest

import quorumlog.client
from quorumlog.client import AsyncClient, errors
from quorumlog.client.describe import StopCheck
from quorumlog.command.local_nodes import free_ports
from quorumlog.proto import service_pb2
from tests.support.fake_node import FakeCluster, Refused


async def test_connecting_fails_in_time_with_every_endpoint_and_its_cause() -> None:
    (closed,) = free_ports(1)
    with silent_port() as silent:
        servers = [f"127.0.0.1:{closed}", f"127.0.0.1:{silent}", "no-such-host.invalid:1"]
        with pytest.raises(errors.ConnectionFailed) as failed:
            async with asyncio.timeout(10):
                await AsyncClient(servers, connect_timeout_ms=1500, attempt_timeout_ms=300).connect()
    causes = {attempt.address: attempt.cause for attempt in failed.value.attempts}
    assert set(causes) == set(servers)
    assert causes[servers[0]] == "connection refused"
    assert causes[servers[2]] == "the name does not resolve"
    for server in servers:
        assert server in str(failed.value)


async def test_one_node_that_answers_is_enough_and_the_others_are_found(cluster: FakeCluster) -> None:
    (closed,) = free_ports(1)
    async with AsyncClient([f"127.0.0.1:{closed}", cluster.nodes["n2"].address]) as client:
        assert (await client.status()).leader_id == "n1"
        discovery = client._connection._discovery
        assert discovery is not None
        await discovery
        assert client._connection.endpoints.address_of("n3") == cluster.nodes["n3"].address


async def test_topics_come_and_go(cluster: FakeCluster) -> None:
    async with AsyncClient(cluster.nodes["n2"].address) as client:
        created = await client.create_topic("new", partitions=2)
        assert [partition.partition for partition in created.partitions] == [0, 1]
        assert created.created.tzinfo is dt.UTC
        with pytest.raises(errors.TopicExists):
            await client.create_topic("new")
        assert (await client.ensure_topic("new", 7)).partitions == created.partitions
        assert [topic.name for topic in await client.list_topics()] == ["new", "one", "t"]
        await client.delete_topic("new")
        with pytest.raises(errors.UnknownTopic):
            await client.describe_topic("new")
        assert client.session_token == cluster.raft_index


async def test_that_there_is_no_topic_is_confirmed_before_it_is_believed(cluster: FakeCluster) -> None:
    """Row 25: after a restart of all, a node answers from a state that it has not replayed to its end."""
    node = cluster.nodes["n1"]
    node.replays = True
    async with AsyncClient(node.address) as client:
        assert await client._connection.partitions("t") == 3
        assert client._connection.session == cluster.raft_index
        with pytest.raises(errors.UnknownTopic):
            await client._connection.partitions("no such topic")
    asked = [consistency for consistency, _ in node.consistencies]
    assert asked == [0, 2, 0, 2]


async def test_offsets_of_all_partitions(cluster: FakeCluster) -> None:
    async with AsyncClient(cluster.nodes["n1"].address) as client, client.producer() as producer:
        await producer.send("t", b"1", partition=1)
        assert await client.beginning_offsets("t") == {0: 0, 1: 0, 2: 0}
        assert await client.end_offsets("t") == {0: 0, 1: 1, 2: 0}
        assert set(await client.offsets_for_time("t", dt.datetime.now(dt.UTC))) == {0, 1, 2}


async def test_a_write_waits_for_a_leader_and_says_that_there_was_none(cluster: FakeCluster) -> None:
    async with AsyncClient(cluster.nodes["n2"].address, request_timeout_ms=300) as client:
        cluster.leader = None
        with pytest.raises(errors.NoLeader) as failed:
            await client.create_topic("new")
        assert failed.value.retriable
        assert not failed.value.outcome_unknown
        cluster.leader = "n3"
        await client.create_topic("new")


async def test_the_sync_policy_is_one_of_three(cluster: FakeCluster) -> None:
    async with AsyncClient(cluster.nodes["n1"].address) as client:
        await client.set_sync_policy("interval")
        with pytest.raises(errors.UnknownOption, match="always, interval, os"):
            await client.set_sync_policy("never")  # type: ignore[arg-type]


UNKNOWN = Refused("OUTCOME_UNKNOWN", grpc.StatusCode.DEADLINE_EXCEEDED)


async def test_members_come_and_go_and_leadership_moves(cluster: FakeCluster) -> None:
    async with AsyncClient(cluster.nodes["n2"].address) as client:
        assert [member.node_id for member in await client.members()] == ["n1", "n2", "n3"]
        added = await client.add_member("n4", "n4:9651")
        assert [(member.node_id, member.peer_address) for member in added][3] == ("n4", "n4:9651")
        assert client.session_token == cluster.raft_index
        assert [member.node_id for member in await client.remove_member("n4")] == ["n1", "n2", "n3"]
        with pytest.raises(errors.UnknownNode):
            await client.remove_member("n4")
        assert await client.check_stop("n1") == StopCheck("n1", True, "2 of 3 keep up")
        assert not (await client.check_stop("n3")).safe
        assert await client.transfer_leadership("n3") == "n3"
        assert await client.transfer_leadership() == "n2"


async def test_adding_waits_on_and_says_at_last_that_it_goes_on(cluster: FakeCluster) -> None:
    async with AsyncClient(cluster.nodes["n1"].address) as client:
        cluster.nodes["n1"].change_faults.extend([UNKNOWN, UNKNOWN])
        assert len(await client.add_member("n4", "n4:9651")) == 4
        cluster.nodes["n1"].change_faults.extend([UNKNOWN] * 100)
        with pytest.raises(errors.OutcomeUnknown) as failed:
            await client.add_member("n5", "n5:9651", timeout_ms=200)
        assert "as soon as it runs and has caught up" in failed.value.hint


async def test_a_removal_whose_answer_was_lost_is_done(cluster: FakeCluster) -> None:
    async with AsyncClient(cluster.nodes["n1"].address) as client:
        cluster.nodes["n1"].change_faults.append(UNKNOWN)
        cluster.nodes["n1"].change_is_done = True
        assert [member.node_id for member in await client.remove_member("n3")] == ["n1", "n2"]


@pytest.mark.parametrize(
    ("reason", "kind"),
    [("MEMBERSHIP_REFUSED", errors.MembershipRefused), ("TRANSFER_FAILED", errors.TransferFailed)],
)
async def test_what_is_refused_is_not_tried_again(
    cluster: FakeCluster, reason: str, kind: type[errors.QuorumlogError]
) -> None:
    async with AsyncClient(cluster.nodes["n1"].address) as client:
        for call in (lambda: client.remove_member("n3"), lambda: client.transfer_leadership("n3")):
            cluster.nodes["n1"].change_faults.append(Refused(reason, grpc.StatusCode.FAILED_PRECONDITION))
            with pytest.raises(kind) as failed:
                await call()
            assert "quorumlog cluster members" in failed.value.hint
        assert (cluster.leader, len(cluster.members)) == ("n1", 3)


async def test_answers_are_as_fresh_as_is_asked(cluster: FakeCluster) -> None:
    async with AsyncClient(cluster.nodes["n1"].address) as client:
        cluster.nodes["n1"].replays = True
        with pytest.raises(errors.UnknownTopic):
            await client.describe_topic("one")
        assert (await client.describe_topic("one", consistency="linearizable")).name == "one"
        with pytest.raises(errors.UnknownOption, match="committed, session, linearizable"):
            await client.end_offsets("one", consistency="strong")  # type: ignore[arg-type]
        await client.end_offsets("one", consistency="linearizable")
        assert cluster.nodes["n1"].consistencies[-1][0] == service_pb2.CONSISTENCY_LINEARIZABLE


async def test_a_closed_client_says_so(cluster: FakeCluster) -> None:
    client = AsyncClient(cluster.nodes["n1"].address)
    async with client:
        producer, consumer = client.producer(), client.consumer("one")
    with pytest.raises(errors.ClientClosed):
        await client.list_topics()
    with pytest.raises(errors.ClientClosed):
        await producer.send("one", b"1")
    with pytest.raises(errors.ClientClosed):
        await consumer.getone()


@pytest.mark.parametrize("cls", [*errors.BY_REASON.values(), errors.DeliveryTimeout])
def test_errors_survive_pickling(cls: type[errors.QuorumlogError]) -> None:
    error = cls("what", attempts=[errors.Attempt("a:1", "why")])
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.hint) == (cls, "what (tried a:1: why)", error.hint)


def test_everything_that_is_exported_is_there() -> None:
    for name in quorumlog.client.__all__:
        assert getattr(quorumlog.client, name) is not None
    missing = {cls.__name__ for cls in errors.BY_REASON.values()} - set(quorumlog.client.__all__)
    assert not missing
    with pytest.raises(AttributeError):
        quorumlog.client.Clint  # type: ignore[attr-defined]  # noqa: B018


@contextmanager
def silent_port() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening.getsockname()[1]
