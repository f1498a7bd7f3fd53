"""A full disk refuses; it ends no process, forgets no vote, and when there is room all goes on by itself.

Whole replicas on virtual time, network and disks. Rows 13 and 72.
"""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from quorumlog.raft import core
from quorumlog.raft.errors import EXIT_SYNC_FAILED, NoSpace, TransferFailed
from quorumlog.raft.hardstate import SPARES, HardState
from quorumlog.raft.proposal import Committed
from quorumlog.storage import errors as storage_errors
from quorumlog.storage.log import LogOptions
from tests.raft.test_repair import grown, up
from tests.simulation.script import Cluster, Node
from tests.support.simulated_disk import SimulatedDisk

OPTIONS = LogOptions(segment_bytes=32 << 10, segment_entries=50, reserve_bytes=1 << 16)


def fill(node: Node) -> None:
    """Others write until there is not a byte left."""
    node.disk.capacity = node.disk.used()


def empty(node: Node) -> None:
    node.disk.capacity = 1 << 40


def writes(cluster: Cluster) -> bool:
    leader = cluster.leader
    if leader is None:
        return False
    outcomes = cluster.propose(leader)
    cluster.run(0.5)
    return bool(outcomes) and isinstance(outcomes[0], Committed)


def take_spares(node: Node) -> None:
    """Even what was kept ready is gone, as after a start on a full disk."""
    replica = up(node)
    for spare in list(replica._hard_state._ready):
        node.disk.unlink(spare)
    replica._hard_state._ready.clear()
    fill(node)


class TestElections:
    def test_a_full_node_votes_with_what_it_kept_ready(self) -> None:
        cluster = grown(segments=2)
        leader = cluster.await_leader()
        others = [node for node in cluster.nodes.values() if node is not leader]
        cluster.run_until(lambda: all(up(node)._hard_state.is_prepared for node in others))
        for node in others:
            fill(node)
        leader.kill()
        cluster.run_until(lambda: any(up(node).core.role == core.LEADER for node in others))
        assert all(node.running for node in others)
        for node in others:
            saved = HardState(node.disk, Path("/data/group-0/term"), log_is_empty=False)
            assert (saved.term, saved.vote) == (up(node)._hard_state.term, up(node)._hard_state.vote)
            assert saved.term == up(node).core.term

    def test_a_node_without_any_room_neither_votes_nor_stands_and_goes_on_when_there_is_some(self) -> None:
        """Without the question before the engine hears of a vote, the process ends (once by exit code 73)."""
        cluster = grown(segments=2)
        leader = cluster.await_leader()
        others = [node for node in cluster.nodes.values() if node is not leader]
        term = up(leader).core.term
        for node in others:
            take_spares(node)
        leader.kill()
        cluster.run(20)
        for node in others:
            assert node.running
            assert up(node).core.term == term, "no term was raised that could not be saved"
            assert up(node).core.role == core.FOLLOWER
            assert up(node).alarms.raised == {"DISK_FULL"}
        for node in others:
            empty(node)
        cluster.run_until(lambda: writes(cluster))
        cluster.run_until(lambda: all(up(node).alarms.raised == set() for node in others))
        leader.start()
        cluster.run_until(cluster.converged)
        cluster.check()

    def test_one_full_node_does_not_hold_up_the_others(self) -> None:
        cluster = grown(segments=2)
        leader = cluster.await_leader()
        full = next(node for node in cluster.nodes.values() if node is not leader)
        take_spares(full)
        up(leader).transfer(None, 5.0, lambda outcome: None)
        cluster.run_until(lambda: writes(cluster), 60)
        assert full.running
        empty(full)
        cluster.run_until(cluster.converged, 60)
        cluster.check()

    @pytest.mark.parametrize("rolls", [False, True])
    def test_a_candidate_has_room_for_its_first_entry_before_it_stands(self, rolls: bool) -> None:
        """Also where that entry would begin a segment, whose files take space."""
        cluster = Cluster(
            1, seed=3, options=LogOptions(segment_bytes=32 << 10, segment_entries=4, reserve_bytes=0)
        )
        cluster.start()
        node = cluster.await_leader()
        count = 3 if rolls else 1
        while up(node).log.last_index - up(node).log.bases[-1] + 1 != count + rolls:
            cluster.propose(node)
            cluster.run(0.05)
        cluster.run_until(lambda: up(node)._hard_state.is_prepared)
        node.kill()
        node.start()
        assert up(node).journal.next_rolls(0) == rolls
        fill(node)
        cluster.run(5)
        assert node.running
        assert (up(node).core.role == core.LEADER) == (not rolls), "the active segment has its space"
        empty(node)
        cluster.run_until(lambda: writes(cluster))


