"""Lines into records: what `quorumlog produce` does."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

from quorumlog.client.batches import BatchMetadata, RecordMetadata
from quorumlog.client.cli_connect import client_of
from quorumlog.client.cli_output import counted, note, print_error, print_json
from quorumlog.client.deliveries import BatchDelivery, Delivery
from quorumlog.client.errors import QuorumlogError, UnknownOption
from quorumlog.client.lines import LineSplitter
from quorumlog.client.producer import AsyncProducer
from quorumlog.proto.batch import MAX_RECORD_BYTES

_CHUNK_BYTES = 256 * 1024
_CHUNKS_AHEAD = 8  # read before the producer has room for them
_ACKS_AHEAD = 10_000  # deliveries whose acknowledgements are still to be printed
_INTERRUPTED_FLUSH_MS = 5_000


async def produce(options: argparse.Namespace) -> int:
    """Send everything; say how it went."""
    sending = Sending(options)
    try:
        async with client_of(options) as client:
            await client.describe_topic(options.topic)  # an unknown topic is told before a line is read
            producer = client.producer(
                delivery_timeout_ms=int(options.delivery_timeout * 1000), compression_type=options.compression
            )
            async with producer:
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
        self._options = options
        self._headers = [_header(each) for each in options.header]
        self._key = None if options.key is None else os.fsencode(options.key)
        self._plain = not (self._headers or options.key_delimiter or options.tombstones) and self._key is None
        self._deliveries: asyncio.Queue[Delivery | BatchDelivery | None] = asyncio.Queue(_ACKS_AHEAD)
        self._start_s = time.monotonic()
        self.acknowledged = 0
        self.failed = 0
        self.skipped = 0

    async def send_all(self, producer: AsyncProducer) -> None:
        """Send every line, while another task takes in the acknowledgements."""
        fixed = len(self._key or b"") + sum(len(name.encode()) + len(value) for name, value in self._headers)
        splitter = LineSplitter(MAX_RECORD_BYTES - fixed)
        acknowledging = asyncio.create_task(self._take_acknowledgements())
        try:
            async for chunk in read_chunks(self._options.input):
                await self._send(producer, splitter.feed(chunk))
                self._report_skipped(splitter)
                if self.failed:  # so would what comes
                    break
            await self._send(producer, splitter.finish())
            self._report_skipped(splitter)
            await self._deliveries.put(None)
            await acknowledging
        except asyncio.CancelledError:  # Ctrl-C: what was read is still sent, and counted
            await producer.flush(_INTERRUPTED_FLUSH_MS)
            raise
        finally:
            acknowledging.cancel()
            await asyncio.gather(acknowledging, return_exceptions=True)

    def summarize(self) -> None:
        """Say on stderr how it went."""
        if self._options.quiet:
            return
        seconds = time.monotonic() - self._start_s
        rate = f"{self.acknowledged / seconds:,.0f} records/s" if seconds > 0 else ""
        parts = [f"{counted(self.acknowledged, 'record')} acknowledged in {seconds:.2f} s ({rate})"]
        parts += [f"{self.skipped} too long"] if self.skipped else []
        parts += [f"{self.failed} not acknowledged"] if self.failed else []
        note("; ".join(parts))

    async def _send(self, producer: AsyncProducer, lines: Sequence[bytes]) -> None:
        options = self._options
        if self._plain:
            for batch in await producer.submit_many(options.topic, lines, options.partition):
                await self._deliveries.put(batch)
            return
        for line in lines:
            key, value = self._split(line)
            delivery = await producer.submit(options.topic, value, key, self._headers, options.partition)
            await self._deliveries.put(delivery)

    def _split(self, line: bytes) -> tuple[bytes | None, bytes | None]:
        key, value = self._key, line
        if self._options.key_delimiter:
            before, found, after = line.partition(os.fsencode(self._options.key_delimiter))
            key, value = (before, after) if found else (self._key, line)
        return key, None if self._options.tombstones and not value else value

    def _report_skipped(self, splitter: LineSplitter) -> None:
        for line in splitter.skipped:
            note(
                f"line {line.number}: skipped: {line.size} bytes, "
                f"more than the {splitter.max_line_size} that a record may have"
            )
        self.skipped += len(splitter.skipped)
        splitter.skipped.clear()

    async def _take_acknowledgements(self) -> None:
        while (delivery := await self._deliveries.get()) is not None:
            try:
                metadata = await delivery
            except QuorumlogError as error:
                if not self.failed:  # the first says it; the others are counted
                    print_error(error)
                self.failed += delivery.count
                continue
            self.acknowledged += metadata.count if isinstance(metadata, BatchMetadata) else 1
            if self._options.output == "json":
                _print_acks(metadata)


def _print_acks(metadata: RecordMetadata | BatchMetadata) -> None:

    if isinstance(metadata, BatchMetadata):
        for position in range(metadata.count):
            print_json(metadata.record(position)._asdict())
    else:
        print_json(metadata._asdict())


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


def _header(text: str) -> tuple[str, bytes]:

    name, colon, value = text.partition(":")
    if not colon or not name:
        raise UnknownOption(f"--header: expected NAME:VALUE, got {text!r}")
    return name, os.fsencode(value)
