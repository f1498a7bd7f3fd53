"""Payloads of 100 B that say when they should have been sent, by the clock that all processes share."""

from __future__ import annotations

import struct
import time

_STAMP = struct.Struct("<d92x")


def stamp(moment_s: float) -> bytes:
    """Return the payload for a moment of time.perf_counter()."""
    return _STAMP.pack(moment_s)


def age_s(payload: bytes | None) -> float:
    """Return how long ago it should have been sent."""
    now_s = time.perf_counter()
    assert payload is not None
    moment_s: float = _STAMP.unpack(payload)[0]
    return now_s - moment_s
