"""`quorumlog consume` and `quorumlog tail`: topics to stdout, one record a line."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from quorumlog.command.connecting import add_connection, add_consistency, client_of, run
from quorumlog.command.parser import completed_with, examples

if TYPE_CHECKING:
    from quorumlog.client.starts import Start
    from quorumlog.command.offset_ranges import OffsetRange

_TAIL_COUNT = 10  # as tail(1)

_CONSUME = """\
Print the records of topics from their start on, and follow: until Ctrl-C (exit code 130), or until what -n,
-e, -o or --timeout-ms says (exit code 0). Order is kept within a partition. A record is printed as its value
and a newline, as JSON with -J, or as -f says.

Where to read, -o:
  start        the first record there is (default)
  end          what comes from now on
  N  +N  -N    offset N; N after the first; the last N
  N:M          from N up to, not including, M, each as above; also N: and :M
  :end         what is there now, as -e
  @TIME        what was appended then or later
  @TIME:TIME   and before then: a time, end, or how long after the first (1h30m)
  @:TIME       from the start up to then
  TIME is 2025-01-31, 2025-01-31T12:00 (local), 2025-01-31T12:00Z, seconds or
  milliseconds since 1970 (10 or 13 digits), or how long ago: -90s -1h30m -2d

N and -N are those of each partition. With -r the same records come the newest first, and there is no
following.
"""
_TAIL = f"""\
Print the last records of topics, then follow, as tail -f does for a file: until Ctrl-C (exit code 130), or
until what -e or --timeout-ms says (exit code 0). It is `quorumlog consume -o -{_TAIL_COUNT}`, where -n is how
many of the last records of each partition come first.
"""
_FORMAT = """\
Letters of -f, those of kcat:
  %t topic      %p partition    %o offset    %T timestamp in ms
  %k key        %v, %s value    %K, %V, %S length of key or value; -1: null
  %h headers as name=value,...  %H number of headers
  %h{...}       for each header; inside, %k is its name and %v its value
  %%            a percent sign; \\n \\t \\r \\0 \\\\ \\} \\xHH are bytes
  Nothing is added: end it with \\n for lines.
"""


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add both commands."""
    _add_consume(commands)
    _add_tail(commands)


def _add_consume(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "consume",
        help="print the records of topics, and follow",
        description=_CONSUME,
        epilog=_FORMAT
        + "\n"
        + examples(
            "quorumlog consume orders -e                 all that is there now",
            "quorumlog consume orders -o @-1h:end -J     the last hour, as JSON lines",
            "quorumlog consume orders -r -n 1            the newest record",
            "quorumlog consume orders -p 0 -o 100:200    a hundred offsets of a partition",
            "quorumlog consume orders -f '%T %k %v\\n'    with times and keys",
        ),
    )
    add_connection(parser)
    _add_reading(parser)
    where = parser.add_mutually_exclusive_group()
    where.add_argument("-o", "--offset", default="start", metavar="WHERE", help="see above (default: start)")
    where.add_argument(
        "--from-beginning", dest="offset", action="store_const", const="start", help="the same as -o start"
    )
    parser.add_argument(
        "-n", "--num", "--max-messages", type=_count, metavar="N", help="stop after N records in all"
    )
    parser.add_argument(
        "-r", "--reverse", action="store_true", help="the newest first, each partition for itself"
    )
    parser.set_defaults(run=lambda options: run(_consume(options)))


def _add_tail(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "tail",
        help="print the last records of topics, and follow",
        description=_TAIL,
        epilog=_FORMAT
        + "\n"
        + examples(
            "quorumlog tail orders                    the last ten, then what comes",
            "quorumlog tail orders payments -n 0      only what comes from now on",
            "quorumlog tail orders -n 100 -e | less   the last hundred, and no more",
        ),
    )
    add_connection(parser)
    _add_reading(parser)
    parser.add_argument(
        "-n",
        "--lines",
        type=_count,
        default=_TAIL_COUNT,
        metavar="N",
        help=f"the last N of each partition (default: {_TAIL_COUNT})",
    )
    parser.set_defaults(run=lambda options: run(_tail(options)))


def _add_reading(parser: argparse.ArgumentParser) -> None:
    completed_with("topics", parser.add_argument("topics", nargs="+", metavar="TOPIC"))
    parser.add_argument(
        "-f",
        "--format",
        type=_format,
        default="text",
        metavar="FORMAT",
        help="text (default): the value; json: an object a line; else a template, see below",
    )
    parser.add_argument("-J", action="store_const", dest="format", const="json", help="same as --format json")
    parser.add_argument(
        "--meta-only", action="store_true", help="JSON with all but the value, and its size instead"
    )
    parser.add_argument("-e", "--exit", action="store_true", help="stop at the end there is now")
    parser.add_argument(
        "--timeout-ms", type=_count, metavar="MS", help="stop when nothing has come for this long"
    )
    parser.add_argument(
        "-p",
        "--partition",
        type=_count,
        action="append",
        metavar="N",
        help="only this one; may be repeated (default: all)",
    )
    source = parser.add_argument(
        "--from",
        dest="node",
        metavar="NODE",
        help="which replica to read: any (default), leader, nearest, a node's id or host:port",
    )
    completed_with("nodes", source)
    add_consistency(parser)


async def _consume(options: argparse.Namespace) -> int:
    wanted = parse_offset(options.offset)
    end: Start | None = wanted.end
    if options.exit:
        if end not in (None, "latest"):
            _refuse_two_ends(options.offset)
        end = "latest"
    return await _print(options, wanted.start, end, options.num, reverse=options.reverse)


async def _tail(options: argparse.Namespace) -> int:
    start: Start = -options.lines or "latest"
    return await _print(options, start, "latest" if options.exit else None, None, reverse=False)


async def _print(
    options: argparse.Namespace, start: Start, end: Start | None, most: int | None, *, reverse: bool
) -> int:
    """Print records until there is a reason to stop."""
    from quorumlog.command.printing import show_of

    show = show_of(options.format, meta_only=options.meta_only)
    left = sys.maxsize if most is None else most
    async with client_of(options) as client:
        consumer = client.consumer(
            *options.topics,
            partitions=options.partition,
            start=start,
            end=end,
            from_node=options.node,
            consistency=options.consistency,
            reverse=reverse,
        )
        async with consumer:
            while left:
                batch = await consumer.getbatch(options.timeout_ms)
                if batch is None:
                    break
                left -= show(batch, left)
    return 0


def parse_offset(text: str) -> OffsetRange:
    """Return what `-o` means. Raises UnknownOption."""
    import datetime as dt

    from quorumlog.client.errors import UnknownOption
    from quorumlog.command.offset_ranges import parse_range

    try:
        return parse_range(text, dt.datetime.now(dt.UTC))
    except ValueError as error:
        raise UnknownOption(f"--offset: {error}", hint="see quorumlog consume --help") from None


def _refuse_two_ends(offset: str) -> None:
    from quorumlog.client.errors import UnknownOption

    raise UnknownOption(f"--exit: --offset {offset} says already where to end")


def _format(text: str) -> str:
    if text in ("text", "json") or "%" in text:
        return text
    raise argparse.ArgumentTypeError(
        f"expected text, json or a template with %-letters, got {text!r} (following needs no option)"
    )


def _count(text: str) -> int:
    if text.isascii() and text.isdecimal():
        return int(text)
    raise argparse.ArgumentTypeError(f"expected a whole number, 0 or more; got {text!r}")
