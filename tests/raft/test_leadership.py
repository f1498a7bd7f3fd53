"""Elections that disturb nobody, leadership that is handed over, and reads that are confirmed."""

from __future__ import annotations

import pytest

from quorumlog.proto.peer_pb2 import PeerMessage, RequestVote, TimeoutNow
from quorumlog.raft.errors import NotConfirmed, NotLeader, RaftError, TransferFailed
from quorumlog.raft.proposal import Committed
from quorumlog.raft.reads import ReadOutcome
from quorumlog.raft.replica import Replica
from quorumlog.raft.transfer import TransferOutcome
from tests.simulation.script import Cluster, Node


def up(node: Node) -> Replica:
    assert node.replica is not None
    return node.replica


@pytest.fixture
def cluster() -> Cluster:
    cluster = Cluster(3, seed=1)
    cluster.start()
    return cluster


def settled(cluster: Cluster) -> Node:
    cluster.run_until(lambda: cluster.leader is not None and cluster.converged())
    cluster.run(1.0)
    leader = cluster.leader
    assert leader is not None
    return leader


def others(cluster: Cluster, *nodes: Node) -> list[Node]:
    return [node for node in cluster.nodes.values() if node not in nodes]


def commit(cluster: Cluster, leader: Node, count: int = 1) -> int:
    for _ in range(count):
        outcomes = cluster.propose(leader)
        cluster.run_until(lambda: bool(outcomes))  # noqa: B023
        assert isinstance(outcomes[0], Committed), outcomes
    return outcomes[0].index


class TestPreVote:
    def test_a_node_that_was_cut_off_comes_back_in_the_term_it_left(self, cluster: Cluster) -> None:
        """Rows 31 and 33, hazard 12."""
        leader = settled(cluster)
        term = up(leader).core.term
        away = others(cluster, leader)[0]
        cluster.isolate(away.name)
        cluster.run(30.0)
        assert up(away).core.term == term
        assert up(away).leadership.leader_id is None, "it sends callers to whom it has not heard for long"
        cluster.heal()
        cluster.run(3.0)
        assert cluster.leader is leader
        assert up(leader).core.term == term
        assert up(away).leadership.leader_id == leader.name

    def test_one_sided_links_do_not_change_the_leader(self, cluster: Cluster) -> None:
        """Row 31: a follower that hears nobody asks for ever, and is told no."""
        leader = settled(cluster)
        deaf = others(cluster, leader)[0]
        term = up(leader).core.term
        for other in others(cluster, deaf):
            cluster.blocked.add((other.name, deaf.name))
        cluster.run(20.0)
        assert (cluster.leader, up(leader).core.term) == (leader, term)
        commit(cluster, leader)

    def test_a_leader_that_nobody_hears_is_replaced(self, cluster: Cluster) -> None:
        """Row 31, the other direction: it hears all, and steps down since nothing is answered."""
        leader = settled(cluster)
        for other in others(cluster, leader):
            cluster.blocked.add((leader.name, other.name))
        cluster.run_until(lambda: cluster.leader is not None and cluster.leader is not leader, seconds=10.0)
        commit(cluster, cluster.await_leader())

    def test_a_higher_term_does_not_lock_two_of_three_out(self, cluster: Cluster) -> None:
        """Hazard 12: the node with the higher term has the older log; its refusal must carry its term."""
        leader = settled(cluster)
        ahead, behind = others(cluster, leader)
        cluster.isolate(behind.name)
        commit(cluster, leader, 3)
        up(behind).core.adopt_term(up(leader).core.term + 5, leader.name)
        leader.kill()
        cluster.heal()
        cluster.run_until(lambda: cluster.leader is ahead, seconds=10.0)
        commit(cluster, ahead)

    def test_of_two_that_ask_at_once_one_makes_room(self) -> None:
        """A split vote costs an election timeout; nodes whose deadlines pass together must not split."""
        elections = 0
        for seed in range(40):
            cluster = Cluster(3, seed=seed)
            cluster.start()
            leader = settled(cluster)
            first, second = others(cluster, leader)
            term = up(leader).core.term
            leader.kill()
            cluster.run(0.3)
            for node in (first, second):
                up(node).core.hasten_election(0.0, 0.0)
            cluster.run_until(lambda: cluster.leader is not None, seconds=10.0)  # noqa: B023
            new = cluster.await_leader()
            elections += up(new).core.term - term
        assert elections == 40, "one election each"

    def test_a_request_without_need_is_ignored_while_the_leader_is_heard(self, cluster: Cluster) -> None:
        leader = settled(cluster)
        node, other = others(cluster, leader)
        last = up(other).journal[-1]
        term = up(node).core.term
        request = RequestVote(last_log_index=last[1], last_log_term=last[2])
        message = PeerMessage(term=term + 1, request_vote=request)
        up(node).receive(other.name, cluster.session(node.name, other.name), message, None)
        assert up(node).core.term == term
        request.transfer = True
        message = PeerMessage(term=term + 1, request_vote=request)
        up(node).receive(other.name, cluster.session(node.name, other.name), message, None)
        assert up(node).core.term == term + 1


