"""`quorumlog produce`: stdin to a topic, one record a line. `tail -f log | quorumlog produce logs` works."""

from __future__ import annotations

import argparse

from quorumlog.client.cli_connect import add_connection, add_output, run

_DEFAULT_DELIVERY_TIMEOUT_S = 30.0  # shorter than the library's: somebody waits


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "produce", help="send lines from stdin to a topic", description=__doc__, allow_abbrev=False
    )
    add_connection(parser)
    add_output(parser)
    parser.add_argument("topic", metavar="TOPIC")
    parser.add_argument("-k", "--key", help="the key of all records")
    parser.add_argument(
        "-K", "--key-delimiter", metavar="DELIMITER", help="each line is KEY, this, VALUE; no key without it"
    )
    parser.add_argument(
        "-H", "--header", action="append", default=[], metavar="NAME:VALUE", help="may be repeated"
    )
    parser.add_argument("-p", "--partition", type=int, help="default: by key, else by turns")
    parser.add_argument("-z", "--compression", choices=("none", "lz4", "zstd"), default="none")
    parser.add_argument("-Z", "--tombstones", action="store_true", help="an empty value is a null value")
    parser.add_argument("-i", "--input", metavar="FILE", help="read this instead of stdin")
    parser.add_argument(
        "--delivery-timeout",
        type=float,
        default=_DEFAULT_DELIVERY_TIMEOUT_S,
        metavar="SECONDS",
        help=f"give up on a record after this, with all retries (default: {_DEFAULT_DELIVERY_TIMEOUT_S:g})",
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="no summary")
    parser.set_defaults(run=_produce)


def _produce(options: argparse.Namespace) -> int:
    from quorumlog.client.line_producer import produce  # see cli.py

    return run(produce(options))
