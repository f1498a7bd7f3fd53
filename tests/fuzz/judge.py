"""How a decoder is judged: what it gives, raises and allocates for some bytes; and how bytes are made."""

from __future__ import annotations

import random
import tracemalloc

from tests.fuzz.targets import Target

_INTERESTING = (
    0,
    1,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    2**63 - 1,
    2**64 - 1,
)


class Misbehaved(AssertionError):
    """The decoder raised what it does not document, or allocated beyond its bound."""


def judge(target: Target, raw: bytes, *, memory: bool = True) -> None:
    """Decode. Raises Misbehaved."""
    if memory:
        tracemalloc.start(1)
    try:
        target.decode(raw)
    except target.errors:
        pass
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        raise Misbehaved(f"{target.name}: {type(error).__name__}: {error}, for {raw[:200]!r}") from error
    finally:
        peak = tracemalloc.get_traced_memory()[1] if memory else 0
        if memory:
            tracemalloc.stop()
    limit = target.allocates + 4 * len(raw)
    if peak > limit:
        raise Misbehaved(f"{target.name}: {peak} bytes allocated, at most {limit}, for {raw[:200]!r}")


def made(target: Target, dice: random.Random) -> bytes:
    """Bytes for a target: noise, or a sample that was changed here and there, with its sums mended or not."""
    if dice.random() < 0.1:
        return dice.randbytes(dice.choice((0, 1, 10, 100, 5000)))
    raw = bytearray(dice.choice(list(target.samples)))
    for _ in range(dice.choice((1, 1, 2, 5, 20))):
        _change(raw, dice)
    if target.seal is not None and dice.random() < 0.7:
        target.seal(raw)
    return bytes(raw)


def _change(raw: bytearray, dice: random.Random) -> None:
    at = dice.randrange(len(raw) + 1)
    match dice.randrange(7):
        case 0 if raw:
            raw[at % len(raw)] ^= 1 << dice.randrange(8)
        case 1:
            width = dice.choice((1, 2, 4, 8))
            value = dice.choice(_INTERESTING) % 2 ** (8 * width)
            raw[at : at + width] = value.to_bytes(width, "little")
        case 2:
            del raw[at : at + dice.randrange(1, 20)]
        case 3:
            raw[at:at] = dice.randbytes(dice.randrange(1, 20))
        case 4:
            raw[at:] = b""
        case 5:
            raw += raw[at : at + 200]
        case 6:
            raw[at:at] = bytes(dice.choice((1, 4, 300)))
