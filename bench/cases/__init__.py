"""All cases, in the order in which they run. A case gives one result or several, named as it says."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from bench.cases import consume, failover, growth, memory, opening, pipelined, processes, random_reads, writes
from bench.result import Result
from bench.run import Run


@dataclass(frozen=True, slots=True)
class Case:
    """Work whose results are made together. It may take `most_s` seconds."""

    names: tuple[str, ...]
    work: Callable[[Run], Awaitable[Sequence[Result]]]
    most_s: float = 120.0

    def is_meant_by(self, wanted: Sequence[str]) -> bool:
        """Whether one of its names is wanted, in full or by its beginning up to a hyphen."""
        return not wanted or any(
            name == each or name.startswith(f"{each}-") for name in self.names for each in wanted
        )


CASES = (
    Case(("produce-awaited",), writes.awaited),
    Case(("produce-at-rate",), writes.at_rate),
    Case(("produce-concurrent",), writes.concurrent),
    Case(("produce-connections",), processes.connections),
    Case(("produce-pipelined-100",), pipelined.small),
    Case(("produce-pipelined-1k",), pipelined.large),
    Case(("produce-pipelined-100-lz4",), pipelined.small_lz4),
    Case(("produce-pipelined-1k-lz4",), pipelined.large_lz4),
    Case(("consume-follower", "consume-follower-batches", "consume-follower-cold"), consume.from_start),
    Case(("consume-tail",), consume.tail),
    Case(("consume-tail-100",), processes.tails),
    Case(("random-reads-1e5", "random-reads-1e7"), random_reads.random_reads, most_s=180),
    Case(("failover",), failover.killed, most_s=400),
    Case(("transfer",), failover.transferred, most_s=180),
    Case(("open-1g-clean", "open-1g-killed"), opening.one_gib, most_s=180),
    Case(("open-10g-clean", "open-10g-killed", "growth-after-10g"), opening.ten_gib, most_s=400),
    Case(("memory-idle",), memory.idle),
    Case(("memory-load",), memory.loaded),
    Case(("memory-partitions",), memory.partitions),
    Case(("growth-nodes-1", "growth-nodes-3", "growth-nodes-5"), growth.nodes, most_s=180),
    Case(("growth-partitions-1", "growth-partitions-100", "growth-partitions-1000"), growth.partitions),
)
