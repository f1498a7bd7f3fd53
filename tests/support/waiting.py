"""Waiting for a condition, never for a time: one unit for every deadline of a test, scalable from outside."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TypeVar

# Deadlines are multiples of this. It is generous for a healthy machine; a slow one sets the scale to 3.
UNIT_S = float(os.environ.get("QUORUMLOG_TEST_TIME_SCALE", "1"))

_LOOK_AGAIN_S = (
    0.02  # a short look costs a loopback call at most; more often would slow down what is waited for
)

_Value = TypeVar("_Value")


class NeverHappened(AssertionError):
    """The condition did not come true before its deadline."""


def eventually(condition: Callable[[], _Value | None], what: str, units: float = 20) -> _Value:
    """Return the first true value of `condition`, looked at again and again for `units` time units.

    An exception from it passes through: only a condition that can say "not yet" is waited for.
    Raises NeverHappened with `what` and the last value.
    """
    deadline_s = time.monotonic() + units * UNIT_S
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline_s:
            raise NeverHappened(f"{what}: not within {units * UNIT_S:g} s; last seen: {value!r}")
        time.sleep(_LOOK_AGAIN_S)


def stays(condition: Callable[[], bool], what: str, units: float = 1) -> None:
    """Check that `condition` holds all the time for `units` time units: for what must not happen."""
    deadline_s = time.monotonic() + units * UNIT_S
    while time.monotonic() < deadline_s:
        assert condition(), f"{what}: no longer"
        time.sleep(_LOOK_AGAIN_S)
