"""One run: a cluster, its clients and a nemesis, from one seed; then everything heals, and is compared."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from quorumlog.client.errors import OffsetOutOfRange, QuorumlogError, TopicExists
from quorumlog.proto import service_pb2
from quorumlog.raft.retention import RetentionLimits
from quorumlog.storage.log import LogOptions
from tests.simulation.clients import ATTEMPT_TIMEOUT_S, Client, Consumer, Producer
from tests.simulation.cluster import Cluster
from tests.simulation.history import Violation
from tests.simulation.nemesis import MIXES, Nemesis

TOPIC: Final = "t"
SECONDS: Final = 30.0
# Once everything heals: until somebody leads and a write is acknowledged; until all nodes are level.
SERVES_WITHIN_S: Final = 10.0
LEVEL_WITHIN_S: Final = 60.0


@dataclass(slots=True)
class Outcome:
    """What became of a run."""

    seed: int
    nodes: int
    mix: str = ""
    violation: str | None = None
    simulated_s: float = 0.0
    acknowledged: int = 0
    unknown: int = 0
    reads: int = 0
    healed_in_s: float = 0.0  # until a write was acknowledged again
    cpu_s: float = 0.0
    digest: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    lines: list[str] = field(default_factory=list)


class Run:
    """See the module."""

    def __init__(
        self,
        seed: int,
        nodes: int = 3,
        seconds: float = SECONDS,
        mix: str | None = None,
        *,
        traced: bool = False,
    ) -> None:
        self.outcome = Outcome(seed, nodes)
        self.cluster = Cluster(nodes, seed, traced=traced)
        self._random = self.cluster.random
        self.mix = mix or self._random.choice(sorted(MIXES))
        self.outcome.mix = self.mix
        self._seconds = seconds * 5 if self.mix == "exile" else seconds
        self._draw_world()
        self._producers: list[Producer] = []
        self._consumers: list[Consumer] = []

    def _draw_world(self) -> None:
        cluster, draw = self.cluster, self._random
        slow = draw.choice((0.002, 0.005, 0.02, 0.05))
        cluster.conditions.network_delay = (0.0002, slow)
        cluster.conditions.disk_delay = (0.0002, draw.choice((0.001, 0.005, 0.02)))
        cluster.log_options = LogOptions(
            segment_bytes=draw.choice((16, 64, 64, 256)) << 10,
            segment_entries=draw.choice((5, 20, 100, 400)),
            reserve_bytes=draw.choice((16, 64)) << 10,
            open_segments=draw.choice((1, 4, 64)),
        )
        if self.mix in ("retention", "exile") or draw.random() < 0.3:
            size = cluster.log_options.segment_bytes * draw.choice((1, 2, 5))
            cluster.retention = RetentionLimits(size, draw.choice((None, 3.0, 20.0)))

    def execute(self) -> Outcome:
        """Run to the end, or to the first violation."""
        began = time.process_time()
        try:
            self._live()
            self._heal()
            Audit(self.cluster, TOPIC).check()
        except Violation as violation:
            self.outcome.violation = str(violation)
        self._sum_up(time.process_time() - began)
        return self.outcome

    def _live(self) -> None:
        cluster, draw = self.cluster, self._random
        cluster.start()
        partitions = draw.choice((1, 2, 3))
        self._create_topic(partitions)
        rate = math.exp(draw.uniform(math.log(0.5), math.log(4.0)))
        if self.mix == "exile":
            rate /= 3
        for number in range(draw.choice((1, 2, 3))):
            size = draw.choice((0, 100, 100, 2000, 20_000))
            self._producers.append(Producer(cluster, f"p{number}", TOPIC, partitions, rate, size))
        for number in range(draw.choice((1, 2, 3))):
            consistency = draw.choice(("committed", "session", "mixed", "linearizable"))
            consumer = Consumer(
                cluster, f"c{number}", TOPIC, number % partitions, consistency, draw.choice((0.05, 0.2))
            )
            self._consumers.append(consumer)
        self.nemesis = Nemesis(cluster, self.mix, self._seconds)
        cluster.run(self._seconds)

    def _create_topic(self, partitions: int) -> None:
        admin = Client(self.cluster, "admin")
        request = service_pb2.CreateTopicRequest(name=TOPIC, partitions=partitions)

        async def create() -> None:
            while True:
                try:
                    await admin.call("CreateTopic", request.SerializeToString(), 5.0, write=True)
                except TopicExists:
                    return
                except QuorumlogError:
                    await asyncio.sleep(0.1)
                else:
                    return

        task = admin.loop.spawn(create())
        self.cluster.run_until(task.done)

    def _heal(self) -> None:
        cluster = self.cluster
        for client in (*self._producers, *self._consumers):
            client.finish()
        self.nemesis.stop()
        cluster.run(max(0.0, self.nemesis.pauses_end - cluster.events.now))
        healed = cluster.events.now
        probe = Producer(cluster, "probe", TOPIC, 1, 1e-9, 0)
        probe.send()
        cluster.run_until(lambda: probe.done, SERVES_WITHIN_S)
        self.outcome.healed_in_s = cluster.events.now - healed
        cluster.run_until(lambda: all(producer.done for producer in self._producers), LEVEL_WITHIN_S)
        cluster.run_until(lambda: self.nemesis.done, LEVEL_WITHIN_S)
        cluster.run_until(
            lambda: all(node.running for node in cluster.members()) and cluster.converged(),
            LEVEL_WITHIN_S,
        )

    def _sum_up(self, cpu_s: float) -> None:
        cluster, outcome = self.cluster, self.outcome
        outcome.cpu_s = cpu_s
        outcome.simulated_s = cluster.events.now - 1000.0
        outcome.acknowledged = cluster.history.acknowledged_count
        outcome.unknown = cluster.history.unknown_count
        outcome.reads = cluster.history.read_count
        outcome.digest = cluster.events.digest
        outcome.lines = cluster.lines
        if hasattr(self, "nemesis"):
            outcome.faults = self.nemesis.faults
        cluster.close()


class Audit:
    """At the end each node is asked for everything that there is; files and states are compared."""

    def __init__(self, cluster: Cluster, topic: str) -> None:
        self._cluster = cluster
        self._topic = topic
        self._client = Client(cluster, "audit")

    def check(self) -> None:
        """Raise Violation where a node does not serve what was acknowledged, or differs from another."""
        cluster = self._cluster
        for node in cluster.members():
            task = self._client.loop.spawn(self._read_all(f"{node.name}:9650"))
            cluster.run_until(task.done, LEVEL_WITHIN_S)
        # A client that was given up may still have had something on its way while this one was reading.
        cluster.run_until(cluster.converged, LEVEL_WITHIN_S)
        nodes = cluster.members()
        self._equal("state", [node.machine.snapshot() for node in nodes])
        self._equal("chain", [node.engine.log.last_chain for node in nodes])
        self._equal_segments()

    async def _read_all(self, address: str) -> None:
        history = self._cluster.history
        topic_id = history.topics[self._topic]
        for place, partition in sorted(history.partitions.items()):
            if place[0] != topic_id:
                continue
            offset, end = partition.start_at(history.last_index), len(partition.values)
            while offset < end:
                request = service_pb2.FetchRequest(
                    topic=self._topic, partition=place[1], offset=offset, max_bytes=1 << 20
                )
                try:
                    raw, _ = await self._cluster.calls.unary(
                        self._client.loop, address, "Fetch", request.SerializeToString(), ATTEMPT_TIMEOUT_S
                    )
                except OffsetOutOfRange as error:  # retention goes on
                    history.out_of_range(address, self._topic, place[1], offset, error)
                    offset = max(offset, error.earliest)
                    continue
                response = service_pb2.FetchResponse.FromString(raw)
                history.read(f"audit at {address}", self._topic, place[1], offset, response)
                if not response.batches:
                    self._cluster.fail(
                        f"audit at {address}: nothing at {offset} of {place}, the end is {end}"
                    )
                    return
                offset = response.batches[-1].base_offset + response.batches[-1].header.span

    def _equal_segments(self) -> None:
        """Segments begin at the same entries and hold the same bytes, on whichever nodes have them."""
        seen: dict[int, tuple[str, bytes]] = {}
        for node in self._cluster.members():
            log = node.engine.log
            bases = [segment.base for segment in log.segments]
            for base, next_base in zip(bases, [*bases[1:], log.last_index + 1], strict=True):
                raw, index = b"", base
                while index < next_base:
                    piece, count = log.read_raw(index, 1 << 20)
                    raw, index = raw + piece, index + count
                known = seen.setdefault(base, (node.name, raw))
                if known[1] != raw:
                    self._cluster.fail(f"segment {base} of {node.name} is not that of {known[0]}")
                    raise self._cluster.violation or Violation("segments differ")

    def _equal(self, what: str, values: Sequence[object]) -> None:
        if any(value != values[0] for value in values):
            self._cluster.fail(f"{what} differs between the nodes")
            raise self._cluster.violation or Violation(what)


def run(
    seed: int, nodes: int = 3, seconds: float = SECONDS, mix: str | None = None, *, traced: bool = False
) -> Outcome:
    """Run one seed."""
    return Run(seed, nodes, seconds, mix, traced=traced).execute()
