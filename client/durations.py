"""How long: "90s", "5m", "1h30m", "2d12h". Units are s, m, h and d, largest first, each at most once."""

from __future__ import annotations

import datetime as dt
import re

EXPECTED = "a duration such as 90s, 5m, 1h30m or 2d12h"

_PATTERN = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?", re.ASCII)


def parse_duration(text: str) -> dt.timedelta:
    """Return how long `text` means. Raises ValueError."""
    match = _PATTERN.fullmatch(text)
    if match is None or not text:
        raise ValueError(f"expected {EXPECTED}, got {text!r}")
    days, hours, minutes = (int(part or 0) for part in match.groups()[:3])
    try:
        return dt.timedelta(days=days, hours=hours, minutes=minutes, seconds=float(match[4] or 0))
    except OverflowError:
        raise ValueError(f"expected at most {dt.timedelta.max.days} days, got {text!r}") from None
