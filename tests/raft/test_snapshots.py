"""Scripts of the simulation: followers that lack what is kept no longer (rows 3, 30, 56; hazard 5)."""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import partial

import pytest

from quorumlog.proto.peer_pb2 import InstallSnapshot, PeerMessage
from quorumlog.raft import snapshots
from quorumlog.raft.alarms import DISK_FULL
from quorumlog.raft.errors import EXIT_SYNC_FAILED, OutcomeUnknown
from quorumlog.raft.progress import State
from quorumlog.raft.proposal import Committed
from quorumlog.raft.replica import Replica
from quorumlog.storage.frame import BadFrame
from tests.raft.test_membership import add, is_voter, join, settled
from tests.simulation.network import Lost
from tests.simulation.script import Cluster, Node
from tests.support.simulated_disk import PowerCut


def up(node: Node) -> Replica:
    assert node.replica is not None
    return node.replica


def write(cluster: Cluster, count: int, size: int = 5000) -> None:
    """Commit so many entries, whoever leads."""
    for _ in range(count):
        outcomes = cluster.propose(cluster.await_leader(), size)
        cluster.run_until(partial(bool, outcomes))
        assert isinstance(outcomes[0], Committed), outcomes


def drop(node: Node, segments: int = 1) -> int:
    """Drop all sealed segments but the last few; return the new start."""
    log = up(node).log
    base = [base for base in log.bases if log.has_state(base)][-segments]
    log.drop_before(base)
    return base


def left_behind(cluster: Cluster, entries: int = 60) -> tuple[Node, Node, Node]:
    """A leader and a follower that have dropped what a third node lacks, which is cut off."""
    leader = settled(cluster)
    write(cluster, 5)
    cluster.run_until(cluster.converged)
    away, other = [node for node in cluster.nodes.values() if node is not leader]
    cluster.isolate(away.name)
    write(cluster, entries)
    cluster.run(1.0)
    assert drop(leader) == drop(other)
    assert up(leader).log.first_index > up(away).journal.last_index + 1
    return leader, other, away


def installs(node: Node) -> bool:
    """Has its log begun anew?"""
    return node.replica is not None and node.replica.log.first_index > 1


@pytest.fixture
def cluster() -> Cluster:
    cluster = Cluster(3, seed=1)
    cluster.start()
    return cluster


def test_a_follower_behind_the_start_installs_the_state_and_catches_up(cluster: Cluster) -> None:
    leader, _, away = left_behind(cluster)
    cluster.heal()
    cluster.run_until(cluster.converged)
    assert up(away).log.first_index == up(leader).log.first_index
    write(cluster, 3)
    cluster.run_until(cluster.converged)
    cluster.check()
    assert all(p.state is State.REPLICATE for p in up(leader).leader.progress.values())


def test_the_files_are_those_of_the_leader_byte_for_byte(cluster: Cluster) -> None:
    """I7: headers included, though the segments before are not there."""
    leader, other, away = left_behind(cluster)
    cluster.heal()
    cluster.run_until(cluster.converged)
    write(cluster, 40)
    cluster.run_until(cluster.converged)
    cluster.run(1.0)
    sealed = up(leader).log.bases[:-1]
    assert len(sealed) > 2
    assert up(away).log.bases == up(other).log.bases == up(leader).log.bases
    for base in sealed:
        contents = {_without_slots(node, base) for node in cluster.nodes.values()}
        assert len(contents) == 1, f"segment {base} differs"
        assert len({_file(node, base, "state") for node in cluster.nodes.values()}) == 1


def _file(node: Node, base: int, suffix: str) -> bytes:
    (inode,) = (i for path, i in node.disk.names.items() if path.name == f"{base:020}.{suffix}")
    return bytes(inode.cached[: inode.size])


def _without_slots(node: Node, base: int) -> bytes:
    """The only part of a log file in which replicas may differ is left out."""
    data = _file(node, base, "log")
    return data[:1024] + data[4096:]


def sends(cluster: Cluster, see: Callable[[str, str, PeerMessage, bytes | None], bytes | None]) -> None:
    """Let `see` look at every message; it returns the attachment that arrives, and raises Lost."""
    before = cluster.network.tamper

    def tamper(sender: str, receiver: str, message: PeerMessage, attachment: bytes | None) -> bytes | None:
        attachment = see(sender, receiver, message, attachment)
        return before(sender, receiver, message, attachment) if before is not None else attachment

    cluster.network.tamper = tamper


