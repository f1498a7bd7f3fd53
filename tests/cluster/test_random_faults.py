"""Random faults on real processes, one after the other, under load from several producers.

A run prints its seed; QUORUMLOG_TEST_SEED=N repeats its choices (not its timing, which is the machine's), and
QUORUMLOG_TEST_ROUNDS=N makes it as long as you like.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from contextlib import ExitStack

from tests.cluster.load import Load, check_replica
from tests.cluster.test_crashes import SMALL_SEGMENTS, check_logs_are_equal
from tests.conftest import StartCluster
from tests.support.nodes import NodeCluster

TOPIC = "events"
ROUNDS = int(os.environ.get("QUORUMLOG_TEST_ROUNDS", "8"))

Fault = Callable[[NodeCluster, random.Random], None]


def test_random_faults_lose_nothing(start_cluster: StartCluster) -> None:
    seed = int(os.environ.get("QUORUMLOG_TEST_SEED", random.randrange(2**32)))
    print(f"seed {seed}")  # pytest shows it with a failure
    dice = random.Random(seed)
    cluster = start_cluster(settings=SMALL_SEGMENTS)
    cluster.replica("n1").create_topic(TOPIC)
    with ExitStack() as running:
        loads = [
            running.enter_context(Load("leader", cluster.bootstrap_servers, TOPIC)),
            running.enter_context(Load("any", cluster.bootstrap_servers, TOPIC, route="any")),
        ]
        for number in range(ROUNDS):
            fault = dice.choice(FAULTS)
            print(f"round {number}: {fault.__name__}")
            fault(cluster, dice)
            cluster.start()
            for load in loads:
                load.wait_for_more(units=60)
        promised = [one for load in loads for one in load.finish()]
    cluster.wait_for_leader()
    for node in cluster:
        check_replica(cluster.replica(node.node_id), TOPIC, promised)
    check_logs_are_equal(cluster)


def kill_one(cluster: NodeCluster, dice: random.Random) -> None:
    """Any node, the leader as likely as the others."""
    cluster[dice.choice(cluster.running)].kill()


def kill_the_leader(cluster: NodeCluster, dice: random.Random) -> None:
    """The node that leads; the others go on before it is started again."""
    cluster[cluster.wait_for_leader()].kill()
    cluster.wait_for_leader()


def kill_two(cluster: NodeCluster, dice: random.Random) -> None:
    """A majority, one right after the other."""
    for name in dice.sample(cluster.running, 2):
        cluster[name].kill()


def kill_all(cluster: NodeCluster, dice: random.Random) -> None:
    """Every node at once."""
    cluster.kill_all()


def stop_one(cluster: NodeCluster, dice: random.Random) -> None:
    """A graceful end of any node."""
    cluster[dice.choice(cluster.running)].stop()


def let_the_leader_sleep(cluster: NodeCluster, dice: random.Random) -> None:
    """Until the others have another one."""
    leader = cluster.wait_for_leader()
    cluster[leader].pause()
    cluster.wait_for_leader([name for name in cluster.running if name != leader])
    cluster[leader].resume()


def let_the_leader_sleep_and_kill_a_follower(cluster: NodeCluster, dice: random.Random) -> None:
    """No majority is left: when the old leader wakes up, what it had under way meets what is there."""
    leader = cluster.wait_for_leader()
    cluster[leader].pause()
    cluster[dice.choice([name for name in cluster.running if name != leader])].kill()
    cluster[leader].resume()


FAULTS: tuple[Fault, ...] = (
    kill_one,
    kill_the_leader,
    kill_two,
    kill_all,
    stop_one,
    let_the_leader_sleep,
    let_the_leader_sleep_and_kill_a_follower,
)