class TestHandingOver:
    def test_a_node_without_any_room_does_not_stand_when_it_is_told_to(self) -> None:
        """It would raise its term, and could save neither that nor its first entry."""
        cluster = grown(segments=2)
        leader = cluster.await_leader()
        full = next(node for node in cluster.nodes.values() if node is not leader)
        take_spares(full)
        term = up(full).core.term
        outcomes: list[object] = []
        up(leader).transfer(full.name, 2.0, outcomes.append)
        cluster.run_until(lambda: bool(outcomes))
        assert isinstance(outcomes[0], TransferFailed)
        assert full.running
        assert up(full).core.term == term
        assert cluster.leader is leader


class TestWrites:
    def test_writes_are_refused_reads_go_on_and_service_resumes(self) -> None:
        """Row 13."""
        cluster = grown(segments=3)
        leader = cluster.await_leader()
        fill(leader)
        refused = 0
        while not refused:
            outcomes = cluster.propose(leader, 3000)
            cluster.run(0.2)
            refused = sum(isinstance(outcome, NoSpace) for outcome in outcomes)
        assert "DISK_FULL" in up(leader).alarms.raised
        for index in range(1, up(leader).core.applied_index + 1):
            up(leader).log.read(index)
        empty(leader)
        cluster.run_until(lambda: writes(cluster))
        assert up(leader).alarms.raised == set()
        cluster.run_until(cluster.converged)
        cluster.check()

    def test_a_seal_that_found_no_room_is_made_up_for_by_itself(self) -> None:
        cluster = Cluster(1, seed=1, options=OPTIONS)
        cluster.start()
        node = cluster.await_leader()
        node.disk.fail("create", errno.ENOSPC, name=".view", times=3)
        while len(up(node).log.bases) < 2:
            cluster.propose(node, 3000)
            cluster.run(0.05)
        cluster.run(0.5)
        assert node.machine.sealed_bases == []
        cluster.run_until(lambda: node.machine.sealed_bases == [1])

    def test_a_restart_after_a_seal_found_no_room_seals_what_is_left(self) -> None:
        """Suspected once of an assertion in Log.seal: several segments wait when the node starts again."""
        cluster = Cluster(1, seed=1, options=OPTIONS)
        cluster.start()
        node = cluster.await_leader()
        node.disk.fail("create", errno.ENOSPC, name=".state", times=1000)
        while len(up(node).log.bases) < 5:
            cluster.propose(node, 3000)
            cluster.run(0.05)
        bases = up(node).log.bases
        for _ in range(2):
            node.kill()
            node.disk.fail("create", errno.ENOSPC, name=".state", times=1000)
            node.start()
            cluster.run(5)
            assert node.running
            assert node.machine.sealed_bases == []
        node.disk.faults.clear()
        cluster.run_until(lambda: node.machine.sealed_bases == list(bases[:-1]))
        assert up(node).log.has_state(bases[-1])


class TestHardState:
    def hard_state(self, disk: SimulatedDisk) -> HardState:
        state = HardState(disk, Path("/data/term"), log_is_empty=True)
        state.become_voter()
        return state

    def test_two_saves_need_no_more_space_once_they_are_prepared(self) -> None:
        disk = SimulatedDisk()
        state = self.hard_state(disk)
        state.prepare()
        disk.capacity = disk.used()
        state.save(1, None)
        state.save(1, "n2")
        assert SPARES == 2
        again = HardState(disk.after_kill(), Path("/data/term"), log_is_empty=False)
        assert (again.term, again.vote, again.voter) == (1, "n2", True)

    def test_what_is_kept_ready_outlives_the_process(self) -> None:
        disk = SimulatedDisk()
        self.hard_state(disk).prepare()
        disk = disk.after_kill()
        disk.capacity = disk.used()
        state = HardState(disk, Path("/data/term"), log_is_empty=False)
        state.prepare()
        state.save(1, "n2")

    def test_without_room_nothing_is_prepared(self) -> None:
        disk = SimulatedDisk()
        state = self.hard_state(disk)
        disk.capacity = disk.used()
        with pytest.raises(storage_errors.NoSpace):
            state.prepare()
        disk.capacity = 1 << 30
        state.prepare()

    @pytest.mark.parametrize("operation", ["fsync", "rename", "sync_directory", "allocate", "pwritev"])
    def test_any_other_error_is_fatal(self, operation: str) -> None:
        disk = SimulatedDisk()
        state = self.hard_state(disk)
        if operation != "allocate":
            state.prepare()
        disk.fail(operation, errno.EIO)
        with pytest.raises(storage_errors.SyncFailed):
            state.prepare() if operation == "allocate" else state.save(3, None)
        assert state.term == 0


def test_an_fsync_error_ends_the_node_and_the_cluster_goes_on() -> None:
    """Row 14."""
    cluster = grown(segments=2)
    leader = cluster.await_leader()
    leader.disk.fail("fdatasync", errno.EIO)
    cluster.propose(leader)
    cluster.run_until(lambda: not leader.running)
    assert leader.exit_code == EXIT_SYNC_FAILED
    cluster.run_until(lambda: writes(cluster))
    leader.start()  # the page cache still held what never reached the disk
    cluster.run_until(cluster.converged)
    cluster.check()
