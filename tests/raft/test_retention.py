"""Retention: what goes, when, and that it goes everywhere alike (rows 3, 4, 24, 48)."""

from __future__ import annotations

import errno
import itertools
from functools import partial

import pytest

from quorumlog.raft.proposal import Committed
from quorumlog.raft.replica import Replica
from quorumlog.raft.retention import (
    KEEP_EVERYTHING,
    PATIENCE_S,
    Candidate,
    RetentionClock,
    RetentionLimits,
    first_to_keep,
)
from quorumlog.storage.errors import Damaged
from tests.simulation.script import Cluster, Faults, Node

HOUR_S = 3600.0
LIMIT_BYTES = 200_000


def up(node: Node) -> Replica:
    assert node.replica is not None
    return node.replica


def started(limits: RetentionLimits, seed: int = 1, count: int = 3) -> Cluster:
    cluster = Cluster(count, seed=seed)
    for node in cluster.nodes.values():
        node.retention = limits
    cluster.start()
    return cluster


def write(cluster: Cluster, count: int, size: int = 5000) -> None:
    for _ in range(count):
        outcomes = cluster.propose(cluster.await_leader(), size)
        cluster.run_until(partial(bool, outcomes))
        assert isinstance(outcomes[0], Committed), outcomes


def starts(cluster: Cluster) -> set[int]:
    return {up(node).log.first_index for node in cluster.nodes.values()}


def candidates(*segments: tuple[int, int]) -> list[Candidate]:
    """From size and time of each."""
    return [
        Candidate(10 * number, 10 * number + 10, size, time_ms)
        for number, (size, time_ms) in enumerate(segments, start=1)
    ]


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (KEEP_EVERYTHING, None),
        (RetentionLimits(size_bytes=1000), None),
        (RetentionLimits(size_bytes=999), None),
        (RetentionLimits(size_bytes=900), 20),  # what is left is enough
        (RetentionLimits(size_bytes=701), 20),
        (RetentionLimits(size_bytes=700), 30),
        (RetentionLimits(size_bytes=1), 40),  # never more than the candidates
        (RetentionLimits(age_s=10), None),
        (RetentionLimits(age_s=9), 20),
        (RetentionLimits(age_s=7.999), 20),
        (RetentionLimits(age_s=7), 30),
        (RetentionLimits(size_bytes=700, age_s=100), 30),  # either is reason enough
        (RetentionLimits(size_bytes=10**9, age_s=1), 40),
    ],
)
def test_what_goes(limits: RetentionLimits, expected: int | None) -> None:
    oldest = candidates((100, 1000), (200, 3000), (300, 5000))
    assert first_to_keep(oldest, 1000, limits, now_ms=10_000) == expected


def test_a_young_segment_keeps_what_is_behind_it() -> None:
    oldest = candidates((100, 9000), (100, 1000))
    assert first_to_keep(oldest, 1000, RetentionLimits(age_s=5), now_ms=10_000) is None


def test_a_segment_without_records_does_not_keep_what_is_behind_it() -> None:
    oldest = candidates((100, 1000), (100, 0), (100, 1000))
    assert first_to_keep(oldest, 1000, RetentionLimits(age_s=5), now_ms=10_000) == 40


class Clocks:
    """A machine's two clocks."""

    def __init__(self) -> None:
        self.monotonic_s = 50.0
        self.wall_ms = 1_000_000
        self.retention = RetentionClock(lambda: self.monotonic_s, lambda: self.wall_ms)

    def after(self, seconds: float, *, jump_s: float = 0.0) -> int:
        """Both go on, read once a second; return the retention clock's distance from the wall in ms."""
        self.wall_ms += int(jump_s * 1000)
        while seconds > 0:
            step = min(seconds, 1.0)
            self.monotonic_s += step
            self.wall_ms += int(step * 1000)
            seconds -= step
            now = self.retention.now_ms()
        return self.wall_ms - now


def test_the_retention_clock_follows_the_wall_clock() -> None:
    assert Clocks().after(1000) == 0


def test_it_does_not_follow_a_jump_ahead_but_walks_towards_it() -> None:
    """Row 24: an hour too early for a minute costs six seconds."""
    clocks = Clocks()
    clocks.after(10)
    assert clocks.after(60, jump_s=HOUR_S) == pytest.approx(HOUR_S * 1000 - 6000, abs=10)
    assert clocks.after(1, jump_s=-HOUR_S) == 0
    assert clocks.after(1, jump_s=HOUR_S) > 3_599_000
    assert clocks.after(10 * HOUR_S) == 0  # in the end it is believed


