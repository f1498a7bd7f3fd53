"""Clients of a simulated cluster, around the real client's core: batches, retries, routing, cursors.

The shells here do what client/producer.py and client/consumer.py do around the same core, over simulated
calls.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

from quorumlog.client import errors
from quorumlog.client.batches import PendingBatch
from quorumlog.client.core import ProducerCore, ProducerOptions
from quorumlog.client.cursor import Cursor
from quorumlog.client.endpoints import Endpoints, Target
from quorumlog.client.errors import Attempt, QuorumlogError
from quorumlog.client.retries import Backoff, was_silent
from quorumlog.proto import service_pb2
from tests.simulation.api import OpenCall
from tests.simulation.loop import SimulatedLoop

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster

ATTEMPT_TIMEOUT_S = 2.0
DELIVERY_TIMEOUT_S = 20.0
PENDING_BATCHES_MAX = 20


class Client:
    """What all clients have: a loop of their own, a table of endpoints, randomness."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster = cluster
        self.name = name
        self.loop = SimulatedLoop(cluster.events)
        cluster.loops.append(self.loop)
        self.random = random.Random(cluster.random.random())
        addresses = [f"{node}:9650" for node in cluster.names]
        self.random.shuffle(addresses)
        self.endpoints = Endpoints(addresses, self.random.random, Backoff(most_s=1.0))

    @property
    def now(self) -> float:
        return self.cluster.events.now

    def good(self, target: Target, leader: tuple[str, str] | None) -> None:
        """As client.connection does."""
        self.endpoints.succeeded(target.address)
        if leader is not None:
            self.endpoints.leads(leader[1], leader[0])

    def bad(self, target: Target, error: QuorumlogError) -> None:
        """As client.connection does."""
        self.cluster.trace(f"{self.name}: at {target.address}: {error.message}")
        if isinstance(error, errors.NotLeader):
            self.endpoints.succeeded(target.address)
            if error.leader_address:
                self.endpoints.leads(error.leader_address, error.leader_id)
                return
        ask_another = errors.ShuttingDown | errors.NotCaughtUp | errors.DataDamaged
        if isinstance(error, errors.NotLeader | errors.NoLeader):
            self.endpoints.leads_not(target.address)
        elif error.answered and not isinstance(error, ask_another):
            self.endpoints.succeeded(target.address)
        else:
            self.endpoints.failed(target.address, self.now, silent=was_silent(error))

    async def call(self, method: str, raw: bytes, timeout_s: float, *, write: bool) -> bytes:
        """Call until somebody answers well. Raises what can never work, or the last error after the time."""
        deadline = self.now + timeout_s
        backoff, failures = Backoff(), 0
        while True:
            target = (
                self.endpoints.for_write(self.now, "leader")
                if write
                else Target(self.endpoints.for_read(self.now), no_forward=False)
            )
            try:
                answer, leader = await self.cluster.calls.unary(
                    self.loop, target.address, method, raw, ATTEMPT_TIMEOUT_S, no_forward=target.no_forward
                )
            except QuorumlogError as error:
                self.bad(target, error)
                failures += 1
                if not error.retriable or self.now > deadline:
                    raise
                await asyncio.sleep(backoff.pause_s(failures, self.random.random))
            else:
                self.good(target, leader)
                return answer