class TestTransfer:
    def ask(self, leader: Node, target: str | None = None, timeout_s: float = 5.0) -> list[TransferOutcome]:
        outcomes: list[TransferOutcome] = []
        up(leader).transfer(target, timeout_s, outcomes.append)
        return outcomes

    def test_the_target_leads_and_nothing_is_lost(self, cluster: Cluster) -> None:
        """Row 55."""
        leader = settled(cluster)
        for number in range(10):
            target = others(cluster, leader)[number % 2]
            term = up(leader).core.term
            pending = [cluster.propose(leader) for _ in range(5)]
            outcomes = self.ask(leader, target.name)
            began = cluster.events.now
            cluster.run_until(lambda: bool(outcomes))  # noqa: B023
            assert outcomes == [target.name]
            assert up(target).core.term == term + 1
            assert cluster.events.now - began < 0.15
            cluster.run_until(lambda: cluster.leader is target)  # noqa: B023
            commit(cluster, target)
            cluster.run_until(lambda: all(pending))  # noqa: B023
            leader = target
            cluster.run(0.5)
        cluster.check()

    def test_who_waits_for_the_old_leader_is_sent_to_the_heir(self, cluster: Cluster) -> None:
        leader = settled(cluster)
        target = others(cluster, leader)[0]
        self.ask(leader, target.name)
        waiting = cluster.propose(leader)
        cluster.run_until(lambda: bool(waiting))
        assert isinstance(waiting[0], NotLeader)
        assert waiting[0].leader_id == target.name

    def test_without_a_target_the_furthest_follower_is_taken(self, cluster: Cluster) -> None:
        leader = settled(cluster)
        slow, fast = others(cluster, leader)
        slow.disk_delay = (3.0, 3.0)
        commit(cluster, leader, 3)
        outcomes = self.ask(leader)
        cluster.run_until(lambda: bool(outcomes))
        assert outcomes == [fast.name]

    def test_what_cannot_be_says_why_at_once(self, cluster: Cluster) -> None:
        leader = settled(cluster)
        down, follower = others(cluster, leader)
        with pytest.raises(NotLeader):
            self.ask(follower)
        with pytest.raises(TransferFailed, match="leads already"):
            self.ask(leader, leader.name)
        with pytest.raises(TransferFailed, match="no voter"):
            self.ask(leader, "n9")
        down.kill()
        cluster.run(0.5)
        with pytest.raises(TransferFailed, match="not connected"):
            self.ask(leader, down.name)
        self.ask(leader, follower.name)
        with pytest.raises(TransferFailed, match="already"):
            self.ask(leader, follower.name)

    def test_a_target_that_lags_fails_in_time_and_the_leader_goes_on(self, cluster: Cluster) -> None:
        """Row 55."""
        leader = settled(cluster)
        slow = others(cluster, leader)[0]
        slow.disk_delay = (20.0, 20.0)
        commit(cluster, leader, 2)
        outcomes = self.ask(leader, slow.name, timeout_s=1.0)
        waiting = cluster.propose(leader)
        cluster.run_until(lambda: bool(outcomes), seconds=2.0)
        assert isinstance(outcomes[0], TransferFailed)
        assert "catch up" in str(outcomes[0])
        cluster.run_until(lambda: bool(waiting))
        assert isinstance(waiting[0], Committed), "what waited for the transfer goes on"

    def test_a_target_that_dies_when_it_is_told_fails_in_time(self, cluster: Cluster) -> None:
        leader = settled(cluster)
        target = others(cluster, leader)[0]
        cluster.intercept = lambda sender, receiver, message: message.HasField("timeout_now")
        outcomes = self.ask(leader, target.name, timeout_s=60.0)
        cluster.run_until(lambda: bool(outcomes), seconds=3.0)
        assert isinstance(outcomes[0], TransferFailed)
        cluster.intercept = None
        commit(cluster, leader)

    def test_a_target_whose_connection_ends_fails_at_once(self, cluster: Cluster) -> None:
        leader = settled(cluster)
        slow = others(cluster, leader)[0]
        slow.disk_delay = (20.0, 20.0)
        commit(cluster, leader, 2)
        outcomes = self.ask(leader, slow.name, timeout_s=60.0)
        slow.kill()
        cluster.run_until(lambda: bool(outcomes), seconds=2.0)
        assert "connection" in str(outcomes[0])

    def test_another_that_wins_is_named(self, cluster: Cluster) -> None:
        leader = settled(cluster)
        target, other = others(cluster, leader)
        target.disk_delay = (20.0, 20.0)
        commit(cluster, leader, 2)
        outcomes = self.ask(leader, target.name, timeout_s=60.0)
        message = PeerMessage(term=up(leader).core.term, timeout_now=TimeoutNow())
        up(other).receive(leader.name, cluster.session(other.name, leader.name), message, None)
        cluster.run_until(lambda: bool(outcomes), seconds=5.0)
        assert f"{other.name} was elected instead" in str(outcomes[0])

    def test_only_the_leader_can_make_a_node_stand(self, cluster: Cluster) -> None:
        leader = settled(cluster)
        node, other = others(cluster, leader)
        term = up(leader).core.term
        up(node).receive(
            other.name,
            cluster.session(node.name, other.name),
            PeerMessage(term=term, timeout_now=TimeoutNow()),
            None,
        )
        cluster.run(3.0)
        assert (cluster.leader, up(leader).core.term) == (leader, term)


