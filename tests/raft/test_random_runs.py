"""Random kills, power losses, partitions, broken connections and slow disks; then everything heals.

The seed is in the test's name; the same seed repeats the same run.
"""

from __future__ import annotations

import itertools

import pytest

from quorumlog.raft.proposal import Committed
from quorumlog.raft.proposals import Outcome
from tests.support.simulation import Cluster, Faults

SEEDS = 60
MIXES = ("calm", "power", "network", "slow-disk", "everything")


def disturb(cluster: Cluster, mix: str) -> None:
    """One random fault of the mix."""
    random = cluster.random
    names = cluster.names
    down = [name for name in names if not cluster.nodes[name].running]
    kinds = {
        "calm": ["break"],
        "power": ["kill", "power", "power", "start", "power-all"],
        "network": ["break", "isolate", "one-way", "heal", "pause"],
        "slow-disk": ["slow", "fast", "break", "kill", "start"],
        "everything": [
            "break",
            "isolate",
            "one-way",
            "heal",
            "pause",
            "kill",
            "power",
            "start",
            "slow",
            "fast",
            "power-all",
        ],
    }[mix]
    kind = random.choice(kinds)
    name = random.choice(names)
    node = cluster.nodes[name]
    if kind == "break":
        cluster.disconnect(*random.sample(names, 2))
    elif kind == "isolate":
        cluster.isolate(name)
    elif kind == "one-way":
        cluster.blocked.add(tuple(random.sample(names, 2)))  # type: ignore[arg-type]
    elif kind == "heal":
        cluster.heal()
    elif kind == "pause":
        node.pause(random.uniform(0.1, 3.0))
    elif kind in ("kill", "power") and node.running and len(down) < len(names) // 2:
        node.kill(power_loss=kind == "power")
    elif kind == "power-all":
        for other in cluster.nodes.values():
            if other.running:
                other.kill(power_loss=True)
            other.start()
    elif kind == "start" and down:
        cluster.nodes[random.choice(down)].start()
    elif kind == "slow":
        node.disk_delay = (0.05, random.choice([0.2, 1.0, 3.0]))
    elif kind == "fast":
        node.disk_delay = None


def write(cluster: Cluster) -> Outcome:
    """Propose to whoever leads, and return what became of it."""
    outcomes = cluster.propose(cluster.await_leader())
    cluster.run_until(lambda: bool(outcomes))
    return outcomes[0]


@pytest.mark.parametrize(("seed", "nodes"), [(seed, 5 if seed % 6 == 5 else 3) for seed in range(SEEDS)])
def test_nothing_acknowledged_is_lost_and_the_cluster_heals(seed: int, nodes: int) -> None:
    mix = MIXES[seed % len(MIXES)]
    cluster = Cluster(nodes, seed, Faults(network_delay=(0.0005, 0.02), disk_delay=(0.0003, 0.02)))
    cluster.start()
    sizes = itertools.cycle([50, 50, 2000, 20_000])
    for _ in range(300):
        cluster.run(cluster.random.uniform(0.001, 0.08))
        for node in cluster.nodes.values():
            if node.running and cluster.random.random() < 0.5:
                cluster.propose(node, next(sizes), timeout_s=2.0)
        if cluster.random.random() < 0.12:
            disturb(cluster, mix)
    cluster.heal()
    for node in cluster.nodes.values():
        node.disk_delay = None
        if not node.running:
            node.start()
    cluster.run_until(lambda: cluster.leader is not None and cluster.converged(), seconds=60.0)
    cluster.check()
    cluster.run_until(lambda: isinstance(write(cluster), Committed))
