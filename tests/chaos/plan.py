"""Which fault comes next. Pure: everything is drawn from a seed, and from what the target can do.

The same seed draws the same faults in the same order; when they fall is the machine's affair. A run draws its
own weights first: uniform mixes miss defects that need one kind again and again. Every kind comes once before
the weights count, in an order of the seed, so that a short run sees many.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

# Kinds by what a target must be able to do for them.
ALWAYS: Final = (
    "kill_leader",
    "kill_follower",
    "kill_majority",
    "kill_all",
    "pause_leader",
    "pause_follower",
    "pause_majority",
    "stop_leader",
    "rolling_restart",
    "restart_all",
    "disconnect_leader",
    "disconnect_follower",
)
LINKS: Final = (
    "partition_leader",
    "partition_halves",
    "one_way_to_leader",
    "one_way_from_leader",
    "partial_partition",
    "flapping_link",
    "bridge",
)
DELAYS: Final = ("delay", "jitter")
LOSSES: Final = ("loss",)
REORDERS: Final = ("reorder", "duplicate")
RATES: Final = ("slow_follower_link",)
DISKS: Final = ("fill_disk",)
BIT_FLIPS: Final = ("bit_flip",)
TRANSFERS: Final = ("transfer_leadership",)
MEMBERS: Final = ("remove_and_add_follower", "remove_and_add_leader")
WIPES: Final = ("wipe_follower",)

KINDS: Final = (
    *ALWAYS,
    *LINKS,
    *DELAYS,
    *LOSSES,
    *REORDERS,
    *RATES,
    *DISKS,
    *BIT_FLIPS,
    *TRANSFERS,
    *MEMBERS,
    *WIPES,
)

HOLD_S_MIN, HOLD_S_MAX = 0.5, 10.0  # how long a fault lasts; short ones meet elections half-way
PAUSE_S_MIN, PAUSE_S_MAX = 0.2, 2.0  # between two faults, after writes have resumed

# A second fault on top of one that only makes the network worse.
BACKGROUND: Final = frozenset((*DELAYS, *LOSSES, *REORDERS, *RATES))
COMPOUND_CHANCE: Final = 0.5


@dataclass(frozen=True, slots=True)
class Step:
    """One fault: how long it holds, what comes on top while it does, how long it is quiet afterwards."""

    kind: str
    hold_s: float
    quiet_s: float
    seed: int  # for whatever else the fault draws: which node, how slow
    on_top: str = ""


def steps(
    seed: int, kinds: Sequence[str], *, hold_s_max: float = HOLD_S_MAX, quiet_s_max: float = PAUSE_S_MAX
) -> Iterator[Step]:
    """Draw faults without end."""
    dice = random.Random(f"plan {seed}")
    weights = {kind: dice.choice((0.3, 1.0, 1.0, 3.0)) for kind in kinds}
    first = list(kinds)
    dice.shuffle(first)
    while True:
        kind = first.pop() if first else dice.choices(kinds, [weights[kind] for kind in kinds])[0]
        yield _step(dice, kind, kinds, hold_s_max, quiet_s_max)


def _step(
    dice: random.Random, kind: str, kinds: Sequence[str], hold_s_max: float, quiet_s_max: float
) -> Step:
    # Short ones are as likely as long ones: what an election timeout decides happens below a second.
    hold_s = HOLD_S_MIN * (hold_s_max / HOLD_S_MIN) ** dice.random()
    quiet_s = dice.uniform(PAUSE_S_MIN, quiet_s_max)
    on_top = ""
    others = [other for other in kinds if other.startswith(("kill_", "pause_", "stop_"))]
    if kind in BACKGROUND and others and dice.random() < COMPOUND_CHANCE:
        on_top = dice.choice(others)
    return Step(kind, round(hold_s, 2), round(quiet_s, 2), dice.randrange(2**32), on_top)