def test_it_follows_at_once_where_the_wall_clock_is_set_back() -> None:
    assert Clocks().after(1, jump_s=-HOUR_S) == 0


def test_strobing_by_less_than_a_second_does_not_hurry_it() -> None:
    """Row 24."""
    clocks = Clocks()
    for _ in range(1000):
        assert 0 <= clocks.after(1, jump_s=0.2) <= 200
        assert clocks.after(1, jump_s=-0.2) == 0


def test_old_segments_go_everywhere_alike_by_size() -> None:
    cluster = started(RetentionLimits(size_bytes=LIMIT_BYTES))
    write(cluster, 120)
    cluster.run(5.0)
    cluster.run_until(cluster.converged)
    assert len(starts(cluster)) == 1
    for node in cluster.nodes.values():
        log = up(node).log
        assert log.first_index > 1
        assert LIMIT_BYTES <= log.size_bytes < LIMIT_BYTES + 3 * (64 << 10)
        named = {int(path.name[:20]) for path in node.disk.names if path.name[:20].isdigit()}
        assert min(named) == log.first_index, "a file of a dropped segment is still there"
    cluster.check()


def test_nothing_goes_without_limits() -> None:
    cluster = started(KEEP_EVERYTHING)
    write(cluster, 60)
    cluster.run(5.0)
    assert starts(cluster) == {1}


def test_old_segments_go_by_age_and_the_active_one_never_does() -> None:
    cluster = started(RetentionLimits(age_s=600.0))
    write(cluster, 60)
    cluster.run(500.0)
    assert starts(cluster) == {1}
    cluster.run(110.0)
    (start,) = starts(cluster)
    assert start == up(cluster.await_leader()).log.bases[-1]
    write(cluster, 3)
    cluster.run_until(cluster.converged)
    cluster.check()


def test_a_leader_whose_clock_jumps_ahead_deletes_nothing_early() -> None:
    """Row 24: within the minute that the jump lasts, at most six seconds early."""
    cluster = started(RetentionLimits(age_s=600.0))
    write(cluster, 60)
    leader = cluster.await_leader()
    leader.clock_ahead_s = HOUR_S
    cluster.run(60.0)
    write(cluster, 2)
    cluster.run(5.0)
    assert starts(cluster) == {1}
    leader.clock_ahead_s = 0.0
    cluster.run(400.0)
    assert starts(cluster) == {1}
    cluster.run(200.0)
    assert starts(cluster) != {1}


def test_the_limits_of_the_leader_count_for_all() -> None:
    """Row 48: replicas that are configured otherwise, and look at another time, still drop the same."""
    cluster = started(RetentionLimits(size_bytes=LIMIT_BYTES))
    leader = cluster.await_leader()
    for node in cluster.nodes.values():
        if node is not leader:
            node.kill()
            node.retention = RetentionLimits(size_bytes=10 * LIMIT_BYTES, age_s=0.5)
            node.clock_ahead_s = 100 * HOUR_S
            node.start()
            cluster.run(2.0)
    if cluster.await_leader() is leader:
        write(cluster, 120)
        cluster.run(5.0)
        cluster.run_until(cluster.converged)
        sizes = {up(node).log.size_bytes for node in cluster.nodes.values()}
        assert len(starts(cluster)) == len(sizes) == 1
        assert min(sizes) >= LIMIT_BYTES
    assert cluster.leader is leader


def test_a_follower_is_waited_for_a_while_and_then_gets_a_snapshot() -> None:
    cluster = started(RetentionLimits(size_bytes=LIMIT_BYTES))
    leader = cluster.await_leader()
    write(cluster, 10)
    cluster.run_until(cluster.converged)
    slow = next(node for node in cluster.nodes.values() if node is not leader)
    cluster.intercept = lambda _, receiver, message: (
        receiver == slow.name and message.append_entries.count > 0
    )
    write(cluster, 60)
    cluster.run(PATIENCE_S / 2)
    assert up(leader).log.first_index == 1, "nearly there: it is waited for"
    cluster.run(PATIENCE_S)
    assert up(leader).log.first_index > 1
    cluster.intercept = None
    cluster.run_until(cluster.converged)
    cluster.check()


def test_a_follower_that_is_away_is_not_waited_for() -> None:
    cluster = started(RetentionLimits(size_bytes=LIMIT_BYTES))
    leader = cluster.await_leader()
    away = next(node for node in cluster.nodes.values() if node is not leader)
    cluster.isolate(away.name)
    write(cluster, 120)
    cluster.run(3.0)
    assert up(leader).log.first_index > up(away).journal.last_index
    cluster.heal()
    cluster.run_until(cluster.converged)
    assert up(away).log.first_index > 1
    cluster.check()