class TestReadIndex:
    def ask(self, node: Node, timeout_s: float = 3.0) -> list[ReadOutcome]:
        outcomes: list[ReadOutcome] = []
        up(node).read_index(timeout_s, outcomes.append)
        return outcomes

    @pytest.mark.parametrize("who", ["leader", "follower"])
    def test_it_covers_what_was_acknowledged_before(self, cluster: Cluster, who: str) -> None:
        """Row 43, hazard 13."""
        leader = settled(cluster)
        node = leader if who == "leader" else others(cluster, leader)[0]
        for _ in range(5):
            index = commit(cluster, leader)
            outcomes = self.ask(node)
            cluster.run_until(lambda: bool(outcomes))  # noqa: B023
            assert isinstance(outcomes[0], int)
            assert outcomes[0] >= index

    def test_one_node_confirms_itself(self) -> None:
        cluster = Cluster(1, seed=1)
        cluster.start()
        index = commit(cluster, cluster.await_leader())
        outcomes = self.ask(cluster.nodes["n1"])
        cluster.run_until(lambda: bool(outcomes))
        assert outcomes == [index]

    def test_many_share_a_round(self, cluster: Cluster) -> None:
        leader = settled(cluster)
        sent: list[int] = []

        def count(sender: str, receiver: str, message: PeerMessage) -> bool:
            if sender == leader.name and message.append_entries.round:
                sent.append(message.append_entries.round)
            return False

        cluster.intercept = count
        outcomes = [self.ask(leader) for _ in range(200)]
        cluster.run_until(lambda: all(outcomes))
        assert len(sent) <= 8

    def test_a_leader_that_is_cut_off_confirms_nothing(self, cluster: Cluster) -> None:
        """Rows 21 and 43: a new leader may have acknowledged something that it does not know."""
        leader = settled(cluster)
        for other in others(cluster, leader):
            cluster.blocked |= {(leader.name, other.name), (other.name, leader.name)}
        outcomes = self.ask(leader, timeout_s=1.0)
        cluster.run_until(lambda: bool(outcomes), seconds=2.0)
        assert isinstance(outcomes[0], NotConfirmed)

    def test_answers_to_earlier_messages_prove_nothing(self, cluster: Cluster) -> None:
        """A round counts messages sent after it began: what was under way may have been answered before."""
        leader = settled(cluster)
        cluster.run(0.5)
        held: list[tuple[str, PeerMessage]] = []

        def hold(sender: str, receiver: str, message: PeerMessage) -> bool:
            if receiver == leader.name and message.HasField("append_reply"):
                held.append((sender, message))
                return True
            return False

        cluster.intercept = hold
        cluster.run_until(lambda: any(message.append_reply.round for _, message in held))
        early = list(held)
        outcomes = self.ask(leader, timeout_s=60.0)
        cluster.run(0.01)
        for sender, message in early:
            up(leader).receive(sender, cluster.session(leader.name, sender), message, None)
        cluster.run(0.01)
        assert outcomes == []
        cluster.intercept = None
        cluster.run_until(lambda: bool(outcomes))
        assert isinstance(outcomes[0], int)

    def test_a_new_leader_answers_after_its_first_entry(self, cluster: Cluster) -> None:
        """Hazard 13: before its no-op is applied its commit index may be behind what was acknowledged."""
        leader = settled(cluster)
        index = commit(cluster, leader)
        first, second = others(cluster, leader)
        leader.kill()
        outcomes = [*[self.ask(first, 20.0)], *[self.ask(second, 20.0)]]
        cluster.run_until(lambda: all(outcomes), seconds=20.0)
        for outcome in outcomes:
            assert isinstance(outcome[0], int)
            assert outcome[0] >= index

    def test_a_follower_asks_again_when_the_leader_changes(self, cluster: Cluster) -> None:
        leader = settled(cluster)
        index = commit(cluster, leader)
        follower = others(cluster, leader)[0]
        cluster.intercept = lambda sender, receiver, message: message.HasField("read_index_reply")
        outcomes = self.ask(follower, timeout_s=30.0)
        cluster.run(0.2)
        cluster.intercept = None
        leader.kill()
        cluster.run_until(lambda: bool(outcomes), seconds=20.0)
        assert isinstance(outcomes[0], int)
        assert outcomes[0] >= index

    def test_without_a_leader_it_says_so_in_time(self, cluster: Cluster) -> None:
        leader = settled(cluster)
        first, second = others(cluster, leader)
        leader.kill()
        second.kill()
        outcomes = self.ask(first, timeout_s=1.0)
        cluster.run_until(lambda: bool(outcomes), seconds=1.5)
        assert isinstance(outcomes[0], RaftError)
