"""Lines into records: what `quorumlog produce` does."""

from __future__ import annotations

import argparse
import asyncio
import os
import stat
import sys
import threading
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress

from quorumlog.client.batches import BatchMetadata, RecordMetadata
from quorumlog.client.deliveries import BatchDelivery, Delivery
from quorumlog.client.errors import QuorumlogError, RecordTooLarge, UnknownOption, UnknownPartition
from quorumlog.client.outgoing import ProducerRecord
from quorumlog.client.producer import AsyncProducer
from quorumlog.command.connecting import client_of
from quorumlog.command.input_format import InputFormat
from quorumlog.command.lines import LineSplitter, SkippedLine
from quorumlog.command.output import complain, counted, note, print_error, print_structured
from quorumlog.command.progress import Progress
from quorumlog.proto.batch import MAX_RECORD_BYTES

_CHUNK_BYTES = 256 * 1024
_CHUNKS_AHEAD = 8  # read before the producer has room for them
_ACKS_AHEAD = 10_000  # deliveries whose acknowledgements are still to be printed
_INTERRUPTED_FLUSH_MS = 5_000


async def produce(options: argparse.Namespace) -> int:
    """Send everything; say how it went."""
    _check_acks(options.acks)
    sending, client = Sending(options), client_of(options)
    try:
        async with client:
            await client.describe_topic(options.topic)  # an unknown topic is told before a line is read
            producer = client.producer(
                delivery_timeout_ms=int(options.delivery_timeout * 1000), compression_type=options.compression
            )
            async with producer:
                with sending.shown():
                    await sending.send_all(producer)
    except QuorumlogError as error:
        print_error(error)
        return 1
    finally:
        sending.summarize()
    return 1 if sending.failed or sending.skipped else 0


class Sending:
    """What was sent so far, and what came back."""

    def __init__(self, options: argparse.Namespace) -> None:
        """Raises UnknownOption."""
        self._options = options
        self._lines = LineParser(options)
        # What is under way, and the position in the input behind it.
        self._deliveries: asyncio.Queue[tuple[Delivery | BatchDelivery, int] | None] = asyncio.Queue(
            _ACKS_AHEAD
        )
        self._start_s = time.monotonic()
        self._progress: Progress | None = None
        self._position = 0  # bytes read
        self._stopped_behind = 0  # the line behind which the rest of the input was left alone
        self.acknowledged = 0
        self.failed = 0
        self.skipped = 0

    def shown(self) -> AbstractContextManager[object]:
        """Show progress meanwhile, where there is a file and somebody who wants to see it."""
        options = self._options
        unwanted = getattr(options, "quiet", False) or getattr(options, "no_progress", False)
        garbled = options.output != "text" and sys.stdout.isatty()
        total = 0 if unwanted or garbled else _file_size(options.input)
        if not total:
            return nullcontext()
        self._progress = Progress(total, time.monotonic())
        return self._progress

    async def send_all(self, producer: AsyncProducer) -> None:
        """Send every line, while another task takes in the acknowledgements."""
        splitter = LineSplitter(MAX_RECORD_BYTES - self._lines.fixed_size)
        acknowledging = asyncio.create_task(self._take_acknowledgements())
        sending = asyncio.create_task(self._send_input(producer, splitter))
        try:
            # Who cannot print acknowledgements takes none out of the queue: sending would wait for ever.
            await asyncio.wait((sending, acknowledging), return_when=asyncio.FIRST_EXCEPTION)
            for task in (acknowledging, sending):
                if task.done():
                    task.result()
        except asyncio.CancelledError:  # Ctrl-C: what was read is still sent, and counted
            sending.cancel()
            await producer.flush(_INTERRUPTED_FLUSH_MS)
            raise
        finally:
            sending.cancel()
            acknowledging.cancel()
            await asyncio.gather(sending, acknowledging, return_exceptions=True)

    async def _send_input(self, producer: AsyncProducer, splitter: LineSplitter) -> None:
        async for chunk in read_chunks(self._options.input):
            self._position += len(chunk)
            await self._send(producer, splitter, splitter.feed(chunk))
            if self.failed:  # so would what comes
                self._stopped_behind = splitter.lines
                break
        else:
            await self._send(producer, splitter, splitter.finish())
        await self._deliveries.put(None)

    def summarize(self) -> None:
        """Say on stderr how it went; with --quiet only what is wrong."""
        seconds = time.monotonic() - self._start_s
        rate = f"{self.acknowledged / seconds:,.0f} records/s" if seconds > 0 else ""
        parts = [f"{counted(self.acknowledged, 'record')} acknowledged in {seconds:.2f} s ({rate})"]
        parts += [f"{self.skipped} skipped"] if self.skipped else []
        parts += [f"{self.failed} not acknowledged"] if self.failed else []
        parts += [f"stopped behind line {self._stopped_behind}"] if self._stopped_behind else []
        say = complain if self.failed or self.skipped else note
        say("; ".join(parts))

    async def _send(self, producer: AsyncProducer, splitter: LineSplitter, lines: Sequence[bytes]) -> None:
        skipped = {line.number: _too_long(line, splitter.max_line_size) for line in splitter.skipped}
        splitter.skipped.clear()
        if self._lines.plain:
            options = self._options
            batches = await producer.submit_many(options.topic, lines, options.partition, options.timestamp)
            for batch in batches:
                await self._deliveries.put((batch, self._position if batch is batches[-1] else 0))
        else:
            first = splitter.lines - len(lines) - len(skipped) + 1
            numbers = (n for n in range(first, splitter.lines + 1) if n not in skipped)
            await self._send_parsed(producer, list(zip(numbers, lines, strict=True)), skipped)
        for number in sorted(skipped):
            complain(f"line {number}: skipped: {skipped[number]}")
        self.skipped += len(skipped)

    async def _send_parsed(
        self, producer: AsyncProducer, lines: Sequence[tuple[int, bytes]], skipped: dict[int, str]
    ) -> None:
        """Send lines, given with their numbers, and add those that are no records to `skipped`."""
        for number, line in lines:
            try:
                record = self._lines.parse(line)
                delivery = await producer.submit(self._options.topic, *record)
            except (ValueError, RecordTooLarge, UnknownPartition) as error:
                if isinstance(error, UnknownPartition) and self._options.partition is not None:
                    raise  # no line will fit
                skipped[number] = str(error)
                continue
            await self._deliveries.put((delivery, self._position if number == lines[-1][0] else 0))

    async def _take_acknowledgements(self) -> None:
        while (item := await self._deliveries.get()) is not None:
            delivery, position = item
            try:
                metadata = await delivery
            except QuorumlogError as error:
                if not self.failed:  # the first says it; the others are counted
                    print_error(error)
                self.failed += delivery.count
                continue
            self.acknowledged += metadata.count if isinstance(metadata, BatchMetadata) else 1
            if position and self._progress is not None:
                self._progress.update(self.acknowledged, position, time.monotonic())
            if self._options.output != "text":
                _print_acks(metadata, self._options)


