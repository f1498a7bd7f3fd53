"""Damage in sealed files of one node is fenced and mended from another; meanwhile the cluster goes on.

Whole replicas on virtual time, network and disks.
"""

from __future__ import annotations

import errno
import logging
import random
from pathlib import Path

import pytest

from quorumlog.proto.peer_pb2 import SEGMENT_LOG, FetchSegment, PeerMessage, SegmentChunk
from quorumlog.raft.errors import EXIT_DAMAGED, EXIT_SYNC_FAILED, TransferFailed
from quorumlog.raft.lending import CHUNK_BYTES
from quorumlog.raft.repair import ANSWER_S, RETRY_S
from quorumlog.raft.replica import Fatal, Replica
from quorumlog.storage.errors import Damaged
from quorumlog.storage.fences import SealedFile
from quorumlog.storage.log import LogOptions
from tests.simulation.node import GROUP
from tests.simulation.script import Cluster, Node
from tests.support.simulated_disk import PowerCut, SimulatedDisk

OPTIONS = LogOptions(segment_bytes=32 << 10, segment_entries=50, reserve_bytes=1 << 16)
SUFFIXES = ("log", "index", "view", "state")


def up(node: Node) -> Replica:
    assert node.replica is not None
    return node.replica


def path(file: SealedFile) -> Path:
    return GROUP / "log" / file.name


def content(node: Node, file: SealedFile) -> bytes:
    inode = node.disk.names[path(file)]
    data = bytearray(inode.cached[: inode.size])
    if file.suffix == "log":
        data[1024:1048] = data[2048:2072] = bytes(24)  # the synced slots may differ
    return bytes(data)


def grown(seed: int = 1, nodes: int = 3, size: int = 3000, segments: int = 5) -> Cluster:
    """A cluster whose log has that many segments, all but the active one sealed on every node."""
    cluster = Cluster(nodes, seed=seed, options=OPTIONS)
    cluster.start()
    leader = cluster.await_leader()
    while len(up(leader).log.bases) < segments:
        cluster.propose(leader, size)
        cluster.run(0.02)
    cluster.run_until(cluster.converged)
    cluster.run_until(
        lambda: all(len(node.machine.sealed_bases) == segments - 1 for node in cluster.nodes.values())
    )
    return cluster


def spoil(node: Node, file: SealedFile, *, position: int | None = None) -> None:
    """Flip a bit of a file behind the node's back."""
    inode = node.disk.names[path(file)]
    node.disk.flip(path(file), inode.size - 5 if position is None else position, 3)


def notice(node: Node) -> None:
    """Let the node meet its damage, as its scrub would."""
    from quorumlog.storage.scrub import Scrub

    walk = Scrub(up(node).log)
    while not walk.is_done:
        walk.step(1 << 20)


def is_whole(node: Node) -> bool:
    return node.replica is not None and not node.replica.log.fenced


def assert_equal_files(cluster: Cluster, bases: tuple[int, ...]) -> None:
    """Row 7 and I7: the sealed files of all nodes are the same, byte for byte."""
    for base in bases[:-1]:
        for suffix in SUFFIXES:
            file = SealedFile(base, suffix)
            found = {content(node, file) for node in cluster.nodes.values() if path(file) in node.disk.names}
            assert len(found) <= 1, file


def follower(cluster: Cluster) -> Node:
    leader = cluster.await_leader()
    return next(node for node in cluster.nodes.values() if node is not leader)


