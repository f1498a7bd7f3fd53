"""`make bench [ONLY=case,...]`: run the cases on three nodes, print a table, write results/latest.json."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import tempfile
from pathlib import Path

from bench.cases import CASES, Result, Setting
from bench.limits import fdatasync_ms, round_trip_ms
from quorumlog.client import AsyncClient
from quorumlog.client.local_nodes import LocalNodes

RESULTS = Path(__file__).parent / "results"


async def measure(names: list[str], directory: Path) -> list[Result]:
    """Run the named cases on a cluster below `directory`."""
    results = []
    async with LocalNodes(directory, 3) as nodes:
        servers = [node.client_address for node in nodes.nodes]
        async with AsyncClient(servers, connect_timeout_ms=20_000) as client:
            for name in names:
                result = await CASES[name](Setting(nodes, client))
                results.append(result)
                print(line(result), flush=True)
    return results


def line(result: Result) -> str:
    """One row of the table."""
    spread = f"{min(result.values):>12,.0f} {max(result.values):>12,.0f}"
    latency = "" if result.p50_ms is None else f"  p50 {result.p50_ms:.2f} ms  p99 {result.p99_ms:.2f} ms"
    return f"{result.case:<24}{result.value:>12,.0f} {spread} {result.unit}{latency}"


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="cases, comma-separated")
    arguments = parser.parse_args()
    names = [name for name in arguments.only.split(",") if name] or list(CASES)
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as directory:
        limits = {
            "fdatasync_ms": fdatasync_ms(Path(directory)),
            "round_trip_ms": asyncio.run(round_trip_ms()),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "kernel": platform.release(),
        }
        print(
            f"limits: fdatasync {limits['fdatasync_ms']:.2f} ms, round trip {limits['round_trip_ms']:.2f} ms"
        )
        print(f"{'case':<24}{'median':>12} {'min':>12} {'max':>12}")
        results = asyncio.run(measure(names, Path(directory)))
    RESULTS.mkdir(exist_ok=True)
    cases = [
        {
            "case": result.case,
            "value": result.value,
            "min": min(result.values),
            "max": max(result.values),
            "unit": result.unit,
            "p50_ms": result.p50_ms,
            "p99_ms": result.p99_ms,
            "conditions": f"replication 3, sync always; {result.conditions}",
        }
        for result in results
    ]
    text = json.dumps({"limits": limits, "cases": cases}, indent=2)
    (RESULTS / "latest.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
