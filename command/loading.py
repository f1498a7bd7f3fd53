"""Putting load on a cluster and measuring it: what `quorumlog bench` does over the network."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress

from quorumlog.client.aio import AsyncClient
from quorumlog.client.errors import QuorumlogError
from quorumlog.client.producer import AsyncProducer
from quorumlog.command.bench_load import Load, Meter, Ticket, Tickets, Values, sent_s

_LAST_WORDS_S = 5.0  # a load that is stopped waits so long for what is under way
_ARRIVAL_S = 10.0  # and what was acknowledged has so long to arrive at its reader

clock = time.perf_counter


class _Abandoned(Exception):
    """A load was stopped and did not end in time."""


class Stopping:
    """Set when a load shall end early: by Ctrl-C, or because something failed for good."""

    def __init__(self) -> None:
        self.event = asyncio.Event()
        self.failure: QuorumlogError | None = None

    def fail(self, error: QuorumlogError) -> None:
        """End everything; the first failure is kept."""
        self.failure = self.failure or error
        self.event.set()


class Producing:
    """Sends the records of a load; `meter` has what was acknowledged."""

    def __init__(self, topic: str, load: Load, values: Values, stopping: Stopping) -> None:
        self.meter = Meter(clock())
        self._topic = topic
        self._load = load
        self._values = values
        self._stopping = stopping
        self._tickets = Tickets(load, self.meter.began_s)
        self._turn = asyncio.Lock()  # one waits for its moment, the others wait for it

    async def run(self, client: AsyncClient, compression: str | None, *, open_first: bool = True) -> None:
        """Return when all is acknowledged, or the load was stopped and what is under way had its time.

        `open_first`: one empty record goes ahead, which opens the producer and is not measured.
        """
        with suppress(_Abandoned):
            async with client.producer(compression_type=compression) as producer:
                if open_first:
                    await producer.send(self._topic, b"")
                self.meter.began_s = clock()
                self._tickets = Tickets(self._load, self.meter.began_s)
                workers = [asyncio.create_task(self._work(producer)) for _ in range(self._load.concurrency)]
                if not await _all_ended(workers, self._stopping):
                    raise _Abandoned  # or leaving the block would wait for what is under way

    async def _work(self, producer: AsyncProducer) -> None:
        while not self._stopping.event.is_set():
            ticket = await self._next()
            if ticket is None:
                return
            await self._send(producer, ticket)

    async def _next(self) -> Ticket | None:
        async with self._turn:
            ticket = self._tickets.take(clock())
            if ticket is not None and ticket.intended_s is not None:
                await _until(ticket.intended_s)
        return ticket

    async def _send(self, producer: AsyncProducer, ticket: Ticket) -> None:
        start_s = clock() if ticket.intended_s is None else ticket.intended_s
        values = self._values.take(ticket.count, start_s)
        try:
            await producer.send_many(self._topic, values)
        except QuorumlogError as error:
            self.meter.failed += ticket.count
            self._stopping.fail(error)  # the producer has retried all that can be
            return
        except asyncio.CancelledError:  # given up, after a stop
            self.meter.failed += ticket.count
            raise
        now_s = clock()
        self.meter.latencies.record(now_s - start_s, ticket.count)
        self.meter.done(ticket.count, ticket.count * self._load.size, now_s)


class Consuming:
    """Reads a topic from its start to its end, by some readers that each read all of it."""

    def __init__(self, topic: str, load: Load, stopping: Stopping) -> None:
        self.meter = Meter(clock())
        self._topic = topic
        self._load = load
        self._stopping = stopping

    async def run(self, client: AsyncClient) -> None:
        """Return when everybody has read everything, or enough, or the load was stopped."""
        self.meter.began_s = clock()
        readers = [asyncio.create_task(self._read(client)) for _ in range(self._load.concurrency)]
        await _all_ended(readers, self._stopping)

    async def _read(self, client: AsyncClient) -> None:
        most, duration_s = self._load.records, self._load.duration_s
        read = 0
        async with client.consumer(self._topic, start="earliest", end="latest") as consumer:
            async for batch in consumer.batches():
                now_s = clock()
                self.meter.done(len(batch), sum(len(value or b"") for value in batch.values), now_s)
                read += len(batch)
                is_late = duration_s is not None and now_s - self.meter.began_s >= duration_s
                if is_late or self._stopping.event.is_set() or (most is not None and read >= most):
                    return


class Arriving:
    """Reads what is sent meanwhile; its latencies are from the intended start to the arrival here."""

    def __init__(self, topic: str, run: bytes) -> None:
        self.meter = Meter(clock())
        self._topic = topic
        self._run = run
        self._arrived = asyncio.Event()

    async def run(self, client: AsyncClient, ready: asyncio.Event) -> None:
        """Read for ever; `ready` is set when it is known where to start."""
        async with client.consumer(self._topic, start="latest") as consumer:
            await consumer.start()
            self.meter.began_s = clock()
            ready.set()
            async for batch in consumer.batches():
                self._take(batch.values, clock())
                self._arrived.set()

    def _take(self, values: Sequence[bytes | None], now_s: float) -> None:
        for value in values:
            intended_s = sent_s(value, self._run)
            if value is not None and intended_s is not None:
                self.meter.latencies.record(now_s - intended_s)
                self.meter.done(1, len(value), now_s)

    async def wait_for(self, records: int) -> None:
        """Return when so many have arrived, or it takes too long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_ARRIVAL_S):
                while self.meter.records < records:
                    self._arrived.clear()
                    await self._arrived.wait()


async def _all_ended(tasks: list[asyncio.Task[None]], stopping: Stopping) -> bool:
    """Return True when all have ended, False where some did not soon after they were told. Raises as they."""
    stopped = asyncio.create_task(stopping.event.wait())
    everything = asyncio.gather(*tasks)
    try:
        await asyncio.wait((everything, stopped), return_when=asyncio.FIRST_COMPLETED)
        if not everything.done():
            await asyncio.wait((everything,), timeout=_LAST_WORDS_S)
        if everything.done():
            await everything
            return True
        return False
    finally:
        stopped.cancel()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, stopped, everything, return_exceptions=True)


async def _until(moment_s: float) -> None:
    """Wait for a moment of the clock. Loops keep time to a millisecond, threads to a tenth of it."""
    if moment_s > clock():
        await asyncio.to_thread(_sleep_until, moment_s)


def _sleep_until(moment_s: float) -> None:
    time.sleep(max(0.0, moment_s - clock()))
