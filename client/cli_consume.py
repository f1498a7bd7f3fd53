"""`quorumlog consume`: a topic to stdout, one record a line; follows until Ctrl-C, -n or -e."""

from __future__ import annotations

import argparse
import base64
import datetime as dt
import json
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from quorumlog.client.cli_connect import add_connection, add_consistency, client_of, run

if TYPE_CHECKING:
    from quorumlog.client.records import Record, RecordBatch
    from quorumlog.client.starts import Start

_OFFSET_HELP = (
    "start (default) | end | N: that offset | -N: the last N of each partition | "
    "@TIME: from that time on, as seconds since 1970 (13 digits: milliseconds) or 2025-01-31T12:00:00"
)


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its alias."""
    parser = commands.add_parser(
        "consume",
        aliases=["tail"],
        help="print the records of topics",
        description=__doc__,
        allow_abbrev=False,
    )
    add_connection(parser)
    parser.add_argument("topics", nargs="+", metavar="TOPIC")
    parser.add_argument("-o", "--offset", default="start", metavar="WHERE", help=_OFFSET_HELP)
    parser.add_argument("-n", "--num", type=int, metavar="N", help="stop after N records")
    parser.add_argument("-e", "--exit", action="store_true", help="stop at the end there is now")
    parser.add_argument("-p", "--partition", type=int, action="append", help="only this; may be repeated")
    parser.add_argument("--from", dest="node", metavar="NODE", help="read this node: its id or host:port")
    add_consistency(parser)
    parser.add_argument("-J", action="store_const", dest="format", const="json", help="same as --format json")
    parser.add_argument(
        "--format",
        choices=("text", "json"),
        default="text",
        help="text: values as they are; json: an object a line",
    )
    parser.add_argument(
        "--timeout-ms", type=int, metavar="MS", help="stop when nothing has come for this long"
    )
    parser.set_defaults(run=lambda options: run(consume(options)))


async def consume(options: argparse.Namespace) -> int:
    """Print records until there is a reason to stop."""
    show = _show_json if options.format == "json" else _show_text
    left = sys.maxsize if options.num is None else max(0, options.num)
    async with client_of(options) as client:
        consumer = client.consumer(
            *options.topics,
            partitions=options.partition,
            start=parse_offset(options.offset),
            end="latest" if options.exit else None,
            from_node=options.node,
            consistency=options.consistency,
        )
        async with consumer:
            while left:
                batch = await consumer.getbatch(options.timeout_ms)
                if batch is None:
                    break
                left -= show(batch, left)
    return 0


def parse_offset(text: str) -> Start:
    """Return what `-o` means. Raises UnknownOption."""
    from quorumlog.client.errors import UnknownOption

    if text in ("start", "beginning", "earliest"):
        return "earliest"
    if text in ("end", "latest"):
        return "latest"
    try:
        return _moment(text[1:]) if text.startswith("@") else int(text)
    except (ValueError, OverflowError):
        raise UnknownOption(f"--offset: expected {_OFFSET_HELP}; got {text!r}") from None


def _moment(text: str) -> dt.datetime:
    if text.isdecimal():
        seconds = int(text) / 1000 if len(text) >= 13 else int(text)
        return dt.datetime.fromtimestamp(seconds, dt.UTC)
    return dt.datetime.fromisoformat(text)


def _show_text(batch: RecordBatch, limit: int) -> int:
    values = [value or b"" for value in batch.values[:limit]]
    _write(b"\n".join(values) + b"\n")
    return len(values)


def _show_json(batch: RecordBatch, limit: int) -> int:
    lines = [json.dumps(_object(record), ensure_ascii=False) for record in _first(batch.records(), limit)]
    _write("\n".join(lines).encode("utf-8", "replace") + b"\n")
    return len(lines)


def _first(records: Iterable[Record], limit: int) -> list[Record]:
    return [record for record, _ in zip(records, range(limit), strict=False)]


def _write(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()  # whoever reads the pipe follows, too


def _object(record: Record) -> dict[str, Any]:
    """Return a record as JSON has it; what is not UTF-8 stands under *_base64 instead."""
    headers = [{"name": name, **_bytes("value", value)} for name, value in record.headers]
    return {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp_ms": record.timestamp_ms,
        "append_time_ms": record.append_time_ms,
        **_bytes("key", record.key),
        **_bytes("value", record.value),
        "headers": headers,
    }


def _bytes(name: str, content: bytes | None) -> dict[str, str | None]:
    if content is None:
        return {name: None}
    try:
        return {name: content.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(content).decode()}
