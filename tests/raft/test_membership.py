"""Who takes part: configurations as the log holds them; nodes that come, go, or come back with nothing."""

from __future__ import annotations

import pytest

from quorumlog.proto.entry_pb2 import Member
from quorumlog.raft.errors import MembershipRefused, NotLeader, OutcomeUnknown, RaftError
from quorumlog.raft.interfaces import Standing
from quorumlog.raft.membership import Members, encode
from quorumlog.raft.proposal import Committed
from quorumlog.raft.proposals import Outcome
from quorumlog.raft.replica import Replica
from tests.simulation.script import Cluster, Node
from tests.support.simulated_disk import SimulatedDisk


def up(node: Node) -> Replica:
    assert node.replica is not None
    return node.replica


def member(name: str, directory: bytes = b"", *, learner: bool = False) -> Member:
    return Member(node_id=name, peer_address=f"{name}:1", directory_id=directory, learner=learner)


class TestConfigurations:
    def test_the_newest_appended_one_holds_and_a_truncation_brings_the_one_before_back(self) -> None:
        members = Members({"n1": "n1:1"})
        members.appended(5, encode([member("n1"), member("n2", learner=True)]))
        members.appended(9, encode([member("n1"), member("n2", b"2" * 16)]))
        assert members.current.voters == {"n1", "n2"}
        members.truncated_from(9)
        assert members.current.index == 5
        assert members.current.voters == {"n1"}
        members.truncated_from(5)
        assert members.current.index == 0
        assert set(members.current.members) == {"n1"}

    def test_a_committed_one_is_never_taken_back(self) -> None:
        members = Members({"n1": "n1:1"})
        members.appended(5, encode([member("n1"), member("n2", learner=True)]))
        members.forget_before(5)
        with pytest.raises(AssertionError, match="was committed"):
            members.truncated_from(5)

    def test_one_from_a_state_replaces_the_configuration_files(self) -> None:
        members = Members({"n1": "n1:1", "n2": "n2:1"})
        members.restore(100, encode([member("n3")]))
        assert (members.current.index, set(members.current.members)) == (99, {"n3"})
        members.restore(1, b"")
        assert set(members.current.members) == {"n1", "n2"}

    def test_a_name_is_bound_to_a_directory_by_what_is_committed(self) -> None:
        """Hazard 10: an uncommitted entry could come from a leader that is deposed already."""
        members = Members({"n1": "n1:1", "n2": "n2:1"})
        members.appended(5, encode([member("n1", b"1" * 16), member("n2", b"2" * 16)]))
        assert not members.binds("n2", b"2" * 16, commit_index=4)
        assert members.binds("n2", b"2" * 16, commit_index=5)
        assert not members.binds("n2", b"x" * 16, commit_index=5)
        members.appended(9, encode([member("n1", b"1" * 16), member("n2", b"2" * 16), member("n3")]))
        assert members.binds("n2", b"2" * 16, commit_index=5), "bound since entry 5"
        members.forget_before(9)
        assert members.binds("n2", b"2" * 16, commit_index=9)

    def test_a_learner_is_bound_when_it_is_promoted(self) -> None:
        members = Members({"n1": "n1:1"})
        members.appended(5, encode([member("n1"), member("n2", learner=True)]))
        assert not members.binds("n2", b"2" * 16, commit_index=9)
        members.appended(9, encode([member("n1"), member("n2", b"2" * 16)]))
        assert members.binds("n2", b"2" * 16, commit_index=5)

    def test_who_may_not_have_a_session(self) -> None:
        members = Members({"n1": "n1:1"})
        members.appended(5, encode([member("n1", b"1" * 16), member("n2")]))
        members.forget_before(5)

        def why_not(name: str, directory: bytes, known: int = 0) -> str | None:
            return members.why_not(name, Standing(directory, 1, known), commit_index=7)

        assert why_not("n1", b"1" * 16) is None
        assert why_not("n2", b"?" * 16) is None
        assert "remove 'n1'" in str(why_not("n1", b"x" * 16))
        assert "add it" in str(why_not("n9", b"9" * 16, known=7))
        assert why_not("n9", b"9" * 16, known=8) is None, "it may know better"
        members.appended(9, encode([member("n1", b"1" * 16)]))
        assert why_not("n2", b"?" * 16) is None, "its removal is not committed"


