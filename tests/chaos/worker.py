"""A process of clients: they produce and read all the time, and write down every call and what came of it.

    python -m tests.chaos.worker      a line of JSON on stdin says what to do; the end of stdin ends it

Clients are those that users import, except where the raw answer counts (its applied index, the asked
consistency): there it is a plain stub to one node. After the end of stdin nothing new is sent; what is under
way gets `finish_s` to end, and a record that has not ended then is written down as unknown.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TextIO

import grpc.aio

from quorumlog.client import AsyncClient
from quorumlog.client.errors import ConnectionFailed, QuorumlogError
from quorumlog.proto import batch, service_pb2, service_pb2_grpc
from tests.chaos.history import Event, Outcome, Place, Read, Write, runs_of, to_json, value_of

UNDER_WAY_MAX = 64  # records or batches of one producer
READ_TIMEOUT_S = 5.0
_CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", 20 * 1024 * 1024),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
)


class Worker:
    """What the roles of one process share."""

    def __init__(self, config: dict[str, Any], notes: TextIO) -> None:
        self.servers: dict[str, str] = config["servers"]  # node id -> address for clients
        self.places: list[Place] = [(topic, partition) for topic, partition in config["places"]]
        self.finish_s: float = config["finish_s"]
        self.dice = random.Random(config["seed"])
        self.stopping = asyncio.Event()
        self._notes = notes
        self._closed = False

    def note(self, event: Event) -> None:
        """Write an event down; whole lines reach the file at once."""
        if not self._closed:
            self._notes.write(to_json(event) + "\n")
            self._notes.flush()

    def close(self) -> None:
        self._closed = True

    async def pause(self, seconds: float) -> None:
        """Wait, but not longer than the run."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.stopping.wait(), seconds)

    @contextlib.asynccontextmanager
    async def client(self, route: str = "leader") -> Any:
        """A client; however long it takes until some node answers."""
        servers = list(self.servers.values())
        client = AsyncClient(servers, route=route, require_leader=False)  # type: ignore[arg-type]
        while not self.stopping.is_set():
            try:
                await client.connect()
                break
            except ConnectionFailed:
                await self.pause(0.2)
        try:
            yield client
        finally:
            await client.close()


# Writers.


async def produce(worker: Worker, role: dict[str, Any]) -> None:
    """Batches of up to `batch` records (0: single ones, which the client batches), `rate` a second."""
    name, size, padding = role["name"], role["batch"], role["padding"]
    number = 0
    under_way = asyncio.Semaphore(UNDER_WAY_MAX)
    async with worker.client(role["route"]) as client:
        producer = client.producer(compression_type=role.get("compression"))
        waiting: set[asyncio.Task[None]] = set()
        while not worker.stopping.is_set():
            await under_way.acquire()
            topic, partition = worker.dice.choice(worker.places)
            count = worker.dice.randint(1, size) if size else 1
            values = [value_of(name, number + at, padding) for at in range(count)]
            invoked_s = time.monotonic()
            if size:
                submitted = producer.submit_many(topic, values, partition)
            else:
                submitted = _one(producer.submit(topic, values[0], partition=partition))
            write = Write(name, topic, partition, number, count, invoked_s, 0.0, Outcome.INFO)
            task = asyncio.create_task(_outcome(worker, write, submitted, under_way))
            waiting.add(task)
            task.add_done_callback(waiting.discard)
            number += count
            await worker.pause(worker.dice.expovariate(role["rate"]))
        if waiting:
            await asyncio.wait(waiting, timeout=worker.finish_s)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        with contextlib.suppress(QuorumlogError, TimeoutError):
            await asyncio.wait_for(producer.close(), 1.0)


async def _one(submitted: Awaitable[Any]) -> list[Any]:
    return [await submitted]


async def _outcome(
    worker: Worker, write: Write, submitted: Awaitable[Sequence[Any]], under_way: asyncio.Semaphore
) -> None:
    """Note what became of a write; the client may have split it into several batches."""
    first, left = write.first, write.count
    try:
        deliveries = await submitted
    except QuorumlogError as error:
        worker.note(_ended(write, first, left, Outcome.INFO, error))  # some may have got into the producer
        under_way.release()
        return
    try:
        for delivery in deliveries:
            count = delivery.count
            worker.note(await _delivered(write, first, delivery))
            first, left = first + count, left - count
    except asyncio.CancelledError:
        worker.note(_ended(write, first, left, Outcome.INFO, None))
        left = 0
        raise
    finally:
        under_way.release()
    assert left == 0, f"{left} of {write.count} records have no delivery"


