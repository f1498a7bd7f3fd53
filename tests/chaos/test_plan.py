"""What a seed draws."""

from __future__ import annotations

from itertools import islice

from tests.chaos.nemesis import Nemesis
from tests.chaos.plan import BACKGROUND, HOLD_S_MAX, HOLD_S_MIN, KINDS, steps


def test_a_seed_draws_the_same_faults_again() -> None:
    assert list(islice(steps(7, KINDS), 100)) == list(islice(steps(7, KINDS), 100))
    assert list(islice(steps(7, KINDS), 100)) != list(islice(steps(8, KINDS), 100))


def test_every_kind_comes_before_any_comes_again() -> None:
    assert {step.kind for step in islice(steps(7, KINDS), len(KINDS))} == set(KINDS)


def test_seeds_differ_in_what_they_prefer() -> None:
    def share(seed: int) -> float:
        kinds = [step.kind for step in islice(steps(seed, KINDS), len(KINDS), 1000)]
        return kinds.count("kill_leader") / len(kinds)

    shares = [share(seed) for seed in range(20)]
    assert max(shares) > 3 * min(shares)


def test_faults_last_within_their_bounds_and_only_bad_networks_have_something_on_top() -> None:
    drawn = list(islice(steps(7, KINDS), 1000))
    assert all(HOLD_S_MIN <= step.hold_s <= HOLD_S_MAX for step in drawn)
    assert {step.kind for step in drawn if step.on_top} == BACKGROUND


def test_the_nemesis_can_do_every_kind() -> None:
    assert all(callable(getattr(Nemesis, kind, None)) for kind in KINDS)