class LineParser:
    """What the options make of a line."""

    def __init__(self, options: argparse.Namespace) -> None:
        """Raises UnknownOption."""
        self._options = options
        self._key = None if options.key is None else os.fsencode(options.key)
        self._headers = tuple(_header(each) for each in options.header)
        self._delimiter = os.fsencode(options.key_delimiter or "")
        self._format = None if options.format is None else _input_format(options.format)
        names = sum(len(name.encode()) + len(value) for name, value in self._headers)
        self.fixed_size = len(self._key or b"") + names  # bytes of each record beside its line
        splits = self._headers or self._delimiter or self._format or options.tombstones
        self.plain = not splits and self._key is None  # a line is a value, and there is nothing else

    def parse(self, line: bytes) -> ProducerRecord:
        """Return the record. Raises ValueError, where the line does not fit the format."""
        record = ProducerRecord(line) if self._format is None else self._format.parse(line)
        if self._delimiter:
            before, found, after = line.partition(self._delimiter)
            record = ProducerRecord(after, before) if found else record
        options = self._options
        return ProducerRecord(
            value=None if options.tombstones and not record.value else record.value,
            key=self._key if record.key is None else record.key,
            headers=(*self._headers, *(record.headers or ())),
            partition=options.partition if record.partition is None else record.partition,
            timestamp_ms=options.timestamp if record.timestamp_ms is None else record.timestamp_ms,
        )


def _too_long(line: SkippedLine, limit: int) -> str:
    return f"{line.size} bytes, more than the {limit} that a record may have"


def _print_acks(metadata: RecordMetadata | BatchMetadata, options: argparse.Namespace) -> None:
    count = metadata.count if isinstance(metadata, BatchMetadata) else 1
    for position in range(count):
        record = metadata.record(position) if isinstance(metadata, BatchMetadata) else metadata
        if not print_structured(record._asdict(), options):
            print(f"{record.topic}/{record.partition} offset {record.offset}", flush=True)


async def read_chunks(path: str | None) -> AsyncIterator[bytes]:
    """Yield what a file or stdin gives, as it comes, read ahead by a thread: a pipe may block for ever."""
    loop = asyncio.get_running_loop()
    chunks: asyncio.Queue[bytes | OSError] = asyncio.Queue(_CHUNKS_AHEAD)

    def put(item: bytes | OSError) -> bool:
        with suppress(RuntimeError):  # the loop is closed: nobody reads any more
            asyncio.run_coroutine_threadsafe(chunks.put(item), loop).result()
            return True
        return False

    def read() -> None:
        try:
            with open(path or sys.stdin.fileno(), "rb", buffering=0, closefd=path is not None) as file:
                while chunk := file.read(_CHUNK_BYTES):
                    if not put(chunk):
                        return
                put(b"")
        except OSError as error:
            put(error)

    # A daemon: at Ctrl-C it may sit in a read that never ends.
    threading.Thread(target=read, name="quorumlog-input", daemon=True).start()
    while item := await chunks.get():
        if isinstance(item, OSError):
            raise item
        yield item


def _file_size(path: str | None) -> int:
    """Return the size of the input, where it is a file; else 0: nobody knows how much a pipe brings."""
    found = os.stat(path) if path is not None else os.fstat(sys.stdin.fileno())
    return found.st_size if stat.S_ISREG(found.st_mode) else 0


def _input_format(template: str) -> InputFormat:
    try:
        return InputFormat(template)
    except ValueError as error:
        raise UnknownOption(f"--format: {error}") from None


def _header(text: str) -> tuple[str, bytes]:
    name, colon, value = text.partition(":")
    if not colon or not name:
        raise UnknownOption(f"--header: expected NAME:VALUE, got {text!r}")
    return name, os.fsencode(value)


def _check_acks(acks: str) -> None:
    if acks not in ("all", "-1"):
        raise UnknownOption(f"--acks: every acknowledgement is a majority's: expected all, got {acks!r}")
