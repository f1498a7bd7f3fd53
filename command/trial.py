"""`quorumlog local`: a cluster on this machine, tried with real input.

    start the nodes -> wait for a leader -> produce every line through a follower -> read it back from
    another follower -> compare -> say how to go on by hand -> serve until Ctrl-C

With `once` the leader is killed half-way, with records in flight; the rest goes through the new one; all
nodes stop at the end, and the last line of output is one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from quorumlog.client.aio import AsyncClient
from quorumlog.client.batches import BatchMetadata
from quorumlog.client.deliveries import BatchDelivery
from quorumlog.client.describe import ClusterStatus
from quorumlog.client.errors import ConnectionFailed, QuorumlogError, TopicExists, Unavailable
from quorumlog.client.producer import AsyncProducer
from quorumlog.command.local_input import Input, choose_input
from quorumlog.command.local_nodes import START_TIMEOUT_S, LocalNode, LocalNodes, usual_ports

_LOOK_AGAIN_S = 0.05
_TOPICS_MAX = 10_000  # runs on one directory before a new one has to be chosen


@dataclass(slots=True)
class Report:
    """What happened; the JSON line of --once."""

    input: str = ""
    topic: str = ""
    records: int = 0  # lines sent
    skipped: int = 0  # lines too long for a record
    acknowledged: int = 0
    in_order: bool = True  # acknowledged at rising offsets without a gap
    read_back: int = 0
    identical: bool = False
    leader_before: str = ""
    leader_after: str = ""
    failover_ms: float | None = None  # from the kill to the next write acknowledged by the new leader
    in_flight_at_kill: int = 0  # records sent and not acknowledged at that moment
    produced_through: str = ""
    read_from: str = ""
    records_per_s: int = 0
    first_offset: int = 0
    last_offset: int = -1
    applied: dict[str, int] = field(default_factory=dict)

    @property
    def good(self) -> bool:
        """True when everything acknowledged was read back, in order, once, and nothing else."""
        complete = self.records == self.acknowledged == self.read_back
        return complete and self.identical and self.in_order


class Local:
    """One run."""

    def __init__(
        self, directory: str, input_path: str | None, nodes: int, *, once: bool, tls: bool = False
    ) -> None:
        self._once = once
        self._directory = Path(directory)
        self._input = Input(choose_input(input_path))
        self._nodes = LocalNodes(self._directory, nodes, tls=tls, ports=usual_ports(nodes))
        self._report = Report(input=str(self._input.path))
        self._killed_s = 0.0

    async def run(self) -> int:
        """Return the exit code."""
        stopping = asyncio.Event()
        with _signals(stopping):
            async with self._nodes:
                self._say_where()
                trial = asyncio.create_task(self._try())
                stopped = asyncio.create_task(stopping.wait())
                await asyncio.wait((trial, stopped), return_when=asyncio.FIRST_COMPLETED)
                if not trial.done():
                    await _cancelled(trial)
                    return 130
                await trial  # raises what went wrong
                if not self._once:
                    self._say_how_to_go_on()
                    await self._serve(stopping)
                await _cancelled(stopped)
        if self._once:
            print(json.dumps(asdict(self._report)), flush=True)
        return 0 if self._report.good else 1

    # The trial.

    async def _try(self) -> None:
        report = self._report
        status = await self._wait_for_leader()
        report.leader_before = status.leader_id
        follower, other = self._followers(status.leader_id)
        report.produced_through, report.read_from = follower.node_id, other.node_id
        _say(f"leader: {status.leader_id} (term {status.term})")
        async with AsyncClient(follower.client_address, route="any", tls=self._nodes.tls) as client:
            report.topic = await self._create_topic(client)
            await self._produce(client, status)
        report.leader_after = (await self._wait_for_leader(dead=self._dead)).leader_id
        await self._read_back(other)
        report.applied = await self._wait_until_applied()
        self._say_what_happened()

    @property
    def _dead(self) -> str:
        return self._report.leader_before if self._killed_s else ""

    def _followers(self, leader_id: str) -> tuple[LocalNode, LocalNode]:
        followers = [node for node in self._nodes.nodes if node.node_id != leader_id]
        return followers[0], followers[1]

    async def _create_topic(self, client: AsyncClient) -> str:
        """Create a topic named after the input; another run on the same data takes the next name."""
        stem = re.sub(r"[^A-Za-z0-9._-]", "-", self._input.path.name)[:200]
        for number in range(1, _TOPICS_MAX):
            name = stem if number == 1 else f"{stem}-{number}"
            try:
                await client.create_topic(name)
            except TopicExists:
                continue
            return name
        raise QuorumlogError(f"{self._directory} holds {_TOPICS_MAX} runs: choose another --directory")

    async def _produce(self, client: AsyncClient, before: ClusterStatus) -> None:
        report = self._report
        _say(f"producing {self._input.path} line by line through follower {report.produced_through} ...")
        start_s = time.monotonic()
        acknowledgements = Acknowledgements(report, before.term)
        async with client.producer() as producer, acknowledgements.taken_in():
            for lines, part in self._input.chunks():
                report.records += len(lines)
                for delivery in await producer.submit_many(report.topic, lines):
                    acknowledgements.expect(delivery)
                if self._once and part >= 0.5 and not self._killed_s:
                    await self._kill_leader_in_flight(producer, acknowledgements)
        report.records_per_s = round(report.records / (time.monotonic() - start_s))
        if self._killed_s and acknowledgements.new_leader_s is not None:
            report.failover_ms = round((acknowledgements.new_leader_s - self._killed_s) * 1000, 1)
        report.skipped = len(self._input.skipped)
        for line in self._input.skipped:
            _say(f"skipped line {line.number}: {line.size} bytes are more than a record may have")

    async def _kill_leader_in_flight(
        self, producer: AsyncProducer, acknowledgements: Acknowledgements
    ) -> None:
        """Kill it right behind a request; but the first time only wait until something is acknowledged."""
        if not acknowledgements.first.is_set():
            await acknowledgements.first.wait()
            return
        for _ in range(3):  # turns of the loop: the producer hands to gRPC what was just submitted
            await asyncio.sleep(0)
        self._report.in_flight_at_kill = producer.pending
        leader = self._nodes.node(self._report.leader_before)
        leader.kill()
        self._killed_s = time.monotonic()
        _say(f"killed leader {leader.node_id} (SIGKILL) with {producer.pending} records in flight")

    async def _read_back(self, node: LocalNode) -> None:
        """Compare what the other follower serves, record by record, with the input."""
        report = self._report
        _say(f"reading back from {node.node_id} ...")
        expected = self._input.lines()
        identical = True
        async with AsyncClient(node.client_address, route="any", tls=self._nodes.tls) as client:
            ends = await self._end_offsets(client, report)
            consumer = client.consumer(report.topic, end=ends, from_node=node.client_address)
            async for batch in consumer.batches():
                for value in batch.values:
                    identical = identical and value == next(expected, None)
                report.read_back += len(batch)
        report.identical = identical and next(expected, None) is None

    async def _end_offsets(self, client: AsyncClient, report: Report) -> dict[tuple[str, int], int]:
        """Return where the topic ends, once this node has all that was acknowledged."""
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while True:
            ends = await client.end_offsets(report.topic)
            if ends[0] > report.last_offset or time.monotonic() > deadline_s:
                return {(report.topic, 0): ends[0]}
            await asyncio.sleep(_LOOK_AGAIN_S)

    # Waiting for the cluster.

    async def _wait_for_leader(self, dead: str = "") -> ClusterStatus:
        """Return the status once every running node serves and all name the same leader."""
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while True:
            self._nodes.check(dead=dead)
            status = await self._status(dead)
            if status is not None and _agreed(status, dead):
                return status
            if time.monotonic() > deadline_s:
                raise ConnectionFailed(f"no leader after {START_TIMEOUT_S:g} s; see {self._directory}/*.log")
            await asyncio.sleep(_LOOK_AGAIN_S)

    async def _status(self, dead: str) -> ClusterStatus | None:
        node = next(each for each in self._nodes.nodes if each.node_id != dead)
        client = AsyncClient(
            node.client_address, connect_timeout_ms=500, request_timeout_ms=2000, tls=self._nodes.tls
        )
        try:
            async with client:
                return await client.status(timeout_ms=500)
        except Unavailable:
            return None

    async def _wait_until_applied(self) -> dict[str, int]:
        """Return each running node's applied index, once all have applied the same."""
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while True:
            status = await self._status(self._dead)
            running = [node for node in status.nodes if node.node_id != self._dead] if status else []
            applied = {node.node_id: node.applied_index for node in running}
            if len(set(applied.values())) == 1 or time.monotonic() > deadline_s:
                return applied
            await asyncio.sleep(_LOOK_AGAIN_S)

    async def _serve(self, stopping: asyncio.Event) -> None:
        """Serve until asked to stop; say when a node ends by itself."""
        gone: set[str] = set()
        while not stopping.is_set():
            for node in self._nodes.nodes:
                if not node.running and node.node_id not in gone:
                    gone.add(node.node_id)
                    _say(f"node {node.node_id} has ended; its log: {node.log}")
            try:
                async with asyncio.timeout(0.5):
                    await stopping.wait()
            except TimeoutError:
                continue
        _say("\nstopping ...")

    # What is printed.

    def _say_where(self) -> None:
        for node in self._nodes.nodes:
            _say(
                f"{node.node_id}: clients {node.client_address}, peers {node.peer_address}, pid {node.pid}, "
                f"data {node.data}, configuration {node.config}"
            )

    def _say_what_happened(self) -> None:
        report = self._report
        verdict = "identical" if report.good else "NOT IDENTICAL"
        _say(
            f"{report.acknowledged} of {report.records} records acknowledged ({report.records_per_s:,}/s), "
            f"offsets {report.first_offset} to {report.last_offset} of topic {report.topic}"
        )
        if report.failover_ms is not None:
            _say(f"new leader: {report.leader_after}, {report.failover_ms:g} ms from kill to next write")
        _say(f"{report.read_back} records read back from {report.read_from}: {verdict}")
        applied = ", ".join(f"{node} {index}" for node, index in report.applied.items())
        _say(f"applied index: {applied}")

    def _say_how_to_go_on(self) -> None:
        command = shlex.quote(_own_path())
        servers = ",".join(node.client_address for node in self._nodes.nodes)
        topic = self._report.topic
        tls = self._nodes.tls
        files = {"CA": tls.ca, "CERT": tls.cert, "CERT_KEY": tls.key} if tls is not None else {}
        exports = "".join(
            f"\n  export QUORUMLOG_{name}={shlex.quote(str(Path(file).absolute()))}"
            for name, file in files.items()
        )
        page = f"{'http' if tls is None else 'https'}://{self._nodes.nodes[0].http_address}/#topic={topic}"
        _say(
            f"""
The cluster serves until Ctrl-C. In a browser: {page}
In another terminal:

  export QUORUMLOG_SERVERS={servers}{exports}
  {command} cluster status
  {command} topic ls
  {command} consume {topic} -o -5 -e
  {command} topic create hello
  echo 'first record' | {command} produce hello
  {command} consume hello --from {self._report.read_from}
  kill -9 {self._nodes.node(self._report.leader_after).pid}    # the leader; then look at the status again
"""
        )


