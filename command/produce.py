"""`quorumlog produce`: lines into a topic, one record each. `tail -f log | quorumlog produce logs` works."""

from __future__ import annotations

import argparse

from quorumlog.command.connecting import add_connection, run
from quorumlog.command.numbers import MAX_INT32, MAX_SECONDS, real, whole
from quorumlog.command.parser import completed_with, examples

_DEFAULT_DELIVERY_TIMEOUT_S = 30.0  # shorter than the library's: somebody waits

_MAX_TIMESTAMP_MS = (1 << 62) - 1  # outgoing.MAX_TIMESTAMP_MS, which is not loaded yet

_PRODUCE = """\
Send the lines of stdin, or of a file, to a topic: a record each, without its newline. Everything is
acknowledged by a majority. A summary goes to stderr; where anything was not delivered, it says so and the
exit code is 1.
"""
_FORMAT = """\
Letters of -f, with something between each two of them:
  %k key          %v, %s value         %p partition
  %T timestamp    %h headers as name=value,...
  A field ends where what stands behind it comes first, the last one at the end
  of the line. A line that does not fit is named, left out, and makes the exit
  code 1.
"""


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "produce",
        help="send lines to a topic",
        description=_PRODUCE,
        epilog=_FORMAT
        + "\n"
        + examples(
            "tail -f app.log | quorumlog produce logs",
            "quorumlog produce orders --file orders.ndjson -z zstd",
            "echo 'table-7=one espresso' | quorumlog produce orders -f '%k=%v'",
            "echo now | quorumlog produce orders -k table-7 -H source:shell -o json",
        ),
    )
    add_connection(parser)
    parser.add_argument(
        "-o",
        "--output",
        choices=("text", "wide", "json", "yaml"),
        default="text",
        help="print acknowledgements: wide: a line each, json, yaml (default: text: none)",
    )
    completed_with("topics", parser.add_argument("topic", metavar="TOPIC"))
    _add_input(parser)
    _add_record(parser)
    parser.add_argument(
        "--acks",
        default="all",
        metavar="all",
        help="every acknowledgement is a majority's: nothing else is valid",
    )
    parser.add_argument(
        "--delivery-timeout",
        type=real(MAX_SECONDS, above_zero=True),
        default=_DEFAULT_DELIVERY_TIMEOUT_S,
        metavar="SECONDS",
        help=f"give up on a record after this, with all retries (default: {_DEFAULT_DELIVERY_TIMEOUT_S:g})",
    )
    parser.set_defaults(run=_produce)


def _add_input(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-i", "--input", "--file", metavar="FILE", help="read this instead of stdin")
    fields = parser.add_mutually_exclusive_group()
    fields.add_argument(
        "-f", "--format", metavar="FORMAT", help=r"what a line is, such as '%%k %%v' (see below)"
    )
    fields.add_argument(
        "-K", "--key-delimiter", metavar="DELIMITER", help="each line is KEY, this, VALUE; no key without it"
    )


def _add_record(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-k", "--key", help="the key of records that have none of their own")
    parser.add_argument(
        "-H", "--header", action="append", default=[], metavar="NAME:VALUE", help="may be repeated"
    )
    parser.add_argument(
        "-p", "--partition", type=whole(0, MAX_INT32), metavar="N", help="default: by key, else by turns"
    )
    parser.add_argument(
        "-T",
        "--timestamp",
        type=whole(-_MAX_TIMESTAMP_MS, _MAX_TIMESTAMP_MS),
        metavar="MS",
        help="of the records, since 1970 (default: now)",
    )
    parser.add_argument(
        "-z", "--compression", choices=("none", "lz4", "zstd"), default="none", help="default: none"
    )
    parser.add_argument("-Z", "--tombstones", action="store_true", help="an empty value is a null value")


def _produce(options: argparse.Namespace) -> int:
    from quorumlog.command.line_producer import produce  # see main.py

    return run(produce(options))
