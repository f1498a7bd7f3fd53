"""`quorumlog bench produce | consume | both`: what a cluster can do, measured from here."""

from __future__ import annotations

import argparse
import re
import sys
from typing import TYPE_CHECKING

from quorumlog.command.confirming import declined
from quorumlog.command.connecting import add_connection, add_output, client_of, run
from quorumlog.command.output import complain, counted, note, print_error, print_structured, print_table
from quorumlog.command.parser import examples

if TYPE_CHECKING:
    from quorumlog.client.aio import AsyncClient
    from quorumlog.command.bench_load import Figures, Load, Meter
    from quorumlog.command.loading import Producing, Stopping

_PREFIX = "quorumlog-bench-"
_RECORDS = 100_000
_BATCH = 100
_CONCURRENCY, _CONCURRENCY_OPEN = 16, 1_000
_SIZE_MOST = 1 << 20  # a record's limit
_SIZE = re.compile(r"(\d+)(B|KiB|MiB)?")
_UNITS = {"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20}
_INTERRUPTED = 130

_MODES = {
    "produce": (
        "send records, and measure until they are acknowledged",
        "Send records and measure how long each takes until a majority has it on disk.",
    ),
    "consume": (
        "read a topic from its start to its end",
        "Read a topic from its start to its end. Without TOPIC one is filled first, which is not measured.",
    ),
    "both": (
        "send records, and measure until they are read",
        "Send records and read them at the same time: the latency end to end counts until they arrive here.",
    ),
}
_ABOUT = """
Without TOPIC a topic of its own is created, and deleted in the end. Values are hexadecimal digits at random.
With --rate records start at fixed moments and latency counts from those, whether the cluster keeps up or not:
choose a rate that it can keep. Without it the load goes as fast as acknowledgements come, and latency says
how long that many records at a time wait for each other. Ctrl-C prints what was measured so far.
"""


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the group."""
    group = commands.add_parser(
        "bench", help="measure what a cluster can do", description="Measure what a cluster can do."
    )
    modes = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for mode, (text, description) in _MODES.items():
        parser = modes.add_parser(
            mode,
            help=text,
            description=description + _ABOUT,
            epilog=examples(f"quorumlog bench {mode}", f"quorumlog bench {mode} --duration 30s --size 1KiB"),
        )
        _add_options(parser, mode)
        parser.set_defaults(run=_start, mode=mode)


def _add_options(parser: argparse.ArgumentParser, mode: str) -> None:
    parser.add_argument(
        "topic", nargs="?", default="", metavar="TOPIC", help="it is kept (default: a new one)"
    )
    parser.add_argument(
        "--records", type=_positive, metavar="N", help=f"default: {_RECORDS}, or no limit with --duration"
    )
    parser.add_argument("--duration", type=_duration, metavar="TIME", help="as 30s or 2m")
    parser.add_argument("--size", type=_size, default=100, metavar="BYTES", help="of a value (default: 100)")
    if mode != "consume":
        parser.add_argument("--rate", type=_rate, metavar="N", help="records in a second (default: no limit)")
        parser.add_argument(
            "--batch",
            type=_positive,
            metavar="N",
            help=f"records sent at once (default: {_BATCH}; 1 with --rate)",
        )
    if mode == "consume":
        what = "readers, each of everything (default: 1)"
    else:
        what = f"batches under way (default: {_CONCURRENCY}; at most {_CONCURRENCY_OPEN} with --rate)"
    parser.add_argument("--concurrency", type=_positive, metavar="N", help=what)
    codecs = ("none", "lz4", "zstd")
    parser.add_argument("-z", "--compression", choices=codecs, default="none", help="default: none")
    parser.add_argument(
        "-p", "--partitions", type=_positive, default=3, metavar="N", help="of a new topic (default: 3)"
    )
    parser.add_argument(
        "-y", "--yes", "--force", action="store_true", help="do not ask before writing to TOPIC"
    )
    add_connection(parser)
    add_output(parser)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, got {text}")
    return number


def _rate(text: str) -> float:
    rate = float(text)
    if not 0.01 <= rate <= 1e9:
        raise argparse.ArgumentTypeError(f"expected 0.01 or more, got {text}")
    return rate


def _size(text: str) -> int:
    match = _SIZE.fullmatch(text)
    size = int(match[1]) * _UNITS[match[2] or ""] if match is not None else 0
    if not 1 <= size <= _SIZE_MOST:
        raise argparse.ArgumentTypeError(f"expected 1 to 1MiB, as 100 or 4KiB, got {text!r}")
    return size


def _duration(text: str) -> float:
    from quorumlog.client.durations import parse_duration

    try:
        return parse_duration(text).total_seconds()
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _start(options: argparse.Namespace) -> int:
    if options.mode == "both" and options.size < 16:
        complain("error: --size: expected 16 or more, since each value tells when it was sent")
        return 2
    if options.topic and options.mode != "consume":
        question = f"write records of a benchmark to {options.topic}"
        code = declined(options, f"writing to {options.topic}", question)
        if code is not None:
            return code
    return run(_bench(options))


def _load_of(options: argparse.Namespace) -> Load:
    from quorumlog.command.bench_load import Load

    rate = getattr(options, "rate", None)
    reads = options.mode == "consume"
    records = options.records
    if records is None and options.duration is None and not (reads and options.topic):
        records = _RECORDS
    return Load(
        records=records,
        duration_s=options.duration,
        size=options.size,
        rate=rate,
        batch=getattr(options, "batch", None) or (1 if rate else _BATCH),
        concurrency=options.concurrency or (1 if reads else _CONCURRENCY_OPEN if rate else _CONCURRENCY),
    )


async def _bench(options: argparse.Namespace) -> int:
    import asyncio
    import logging
    import secrets
    import signal

    from quorumlog.command.loading import Stopping

    logging.getLogger("quorumlog.client").setLevel(logging.ERROR)  # what is given up stands in the table

    load, stopping = _load_of(options), Stopping()
    topic = options.topic or _PREFIX + secrets.token_hex(4)
    interrupted = asyncio.Event()

    def interrupt() -> None:
        interrupted.set()
        if sys.stderr.isatty():
            note("\nstopping: what is under way has some seconds; Ctrl-C again does not wait")
        stopping.event.set()
        asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)  # the next one ends it at once

    async with client_of(options) as client:
        await client.ensure_topic(topic, options.partitions)
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, interrupt)
        try:
            sides = await _measure(client, topic, load, options, stopping)
            # Before the topic is deleted, which takes its time where nobody leads.
            _print(topic, load, sides, options, interrupted=interrupted.is_set())
        finally:
            if not options.topic:
                await _delete(client, topic)
    if stopping.failure is not None:
        print_error(stopping.failure)
        return 1
    return _INTERRUPTED if interrupted.is_set() else 0


async def _delete(client: AsyncClient, topic: str) -> None:
    from quorumlog.client.errors import QuorumlogError

    try:
        await client.delete_topic(topic)
    except QuorumlogError as error:
        note(f"hint: {topic} is left behind: {error.message}; delete it: quorumlog topic delete {topic}")


async def _measure(
    client: AsyncClient, topic: str, load: Load, options: argparse.Namespace, stopping: Stopping
) -> dict[str, Figures]:
    """Return the figures of each side, by its name."""
    import secrets
    from dataclasses import replace
    from random import Random

    from quorumlog.command.bench_load import Values, figures
    from quorumlog.command.loading import Consuming, Producing

    codec = None if options.compression == "none" else options.compression
    run_id = secrets.token_bytes(8) if options.mode == "both" else b""
    values = Values(load.size, Random(), run_id)
    if options.mode == "consume":
        if not options.topic:
            filling = replace(
                load, records=load.records or _RECORDS, duration_s=None, concurrency=_CONCURRENCY
            )
            filler = Producing(topic, filling, values, stopping)
            async with _Progress("fill", filler.meter, filling):
                await filler.run(client, codec, open_first=False)
        consuming = Consuming(topic, load, stopping)
        async with _Progress("consume", consuming.meter, load):
            await consuming.run(client)
        return {"consume": figures(consuming.meter)}
    producing = Producing(topic, load, values, stopping)
    async with _Progress("produce", producing.meter, load):
        if options.mode == "produce":
            await producing.run(client, codec)
            return {"produce": figures(producing.meter)}
        return await _produce_and_read(client, topic, producing, codec, run_id)


async def _produce_and_read(
    client: AsyncClient, topic: str, producing: Producing, codec: str | None, run_id: bytes
) -> dict[str, Figures]:
    import asyncio

    from quorumlog.command.bench_load import figures
    from quorumlog.command.loading import Arriving

    arriving, ready = Arriving(topic, run_id), asyncio.Event()
    reading = asyncio.create_task(arriving.run(client, ready))
    try:
        waiting = asyncio.create_task(ready.wait())
        await asyncio.wait((reading, waiting), return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        await producing.run(client, codec)
        await arriving.wait_for(producing.meter.records)
    finally:
        reading.cancel()
        await asyncio.gather(reading, waiting, return_exceptions=True)
    return {"produce": figures(producing.meter), "end to end": figures(arriving.meter)}


class _Progress:
    """Says on a terminal how far it is, twice a second."""

    def __init__(self, what: str, meter: Meter, load: Load) -> None:
        self._what = what
        self._meter = meter
        self._most = f" of {load.records:,}" if load.records is not None else ""

    async def __aenter__(self) -> None:
        import asyncio

        self._task = asyncio.create_task(self._tell()) if sys.stderr.isatty() else None

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            print("\r\x1b[2K", end="", file=sys.stderr, flush=True)

    async def _tell(self) -> None:
        import asyncio

        told = 0
        while True:
            await asyncio.sleep(0.5)
            records = self._meter.records
            text = f"{self._what}: {records:,}{self._most} records, {2 * (records - told):,}/s"
            print(f"\r\x1b[2K{text}", end="", file=sys.stderr, flush=True)
            told = records


_TITLES = ("", "RECORDS", "RECORDS/S", "MB/S", "P50 ms", "P99 ms", "P99.9 ms", "MAX ms", "UNACKED")


def _print(
    topic: str, load: Load, sides: dict[str, Figures], options: argparse.Namespace, *, interrupted: bool
) -> None:
    result = {"topic": topic, "mode": options.mode, "load": load, "interrupted": interrupted}
    result |= {"compression": options.compression}
    if print_structured(result | {name.replace(" ", "_"): side for name, side in sides.items()}, options):
        return
    paced = f"{load.rate:,g} records/s" if load.rate is not None else "as fast as it goes"
    print(f"{topic}: {_how_much(load, options)}, {paced}{'; interrupted' if interrupted else ''}\n")
    print_table(_TITLES, [_row(name, side) for name, side in sides.items()])


def _how_much(load: Load, options: argparse.Namespace) -> str:
    if options.mode == "consume":
        return counted(load.concurrency, "reader")
    sizes = f"values of {counted(load.size, 'byte')}"
    codec = "" if options.compression == "none" else f", {options.compression}"
    return f"{sizes}{codec}, {load.concurrency} x {counted(load.batch, 'record')} under way at most"


def _row(name: str, side: Figures) -> tuple[object, ...]:
    latencies = (side.p50_ms, side.p99_ms, side.p99_9_ms, side.max_ms)
    return (
        name,
        f"{side.records:,}",
        f"{side.records_per_s:,.0f}",
        f"{side.mb_per_s:.2f}",
        *(None if each is None else f"{each:.2f}" for each in latencies),
        side.failed,
    )
