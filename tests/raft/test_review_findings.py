"""What a hostile review of elections, members and reads found: each test failed before its mending."""

from __future__ import annotations

import pytest

from quorumlog.proto import entry_pb2
from quorumlog.proto.peer_pb2 import PeerMessage, PreVote, ReadIndex
from quorumlog.raft import core, reads
from quorumlog.raft.proposal import Committed
from quorumlog.raft.reads import ReadOutcome
from quorumlog.raft.transfer import TransferOutcome
from tests.raft.test_membership import add, is_voter, join, remove, settled, up, write
from tests.simulation.script import Cluster, Node


@pytest.fixture
def cluster() -> Cluster:
    cluster = Cluster(3, seed=1)
    cluster.start()
    return cluster


def others(cluster: Cluster, *nodes: Node) -> list[Node]:
    return [node for node in cluster.nodes.values() if node not in nodes]


def hand_over(cluster: Cluster, leader: Node, target: Node) -> None:
    outcomes: list[TransferOutcome] = []
    up(leader).transfer(target.name, 5.0, outcomes.append)
    cluster.run_until(lambda: bool(outcomes))
    assert outcomes == [target.name]


class TestElections:
    def test_a_node_that_made_room_for_another_does_not_stand_later_without_asking(
        self, cluster: Cluster
    ) -> None:
        """It had its majority when the other one asked: it stood half a timeout later, come what may."""
        leader = settled(cluster)
        node, other = others(cluster, leader)
        leader.kill()
        cluster.run(0.01)  # both know
        _, index, term = up(other).journal[-1]
        question = PreVote(next_term=up(other).core.term + 1, last_log_index=index, last_log_term=term)
        up(node).core.stand()
        term = up(node).core.term
        up(node).receive(
            other.name,
            cluster.session(node.name, other.name),
            PeerMessage(term=term, pre_vote=question),
            None,
        )
        cluster.isolate(node.name)
        cluster.run(5.0)
        assert up(node).core.term == term


class TestTransfer:
    @pytest.mark.parametrize("seed", range(10))
    def test_heartbeats_behind_the_word_to_stand_do_not_prevent_it(self, seed: int) -> None:
        """Reads make the leader send all the time: what came with TimeoutNow said that a leader lives."""
        cluster = Cluster(3, seed)
        cluster.start()
        leader = settled(cluster)
        target = others(cluster, leader)[0]
        outcomes: list[TransferOutcome] = []
        up(leader).transfer(target.name, 5.0, outcomes.append)
        for _ in range(50):
            up(leader).read_index(1.0, lambda _: None)
            cluster.run(0.001)
        cluster.run_until(lambda: bool(outcomes))
        assert outcomes == [target.name]


