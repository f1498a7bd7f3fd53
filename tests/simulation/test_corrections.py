"""The judge bites: take one correction away, and random runs find that it is missing."""

from __future__ import annotations

import pytest

from tests.simulation.corrections import CORRECTIONS, Correction, without
from tests.simulation.run import run


@pytest.mark.parametrize("correction", CORRECTIONS, ids=lambda each: each.name)
def test_a_correction_that_is_taken_away_is_missed(correction: Correction) -> None:
    """Hazards 1, 2, 3, 5, 10, 13 and 15; row 74."""
    with without(correction):
        for seed in range(correction.seeds):
            if run(seed, correction.nodes, mix=correction.mix).violation is not None:
                return
    pytest.fail(f"{correction.name}: not missed in {correction.seeds} runs of {correction.mix}")


@pytest.mark.parametrize("correction", CORRECTIONS[:3], ids=lambda each: each.name)
def test_a_correction_is_back_afterwards(correction: Correction) -> None:
    patched = [(owner, name) for owner, name, _ in correction.patches()]
    before = [vars(owner)[name] for owner, name in patched]
    with without(correction):
        assert all(
            vars(owner)[name] is not known for (owner, name), known in zip(patched, before, strict=True)
        )
    assert [vars(owner)[name] for owner, name in patched] == before