@pytest.fixture
def cluster() -> Cluster:
    cluster = Cluster(3, seed=1)
    cluster.start()
    return cluster


def settled(cluster: Cluster) -> Node:
    """A leader whose members are all bound to their directories."""
    cluster.run_until(
        lambda: (
            cluster.leader is not None
            and all(each.directory_id for each in up(cluster.leader).members.current.members.values())
            and not up(cluster.leader).is_settling
        )
    )
    assert cluster.leader is not None
    return cluster.leader


def join(cluster: Cluster, name: str) -> Node:
    """Start a new, empty node; its configuration file names all nodes."""
    if name not in cluster.names:
        cluster.names.append(name)
    node = cluster.nodes[name] = Node(cluster, name)
    node.directory_id = bytes([cluster.random.randrange(256) for _ in range(16)])
    node.start()
    return node


def wipe(cluster: Cluster, node: Node) -> None:
    """It loses its disk and comes back under its old name."""
    node.kill()
    node.disk = SimulatedDisk()
    node.directory_id = b"wiped, new disk."
    node.start()


def add(cluster: Cluster, leader: Node, name: str) -> list[Outcome]:
    outcomes: list[Outcome] = []
    up(leader).add_member(name, f"{name}:1", 5.0, outcomes.append)
    return outcomes


def remove(cluster: Cluster, leader: Node, name: str) -> list[Outcome]:
    outcomes: list[Outcome] = []
    up(leader).remove_member(name, 5.0, outcomes.append)
    return outcomes


def write(cluster: Cluster, leader: Node) -> Outcome:
    outcomes = cluster.propose(leader)
    cluster.run_until(lambda: bool(outcomes))
    return outcomes[0]


def is_voter(cluster: Cluster, name: str) -> bool:
    return all(
        up(node).members.is_voter(name) and up(node).members.current.index <= up(node).core.applied_index
        for node in cluster.nodes.values()
        if node.replica is not None
    )


class TestBeginning:
    def test_the_directories_of_a_new_cluster_are_written_down(self, cluster: Cluster) -> None:
        leader = settled(cluster)
        directories = {name: each.directory_id for name, each in up(leader).members.current.members.items()}
        assert directories == {name: node.directory_id for name, node in cluster.nodes.items()}

    def test_no_empty_directory_votes_before_all_are_known_to_be_empty(self) -> None:
        """Hazard 10: two of three could be a majority that lost what the third still has."""
        cluster = Cluster(3, seed=2)
        cluster.start(["n1", "n2"])
        cluster.run(5.0)
        assert cluster.leader is None
        assert {up(cluster.nodes[name]).core.term for name in ("n1", "n2")} == {0}
        cluster.nodes["n3"].start()
        cluster.run_until(lambda: cluster.leader is not None)

    def test_members_and_votes_survive_restarts_of_all(self, cluster: Cluster) -> None:
        """Row 54."""
        leader = settled(cluster)
        join(cluster, "n4")
        add(cluster, leader, "n4")
        cluster.run_until(lambda: is_voter(cluster, "n4"))
        for node in cluster.nodes.values():
            node.kill(power_loss=True)
        for node in cluster.nodes.values():
            node.members = {"n1": "n1:1", "n2": "n2:1"}  # an old configuration file: the log knows better
            node.start()
        cluster.run_until(lambda: cluster.leader is not None and is_voter(cluster, "n4"))
        cluster.run_until(lambda: isinstance(write(cluster, cluster.await_leader()), Committed))
        cluster.check()


