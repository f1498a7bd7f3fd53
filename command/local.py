"""`quorumlog local`: three nodes on this machine, tried with real input. See local.py."""

from __future__ import annotations

import argparse

from quorumlog.command.connecting import run
from quorumlog.command.parser import examples


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "local",
        help="three nodes on this machine, tried with real input",
        description="Start nodes on this machine, produce a file line by line through a follower, read it "
        "back from another one, compare, and go on serving until Ctrl-C.",
        epilog=examples(
            "quorumlog local --directory /tmp/quorumlog",
            "quorumlog local --input app.log --once      and kill the leader meanwhile",
        ),
    )
    parser.add_argument("-d", "--directory", default="var", metavar="DIR", help="for data (default: var)")
    parser.add_argument("-i", "--input", metavar="FILE", help="default: a log of this machine")
    parser.add_argument("--nodes", type=int, choices=(3, 5), default=3, help="default: 3")
    parser.add_argument(
        "--once",
        action="store_true",
        help="kill the leader half-way, go on through the new one, stop; print a JSON line at the end",
    )
    parser.add_argument(
        "--tls", action="store_true", help="speak mutual TLS, with certificates made in DIR/certs"
    )
    parser.set_defaults(run=_local)


def _local(options: argparse.Namespace) -> int:
    from quorumlog.command.trial import Local

    local = Local(options.directory, options.input, options.nodes, once=options.once, tls=options.tls)
    return run(local.run())