def test_who_has_not_written_the_state_yet_drops_when_it_has() -> None:
    """A seal that finds the disk full comes later; until then nothing goes there."""
    cluster = started(RetentionLimits(size_bytes=LIMIT_BYTES))
    leader = cluster.await_leader()
    late = next(node for node in cluster.nodes.values() if node is not leader)
    late.disk.fail("create", errno.ENOSPC, name=".view", times=8)
    write(cluster, 60)
    cluster.run(5.0)
    assert up(leader).log.first_index > up(late).log.first_index == 1
    assert up(late).machine.log_start == up(leader).machine.log_start
    write(cluster, 120)
    cluster.run(10.0)
    cluster.run_until(cluster.converged)
    assert len(starts(cluster)) == 1


def test_a_full_disk_puts_a_drop_off() -> None:
    cluster = started(RetentionLimits(size_bytes=LIMIT_BYTES), count=1)
    (node,) = cluster.nodes.values()
    cluster.await_leader()
    node.disk.fail("create", errno.ENOSPC, name="manifest", times=3)
    write(cluster, 60)
    cluster.run(1.5)
    assert up(node).log.first_index == 1
    cluster.run(5.0)
    assert up(node).log.first_index > 1


@pytest.mark.parametrize("power_loss", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_restarts_amid_drops_end_with_the_same_start_everywhere(seed: int, *, power_loss: bool) -> None:
    """Rows 3 and 4: in loops, at random moments; what was not dropped yet goes after the restart."""
    cluster = started(RetentionLimits(size_bytes=LIMIT_BYTES), seed=seed)
    for _ in range(8):
        write(cluster, 15)
        cluster.run(cluster.random.uniform(0.0, 1.5))
        node = cluster.nodes[cluster.random.choice(cluster.names)]
        node.kill(power_loss=power_loss)
        cluster.run(cluster.random.uniform(0.0, 1.0))
        node.start()
    cluster.run(5.0)
    cluster.run_until(cluster.converged, seconds=60.0)
    cluster.run(5.0)
    assert len(starts(cluster)) == 1
    assert min(starts(cluster)) > 1
    states = {
        bytes(inode.cached[: inode.size])
        for node in cluster.nodes.values()
        for path, inode in node.disk.names.items()
        if path.name == f"{up(node).log.bases[-1]:020}.state"
    }
    assert len(states) == 1
    cluster.check()


def test_damage_of_a_view_stops_retention_and_nothing_else() -> None:
    cluster = started(RetentionLimits(age_s=5.0), count=1)
    (node,) = cluster.nodes.values()
    cluster.await_leader()
    write(cluster, 60)
    path = next(path for path in node.disk.names if path.name == f"{1:020}.view")
    node.disk.flip(path, 20, 1)
    cluster.run(10.0)
    assert up(node).alarms.raised == {f"DAMAGE {path.name}"}
    assert up(node).log.first_index == 1
    with pytest.raises(Damaged):
        up(node).log.open_view(1)
    write(cluster, 1)


@pytest.mark.parametrize("seed", range(24))
def test_with_random_faults_nothing_acknowledged_is_lost(seed: int) -> None:
    """Retention, snapshots, kills, power losses, partitions and long absences together."""
    cluster = Cluster(3, seed, Faults(network_delay=(0.0005, 0.02), disk_delay=(0.0003, 0.03)))
    for node in cluster.nodes.values():
        node.retention = RetentionLimits(size_bytes=LIMIT_BYTES)
    cluster.start()
    random = cluster.random
    sizes = itertools.cycle([50, 3000, 20_000])
    for _ in range(250):
        cluster.run(random.uniform(0.001, 0.15))
        for node in cluster.nodes.values():
            if node.running and random.random() < 0.6:
                cluster.propose(node, next(sizes), timeout_s=2.0)
        node = cluster.nodes[random.choice(cluster.names)]
        match random.randrange(30):
            case 0 if all(each.running for each in cluster.nodes.values()):
                node.kill(power_loss=random.random() < 0.5)
            case 1 | 2 | 3 if not node.running:
                node.start()
            case 4:
                cluster.isolate(node.name)
            case 5 | 6:
                cluster.heal()
            case 7:
                cluster.disconnect(*random.sample(cluster.names, 2))
            case 8:
                node.clock_ahead_s = random.choice([0.0, -HOUR_S, HOUR_S])
    cluster.heal()
    for node in cluster.nodes.values():
        if not node.running:
            node.start()
    cluster.run_until(lambda: cluster.leader is not None and cluster.converged(), seconds=60.0)
    cluster.check()
    write(cluster, 1)