class TestRepair:
    @pytest.mark.parametrize("role", ["leader", "follower"])
    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_a_damaged_sealed_file_is_fetched_and_the_cluster_goes_on(self, suffix: str, role: str) -> None:
        """Row 7: alarm, repair, equal files, on the leader as on a follower, while writes go on."""
        cluster = grown()
        node = cluster.await_leader() if role == "leader" else follower(cluster)
        bases = up(node).log.bases
        file = SealedFile(bases[2], suffix)
        before = content(node, file)
        spoil(node, file)
        notice(node)
        assert list(up(node).log.fenced) == [file]
        cluster.run_until(lambda: up(node).alarms.raised == {f"DAMAGE {file.name}"})
        outcomes = [cluster.propose(cluster.await_leader()) for _ in range(5)]
        cluster.run_until(lambda: is_whole(node))
        cluster.run_until(lambda: up(node).alarms.raised == set())
        cluster.run_until(lambda: all(outcomes))
        assert content(node, file) == before
        cluster.run_until(cluster.converged)
        cluster.check()
        assert_equal_files(cluster, bases)

    def test_everything_damaged_at_once_is_repaired(self) -> None:
        cluster = grown()
        node = follower(cluster)
        bases = up(node).log.bases
        for base in bases[:-1]:
            for suffix in SUFFIXES:
                if path(SealedFile(base, suffix)) in node.disk.names:
                    spoil(node, SealedFile(base, suffix))
            spoil(node, SealedFile(base, "log"), position=50)  # the header, too
        notice(node)
        cluster.run_until(lambda: is_whole(node), 60)
        notice(node)
        assert is_whole(node)
        assert_equal_files(cluster, bases)

    def test_damage_that_a_read_meets_is_repaired(self) -> None:
        cluster = grown()
        node = follower(cluster)
        file = SealedFile(up(node).log.bases[1], "log")
        spoil(node, file)
        with pytest.raises(Damaged):
            up(node).log.read(up(node).log.bases[2] - 1)
        cluster.run_until(lambda: is_whole(node))
        for index in range(file.base, up(node).log.bases[2]):
            up(node).log.read(index)

    def test_a_file_that_vanished_is_fetched(self) -> None:
        cluster = grown()
        node = follower(cluster)
        for suffix in ("log", "view", "state"):
            file = SealedFile(up(node).log.bases[1], suffix)
            node.disk.unlink(path(file))
            notice(node)
            assert list(up(node).log.fenced) == [file]
            cluster.run_until(lambda: is_whole(node))
        assert_equal_files(cluster, up(node).log.bases)

    def test_what_was_only_misread_needs_no_peer(self) -> None:
        cluster = grown()
        node = follower(cluster)
        file = SealedFile(up(node).log.bases[1], "log")
        up(node).log.report(Damaged(file.name, 5000, None, "misread"))
        cluster.isolate(node.name)
        cluster.run_until(lambda: is_whole(node))

    def test_an_index_is_made_from_the_log_without_a_peer(self) -> None:
        cluster = grown()
        node = follower(cluster)
        file = SealedFile(up(node).log.bases[1], "index")
        before = content(node, file)
        spoil(node, file)
        notice(node)
        cluster.isolate(node.name)
        cluster.run_until(lambda: is_whole(node))
        assert content(node, file) == before

    def test_damage_that_is_there_when_a_node_starts_is_repaired(self) -> None:
        """A node with damage in a sealed segment takes part from the start."""
        cluster = grown()
        node = follower(cluster)
        bases = up(node).log.bases
        node.kill()
        spoil(node, SealedFile(bases[1], "log"))
        spoil(node, SealedFile(bases[-1], "state"))
        node.start()
        assert list(up(node).log.fenced) == [SealedFile(bases[-1], "state")]
        notice(node)
        cluster.run_until(lambda: is_whole(node))
        cluster.run_until(cluster.converged)
        assert_equal_files(cluster, bases)

    def test_the_scrub_finds_it_by_itself(self) -> None:
        cluster = Cluster(3, seed=1, options=OPTIONS)
        for node in cluster.nodes.values():
            node.settings = {"scrub_bytes_per_s": 1 << 20, "scrub_period_s": 1.0}
        cluster.start()
        leader = cluster.await_leader()
        while len(up(leader).log.bases) < 4:
            cluster.propose(leader, 3000)
            cluster.run(0.02)
        cluster.run_until(cluster.converged)
        cluster.run(2.0)
        node = follower(cluster)
        file = SealedFile(up(node).log.bases[1], "log")
        before = content(node, file)
        spoil(node, file)
        cluster.run_until(lambda: up(node).scrubber.status.found == 1)
        cluster.run_until(lambda: is_whole(node) and content(node, file) == before)
        assert up(node).scrubber.status.walks >= 1

    def test_the_scrub_keeps_to_its_rate_and_period(self) -> None:
        cluster = grown(segments=8)
        node = follower(cluster)
        node.kill()
        node.settings = {"scrub_bytes_per_s": 50_000, "scrub_period_s": 60.0}
        node.start()
        total = sum(each.size_bytes for each in up(node).log.segments if not each.is_active)
        least = total / 50_000
        began = cluster.events.now
        cluster.run_until(lambda: up(node).scrubber.status.walks == 1, 60)
        assert cluster.events.now - began >= 0.7 * least
        cluster.run(began + 59 - cluster.events.now)
        assert up(node).scrubber.status.walks == 1
        cluster.run(2 * least + 5)
        assert up(node).scrubber.status.walks == 2


