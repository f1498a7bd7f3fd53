"""Rows 70 and 74: random runs from seeds, split so that they share the cores."""

from __future__ import annotations

import pytest

from tests.simulation.many import replay_command
from tests.simulation.nemesis import MIXES
from tests.simulation.run import SECONDS, run

CHUNK = 10
THREE_NODES = 120
FIVE_NODES = 40


def check(seed: int, nodes: int, mix: str | None = None) -> int:
    """Run one seed; return how many records were acknowledged."""
    outcome = run(seed, nodes, SECONDS, mix)
    assert outcome.violation is None, f"{outcome.violation}\nreplay: {replay_command(outcome, SECONDS, mix)}"
    return outcome.acknowledged


@pytest.mark.parametrize(
    ("nodes", "first"),
    [(3, first) for first in range(0, THREE_NODES, CHUNK)]
    + [(5, first) for first in range(0, FIVE_NODES, CHUNK)],
)
def test_whatever_goes_wrong_nothing_that_was_promised_breaks(nodes: int, first: int) -> None:
    acknowledged = sum(check(seed, nodes) for seed in range(first, first + CHUNK))
    assert acknowledged > 0


@pytest.mark.parametrize("mix", sorted(MIXES))
def test_every_mix_of_faults(mix: str) -> None:
    """No mix is left out.

    Rows 17, 18, 19, 21, 24, 25, 29, 30, 31, 32, 33, 37, 38, 39, 41, 44, 48, 51, 52 and 55.
    """
    for seed in (1, 2):
        check(seed, 3, mix)
