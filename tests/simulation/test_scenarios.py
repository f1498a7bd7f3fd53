"""Scripts with whole nodes and real clients: what random runs see rarely, played on purpose."""

from __future__ import annotations

import errno

import pytest

from quorumlog.client.errors import QuorumlogError
from quorumlog.proto import service_pb2
from quorumlog.raft.errors import EXIT_SYNC_FAILED
from quorumlog.raft.retention import RetentionLimits
from quorumlog.storage.log import LogOptions
from tests.simulation.clients import ATTEMPT_TIMEOUT_S, Client, Producer
from tests.simulation.cluster import Cluster
from tests.simulation.history import Violation
from tests.simulation.node import Node
from tests.simulation.run import TOPIC, Audit

SMALL = LogOptions(segment_bytes=64 << 10, segment_entries=20, reserve_bytes=64 << 10)


class Play:
    """A cluster with a topic, and a producer that sends what it is told."""

    def __init__(self, seed: int = 1, count: int = 3, retention: RetentionLimits | None = None) -> None:
        self.cluster = Cluster(count, seed, options=SMALL)
        if retention is not None:
            self.cluster.retention = retention
        self.cluster.start()
        self.leader = self.cluster.await_leader()
        self.client = Client(self.cluster, "client")
        request = service_pb2.CreateTopicRequest(name=TOPIC, partitions=1)
        task = self.client.loop.spawn(
            self.client.call("CreateTopic", request.SerializeToString(), 5.0, write=True)
        )
        self.cluster.run_until(task.done)
        self.producer = Producer(self.cluster, "p", TOPIC, 1, rate=1e-9, size=100)

    def send(self, count: int = 1) -> None:
        """Send records, one after the other, and wait until each is acknowledged."""
        for _ in range(count):
            self.producer.send()
            self.cluster.run_until(lambda: self.producer.done)

    def fetch(self, node: Node, consistency: str, min_index: int = 0) -> service_pb2.FetchResponse | None:
        """Ask one node for what is at the end; None: it did not answer well."""
        floor = self.cluster.history.floor(TOPIC, 0) if consistency == "linearizable" else 0
        request = service_pb2.FetchRequest(
            topic=TOPIC,
            consistency=f"CONSISTENCY_{consistency.upper()}",  # type: ignore[arg-type]
            min_raft_index=min_index,
        )
        task = self.client.loop.spawn(self._ask(f"{node.name}:9650", request))
        self.cluster.run_until(task.done)
        response = task.result()
        if response is not None:
            self.cluster.history.read(
                node.name, TOPIC, 0, request.offset, response, min_index=min_index, floor=floor
            )
        return response

    async def _ask(self, address: str, request: service_pb2.FetchRequest) -> service_pb2.FetchResponse | None:
        try:
            raw, _ = await self.cluster.calls.unary(
                self.client.loop, address, "Fetch", request.SerializeToString(), ATTEMPT_TIMEOUT_S
            )
        except QuorumlogError:
            return None
        return service_pb2.FetchResponse.FromString(raw)

    def others(self, node: Node) -> list[Node]:
        return [other for other in self.cluster.nodes.values() if other is not node]

    def end(self) -> None:
        """Heal, let everybody get level, and compare."""
        self.cluster.heal()
        for node in self.cluster.nodes.values():
            node.disk_delay = None
            if not node.running:
                node.start()
        self.cluster.run_until(lambda: self.cluster.leader is not None and self.cluster.converged(), 60.0)
        self.send()
        self.cluster.run_until(self.cluster.converged, 10.0)  # followers learn of the commit a moment later
        Audit(self.cluster, TOPIC).check()


def test_a_leader_that_is_alone_for_minutes_while_the_others_drop_what_it_lacks() -> None:
    """Hazards 5 and 22, row 30: its tail is never acknowledged nor seen; it begins anew with a state."""
    play = Play(retention=RetentionLimits(size_bytes=64 << 10))
    play.send(5)
    old = play.leader
    play.cluster.isolate(old.name)
    play.cluster.run_until(lambda: play.cluster.leader not in (None, old))
    for _ in range(20):
        play.send(10)
        play.cluster.run(10.0)
    leader = play.cluster.await_leader()
    assert leader.engine.log.first_index > old.engine.log.last_index
    assert play.cluster.history.moves >= 2
    play.cluster.heal()
    play.cluster.run_until(lambda: old.engine.log.first_index > 1, 20.0)
    play.end()


@pytest.mark.parametrize("consistency", ["committed", "session", "linearizable"])
def test_a_leader_that_wakes_up_after_it_was_replaced(consistency: str) -> None:
    """Hazard 13, rows 21 and 43: cut off, it finds answers to its old heartbeats, and believes to lead."""
    believed = sum(_wakes_up(consistency, 0.01 * number) for number in range(12))
    assert believed > 0


def _wakes_up(consistency: str, moment_s: float) -> bool:
    """Put the leader to sleep at that moment between two heartbeats; return whether it believed to lead."""
    play = Play()
    play.send(3)
    old = play.leader
    token = play.cluster.history.last_index
    play.cluster.network.lag[old.name] = (0.02, 0.02)  # answers to its heartbeats are on their way
    play.cluster.run(0.3 + moment_s)
    old.pause(4.0)  # its producer needs some of it to find the next one
    play.cluster.run(0.3)
    play.cluster.isolate(old.name)
    play.cluster.run_until(lambda: play.cluster.leader not in (None, old), 5.0)
    play.send()
    assert play.cluster.events.now < old.loop.paused_until
    play.cluster.run(max(0.0, old.loop.paused_until - play.cluster.events.now) + 0.001)
    assert old.replica is not None
    believes = old.replica.is_leader
    response = play.fetch(old, consistency, token if consistency == "session" else 0)
    if consistency == "linearizable":
        assert response is None
    else:
        assert response is not None
        assert response.applied_index < play.cluster.history.last_index
    play.end()
    play.cluster.close()
    return believes