async def _delivered(write: Write, first: int, delivery: Any) -> Write:
    try:
        done = await delivery
    except QuorumlogError as error:
        outcome = Outcome.INFO if error.outcome_unknown else Outcome.FAIL
        return _ended(write, first, delivery.count, outcome, error)
    return Write(
        write.producer,
        write.topic,
        write.partition,
        first,
        delivery.count,
        write.invoked_s,
        time.monotonic(),
        Outcome.OK,
        done.offset,
        done.raft_index,
        done.raft_term,
        done.duplicate,
    )


def _ended(write: Write, first: int, count: int, outcome: Outcome, error: Exception | None) -> Write:
    text = f"{type(error).__name__}: {error}"[:300] if error else "cancelled"
    return Write(
        write.producer,
        write.topic,
        write.partition,
        first,
        count,
        write.invoked_s,
        time.monotonic(),
        outcome,
        error=text,
    )


async def probe(worker: Worker, role: dict[str, Any]) -> None:
    """One record after the other, each awaited: its acknowledgements say when writes are possible."""
    topic, partition = worker.places[0]
    number = 0
    async with worker.client() as client, client.producer() as producer:
        while not worker.stopping.is_set():
            submitted = _one(producer.submit(topic, value_of(role["name"], number), partition=partition))
            write = Write(role["name"], topic, partition, number, 1, time.monotonic(), 0.0, Outcome.INFO)
            outcome = asyncio.create_task(_outcome(worker, write, submitted, asyncio.Semaphore(0)))
            stopped = asyncio.create_task(worker.stopping.wait())
            await asyncio.wait({outcome, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not outcome.done():
                await asyncio.wait({outcome}, timeout=worker.finish_s)
                outcome.cancel()
            stopped.cancel()
            await asyncio.gather(outcome, stopped, return_exceptions=True)
            if outcome.done() and not outcome.cancelled():
                outcome.result()
            number += 1
            await asyncio.sleep(role["interval_s"])


# Readers.


async def consume(worker: Worker, role: dict[str, Any]) -> None:
    """The client's consumer of one partition; `from`: a node id, "leader", or empty for any node."""
    topic, partition = worker.places[role["place"]]
    name, offset = role["name"], 0
    async with worker.client() as client:
        while not worker.stopping.is_set():
            try:
                node = await _node(client, role["from"])
                consumer = client.consumer(
                    topic,
                    partitions=[partition],
                    start=offset,
                    from_node=worker.servers.get(node, node) or None,
                    consistency=role["consistency"],
                )
                async with consumer:
                    until_s = time.monotonic() + role["reopen_s"]
                    while time.monotonic() < until_s and not worker.stopping.is_set():
                        began_s = time.monotonic()
                        found = await consumer.getbatch(timeout_ms=200)
                        if found is None:
                            continue
                        runs = runs_of(
                            zip(found.offsets, [value or b"" for value in found.values], strict=True)
                        )
                        offset = runs[-1].offset + runs[-1].count
                        worker.note(
                            Read(name, node, topic, partition, began_s, time.monotonic(), runs, stream=name)
                        )
            except QuorumlogError as error:
                _complain(name, error)
                await worker.pause(0.3)


async def _node(client: AsyncClient, wanted: str) -> str:
    if wanted != "leader":
        return wanted
    status = await client.status(timeout_ms=500)
    return status.leader_id or ""


class Stubs:
    """A channel to each node."""

    def __init__(self, servers: dict[str, str]) -> None:
        self._channels = {
            node: grpc.aio.insecure_channel(address, options=_CHANNEL_OPTIONS)
            for node, address in servers.items()
        }

    async def __aenter__(self) -> Stubs:
        return self

    async def __aexit__(self, *error: object) -> None:
        for channel in self._channels.values():
            await channel.close()

    def log(self, node: str) -> Any:
        return service_pb2_grpc.LogStub(self._channels[node])  # type: ignore[no-untyped-call]


async def read(worker: Worker, role: dict[str, Any]) -> None:
    """Fetch around the end of a partition, from a node drawn each time.

    `consistency` session: its token is the highest index that it has seen or was promised, so that it must
    read its own writes and never go back, whatever node it asks. With `writes` it also writes.
    """
    name, consistency = role["name"], role["consistency"]
    token, number = 0, 0
    ends: dict[Place, int] = {}
    async with Stubs(worker.servers) as stubs, worker.client("any") as client, client.producer() as producer:
        while not worker.stopping.is_set():
            topic, partition = place = worker.dice.choice(worker.places)
            if role["writes"] and worker.dice.random() < 0.5:
                write = Write(name, topic, partition, number, 1, time.monotonic(), 0.0, Outcome.INFO)
                token = max(token, await _write_one(worker, producer, write))
                number += 1
            node = worker.dice.choice(sorted(worker.servers))
            asked = Read(name, node, topic, partition, time.monotonic(), 0.0, (), consistency, token)
            answer = await _fetch(worker, stubs.log(node), asked, max(0, ends.get(place, 0) - 5))
            if answer is not None:
                ends[place] = answer.high_watermark
                if consistency == "session":
                    token = max(token, answer.applied_index)
            await worker.pause(worker.dice.expovariate(role["rate"]))


async def _write_one(worker: Worker, producer: Any, write: Write) -> int:
    """Write one record; returns its raft index, or 0 when it was not acknowledged in time."""
    value = value_of(write.producer, write.first)
    try:
        delivery = await producer.submit(write.topic, value, partition=write.partition)
    except QuorumlogError as error:
        worker.note(_ended(write, write.first, 1, Outcome.FAIL, error))  # it never got into the producer
        return 0
    outcome = asyncio.create_task(_delivered(write, write.first, delivery))
    stopping = asyncio.create_task(worker.stopping.wait())
    await asyncio.wait({outcome, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    try:
        ended = await asyncio.wait_for(outcome, worker.finish_s)
    except TimeoutError:
        ended = _ended(write, write.first, 1, Outcome.INFO, None)
    worker.note(ended)
    return ended.raft_index


CONSISTENCIES = {
    "committed": service_pb2.CONSISTENCY_COMMITTED,
    "session": service_pb2.CONSISTENCY_SESSION,
    "linearizable": service_pb2.CONSISTENCY_LINEARIZABLE,
}


async def _fetch(worker: Worker, log: Any, asked: Read, offset: int) -> Read | None:
    """Ask one node; notes and returns the answer, or None when there was none."""
    request = service_pb2.FetchRequest(
        topic=asked.topic,
        partition=asked.partition,
        offset=offset,
        max_bytes=64 * 1024,
        consistency=CONSISTENCIES[asked.consistency],
        min_raft_index=asked.min_raft_index,
    )
    try:
        answer = await log.Fetch(request, timeout=READ_TIMEOUT_S)
    except grpc.aio.AioRpcError as error:
        if error.code() not in _NOT_NOW:
            _complain(asked.reader, error)
        return None
    records = []
    for fetched in answer.batches:
        batch.check_batch(fetched.header, fetched.body)
        columns = batch.decode_batch(fetched.header, fetched.body)
        records += [
            (fetched.base_offset + delta, value or b"")
            for delta, value in zip(columns.offset_deltas, columns.values, strict=True)
        ]
    done = Read(
        asked.reader,
        asked.node,
        asked.topic,
        asked.partition,
        asked.invoked_s,
        time.monotonic(),
        runs_of(records),
        asked.consistency,
        asked.min_raft_index,
        answer.applied_index,
        answer.high_watermark,
    )
    worker.note(done)
    return done


# What a node answers that is down, cut off, behind, or asked for an offset that it does not have yet.
_NOT_NOW = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.OUT_OF_RANGE,
)


def _complain(name: str, error: Exception) -> None:
    print(f"{time.monotonic():.3f} {name}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)


ROLES: dict[str, Callable[[Worker, dict[str, Any]], Awaitable[None]]] = {
    "produce": produce,
    "probe": probe,
    "consume": consume,
    "read": read,
}


async def main() -> None:
    """Do all roles until stdin ends."""
    config = json.loads(sys.stdin.readline())
    loop = asyncio.get_running_loop()
    with open(config["history"], "w", encoding="utf-8") as notes:  # noqa: ASYNC230 - once, before the work
        worker = Worker(config, notes)
        threading.Thread(target=_wait_for_the_end, args=(loop, worker), daemon=True).start()
        async with asyncio.TaskGroup() as roles:
            for role in config["roles"]:
                roles.create_task(ROLES[role["role"]](worker, role))
        worker.close()


def _wait_for_the_end(loop: asyncio.AbstractEventLoop, worker: Worker) -> None:
    sys.stdin.read()
    loop.call_soon_threadsafe(worker.stopping.set)
    time.sleep(worker.finish_s + 10)  # bounded, whatever the clients wait for
    print("the worker does not end: killed by itself", file=sys.stderr, flush=True)
    os._exit(3)


if __name__ == "__main__":
    asyncio.run(main())