class Acknowledgements:
    """Takes in acknowledgements in the order of sending, and checks that offsets have no gap."""

    def __init__(self, report: Report, term_before: int) -> None:
        self.first = asyncio.Event()
        self.new_leader_s: float | None = None  # when a later leader than the first acknowledged something
        self._report = report
        self._term_before = term_before
        # Bounded by the producer's buffer: what is acknowledged leaves at once.
        self._expected: asyncio.Queue[BatchDelivery | None] = asyncio.Queue()

    def expect(self, delivery: BatchDelivery) -> None:
        """Wait for this one, too."""
        self._expected.put_nowait(delivery)

    @asynccontextmanager
    async def taken_in(self) -> AsyncIterator[None]:
        """Take in what comes until the block ends, then the rest."""
        task = asyncio.create_task(self._take_in())
        try:
            yield
            self._expected.put_nowait(None)
            await task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _take_in(self) -> None:
        while (delivery := await self._expected.get()) is not None:
            self._note(await delivery)

    def _note(self, metadata: BatchMetadata) -> None:
        report = self._report
        if metadata.raft_term > self._term_before and self.new_leader_s is None:
            self.new_leader_s = time.monotonic()
        if not self.first.is_set():
            report.first_offset = metadata.offset
            report.last_offset = metadata.offset - 1
        report.in_order = report.in_order and metadata.offset == report.last_offset + 1
        report.last_offset = metadata.offset + metadata.count - 1
        report.acknowledged += metadata.count
        self.first.set()


def _agreed(status: ClusterStatus, dead: str) -> bool:
    running = [node for node in status.nodes if node.node_id != dead]
    leaders = {node.leader_id for node in running}
    is_led = any(node.node_id == status.leader_id and node.role == "leader" for node in running)
    return is_led and all(node.reachable for node in running) and leaders == {status.leader_id}


@contextmanager
def _signals(stopping: asyncio.Event) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # the last: the terminal was closed
    for number in numbers:
        loop.add_signal_handler(number, stopping.set)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


async def _cancelled(task: asyncio.Task[object]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _own_path() -> str:
    path = Path(sys.argv[0])
    return str(path) if path.name == "quorumlog" else "quorumlog"


def _say(text: str) -> None:
    print(text, flush=True)