def test_the_next_majority_is_made_of_those_that_lost_power() -> None:
    """Hazard 3, row 19: what was acknowledged is durable at one of them, though the third has it, too."""
    play = Play(seed=3)
    play.send(3)
    ahead = play.leader
    behind = play.others(ahead)
    for node in behind:
        node.disk_delay = (0.4, 0.5)
    play.producer.send()
    play.cluster.run(0.2)
    assert not play.producer.done, "acknowledged, though no second disk has it"
    play.producer.send()
    play.cluster.run(0.5)
    for node in behind:
        node.kill(power_loss=True)
        node.start()
    play.cluster.isolate(ahead.name)
    play.cluster.run_until(lambda: play.cluster.leader in behind)
    play.end()


def test_copies_that_were_found_in_the_page_cache_are_made_durable_before_they_count() -> None:
    """Hazard 3 (seen), row 19: a tail that survived a kill does not survive the power loss after it."""
    play = Play(seed=4)
    play.send(3)
    leader = play.leader
    behind = play.others(leader)
    for node in behind:
        node.disk_delay = (30.0, 30.0)
    play.producer.send()
    play.cluster.run(0.1)
    assert all(node.engine.log.durable_index < node.engine.log.last_index for node in behind)
    node = behind[0]
    node.kill()
    node.start()
    play.cluster.run_until(lambda: play.producer.done, 5.0)
    for each in behind:
        each.kill(power_loss=True)
        each.disk_delay = None
        each.start()
    play.cluster.isolate(leader.name)
    play.cluster.run_until(lambda: play.cluster.leader in behind)
    play.end()


def test_a_node_whose_sync_failed_ends_and_finds_out_what_it_lost() -> None:
    """Hazard 3, row 14, I9: its own exit code; the pages that the kernel called clean are not believed."""
    play = Play(seed=5)
    play.send(3)
    victim = play.others(play.leader)[0]
    victim.allowed_exits.add(EXIT_SYNC_FAILED)
    victim.disk.fail("fdatasync", errno.EIO)
    play.send()
    play.cluster.run_until(lambda: victim.exit_code is not None)
    assert victim.exit_code == EXIT_SYNC_FAILED
    while not victim.running:
        victim.start()
    play.end()


def test_a_node_that_ends_without_a_reason_is_noticed() -> None:
    """I9: the judge of the judge."""
    play = Play(seed=5)
    play.others(play.leader)[0].disk.fail("fdatasync", errno.EIO)
    with pytest.raises(Violation, match="no reason"):
        play.send(3)


def test_two_of_three_elect_with_the_third_at_a_higher_term() -> None:
    """Hazard 12 (seen): a refusal tells the term, and who asks takes it over; nobody is stuck for ever."""
    play = Play(seed=6)
    play.send(2)
    ahead, other = play.others(play.leader)
    assert ahead.replica is not None
    play.cluster.isolate(ahead.name)
    ahead.replica.core.adopt_term(ahead.replica.core.term + 7, other.name)
    play.leader.kill()
    play.cluster.heal()
    play.cluster.run_until(lambda: play.cluster.leader is not None, 10.0)
    play.send()
    play.end()


def test_a_node_that_hears_nobody_does_not_disturb_the_others_when_it_is_back() -> None:
    """Hazard 12, row 33: it comes back with the term that it left with."""
    play = Play(seed=7)
    play.send()
    away = play.others(play.leader)[0]
    term = play.leader.engine.term
    play.cluster.isolate(away.name)
    play.cluster.run(60.0)
    play.send()
    play.cluster.heal()
    play.cluster.run(10.0)
    play.send()
    assert play.cluster.leader is play.leader
    assert play.leader.engine.term == away.engine.term == term
    play.end()


def test_a_node_that_is_back_is_elected_with_when_the_leader_dies_next() -> None:
    """Kills in quick succession: those that are left must have found each other again."""
    assert max(_elects_after_s(seed) for seed in range(8)) < 0.5


def _elects_after_s(seed: int) -> float:
    """Kill the leader as soon as it has a follower back; return how long the next election takes."""
    play = Play(seed=seed)
    play.send()
    dialling, away = sorted(play.others(play.leader), key=lambda node: node.name)
    away.kill()
    play.cluster.run(3.0)  # it was dialled in vain, more and more rarely
    away.start()
    play.cluster.run_until(lambda: away.running and away.engine.leader_id == play.leader.name)
    play.leader.kill()
    began = play.cluster.events.now
    play.cluster.run_until(lambda: play.cluster.leader in (dialling, away))
    elected = play.cluster.events.now
    play.end()
    play.cluster.close()
    return elected - began


def test_a_leader_that_was_killed_and_leads_again_is_written_to_without_delay() -> None:
    """What it was a moment ago does not count against what the others say of it now."""
    assert max(_writes_after_s(seed) for seed in range(8)) < 0.5


def _writes_after_s(seed: int) -> float:
    """Kill the leader and have it back as the leader; return how long the next write takes."""
    play = Play(seed=seed)
    play.send()
    first = play.leader
    first.kill()
    play.send()
    second = play.cluster.await_leader()
    first.start()
    play.cluster.run_until(lambda: first.running and play.cluster.converged(), 1.0)
    second.loop.spawn(second.engine.transfer_leadership(first.name, 1.0))
    play.cluster.run_until(lambda: play.cluster.leader is first, 1.0)
    began = play.cluster.events.now
    play.send()
    acknowledged = play.cluster.events.now
    play.end()
    play.cluster.close()
    return acknowledged - began
