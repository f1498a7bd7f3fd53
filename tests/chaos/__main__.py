"""python -m tests.chaos: see the package. The last line is one JSON object; exit code 1: a promise broke."""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from tests.chaos.containers import Containers, built_image, engine_here
from tests.chaos.failover import measure
from tests.chaos.processes import Processes
from tests.chaos.run import Options, Report, Run
from tests.chaos.target import Target


def main() -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--on", choices=("compose", "processes"), default=None)
    parser.add_argument(
        "--kills", type=int, default=0, help="measure failover over this many kill -9 of the leader"
    )
    parser.add_argument("--only", default="", help="these kinds of faults alone, separated by commas")
    parser.add_argument(
        "--image", default=None, help="an image that is there, instead of one built for this run"
    )
    options = parser.parse_args()
    seed = random.randrange(2**32) if options.seed is None else options.seed
    # An ended terminal ends the run in order: containers and mounts do not go with the process.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupted)
    directory = Path("var") / "chaos" / f"{time.strftime('%Y%m%d-%H%M%S')}-{seed}"
    directory.mkdir(parents=True)
    with _target(directory / "nodes", seed, options.on, options.image) as target:
        again = f"make chaos MINUTES={options.minutes:g} SEED={seed} ON={target.name}"
        if options.only:
            again += f" ONLY={options.only}"
            target.kinds = [kind for kind in target.kinds if kind in options.only.split(",")]
            assert target.kinds, f"nothing of {options.only} can be done here: {target.missing}"
        more: dict[str, Any] = {}
        if options.kills:
            again = f"make chaos KILLS={options.kills} SEED={seed} ON={target.name}"
            report, more, slow = measure(target, Options(seed, 0), directory, options.kills)
            print(*slow, sep="\n", file=sys.stderr)
        else:
            _introduce(target, again)
            report = Run(target, Options(seed, options.minutes * 60), directory)()
    return _conclude(report, directory, {**more, "seed": seed, "on": target.name}, again)


@contextmanager
def _target(directory: Path, seed: int, on: str | None, image: str | None) -> Iterator[Target]:
    """Containers where there is an engine, local processes elsewhere; or what was asked for."""
    engine = None if on == "processes" else engine_here()
    if engine is None:
        if on == "compose":
            raise SystemExit("no Docker engine answers, or compose is not installed")
        with Processes(directory, seed) as processes:
            yield processes
        return
    with closing(engine), ExitStack() as built:
        tag = image or built.enter_context(built_image(engine))
        yield built.enter_context(Containers(directory, engine, tag))


def _introduce(target: Target, again: str) -> None:
    print(f"{again}      (these faults again)", file=sys.stderr)
    for kind, reason in target.missing.items():
        print(f"without {kind}: {reason}", file=sys.stderr)


def _conclude(report: Report, directory: Path, more: dict[str, Any], again: str) -> int:
    if report.good:
        shutil.rmtree(directory)
    else:
        print(report.verdict, *report.problems, sep="\n", file=sys.stderr)
        print(f"history: {report.where}\nagain: {again}", file=sys.stderr)
    print(json.dumps({**report.summary(), **more}))
    return 0 if report.good else 1


def _interrupted(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
