"""Members, leadership, and whether a node can be stopped: the leader answers, and refuses with why."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from quorumlog.proto import service_pb2
from quorumlog.raft.errors import MembershipRefused, OutcomeUnknown, TransferFailed
from tests.node.conftest import StartNode
from tests.support.local_node import TIMEOUT_S, LocalNode, error_info

Pair = tuple[LocalNode, LocalNode]


def names_in(response: service_pb2.MembersResponse) -> list[str]:
    return [member.node_id for member in response.members]


async def refusal(call: grpc.aio.UnaryUnaryCall) -> tuple[grpc.StatusCode, str, str]:
    """Code, reason and message of a call that must fail."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), error_info(caught.value).reason, str(caught.value.details())


async def test_members_come_and_go_through_any_node(pair: Pair) -> None:
    leader, follower = pair
    added = await follower.cluster.AddMember(
        service_pb2.AddMemberRequest(node_id="n3", peer_address="n3.example:9651"), timeout=TIMEOUT_S
    )
    assert names_in(added) == ["n1", "n2", "n3"]
    assert added.members[2].peer_address == "n3.example:9651"
    assert added.raft_index == leader.engine.log.last_index
    removed = await follower.cluster.RemoveMember(
        service_pb2.RemoveMemberRequest(node_id="n3"), timeout=TIMEOUT_S
    )
    assert names_in(removed) == ["n1", "n2"]
    status = await follower.cluster.Status(service_pb2.StatusRequest(local=True), timeout=TIMEOUT_S)
    assert [member.node_id for member in status.nodes[0].members] == ["n1", "n2"]


async def test_a_leader_that_is_removed_hands_over_and_the_call_goes_on(pair: Pair) -> None:
    leader, follower = pair
    response = await leader.cluster.RemoveMember(
        service_pb2.RemoveMemberRequest(node_id="n1"), timeout=TIMEOUT_S
    )
    assert names_in(response) == ["n2"]
    assert follower.engine.is_leader


@pytest.mark.parametrize(
    ("failure", "code", "reason"),
    [
        (MembershipRefused("no majority"), grpc.StatusCode.FAILED_PRECONDITION, "MEMBERSHIP_REFUSED"),
        (OutcomeUnknown("it is a learner"), grpc.StatusCode.DEADLINE_EXCEEDED, "OUTCOME_UNKNOWN"),
    ],
)
async def test_a_change_that_is_refused_says_why(
    pair: Pair, failure: Exception, code: grpc.StatusCode, reason: str
) -> None:
    leader, follower = pair
    for call in (
        follower.cluster.AddMember,
        follower.cluster.RemoveMember,
    ):
        leader.engine.failures.append(failure)  # type: ignore[arg-type]
        request = (
            service_pb2.AddMemberRequest(node_id="n3", peer_address="h:1")
            if call is follower.cluster.AddMember
            else service_pb2.RemoveMemberRequest(node_id="n2")
        )
        assert await refusal(call(request, timeout=TIMEOUT_S)) == (code, reason, str(failure))


@pytest.mark.parametrize(
    ("node_id", "address", "problem"),
    [
        ("", "h:1", "node_id"),
        ("a/b", "h:1", "node_id"),
        ("n3", "h", "peer_address"),
        ("n3", "0.0.0.0:9651", "peer_address"),
        ("n3", "h:0", "peer_address"),
        ("n3", "", "peer_address"),
    ],
)
async def test_what_no_configuration_could_hold_is_refused(
    node: LocalNode, node_id: str, address: str, problem: str
) -> None:
    request = service_pb2.AddMemberRequest(node_id=node_id, peer_address=address)
    code, reason, message = await refusal(node.cluster.AddMember(request, timeout=TIMEOUT_S))
    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "BAD_REQUEST")
    assert message.startswith(problem)
    assert list(node.engine.members) == ["n1"]


async def test_leadership_goes_to_the_named_node_or_to_any(pair: Pair) -> None:
    leader, follower = pair
    for target, expected in (("n2", "n2"), ("n2", "n2"), ("", "n1")):
        response = await leader.cluster.TransferLeadership(
            service_pb2.TransferLeadershipRequest(target=target), timeout=TIMEOUT_S
        )
        assert response.leader_id == expected
        assert response.term == leader.engine.term == follower.engine.term


async def test_a_transfer_that_fails_says_why(pair: Pair) -> None:
    leader, follower = pair
    leader.engine.failures.append(TransferFailed("n2 did not catch up in time; this node leads on"))
    request = service_pb2.TransferLeadershipRequest(target="n2")
    assert await refusal(follower.cluster.TransferLeadership(request, timeout=TIMEOUT_S)) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "TRANSFER_FAILED",
        "n2 did not catch up in time; this node leads on",
    )
    assert leader.engine.is_leader


async def test_whether_a_node_can_be_stopped_is_the_leader_s_to_say(pair: Pair) -> None:
    leader, follower = pair
    leader.engine.stop_checks["n2"] = (False, "2 of 3 voters are needed; without n2 1 keep up")
    for node_id, safe in (("n1", True), ("n2", False)):
        answer = await follower.cluster.CheckStop(
            service_pb2.CheckStopRequest(node_id=node_id), timeout=TIMEOUT_S
        )
        assert answer.safe is safe
        assert "voters" in answer.reason


async def test_a_name_that_no_member_has_is_not_taken_for_an_answer(pair: Pair) -> None:
    _, follower = pair
    for call in (
        follower.cluster.CheckStop(service_pb2.CheckStopRequest(node_id="n9"), timeout=TIMEOUT_S),
        follower.cluster.RemoveMember(service_pb2.RemoveMemberRequest(node_id="n9"), timeout=TIMEOUT_S),
        follower.cluster.TransferLeadership(
            service_pb2.TransferLeadershipRequest(target="n9"), timeout=TIMEOUT_S
        ),
    ):
        assert await refusal(call) == (
            grpc.StatusCode.NOT_FOUND,
            "UNKNOWN_NODE",
            "'n9' is no member; members are n1, n2",
        )


async def test_without_a_leader_nothing_is_said(start_node: StartNode) -> None:
    node = await start_node(leads=False, raft__election_timeout_max="500ms")
    request = service_pb2.CheckStopRequest(node_id="n1")
    code, reason, _ = await refusal(node.cluster.CheckStop(request, timeout=TIMEOUT_S))
    assert (code, reason) == (grpc.StatusCode.UNAVAILABLE, "NO_LEADER")


async def test_a_node_says_why_it_does_not_vote(start_node: StartNode) -> None:
    node = await start_node(leads=False)
    assert await node.health_of("voter") == "SERVING"
    node.engine.why_not_voting = "n1 is a learner"
    for listener in node.engine.on_voting:
        listener()
    assert await node.health_of("voter") == "NOT_SERVING"
    assert await node.health_of("") == "SERVING"
    status = await node.cluster.Status(service_pb2.StatusRequest(local=True), timeout=TIMEOUT_S)
    assert status.nodes[0].not_voting == "n1 is a learner"


async def test_a_leader_that_stops_hands_over_first(pair: Pair) -> None:
    leader, follower = pair
    await leader.create("orders")
    stopping = asyncio.ensure_future(leader.stop())
    await stopping
    assert follower.engine.is_leader


async def test_a_leader_without_a_successor_stops_all_the_same(pair: Pair) -> None:
    leader, follower = pair
    leader.engine.failures.append(TransferFailed("no other voter is connected"))
    await leader.stop()
    assert not follower.engine.is_leader
