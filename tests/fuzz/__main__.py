"""`make fuzz [SECONDS=60] [SEED=N] [ONLY=target,...]`: change samples at random until the time is up.

What misbehaves is left in corpus/<target>/, where test_fuzz.py replays it from then on. The last line is one
JSON object: seconds, seed, executions by target, and what was found.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import sys
import time
from pathlib import Path

from tests.fuzz.judge import Misbehaved, judge, made
from tests.fuzz.targets import TARGETS, Target

CORPUS = Path(__file__).parent / "corpus"
# Counting what is allocated makes decoding slower by far.
_MEMORY_SHARE = 0.1


def main() -> int:
    """Return 1 where something misbehaved."""
    parser = argparse.ArgumentParser(prog="make fuzz")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    names = [name for name in options.only.split(",") if name] or list(TARGETS)
    dice = random.Random(options.seed)
    executions = dict.fromkeys(names, 0)
    found: list[str] = []
    end_s = time.monotonic() + options.seconds
    while time.monotonic() < end_s:
        target = TARGETS[dice.choice(names)]
        for _ in range(200):
            raw = made(target, dice)
            executions[target.name] += 1
            try:
                judge(target, raw, memory=dice.random() < _MEMORY_SHARE)
            except Misbehaved as misbehaved:
                found.append(f"{_kept(target, raw)}: {misbehaved}")
                print(found[-1], file=sys.stderr, flush=True)
                break
    print(
        json.dumps(
            {"seconds": options.seconds, "seed": options.seed, "executions": executions, "found": found}
        )
    )
    return 1 if found else 0


def _kept(target: Target, raw: bytes) -> Path:
    file = CORPUS / target.name / hashlib.sha256(raw).hexdigest()[:16]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(raw)
    return file


if __name__ == "__main__":
    sys.exit(main())
