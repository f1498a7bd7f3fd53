"""`make simulate`: run many seeds on all cores, print how it goes, and end with one line of JSON.

    python -m tests.simulation --seeds 2000 --nodes 5        seeds 0 .. 1999
    python -m tests.simulation --trace 17                    one seed, with everything that happened

A seed means the same only with the same nodes, seconds and mix: what a failing run prints says all of them.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys

from tests.simulation.many import Tally, simulate
from tests.simulation.nemesis import MIXES
from tests.simulation.run import SECONDS, Outcome, run


def trace(seed: int, nodes: int, seconds: float, mix: str | None) -> Outcome:
    """Run one seed and print all that happened."""
    outcome = run(seed, nodes, seconds, mix, traced=True)
    print("\n".join(outcome.lines))
    print(f"seed {seed}, mix {outcome.mix}: {outcome.violation or 'nothing is wrong'}")
    return outcome


def main() -> int:
    parser = argparse.ArgumentParser(prog="make simulate", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="how many")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first of them")
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="simulated, with faults, of each run")
    parser.add_argument("--mix", choices=sorted(MIXES), help="this mix of faults instead of the seed's own")
    parser.add_argument("--trace", type=int, help="run this seed alone, and print what happens")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    options = parser.parse_args()
    if options.trace is not None:
        outcome = trace(options.trace, options.nodes, options.seconds, options.mix)
        tally = Tally()
        tally.add(outcome)
    else:
        seeds = range(options.first, options.first + options.seeds)
        logging.disable(logging.CRITICAL)
        tally = simulate(seeds, options.nodes, options.seconds, options.mix, options.workers)
    print(json.dumps(tally.summary()), flush=True)
    return 1 if tally.violations else 0


if __name__ == "__main__":
    sys.exit(main())