class TestAdding:
    def test_a_node_is_a_learner_until_it_has_caught_up(self, cluster: Cluster) -> None:
        """Row 52."""
        leader = settled(cluster)
        for _ in range(20):
            assert isinstance(write(cluster, leader), Committed)
        node = join(cluster, "n4")
        assert not up(node)._may_vote()
        outcomes = add(cluster, leader, "n4")
        cluster.run_until(lambda: bool(outcomes))
        assert isinstance(outcomes[0], Committed)
        assert "n4" in up(leader).members.current.members
        cluster.run_until(lambda: is_voter(cluster, "n4"))
        cluster.run_until(lambda: up(node)._may_vote())
        cluster.run_until(cluster.converged)
        # Four voters: with two of them gone nothing is acknowledged any more.
        for name in sorted({"n1", "n2", "n3"} - {leader.name}):
            cluster.nodes[name].kill()
        outcomes = cluster.propose(leader, timeout_s=1.0)
        cluster.run_until(lambda: bool(outcomes))
        assert isinstance(outcomes[0], RaftError)

    def test_a_learner_that_is_away_is_not_counted(self, cluster: Cluster) -> None:
        leader = settled(cluster)
        outcomes = add(cluster, leader, "n4")  # nobody by that name has been started
        cluster.run_until(lambda: bool(outcomes))
        cluster.run(3.0)
        assert up(leader).members.current.members["n4"].learner
        cluster.nodes[next(name for name in cluster.names if name != leader.name)].kill()
        assert isinstance(write(cluster, leader), Committed), "two of three voters are enough"

    def test_one_change_at_a_time(self, cluster: Cluster) -> None:
        """Row 53."""
        leader = settled(cluster)
        first = add(cluster, leader, "n4")
        with pytest.raises(MembershipRefused, match="not committed"):
            add(cluster, leader, "n5")
        with pytest.raises(MembershipRefused, match="not committed"):
            remove(cluster, leader, "n2")
        cluster.run_until(lambda: bool(first))
        cluster.run_until(lambda: bool(add(cluster, leader, "n5")))

    def test_no_change_before_the_leaders_first_entry_is_committed(self, cluster: Cluster) -> None:
        """Row 53: the known defect of changing one server at a time."""
        leader = settled(cluster)
        leader.kill()
        cluster.intercept = lambda sender, receiver, message: message.HasField("append_reply")
        cluster.run_until(
            lambda: any(node.running and up(node).core.role == 2 for node in cluster.nodes.values())
        )
        candidate = next(node for node in cluster.nodes.values() if node.running and up(node).core.role == 2)
        with pytest.raises(MembershipRefused, match="first entry"):
            add(cluster, candidate, "n4")

    def test_asking_again_for_a_member_changes_nothing_and_another_address_is_refused(
        self, cluster: Cluster
    ) -> None:
        leader = settled(cluster)
        before = up(leader).members.current
        outcomes = add(cluster, leader, "n2")
        assert isinstance(outcomes[0], Committed)
        assert up(leader).members.current is before
        with pytest.raises(MembershipRefused, match="remove it"):
            up(leader).add_member("n2", "elsewhere:1", 1.0, outcomes.append)
        taken = before.members["n2"].peer_address
        with pytest.raises(MembershipRefused, match="is the address of n2"):
            up(leader).add_member("n9", taken, 1.0, outcomes.append)

    def test_only_the_leader_changes_members(self, cluster: Cluster) -> None:
        leader = settled(cluster)
        follower = next(node for node in cluster.nodes.values() if node is not leader)
        with pytest.raises(NotLeader):
            add(cluster, follower, "n4")
        with pytest.raises(NotLeader):
            up(follower).check_stop("n1")

    def test_a_change_that_no_majority_sees_is_rolled_back_with_its_entry(self, cluster: Cluster) -> None:
        """Hazard 9: a configuration is undone by a truncation and by nothing else."""
        leader = settled(cluster)
        cluster.isolate(leader.name)
        outcomes = add(cluster, leader, "n4")
        assert "n4" in up(leader).members.current.members
        cluster.run_until(lambda: cluster.leader is not None and cluster.leader is not leader)
        write(cluster, cluster.await_leader())
        cluster.heal()
        cluster.run_until(lambda: "n4" not in up(leader).members.current.members)
        cluster.run_until(cluster.converged)
        cluster.run_until(lambda: bool(outcomes))
        assert isinstance(outcomes[0], RaftError)