class TestReads:
    def test_a_followers_question_to_a_leader_with_too_many_reads_is_refused(
        self, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The leader's Busy ended its process."""
        monkeypatch.setattr(reads, "MAX_WAITING", 0)
        leader = settled(cluster)
        follower = others(cluster, leader)[0]
        outcomes: list[ReadOutcome] = []
        cluster.intercept = lambda _, receiver, message: (
            receiver == follower.name
            and message.HasField("read_index_reply")
            and not outcomes.append(message.read_index_reply.index)
        )
        message = PeerMessage(term=up(leader).core.term, read_index=ReadIndex(request=1))
        up(leader).receive(follower.name, cluster.session(leader.name, follower.name), message, None)
        assert outcomes == [0]

    def test_an_answer_to_a_question_of_a_life_before_is_not_taken_for_a_later_one(
        self, cluster: Cluster
    ) -> None:
        """Questions are counted from 1 in every life, and an old answer covers less."""
        leader = settled(cluster)
        follower = others(cluster, leader)[0]
        # What echoes a round is lost, what acknowledges entries is not: the round waits, writes go on.
        cluster.intercept = lambda _, receiver, message: (
            receiver == leader.name and message.append_reply.round > 0
        )
        up(follower).read_index(60.0, lambda _: None)
        cluster.run(0.02)
        follower.kill()
        follower.start()
        written = write(cluster, leader)
        assert isinstance(written, Committed)
        cluster.run_until(lambda: up(follower).core.leader_id == leader.name, seconds=0.5)
        outcomes: list[ReadOutcome] = []
        up(follower).read_index(60.0, outcomes.append)
        cluster.run(0.02)
        cluster.intercept = None
        cluster.run_until(lambda: bool(outcomes))
        assert isinstance(outcomes[0], int)
        assert outcomes[0] >= written.index


class TestWeakSyncPolicies:
    @pytest.mark.parametrize("more", [0, 60])
    @pytest.mark.parametrize("seed", [1, 4, 5, 7])  # where the power loss takes enough of both
    def test_who_remembers_what_a_majority_lost_stops_and_the_majority_goes_on(
        self, seed: int, more: int
    ) -> None:
        """Its honest 'matched' ended every leader in turn; or passed for a copy of what is there now."""
        cluster = Cluster(3, seed)
        cluster.start()
        leader = settled(cluster)
        witness, other = others(cluster, leader)
        for node in cluster.nodes.values():
            node.machine.sync_policy = entry_pb2.SYNC_OS
        for _ in range(50):
            write(cluster, leader)
        cluster.run(0.1)
        committed = up(witness).core.commit_index
        for node in (leader, other):
            node.kill(power_loss=True)
            node.start()
        assert {up(node).journal.last_index for node in (leader, other)} < {*range(committed)}
        cluster.isolate(witness.name)
        cluster.forget()  # what was lost is not held against anybody
        for _ in range(1 + more):
            cluster.run_until(lambda: isinstance(write(cluster, cluster.await_leader()), Committed))
        leader = cluster.await_leader()
        cluster.heal()
        with pytest.raises(AssertionError, match="weak sync policy"):
            cluster.run(10.0)
        cluster.forgive()
        assert up(leader).core.role == core.LEADER
        witness.start()
        cluster.run_until(lambda: cluster.leader is leader and cluster.converged())
        cluster.check()


class TestMembers:
    def test_a_new_leader_does_not_promote_a_learner_that_lags(self, cluster: Cluster) -> None:
        """It compared with what was committed at its last heartbeat, and there had been none: 0."""
        leader = settled(cluster)
        for _ in range(10):
            write(cluster, leader)
        learner = join(cluster, "n4")
        learner.disk_delay = (60.0, 60.0)
        outcomes = add(cluster, leader, "n4")
        cluster.run_until(lambda: bool(outcomes))
        cluster.run(1.0)
        target = others(cluster, leader, learner)[0]
        hand_over(cluster, leader, target)
        cluster.run(3.0)
        assert up(target).leader.progress["n4"].match < 10
        assert not up(target).members.is_voter("n4")
        learner.disk_delay = None
        cluster.run_until(lambda: up(target).members.is_voter("n4"), seconds=120.0)

    def test_a_member_that_was_away_follows_a_leader_that_joined_meanwhile(self, cluster: Cluster) -> None:
        """It refused a leader that it did not know: two of three voters were up, and none was elected."""
        leader = settled(cluster)
        away, gone = others(cluster, leader)
        away.kill()
        new = join(cluster, "n4")
        add(cluster, leader, "n4")
        cluster.run_until(lambda: is_voter(cluster, "n4"))
        outcomes = remove(cluster, leader, gone.name)
        cluster.run_until(lambda: bool(outcomes))
        assert isinstance(outcomes[0], Committed)
        hand_over(cluster, leader, new)
        away.start()
        cluster.run_until(lambda: up(away).core.leader_id == "n4")
        leader.kill()
        cluster.run_until(lambda: cluster.leader in (new, away))
        assert isinstance(write(cluster, cluster.await_leader()), Committed)

    def test_a_member_that_was_away_follows_a_leader_that_came_back_with_another_directory(self) -> None:
        """To the one that was away it looked like a node that has forgotten its votes."""
        cluster = Cluster(4, seed=1)
        cluster.start()
        leader = settled(cluster)
        away, wiped, _ = others(cluster, leader)
        away.kill()
        outcomes = remove(cluster, leader, wiped.name)
        cluster.run_until(lambda: bool(outcomes))
        wiped.kill()
        wiped = join(cluster, wiped.name)
        add(cluster, leader, wiped.name)
        cluster.run_until(lambda: is_voter(cluster, wiped.name))
        hand_over(cluster, leader, wiped)
        away.start()
        cluster.run_until(lambda: up(away).core.leader_id == wiped.name)

    def test_a_deposed_leader_follows_the_node_that_it_was_about_to_remove(self, cluster: Cluster) -> None:
        """What was never committed kept it from the leader that would have taken it back."""
        leader = settled(cluster)
        victim, other = others(cluster, leader)
        for node in (victim, other):
            cluster.blocked |= {(leader.name, node.name), (node.name, leader.name)}
        remove(cluster, leader, victim.name)
        cluster.run_until(lambda: cluster.leader in (victim, other))
        cluster.isolate(leader.name)
        if cluster.leader is other:
            cluster.run(1.0)
            hand_over(cluster, other, victim)
        cluster.heal()
        cluster.run_until(lambda: up(leader).core.leader_id == victim.name)
        cluster.run_until(lambda: up(leader).members.is_voter(victim.name))
        other.kill()
        cluster.run_until(lambda: isinstance(write(cluster, cluster.await_leader()), Committed))

    def test_a_node_that_founded_a_cluster_of_its_own_is_left_alone(self, cluster: Cluster) -> None:
        """It was started without 'peers', then added: their logs have nothing in common."""
        leader = settled(cluster)
        for _ in range(5):
            write(cluster, leader)
        term = up(leader).core.term
        cluster.names.append("n4")
        node = cluster.nodes["n4"] = Node(cluster, "n4")
        node.members = {"n4": "n4:1"}
        cluster.judges_all = False  # two clusters
        node.start()
        cluster.run_until(lambda: up(node).is_leader)
        outcomes = add(cluster, leader, "n4")
        cluster.run_until(lambda: bool(outcomes))
        cluster.run(10.0)
        assert up(node).is_leader
        assert (cluster.leader, up(leader).core.term) == (leader, term)
        assert isinstance(write(cluster, leader), Committed)

    def test_a_promotion_that_its_node_has_not_seen_does_not_keep_the_others_from_electing(
        self, cluster: Cluster
    ) -> None:
        """Four voters, one of them dead, and the fourth did not vote since it was no voter in its own log."""
        leader = settled(cluster)
        dead, other = others(cluster, leader)
        node = join(cluster, "n4")
        dead.kill()

        def promotes(_: str, receiver: str, message: PeerMessage) -> bool:
            is_late = up(leader).members.is_voter("n4") if leader.running else False
            return receiver == "n4" and message.HasField("append_entries") and is_late

        cluster.intercept = promotes
        add(cluster, leader, "n4")
        cluster.run_until(lambda: up(other).members.is_voter("n4"))
        assert not up(node).members.is_voter("n4")
        leader.kill()
        cluster.intercept = None
        leader.start()
        cluster.run_until(lambda: cluster.leader is not None)
        cluster.run_until(lambda: isinstance(write(cluster, cluster.await_leader()), Committed))
        cluster.check()

    def test_the_vote_of_another_directory_than_the_one_that_was_promoted_does_not_count(
        self, cluster: Cluster
    ) -> None:
        """It may have voted in this term before it was wiped."""
        leader = settled(cluster)
        voter, other = others(cluster, leader)
        assert up(leader).peers.may_elect(voter.name)
        up(leader).peers.standings[voter.name] = up(leader).peers.standings[other.name]
        assert not up(leader).peers.may_elect(voter.name)