class TestPeers:
    def damaged(self, seed: int = 1) -> tuple[Cluster, Node, SealedFile, list[Node]]:
        cluster = grown(seed)
        node = cluster.nodes["n1"]
        file = SealedFile(up(node).log.bases[2], "log")
        spoil(node, file)
        return cluster, node, file, [cluster.nodes["n2"], cluster.nodes["n3"]]

    def test_a_bad_copy_at_the_first_peer_is_found_there_and_the_second_one_helps(self) -> None:
        """What is bad at one node must not spread: the peer finds its own damage, and repairs it, too."""
        cluster, node, file, others = self.damaged()
        spoil(others[0], file, position=4200)
        notice(node)
        cluster.run_until(lambda: is_whole(node))
        assert [damage.file for damage in up(others[0]).log.damage] == [file.name]
        cluster.run_until(lambda: is_whole(others[0]))
        assert_equal_files(cluster, up(node).log.bases)

    def test_a_copy_that_was_spoiled_on_its_way_is_not_installed(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Without the check of the copy, this one would be swapped in."""
        cluster, node, _, _ = self.damaged()

        def spoiled(
            sender: str, receiver: str, message: PeerMessage, attachment: bytes | None
        ) -> bytes | None:
            if sender == "n2" and message.HasField("segment_chunk") and attachment:
                return attachment[:-1] + bytes([attachment[-1] ^ 1])
            return attachment

        cluster.network.tamper = spoiled
        notice(node)
        with caplog.at_level(logging.ERROR):
            cluster.run_until(lambda: is_whole(node))
        assert "the copy from n2 is damaged, too" in caplog.text
        assert_equal_files(cluster, up(node).log.bases)

    def test_a_peer_that_leaves_in_the_middle_is_left_for_the_next(self) -> None:
        cluster = grown(size=20_000)
        node = cluster.nodes["n1"]
        file = SealedFile(up(node).log.bases[2], "log")
        spoil(node, file)
        asked = []

        def leave(sender: str, receiver: str, message: PeerMessage) -> bool:
            if message.HasField("segment_chunk") and sender == "n2":
                asked.append(sender)
                cluster.events.after(0.0, lambda: cluster.nodes["n2"].running and cluster.nodes["n2"].kill())
                return True
            return False

        cluster.intercept = leave
        notice(node)
        cluster.run_until(lambda: is_whole(node))
        assert asked

    def test_a_peer_that_does_not_answer_is_given_up(self) -> None:
        cluster, node, _, _ = self.damaged()
        cluster.intercept = lambda sender, receiver, message: (
            sender == "n2" and message.HasField("segment_chunk")
        )
        began = cluster.events.now
        notice(node)
        cluster.run_until(lambda: is_whole(node))
        assert cluster.events.now - began >= ANSWER_S

    def test_when_nobody_can_help_all_are_asked_again(self) -> None:
        cluster, node, file, others = self.damaged()
        for other in others:
            spoil(other, file)
            notice(other)
        notice(node)
        cluster.run(3 * RETRY_S)
        for each in (node, *others):
            assert list(up(each).log.fenced) == [file], "nobody has it, so nobody heals it"
            with pytest.raises(Damaged):
                up(each).log.read(file.base)
        outcome = cluster.propose(cluster.await_leader())
        cluster.run_until(lambda: bool(outcome))
        spoil(others[1], file)  # the same bit: it is right again
        cluster.run_until(lambda: all(is_whole(each) for each in (node, *others)), 60)
        assert_equal_files(cluster, up(node).log.bases)

    def test_answers_that_nobody_asked_for_and_nonsense_change_nothing(self) -> None:
        cluster, node, file, _ = self.damaged()
        replica = up(node)
        session = replica.peers.sessions["n2"]
        before = content(node, file)
        for base, size, data in ((file.base, 10, b"0123456789"), (77, 1 << 60, b"x"), (0, 0, b"")):
            chunk = SegmentChunk(base=base, file=SEGMENT_LOG, size=size)
            replica.receive("n2", session, PeerMessage(segment_chunk=chunk), data)
        assert content(node, file) == before
        notice(node)
        cluster.intercept = lambda sender, receiver, message: message.HasField("fetch_segment")
        cluster.run_until(lambda: replica.repairer._question is not None)
        question = replica.repairer._question
        assert question is not None
        for size, data in ((1 << 40, b"x" * CHUNK_BYTES + b"y"), (3, b"abcd"), (5, b"")):
            chunk = SegmentChunk(base=file.base, file=SEGMENT_LOG, size=size)
            session = replica.peers.sessions[question.peer_id]
            replica.receive(question.peer_id, session, PeerMessage(segment_chunk=chunk), data)
            cluster.run(RETRY_S + 0.1)
            cluster.run_until(lambda: replica.repairer._question is not None, 2 * RETRY_S)
            question = replica.repairer._question
            assert question is not None
        assert list(replica.log.fenced) == [file]

    def test_questions_for_what_is_not_sealed_are_refused(self) -> None:
        cluster = grown()
        node = cluster.nodes["n1"]
        sent: list[tuple[str, SegmentChunk]] = []

        def look(sender: str, receiver: str, message: PeerMessage) -> bool:
            if message.HasField("segment_chunk"):
                sent.append((receiver, message.segment_chunk))
            return False

        cluster.intercept = look
        replica = up(node)
        active = replica.log.bases[-1]
        for base, kind, position in ((active, 0, 0), (7, 0, 0), (1, 9, 0), (1, 2, 0), (1, 0, 1 << 40)):
            fetch = FetchSegment(base=base, file=kind, position=position)  # type: ignore[arg-type]
            replica.receive("n2", replica.peers.sessions["n2"], PeerMessage(fetch_segment=fetch), None)
            cluster.run(0.2)
            assert sent.pop() == (
                "n2",
                SegmentChunk(base=base, file=kind, position=position),  # type: ignore[arg-type]
            )


class TestCrashes:
    @pytest.mark.parametrize("power_loss", [False, True])
    def test_a_kill_at_any_file_operation_of_a_repair_loses_nothing(self, power_loss: bool) -> None:
        """Row 2, for the swap: afterwards the file is the damaged one or the good one, and is mended."""
        killed = 0
        for step in range(1, 40):
            cluster = grown(seed=step, segments=3)
            node = cluster.nodes["n1"]
            file = SealedFile(up(node).log.bases[1], "log")
            good = content(node, file)
            spoil(node, file)
            bad = content(node, file)
            notice(node)
            node.disk.kill_at(step, random.Random(step))
            try:
                cluster.run_until(lambda node=node: is_whole(node), 5)  # type: ignore[misc]
            except PowerCut:
                killed += 1
            else:
                break
            node.kill(power_loss=power_loss)
            assert content(node, file) in (good, bad)
            node.start()
            notice(node)
            cluster.run_until(lambda node=node: is_whole(node))  # type: ignore[misc]
            assert content(node, file) == good
            cluster.run_until(cluster.converged)
            cluster.check()
        else:
            pytest.fail("the repair never ended")
        assert killed > 4

    def test_a_full_disk_postpones_a_repair(self) -> None:
        cluster = grown()
        node = follower(cluster)
        file = SealedFile(up(node).log.bases[2], "log")
        spoil(node, file)
        notice(node)
        node.disk.capacity = node.disk.used() + 100
        cluster.run(RETRY_S)
        assert list(up(node).log.fenced) == [file]
        assert "DISK_FULL" in up(node).alarms.raised
        node.disk.capacity = 1 << 40
        cluster.run_until(lambda: is_whole(node), 60)

    def test_an_fsync_error_of_a_repair_ends_the_node(self) -> None:
        """Row 14."""
        cluster = grown()
        node = follower(cluster)
        file = SealedFile(up(node).log.bases[2], "log")
        spoil(node, file)
        notice(node)
        node.disk.fail("fsync", errno.EIO, name="copy")
        cluster.run_until(lambda: not node.running)
        assert node.exit_code == EXIT_SYNC_FAILED

    def test_a_segment_that_is_dropped_meanwhile_needs_no_repair(self) -> None:
        cluster = grown()
        node = follower(cluster)
        file = SealedFile(up(node).log.bases[0], "log")
        spoil(node, file)
        notice(node)
        cluster.run_until(lambda: up(node).repairer.repairing == file)
        up(node).log.drop_before(up(node).log.bases[1])
        cluster.run_until(lambda: up(node).repairer.repairing is None)
        assert is_whole(node)
        cluster.run(0.5)
        assert not [each for each in node.disk.names if "copy" in each.name]


class TestApplying:
    @pytest.mark.parametrize("index", ["there", "missing"])
    def test_an_entry_in_a_fenced_segment_waits_for_the_repair(self, index: str) -> None:
        """A follower replays through a segment that is damaged: it goes on following, and applies later."""
        cluster = grown()
        node = follower(cluster)
        bases = up(node).log.bases
        node.kill()
        # The newest two states are gone: replay begins before the damaged segment.
        for base in bases[-2:]:
            node.disk.unlink(path(SealedFile(base, "state")))
        spoil(node, SealedFile(bases[-2], "log"))
        if index == "missing":
            node.disk.unlink(path(SealedFile(bases[-2], "index")))
        cluster.intercept = lambda sender, receiver, message: message.HasField("segment_chunk")
        node.start()
        cluster.run(3.0)
        assert up(node).core.applied_index < bases[-1] - 1
        assert up(node).log.fenced
        outcome = cluster.propose(cluster.await_leader())
        cluster.run_until(lambda: bool(outcome))
        cluster.run_until(
            lambda: up(node).journal.last_index == up(cluster.await_leader()).journal.last_index
        )
        cluster.intercept = None
        cluster.run_until(cluster.converged, 60)
        cluster.check()
        assert_equal_files(cluster, bases)

    def test_where_a_header_is_bad_that_replay_needs_the_node_does_not_start(self) -> None:
        """A change of members may be hidden behind it: taking part with an older configuration is unsafe."""
        cluster = grown()
        node = follower(cluster)
        bases = up(node).log.bases
        node.kill()
        for base in bases[-2:]:
            node.disk.unlink(path(SealedFile(base, "state")))
        spoil(node, SealedFile(bases[-2], "log"), position=4096 + 8)
        with pytest.raises(Damaged):
            node.start()

    def test_it_does_not_stand_while_it_waits(self) -> None:
        cluster = grown()
        node = follower(cluster)
        bases = up(node).log.bases
        node.kill()
        for base in bases[-2:]:
            node.disk.unlink(path(SealedFile(base, "state")))
        spoil(node, SealedFile(bases[-2], "log"))
        cluster.intercept = lambda sender, receiver, message: message.HasField("segment_chunk")
        node.start()
        cluster.run(3.0)
        leader = cluster.await_leader()
        outcomes: list[object] = []
        up(leader).transfer(node.name, 2.0, outcomes.append)
        cluster.run_until(lambda: bool(outcomes))
        assert isinstance(outcomes[0], TransferFailed), "it was told to stand"
        assert cluster.await_leader() is leader
        cluster.intercept = None
        cluster.run_until(cluster.converged, 60)
        outcomes.clear()
        up(leader).transfer(node.name, 2.0, outcomes.append)
        cluster.run_until(lambda: outcomes == [node.name])

    def test_damage_in_the_active_segment_ends_a_node_that_has_to_apply_it(self) -> None:
        """What is still written to cannot be repaired beside it: exit code 75, and never a bad entry."""
        cluster = grown()
        node = follower(cluster)
        replica = up(node)
        index = replica.log.last_index
        for suffix in ("log",):
            spoil(node, SealedFile(replica.log.bases[-1], suffix), position=4096 + 60)
        replica.journal._recent.clear()
        index = replica.log.bases[-1]
        with pytest.raises(Fatal) as caught:
            replica._apply(index)
        assert caught.value.exit_code == EXIT_DAMAGED

    def test_damage_in_the_active_segment_is_an_alarm_until_it_is_sealed_and_repaired(self) -> None:
        cluster = grown()
        leader = cluster.await_leader()
        replica = up(leader)
        file = SealedFile(replica.log.bases[-1], "log")
        spoil(leader, file, position=4096 + 60)
        with pytest.raises(Damaged) as caught:
            replica.log.read(file.base)
        replica.alarms.damage(caught.value)
        cluster.run(0.1)
        assert replica.alarms.raised == {f"DAMAGE {file.name}"}
        assert not replica.log.fenced
        while replica.log.bases[-1] == file.base:
            cluster.propose(leader, 3000)
            cluster.run(0.02)
        cluster.run_until(lambda: replica.alarms.raised == set(), 60)
        cluster.run_until(cluster.converged)
        assert_equal_files(cluster, replica.log.bases)


def test_a_follower_that_lacks_what_its_leader_has_fenced_waits_for_the_repair() -> None:
    """The leader never sends what is bad; heartbeats go on, so nobody stands against it."""
    cluster = grown(segments=3)
    leader = cluster.await_leader()
    behind = next(node for node in cluster.nodes.values() if node is not leader)
    behind.kill()
    behind.disk = SimulatedDisk()  # as a new one that takes everything anew
    cluster.forget()
    first = up(leader).log.bases[0]
    spoil(leader, SealedFile(first, "log"))
    notice(leader)
    cluster.intercept = lambda sender, receiver, message: message.HasField("segment_chunk")
    up(leader).journal._recent.clear()
    term = up(leader).core.term
    behind.start()
    cluster.run(3.0)
    assert up(behind).log.last_index < up(leader).log.bases[1]
    assert up(leader).core.term == term
    assert cluster.leader is leader
    cluster.intercept = None
    cluster.run_until(cluster.converged, 60)
    cluster.check()
