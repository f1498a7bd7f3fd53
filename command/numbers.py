"""Numbers on the command line: finite, and within limits. What is not is a usage error."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

MAX_SECONDS = 10_000_000.0  # a hundred days and more; in milliseconds it still fits wherever it goes
MAX_INT32 = (1 << 31) - 1


def whole(least: int, most: int) -> Callable[[str], int]:
    """Return the type of an option that takes a whole number from `least` to `most`."""

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"expected a whole number, got {text[:40]!r}") from None
        if not least <= number <= most:
            raise argparse.ArgumentTypeError(f"expected {least} to {most}, got {text[:40]}")
        return number

    return parse


def real(most: float, *, above_zero: bool = False) -> Callable[[str], float]:
    """Return the type of an option that takes a number from 0 (or above it) to `most`."""

    def parse(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"expected a number, got {text[:40]!r}") from None
        if not (math.isfinite(number) and 0 <= number <= most) or (above_zero and number == 0):
            lowest = "more than 0 and at most" if above_zero else "0 to"
            raise argparse.ArgumentTypeError(f"expected {lowest} {most:.0f}, got {text[:40]}")
        return number

    return parse
