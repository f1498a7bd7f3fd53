"""`quorumlog doctor`: what is wrong, and what to do."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from quorumlog.command.connecting import add_connection, add_output, run, servers_of, tls_of
from quorumlog.command.output import counted, print_structured
from quorumlog.command.parser import examples

if TYPE_CHECKING:
    from quorumlog.command.checkup import Check

_DESCRIPTION = """\
Check a cluster from here: can each node be reached, is there a majority, does everybody keep up, are clocks,
disks and certificates in order. What is not ok comes with what to do. Exit code 0: nothing has failed
(warnings do not count), 1: something has.
"""
_STYLES = {"ok": "green", "warning": "yellow", "failed": "bold red", "unknown": "cyan"}
_PIPE_COLUMNS = 1000
_OUTCOMES = ("ok", "warning", "failed", "unknown")


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    doctor = commands.add_parser(
        "doctor",
        help="find out what is wrong, and what to do",
        description=_DESCRIPTION,
        epilog=examples("quorumlog doctor", "quorumlog doctor -o json"),
    )
    add_connection(doctor)
    add_output(doctor)
    doctor.set_defaults(run=lambda options: run(_doctor(options)))


async def _doctor(options: argparse.Namespace) -> int:
    from quorumlog.client.endpoints import parse_servers
    from quorumlog.command.checkup import examine, worst
    from quorumlog.command.examining import collect

    evidence = await collect(parse_servers(servers_of(options)), tls_of(options))
    checks = examine(evidence)
    outcome = worst(checks)
    cluster = evidence.status.cluster if evidence.status is not None else ""
    if not print_structured({"cluster": cluster, "outcome": outcome, "checks": checks}, options):
        _print(checks)
    return 1 if outcome == "failed" else 0


def _print(checks: list[Check]) -> None:
    """Print a line for each check, and what to do below those that are not ok."""
    import sys

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2, 0, 0))
    for _ in range(3):
        table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for check in checks:
        found = check.found if not check.advice else f"{check.found}\ndo: {check.advice}"
        table.add_row(Text(check.outcome, _STYLES[check.outcome]), check.name, check.subject, found)
    width = None if sys.stdout.isatty() else _PIPE_COLUMNS
    console = Console(width=width, highlight=False, markup=False, emoji=False)
    with console.capture() as capture:
        console.print(table)
    for line in capture.get().splitlines():
        print(line.rstrip())
    counts = {outcome: sum(check.outcome == outcome for check in checks) for outcome in _OUTCOMES}
    told = ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count)
    print(f"\n{counted(len(checks), 'check')}: {told}")
