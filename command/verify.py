"""`quorumlog verify`: compare the replicas of a running cluster, or check a stopped node's data directory."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, NoReturn

from quorumlog.command.connecting import add_connection, add_output, client_of, run
from quorumlog.command.numbers import real
from quorumlog.command.output import complain, print_json, print_structured, print_table, sized
from quorumlog.command.parser import examples

if TYPE_CHECKING:
    from quorumlog.client.comparing import Comparison


_MAX_RATE = 1e9  # MB/s; in bytes it still fits 64 bits
_DESCRIPTION = """\
Compare the replicas of a running cluster, or check a stopped node's data directory. Every node reads its
sealed segments from the disk, verifies them and sums them up; the sums are compared segment by segment. Exit
code 0: all are equal and whole, and every node answered.
"""


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "verify",
        help="compare the replicas of the cluster, or check the data directory of a stopped node",
        description=_DESCRIPTION,
        epilog=examples(
            "quorumlog verify                      compare the nodes that run",
            "quorumlog verify /var/lib/quorumlog   check a node that is stopped",
        ),
    )
    add_connection(parser)
    add_output(parser)
    parser.add_argument(
        "directory", metavar="DIR", nargs="?", help="the data directory of a node that does not run"
    )
    parser.add_argument("--json", action="store_true", help="the same as --output json")
    parser.add_argument(
        "--rate",
        type=real(_MAX_RATE),
        default=0.0,
        metavar="MB/s",
        help="how fast each node reads (default: its own, 64)",
    )
    parser.set_defaults(run=_verify)


def _verify(options: argparse.Namespace) -> int:
    as_json = options.json or options.output == "json"
    if options.directory is not None:
        _check_directory(options.directory, as_json=as_json)
    return run(_compare(options, as_json=as_json))


def _check_directory(directory: str, *, as_json: bool) -> NoReturn:
    # A process of its own: the client imports nothing of the node.
    arguments = [sys.executable, "-m", "quorumlog.node.verify", directory, *(["--json"] if as_json else [])]
    os.execv(sys.executable, arguments)


async def _compare(options: argparse.Namespace, *, as_json: bool) -> int:
    async with client_of(options) as client:
        found = await client.compare_replicas(bytes_per_second=int(options.rate * 10**6))
    as_value = {
        "equal": found.equal,
        "segments": found.segments,
        "damage": found.damage,
        "no_answer": found.no_answer,
    }
    if as_json:
        print_json(as_value)
    elif not print_structured(as_value, options):
        _show(found)
    return 0 if found.equal else 1


def _show(found: Comparison) -> None:
    titles = ("SEGMENT", "LAST", "SIZE", *found.nodes)
    rows = [
        (each.base, each.last_index, sized(each.bytes), *(each.nodes[node] for node in found.nodes))
        for each in found.segments
    ]
    print_table(titles, rows)
    for name, damage in found.damage.items():
        for base, error in damage.items():
            complain(f"{name}: segment {base}: {error}")
    for name, error in found.no_answer.items():
        complain(f"{name}: no answer: {error}")
    verdict = "all equal" if found.equal else "NOT all equal"
    print(f"\n{len(found.segments)} sealed segments on {len(found.nodes)} nodes: {verdict}")
