"""`make bench [ONLY=case,...] [PEERS=etcd,nats] [REPEATS=5]`: measure, print a table, keep the results.

A run with ONLY replaces the results of those cases in bench/results/latest.json. Exit code 1: a case failed.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import signal
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path

import uvloop

from bench import limits, machine
from bench.cases import CASES, Case
from bench.result import Kept
from bench.run import PEERS, Run
from bench.table import number, table

RESULTS = Path(__file__).parent / "results" / "latest.json"
WORK = Path("var")  # on the disk of the checkout: a temporary one may be memory
LEAST_REPEATS = 5
STOPPED = 130


async def measure(cases: Sequence[Case], run: Run, kept: Kept) -> list[str]:
    """Run the cases and keep what they find, each at once. Return the names of those that failed."""
    failed: list[str] = []
    for case in cases:
        run.say(f"{', '.join(case.names)} ...")
        run.syncs_ms.clear()
        try:
            async with asyncio.timeout(case.most_s):
                found = await case.work(run)
        except Exception:  # noqa: BLE001  the others shall still be measured
            traceback.print_exc()
            failed.append(case.names[0])
            continue
        for result in found:
            run.say(f"  {result.case}: {number(result.ours.value)} {result.unit}")
        kept.add(found)
    return failed


async def bench(arguments: argparse.Namespace, directory: Path) -> int:
    """Run the cases below `directory`; return the exit code. A signal ends nodes and peers, too."""
    this = asyncio.current_task()
    assert this is not None
    for stop in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(stop, this.cancel)
    machines = await limits.measured(directory)
    run = Run(directory, machines, arguments.repeats, arguments.peers)
    shown = {name: round(value, 3) for name, value in dataclasses.asdict(machines).items()}
    run.say(f"{machine.described()}; {shown}")
    cases = [case for case in CASES if case.is_meant_by(arguments.only)]
    kept = Kept(arguments.results, {**shown, "machine": machine.described()})
    failed = await measure(cases, run, kept)
    print(table(kept.new))
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def names(text: str) -> list[str]:
    """Split what is comma-separated."""
    return [name.strip() for name in text.split(",") if name.strip()]


def main() -> int:
    """Return the exit code."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--only", type=names, default=[], help="cases, or what their names begin with")
    parser.add_argument(
        "--peers", type=names, default=list(PEERS), help=f"of {', '.join(PEERS)}; may be empty"
    )
    parser.add_argument("--repeats", type=int, default=LEAST_REPEATS, help="beside the one that warms up")
    parser.add_argument(
        "--directory", type=Path, default=WORK, help="where clusters keep their data meanwhile"
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="the file that keeps them")
    arguments = parser.parse_args()
    known = [case for case in CASES if case.is_meant_by(arguments.only)]
    if not known or set(arguments.peers) - set(PEERS):
        every = ", ".join(name for case in CASES for name in case.names)
        parser.error(f"expected cases of {every} and peers of {', '.join(PEERS)}")
    arguments.directory.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(
        dir=arguments.directory, prefix="bench-", ignore_cleanup_errors=True
    ) as directory:
        try:
            return uvloop.run(bench(arguments, Path(directory)))
        except asyncio.CancelledError:
            return STOPPED


if __name__ == "__main__":
    sys.exit(main())