class TestRemoving:
    def test_a_removed_node_is_told_and_disturbs_nobody(self, cluster: Cluster) -> None:
        """Row 52."""
        leader = settled(cluster)
        victim = next(node for node in cluster.nodes.values() if node is not leader)
        outcomes = remove(cluster, leader, victim.name)
        cluster.run_until(lambda: bool(outcomes))
        assert isinstance(outcomes[0], Committed)
        term = up(leader).core.term
        cluster.run(5.0)
        assert cluster.connection(leader.name, victim.name) is None
        assert cluster.leader is leader
        assert up(leader).core.term == term
        assert "not a member" in str(up(leader).why_refuse(victim.name, up(victim).standing))
        assert isinstance(write(cluster, leader), Committed)

    def test_what_would_leave_no_majority_is_refused(self, cluster: Cluster) -> None:
        leader = settled(cluster)
        dead, alive = (node for node in cluster.nodes.values() if node is not leader)
        dead.kill()
        cluster.run(2.0)
        with pytest.raises(MembershipRefused, match="no majority"):
            remove(cluster, leader, alive.name)
        outcomes = remove(cluster, leader, dead.name)
        cluster.run_until(lambda: bool(outcomes))
        assert isinstance(outcomes[0], Committed)

    def test_a_leader_is_not_removed_before_it_has_handed_over(self, cluster: Cluster) -> None:
        leader = settled(cluster)
        with pytest.raises(MembershipRefused, match="hand over"):
            remove(cluster, leader, leader.name)
        with pytest.raises(MembershipRefused, match="no member"):
            remove(cluster, leader, "n9")

    def test_a_new_leader_listens_before_it_says_who_answers(self, cluster: Cluster) -> None:
        """It may commit its first entry with one voter, and be asked to remove that one at once."""
        old = settled(cluster)
        heir, silent = (node for node in cluster.nodes.values() if node is not old)
        cluster.intercept = lambda sender, receiver, message: (
            sender == silent.name and message.HasField("append_reply")
        )
        up(old).transfer(heir.name, 5.0, lambda outcome: None)
        cluster.run_until(lambda: up(heir).is_leader)
        assert up(heir).is_listening
        with pytest.raises(MembershipRefused, match="no majority"):
            remove(cluster, heir, old.name)
        cluster.intercept = None
        cluster.run_until(lambda: not up(heir).is_listening)
        outcomes = remove(cluster, heir, old.name)
        cluster.run_until(lambda: bool(outcomes))
        assert isinstance(outcomes[0], Committed)

    def test_who_stays_silent_is_not_waited_for_long(self, cluster: Cluster) -> None:
        old = settled(cluster)
        heir, silent = (node for node in cluster.nodes.values() if node is not old)
        cluster.intercept = lambda sender, receiver, message: (
            sender == silent.name and message.HasField("append_reply")
        )
        up(old).transfer(heir.name, 5.0, lambda outcome: None)
        cluster.run_until(lambda: up(heir).is_leader)
        cluster.run_until(lambda: not up(heir).is_listening, seconds=2.0)

    def test_a_cluster_of_two_shrinks_to_one_that_goes_on(self) -> None:
        """Hazard 3: a cluster may become one of a single node while it runs."""
        cluster = Cluster(2, seed=4)
        cluster.start()
        leader = settled(cluster)
        other = next(node for node in cluster.nodes.values() if node is not leader)
        outcomes = remove(cluster, leader, other.name)
        cluster.run_until(lambda: bool(outcomes))
        other.kill()
        assert isinstance(write(cluster, leader), Committed)
        assert up(leader).log.durable_index >= up(leader).core.commit_index


