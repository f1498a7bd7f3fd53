"""`quorumlog verify`: compare the replicas of a running cluster, or check a stopped node's data directory.

Every node reads its sealed segments from the disk, verifies them and sums them up; the sums are compared
segment by segment. Exit code 0: all are equal and whole, and every node answered.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from quorumlog.client.cli_connect import add_connection, add_output, client_of, run
from quorumlog.client.cli_output import note, print_json, print_table, sized

if TYPE_CHECKING:
    from quorumlog.client.aio import AsyncClient
    from quorumlog.client.comparing import SegmentSum


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "verify",
        help="compare the replicas of the cluster, or check the data directory of a stopped node",
        description=__doc__,
        allow_abbrev=False,
    )
    add_connection(parser)
    add_output(parser)
    parser.add_argument("directory", nargs="?", help="the data directory of a node that does not run")
    parser.add_argument("--json", action="store_true", help="the same as --output json")
    parser.add_argument(
        "--rate",
        type=float,
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
    from quorumlog.client.comparing import compare

    sums: dict[str, list[SegmentSum]] = {}
    silent: dict[str, str] = {}
    async with client_of(options) as client:
        for node in (await client.status()).nodes:
            if node.reachable:
                await _ask(client, node.node_id, options.rate, sums, silent)
            else:
                silent[node.node_id] = node.error
    compared = compare(sums)
    errors = {
        node: {each.base: each.error for each in found if each.error}
        for node, found in sums.items()
        if any(each.error for each in found)
    }
    is_good = not silent and not errors and all(each.is_good for each in compared)
    verdict = "all equal" if is_good else "NOT all equal"
    if as_json:
        print_json({"equal": is_good, "segments": compared, "damage": errors, "no_answer": silent})
        return 0 if is_good else 1
    nodes = sorted(sums)
    titles = ("SEGMENT", "LAST", "SIZE", *nodes)
    rows = [
        (each.base, each.last_index, sized(each.bytes), *(each.nodes[node] for node in nodes))
        for each in compared
    ]
    print_table(titles, rows)
    for name, found in errors.items():
        for base, error in found.items():
            note(f"{name}: segment {base}: {error}")
    for name, error in silent.items():
        note(f"{name}: no answer: {error}")
    print(f"\n{len(compared)} sealed segments on {len(sums)} nodes: {verdict}")
    return 0 if is_good else 1


async def _ask(
    client: AsyncClient, node: str, rate: float, sums: dict[str, Any], silent: dict[str, str]
) -> None:
    from quorumlog.client.errors import QuorumlogError

    try:
        sums[node] = await client.sum_segments(node, bytes_per_second=int(rate * 10**6))
    except QuorumlogError as error:
        silent[node] = error.message