class Pieces:
    """Counts the pieces of states that are sent, and does something at one of them."""

    def __init__(self, cluster: Cluster) -> None:
        self.positions: list[int] = []
        self.bases: list[int] = []
        self.events: dict[int, Callable[[bytes], bytes]] = {}  # at the n-th, from 1; gives what arrives
        sends(cluster, self._see)

    def _see(self, sender: str, receiver: str, message: PeerMessage, piece: bytes | None) -> bytes | None:
        if message.WhichOneof("message") == "install_snapshot" and piece is not None:
            self.positions.append(message.install_snapshot.position)
            self.bases.append(message.install_snapshot.base)
            event = self.events.pop(len(self.positions), None)
            return event(piece) if event is not None else piece
        return piece


@pytest.fixture
def pieces(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Pieces:
    """States go out in pieces so small that they are many."""
    monkeypatch.setattr(snapshots, "PIECE_BYTES", 10)
    return Pieces(cluster)


def lose(piece: bytes) -> bytes:
    raise Lost


def corrupt(piece: bytes) -> bytes:
    return bytes([piece[0] ^ 1]) + piece[1:]


def settle(cluster: Cluster) -> None:
    """All run, nothing is cut; everything heals and agrees."""
    cluster.heal()
    for node in cluster.nodes.values():
        if not node.running:
            node.start()
    cluster.run_until(lambda: cluster.leader is not None and cluster.converged())
    write(cluster, 2)
    cluster.run_until(cluster.converged)
    cluster.check()


def test_it_goes_in_pieces_one_after_the_other(cluster: Cluster, pieces: Pieces) -> None:
    left_behind(cluster)
    settle(cluster)
    assert len(pieces.positions) > 5
    assert pieces.positions == list(range(0, 10 * len(pieces.positions), 10))


def _is_over(node: Node, pieces: Pieces) -> bool:
    return not node.running or not pieces.events


@pytest.mark.parametrize("victim", ["sender", "receiver"])
@pytest.mark.parametrize("power_loss", [False, True])
def test_whoever_dies_at_whatever_piece_it_ends_well(victim: str, *, power_loss: bool) -> None:
    """Row 56: kill sender or receiver at every piece."""
    number, count = 0, 1
    while number < count:
        number += 1
        cluster = Cluster(3, seed=number)
        cluster.start()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(snapshots, "PIECE_BYTES", 10)
            pieces = Pieces(cluster)
            leader, _, away = left_behind(cluster)
            node = leader if victim == "sender" else away

            def kill(piece: bytes, cluster: Cluster = cluster, node: Node = node) -> bytes:
                cluster.events.after(0.0, lambda: node.kill(power_loss=power_loss))
                return piece

            pieces.events[number] = kill
            cluster.heal()
            cluster.run_until(partial(_is_over, node, pieces))
            cluster.run(0.5)
            settle(cluster)
            count = len(set(pieces.positions))
            assert up(away).log.first_index > 1
    assert count > 5


def test_a_piece_that_is_lost_comes_again(cluster: Cluster, pieces: Pieces) -> None:
    left_behind(cluster)
    pieces.events = {1: lose, 3: lose}
    settle(cluster)
    assert pieces.positions[:2] == [0, 0]
    assert pieces.positions.count(10) == 2


def test_a_corrupt_piece_is_found_out_and_the_state_fetched_again(cluster: Cluster, pieces: Pieces) -> None:
    """Row 56."""
    _, _, away = left_behind(cluster)
    first = up(away).journal.last_index
    pieces.events = {2: corrupt}
    cluster.heal()
    cluster.run_until(lambda: pieces.positions.count(0) == 2)
    assert up(away).journal.last_index == first  # nothing of it was taken
    settle(cluster)


def test_a_state_that_is_damaged_at_the_leader_is_never_handed_over(cluster: Cluster) -> None:
    leader, _, away = left_behind(cluster)
    base = up(leader).log.first_index
    path = next(path for path in leader.disk.names if path.name == f"{base:020}.state")
    sound = bytes(leader.disk.names[path].cached)
    leader.disk.flip(path, 45, 1)
    cluster.intercept = lambda _, receiver, message: message.HasField("segment_chunk")  # no repair yet
    cluster.heal()
    cluster.run(3.0)
    assert up(leader).alarms.raised == {f"DAMAGE {path.name}"}
    assert up(away).log.first_index == 1
    cluster.intercept = None
    settle(cluster)
    assert bytes(leader.disk.names[path].cached) == sound  # fetched from the other follower
    assert not up(leader).alarms.raised


def test_a_full_disk_refuses_the_state_until_there_is_room(cluster: Cluster) -> None:
    """Row 56: ENOSPC at the install; nothing is lost, nothing ends."""
    _, _, away = left_behind(cluster)
    last, capacity = up(away).journal.last_index, away.disk.capacity
    away.disk.capacity = away.disk.used() + 1000
    cluster.heal()
    cluster.run_until(lambda: DISK_FULL in up(away).alarms.raised)
    cluster.run(2.0)
    assert up(away).journal.last_index == last
    away.disk.capacity = capacity
    settle(cluster)
    assert not up(away).alarms.raised


def test_a_disk_that_is_full_amid_the_install_delays_its_end(cluster: Cluster) -> None:
    _, _, away = left_behind(cluster)
    away.disk.fail("create", errno.ENOSPC, name="manifest", after=1, times=5)
    cluster.heal()
    cluster.run_until(lambda: up(away).snapshots.is_installing)
    cluster.run_until(lambda: DISK_FULL in up(away).alarms.raised)
    settle(cluster)
    assert not up(away).alarms.raised


def test_a_disk_that_fails_in_the_install_ends_the_node(cluster: Cluster) -> None:
    _, _, away = left_behind(cluster)
    away.disk.fail("fsync", errno.EIO, name="install.state.tmp")
    cluster.heal()
    cluster.run_until(lambda: not away.running)
    assert away.exit_code == EXIT_SYNC_FAILED
    settle(cluster)


@pytest.mark.parametrize("power_loss", [False, True])
def test_a_kill_at_every_step_of_the_install_on_disk(*, power_loss: bool) -> None:
    """Rows 3 and 56: the old log or the new one, never half; the node comes back and catches up."""
    step, killed = 0, True
    while killed:
        step += 1
        cluster = Cluster(3, seed=step)
        cluster.start()
        _, _, away = left_behind(cluster)
        away.disk_delay = (0.05, 0.05)  # so that its beginning is seen
        cluster.heal()
        cluster.run_until(lambda away=away: up(away).snapshots.is_installing)
        away.disk.kill_at(step, cluster.random)
        killed = False
        while up(away).snapshots.is_installing:
            try:
                cluster.run(0.001)
            except PowerCut:
                killed = True
                away.kill(power_loss=power_loss)
                break
        away.disk.spare()
        settle(cluster)
    assert step > 15


def test_two_in_a_row(cluster: Cluster, pieces: Pieces) -> None:
    """Row 56: the start moves on while the state is on its way, and once more after the install."""
    leader, other, away = left_behind(cluster)

    def move_on(piece: bytes) -> bytes:
        cluster.events.after(0.0, lambda: (drop(leader), drop(other)))
        return piece

    write(cluster, 30)
    cluster.run(1.0)
    pieces.events = {3: move_on}
    cluster.heal()
    cluster.run_until(lambda: installs(away))
    assert len(set(pieces.bases)) == 2
    assert pieces.positions.count(0) == 2
    settle(cluster)
    cluster.isolate(away.name)
    write(cluster, 60)
    cluster.run(1.0)
    drop(leader)
    drop(other)
    settle(cluster)
    assert len(set(pieces.bases)) == 3
    assert up(away).log.first_index == pieces.bases[-1]


def test_while_others_write(cluster: Cluster, pieces: Pieces) -> None:
    """Row 56: far behind, and writing goes on."""
    left_behind(cluster)
    cluster.heal()
    outcomes = []
    for _ in range(200):
        outcomes.append(cluster.propose(cluster.await_leader(), 3000))
        cluster.run(0.005)
    settle(cluster)
    assert all(isinstance(each[0], Committed) for each in outcomes)


def test_what_a_follower_holds_it_keeps(cluster: Cluster) -> None:
    """Hazard 5: at or below the commit index, or held with the same term: entries may follow."""
    leader, _, away = left_behind(cluster)
    base = up(leader).log.first_index
    late: list[bytes] = []

    def see(sender: str, receiver: str, message: PeerMessage, piece: bytes | None) -> bytes | None:
        if message.WhichOneof("message") == "install_snapshot" and receiver == away.name:
            late.append(message.SerializeToString())
        return piece

    sends(cluster, see)
    settle(cluster)
    first, last = up(away).log.first_index, up(away).journal.last_index
    replies = []
    sends(cluster, lambda s, r, message, piece: replies.append(message) or piece)
    session = cluster.session(away.name, leader.name)
    for raw in late:  # stale ones arrive late, by the same session
        up(away).receive(leader.name, session, PeerMessage.FromString(raw), None)
    cluster.run(0.5)
    answered = [each.snapshot_reply for each in replies if each.HasField("snapshot_reply")]
    assert len(answered) >= len(late)
    assert all(each.installed and each.base == base for each in answered)
    assert (up(away).log.first_index, up(away).journal.last_index) == (first, last)
    settle(cluster)


def test_an_isolated_leader_with_a_tail_of_its_own_gives_it_up_for_the_state(cluster: Cluster) -> None:
    """Row 30: minutes alone with what is not committed, while the others move on and drop; then it heals.

    Its tail reaches beyond what the others dropped, so that only terms tell that it is not theirs.
    """
    old = cluster.await_leader()
    write(cluster, 5)
    cluster.run_until(cluster.converged)
    committed_there = up(old).core.commit_index
    cluster.isolate(old.name)
    tail = [cluster.propose(old, 300_000, timeout_s=1000.0) for _ in range(50)]
    cluster.run(1.0)
    assert up(old).journal.last_index > committed_there
    others = [node for node in cluster.nodes.values() if node is not old]
    cluster.run_until(lambda: cluster.leader in others)
    write(cluster, 40)
    cluster.run(300.0)
    write(cluster, 5)
    cluster.run(1.0)
    for node in others:
        drop(node)
    assert committed_there + 1 < up(others[0]).log.first_index < up(old).journal.last_index
    assert up(old).core.commit_index == committed_there
    cluster.heal()
    cluster.run_until(cluster.converged)
    cluster.run(5.0)
    assert not any(isinstance(outcome, Committed) for each in tail for outcome in each)
    assert up(old).log.first_index == up(others[0]).log.first_index
    settle(cluster)


def test_a_vote_and_an_election_amid_an_install_do_no_harm(cluster: Cluster) -> None:
    """The leader dies while the follower replaces its log: the other two go on, and the install ends."""
    leader, other, away = left_behind(cluster)
    away.disk_delay = (0.5, 1.0)
    cluster.heal()
    cluster.run_until(lambda: up(away).snapshots.is_installing)
    leader.kill()
    cluster.run_until(lambda: cluster.leader is other)
    away.disk_delay = None
    settle(cluster)


def test_proposals_of_a_deposed_leader_end_as_unknown(cluster: Cluster) -> None:
    """What they were about stands before the new beginning: nobody here can say what became of it."""
    old = cluster.await_leader()
    write(cluster, 5)
    cluster.isolate(old.name)
    outcomes = cluster.propose(old, timeout_s=10_000.0)
    cluster.run(0.1)
    others = [node for node in cluster.nodes.values() if node is not old]
    # It waits for long, so that only the install can end it.
    for pending in up(old).proposals._deadlines:
        assert pending[2].deadline > 1000
    cluster.run_until(lambda: cluster.leader in others)
    write(cluster, 60)
    cluster.run(1.0)
    for node in others:
        drop(node)
    settle(cluster)
    assert isinstance(outcomes[0], OutcomeUnknown)


def test_a_cluster_that_begins_again_from_states_and_entries(cluster: Cluster) -> None:
    """Restarts of everybody after drops and an install."""
    left_behind(cluster)
    settle(cluster)
    for power_loss in (False, True):
        for node in cluster.nodes.values():
            node.kill(power_loss=power_loss)
        settle(cluster)


@pytest.mark.parametrize("wrong", ["size", "piece", "previous_base"])
def test_nonsense_ends_the_connection(cluster: Cluster, wrong: str) -> None:
    """What a peer says is bounded before it is believed."""
    leader, _, away = left_behind(cluster)
    session = 10**6
    up(away).peer_connected(leader.name, session, up(leader).standing)
    message = InstallSnapshot(base=1000, previous_base=900, size=10, position=0)
    piece = b"x" * 11
    if wrong == "size":
        message.size = snapshots.STATE_BYTES_MAX + 1
    elif wrong == "previous_base":
        message.previous_base = 1000
    told = PeerMessage(term=up(leader).core.term, install_snapshot=message)
    with pytest.raises(BadFrame):
        up(away).receive(leader.name, session, told, piece)


def test_a_new_node_begins_with_the_state_and_becomes_a_voter(cluster: Cluster) -> None:
    """The members are in the state: the entries that made them are gone."""
    leader = settled(cluster)
    write(cluster, 60)
    cluster.run(1.0)
    for node in cluster.nodes.values():
        drop(node)
    joined = join(cluster, "n4")
    outcomes = add(cluster, leader, "n4")
    cluster.run_until(partial(bool, outcomes))
    assert isinstance(outcomes[0], Committed)
    cluster.run_until(lambda: is_voter(cluster, "n4"))
    cluster.run_until(cluster.converged)
    assert up(joined).log.first_index == up(leader).log.first_index > 1
    assert up(joined).members.current.voters == {"n1", "n2", "n3", "n4"}
    joined.kill(power_loss=True)
    settle(cluster)
    assert up(joined).members.current.voters == {"n1", "n2", "n3", "n4"}