class Producer(Client):
    """Sends numbered values, idempotently, and remembers what it was told of each."""

    def __init__(
        self, cluster: Cluster, name: str, topic: str, partitions: int, rate: float, size: int
    ) -> None:
        super().__init__(cluster, name)
        options = ProducerOptions(delivery_timeout_ms=int(DELIVERY_TIMEOUT_S * 1000))
        self.core = ProducerCore(options, self.random.random)
        self._topic = topic
        self._partitions = partitions
        self._rate = rate
        self._size = size
        self._number = 0
        self._generating = True
        self._wake = asyncio.Event()
        self._call: OpenCall | None = None
        self._target: Target | None = None
        self._values: dict[PendingBatch, list[bytes]] = {}
        self.loop.spawn(self._write())
        self.loop.spawn(self._generate())

    def finish(self) -> None:
        """Send nothing more; what is under way goes on."""
        self._generating = False

    @property
    def done(self) -> bool:
        return self.core.idle

    def send(self, count: int = 1) -> None:
        """Accept some records into one partition."""
        partition = self.random.randrange(self._partitions)
        for _ in range(count):
            size = int(self._size * self.random.uniform(0.1, 2.0)) if self._size else 0
            value = b"%s-%d;" % (self.name.encode(), self._number) + bytes(size)
            self._number += 1
            self.cluster.history.sends(value)
            batch, position = self.core.add(self._topic, partition, value, None, (), 0, self.now)
            self._values.setdefault(batch, []).append(value)
            if position == 0:
                batch.on_done.append(lambda batch=batch: self._batch_done(batch))
        self._wake.set()

    def _batch_done(self, batch: PendingBatch) -> None:
        values = self._values.pop(batch)
        history = self.cluster.history
        if batch.result is not None:
            history.acknowledged(values, batch.result)
        elif batch.error is not None and batch.error.outcome_unknown:
            history.unknown_count += len(values)
        else:
            history.refused(values)

    async def _generate(self) -> None:
        while self._generating:
            await asyncio.sleep(self.random.expovariate(self._rate))
            if self._generating and len(self._values) < PENDING_BATCHES_MAX:
                self.send(self.random.choice((1, 1, 1, 2, 5)))

    async def _write(self) -> None:
        while True:
            await self._awaken()
            self.core.expire(self.now)
            if self._call is not None and self._overdue_s() <= self.now:
                assert self._target is not None
                cause = "no answer in time"
                self._drop(errors.OutcomeUnknown(cause, attempts=[Attempt(self._target.address, cause)]))
            try:
                await self._write_all()
            except QuorumlogError as error:
                self.core.on_failure(error, self.now)
                if self.core.not_before_s <= self.now:
                    self._wake.set()

    async def _awaken(self) -> None:
        wait_s = min(self.core.next_event_s(self.now), self._overdue_s()) - self.now
        try:
            async with asyncio.timeout(max(0.001, wait_s) if wait_s < 1e9 else None):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()

    def _overdue_s(self) -> float:
        return self.core.in_flight[0].sent_s + ATTEMPT_TIMEOUT_S if self.core.in_flight else float("inf")

    async def _write_all(self) -> None:
        while not self.core.idle and self.now >= self.core.not_before_s:
            if self.core.needs_identity:
                await self._open_producer()
            call = self._call or self._open_stream()
            request = self.core.next_request(self.now, int(ATTEMPT_TIMEOUT_S * 1000))
            if request is None:
                break
            call.send(request)

    async def _open_producer(self) -> None:
        raw = await self.call("OpenProducer", b"", ATTEMPT_TIMEOUT_S, write=True)
        answer = service_pb2.OpenProducerResponse.FromString(raw)
        self.core.on_identity(answer.producer_id, answer.epoch)

    def _open_stream(self) -> OpenCall:
        target = self._target = self.endpoints.for_write(self.now, "leader")
        call = self._call = self.cluster.calls.begin(
            self.loop, target.address, "ProduceStream", no_forward=target.no_forward
        )
        self.loop.spawn(self._read(call, target))
        return call

    async def _read(self, call: OpenCall, target: Target) -> None:
        while True:
            answer, leader = await call.arrived.get()
            if call is not self._call:
                return
            if not isinstance(answer, bytes):
                self._drop(answer or errors.Unavailable("the node ended the stream"))
                return
            response = service_pb2.ProduceResponse.FromString(answer)
            self.core.on_response(response, self.now, target.address)
            redirect, self.core.redirect = self.core.redirect, None
            if redirect is not None:
                self._drop(redirect)
                return
            self.good(target, leader)
            self._wake.set()

    def _drop(self, error: QuorumlogError) -> None:
        assert self._call is not None
        assert self._target is not None
        self.bad(self._target, error)
        self._call.cancel()
        self._call = self._target = None
        self.core.on_lost(error, self.now)
        self._wake.set()


class Consumer(Client):
    """Reads one partition by offset from whichever node, and never sees it go back.

    `consistency` is what it asks for; "mixed" draws anew for each call.
    """

    def __init__(
        self, cluster: Cluster, name: str, topic: str, partition: int, consistency: str, pause_s: float
    ) -> None:
        super().__init__(cluster, name)
        self.cursor = Cursor(topic, partition, 0)
        self._topic = topic
        self._partition = partition
        self._consistency = consistency
        self._pause_s = pause_s
        self._reading = True
        self._address = self.random.choice(self.endpoints.addresses)
        self.loop.spawn(self._read())

    def finish(self) -> None:
        self._reading = False

    async def _read(self) -> None:
        while self._reading:
            if self.random.random() < 0.2:
                self._address = self.random.choice(self.endpoints.addresses)
            try:
                await self._fetch(self._address)
            except QuorumlogError as error:
                if "confirm" not in error.message:  # a linearizable read that no majority confirmed
                    self._failed(error)
                self._address = self.random.choice(self.endpoints.addresses)
                await asyncio.sleep(0.05)
            await asyncio.sleep(self.random.uniform(0, 2 * self._pause_s))

    def _failed(self, error: QuorumlogError) -> None:
        if isinstance(error, errors.OffsetOutOfRange):
            self.cluster.history.out_of_range(
                self.name, self._topic, self._partition, self.cursor.fetched, error
            )
            if self.cursor.fetched < error.earliest:
                self.cursor.fetched = error.earliest
        elif not error.retriable and not isinstance(error, errors.UnknownTopic):  # a node may lag that far
            self.cluster.fail(f"{self.name}: {error!r}")

    async def _fetch(self, address: str) -> None:
        consistency = self._consistency
        if consistency == "mixed":
            consistency = self.random.choice(("committed", "session", *self.cluster.linearizable))
        cursor = self.cursor
        # Where it has read from a fresher node, a committed read may find less than it has seen: it goes back
        # to what a new reader would ask, and the order is the history's to check.
        offset = cursor.fetched
        min_index = cursor.applied_index if consistency == "session" else 0
        floor = (
            self.cluster.history.floor(self._topic, self._partition) if consistency == "linearizable" else 0
        )
        request = service_pb2.FetchRequest(
            topic=self._topic,
            partition=self._partition,
            offset=offset,
            max_bytes=self.random.choice((1, 1000, 20_000)),
            max_wait_ms=self.random.choice((0, 0, 300)),
            consistency=f"CONSISTENCY_{consistency.upper()}",  # type: ignore[arg-type]
            min_raft_index=min_index,
        )
        raw, _ = await self.cluster.calls.unary(
            self.loop, address, "Fetch", request.SerializeToString(), ATTEMPT_TIMEOUT_S
        )
        response = service_pb2.FetchResponse.FromString(raw)
        who = f"{self.name} ({consistency}) at {address}"
        self.cluster.history.read(
            who, self._topic, self._partition, offset, response, min_index=min_index, floor=floor
        )
        cursor.arrived(response)