class TestWipedNodes:
    def test_a_wiped_node_gets_no_session_until_it_is_removed_and_added(self, cluster: Cluster) -> None:
        """Row 51, hazard 10."""
        leader = settled(cluster)
        write(cluster, leader)
        victim = next(node for node in cluster.nodes.values() if node is not leader)
        wipe(cluster, victim)
        cluster.run(5.0)
        assert cluster.connection(leader.name, victim.name) is None
        assert not up(victim)._may_vote()
        assert "the data directory is empty" in str(up(victim).why_not_voting)
        assert "remove" in str(up(leader).why_refuse(victim.name, up(victim).standing))
        outcomes = remove(cluster, leader, victim.name)
        cluster.run_until(lambda: bool(outcomes))
        outcomes = add(cluster, leader, victim.name)
        cluster.run_until(lambda: bool(outcomes))
        cluster.run_until(lambda: is_voter(cluster, victim.name))
        cluster.run_until(cluster.converged)
        assert up(victim).why_not_voting is None
        cluster.check()

    def test_a_node_that_was_wiped_before_it_was_bound_does_not_vote(self) -> None:
        """Row 51: n1 and n2 hold an entry, n2 forgets it: n2 and n3 must not elect each other."""
        cluster = Cluster(3, seed=3)
        cluster.start()
        leader = cluster.await_leader()
        backer, late = (node for node in cluster.nodes.values() if node is not leader)
        cluster.isolate(late.name)
        # No name is bound yet: no configuration may leave the leader.
        cluster.run_until(lambda: isinstance(write(cluster, leader), Committed))
        leader.kill()
        wipe(cluster, backer)
        cluster.heal()
        cluster.run(10.0)
        assert cluster.leader is None
        leader.start()
        cluster.run_until(lambda: cluster.leader is not None)
        cluster.run_until(lambda: isinstance(write(cluster, cluster.await_leader()), Committed))
        cluster.check()

    def test_copies_of_a_directory_that_may_not_vote_are_not_counted(self, cluster: Cluster) -> None:
        """A wiped node's answers must not commit anything for a leader that is deposed already."""
        leader = settled(cluster)
        backer, other = (node for node in cluster.nodes.values() if node is not leader)
        progress = up(leader).leader.progress[backer.name]
        assert up(leader)._counts(backer.name)
        progress.voter = False
        assert up(leader)._counts(backer.name), "its name is bound to its directory"
        up(leader).peers.standings[backer.name] = up(leader).peers.standings[other.name]
        assert not up(leader)._counts(backer.name), "another directory behind the name"


def test_check_stop_counts_who_keeps_up(cluster: Cluster) -> None:
    leader = settled(cluster)
    first, second = (node for node in cluster.nodes.values() if node is not leader)
    cluster.run(1.0)
    assert up(leader).check_stop(first.name)[0]
    safe, reason = up(leader).check_stop(leader.name)
    assert safe
    assert "hand over" in reason
    second.kill()
    cluster.run(2.0)
    assert not up(leader).check_stop(first.name)[0]
    assert up(leader).check_stop(second.name)[0]
    assert up(leader).check_stop("n9") == (True, "n9 is no member")


def test_a_change_whose_callback_never_comes_gets_an_honest_outcome(cluster: Cluster) -> None:
    leader = settled(cluster)
    cluster.isolate(leader.name)
    outcomes = add(cluster, leader, "n4")
    cluster.run_until(lambda: bool(outcomes))
    assert isinstance(outcomes[0], OutcomeUnknown)
