"""A seed is worth something only if it repeats its run."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.simulation.__main__ import trace
from tests.simulation.many import Tally, replay_command, simulate
from tests.simulation.run import Outcome, run

SEED = 4  # a little of everything

PRINT_DIGEST = """
import json
from tests.simulation.run import run
outcome = run({seed}, {nodes}, 20.0, "everything")
print(json.dumps([outcome.digest, outcome.acknowledged, outcome.violation]))
"""


def in_a_process_of_its_own(hash_seed: str, nodes: int) -> object:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    program = PRINT_DIGEST.format(seed=SEED, nodes=nodes)
    ran = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    return json.loads(ran.stdout)


@pytest.mark.parametrize("nodes", [3, 5])
def test_a_seed_repeats_its_run_whatever_pythons_hashes_are(nodes: int) -> None:
    assert in_a_process_of_its_own("1", nodes) == in_a_process_of_its_own("2", nodes)


def test_a_run_does_not_depend_on_those_before_it_nor_on_being_traced() -> None:
    first = run(SEED, seconds=10.0)
    run(SEED + 1, seconds=5.0)
    again = run(SEED, seconds=10.0, traced=True)
    assert (first.digest, first.acknowledged) == (again.digest, again.acknowledged)
    assert first.lines == []
    assert len(again.lines) > 100


def test_a_trace_can_be_read(capsys: pytest.CaptureFixture[str]) -> None:
    trace(SEED, nodes=3, seconds=5.0, mix="power")
    lines = capsys.readouterr().out.splitlines()
    assert any("loses power" in line for line in lines)
    assert any("append_entries" in line for line in lines)
    assert any("first to apply" in line for line in lines)


def test_many_runs_are_summed_up() -> None:
    summary = simulate(range(2), nodes=3, seconds=5.0, mix="crashes", workers=1).summary()
    assert (summary["seeds"], summary["violations"]) == (2, 0)
    assert set(summary) >= {"simulated_hours", "acknowledged", "faults"}


def test_a_failure_says_how_to_see_it_again() -> None:
    outcome = Outcome(17, 5, "power", violation="two leaders")
    tally = Tally()
    tally.add(outcome)
    assert tally.summary()["violations"] == 1
    assert replay_command(outcome, 30.0, None) == "make simulate TRACE=17 NODES=5 SECONDS=30"
