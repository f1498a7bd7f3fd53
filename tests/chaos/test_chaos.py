"""Short rounds of chaos with a fixed seed; `make chaos` has the long ones."""

from __future__ import annotations

import json
import os
from pathlib import Path

import docker
import pytest

from tests.chaos.containers import Containers
from tests.chaos.processes import Processes
from tests.chaos.run import Options, Report, Run
from tests.chaos.target import Target
from tests.conftest import SHOWN_ON_FAILURE

SEED = int(os.environ.get("QUORUMLOG_TEST_SEED", "20"))
HOLD_S_MAX = 1.2  # longer than an election takes
QUIET_S_MAX = 0.3

ON_PROCESSES = (
    "kill_leader",
    "pause_leader",
    "pause_follower",
    "partition_leader",
    "one_way_to_leader",
    "partial_partition",
    "jitter",
    "loss",
    "slow_follower_link",
    "transfer_leadership",
    "remove_and_add_follower",
)
ON_CONTAINERS = (
    "kill_leader",
    "pause_leader",
    "disconnect_leader",
    "partition_leader",
    "one_way_from_leader",
    "loss",
)


@pytest.mark.cluster
@pytest.mark.timeout(300)
def test_a_short_round_on_processes_breaks_no_promise(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Rows 1, 21, 22, 29, 31, 33, 35, 36, 39, 41, 44, 52, 55 and 70: each fault once, under load."""
    with Processes(tmp_path / "nodes", SEED) as target:
        request.node.stash[SHOWN_ON_FAILURE] = [target]
        target.kinds = ON_PROCESSES
        judge(Run(target, each_once(target), tmp_path)(), target)


@pytest.mark.cluster
@pytest.mark.docker
@pytest.mark.timeout(600)
def test_a_short_round_on_containers_breaks_no_promise(
    tmp_path: Path, request: pytest.FixtureRequest, docker_engine: docker.DockerClient, image: str
) -> None:
    """Rows 1, 21, 29, 31, 35 and 70: the same in containers, where whole networks go."""
    with Containers(tmp_path, docker_engine, image) as target:
        request.node.stash[SHOWN_ON_FAILURE] = [target]
        target.kinds = [kind for kind in ON_CONTAINERS if kind not in target.missing]
        judge(Run(target, each_once(target), tmp_path)(), target)


def each_once(target: Target) -> Options:
    """As many faults as there are kinds: the first round draws each of them."""
    return Options(SEED, count=len(target.kinds), hold_s_max=HOLD_S_MAX, quiet_s_max=QUIET_S_MAX)


def judge(report: Report, target: Target) -> None:
    """Every promise was kept, and the round was worth something."""
    summary = report.summary()
    print(json.dumps(summary))
    assert report.good, f"{report.verdict}\n{report.problems}\nhistory: {report.where}"
    # A round that did nothing would prove nothing.
    assert summary["acknowledged"] > 1000
    assert set(target.kinds) <= set(summary["faults"])
