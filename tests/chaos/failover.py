"""A run of kill -9 of the leader, one after the other: how long until the next acknowledged write."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.chaos import gaps, reasons
from tests.chaos.history import Fault
from tests.chaos.run import PROBE, Options, Report, Run
from tests.chaos.target import Target
from tests.support.waiting import eventually

SLOW_S: Final = 1.5  # the p99 that is promised; above it each kill is explained
SETTLED_UNITS: Final = 30
CLOSE_ENTRIES: Final = 20  # between a follower and the commit index, so that each of them can lead at once


@dataclass(slots=True)
class Kill:
    """One kill: when, and in which term."""

    node: str
    term: int
    fault: Fault
    wall_s: float


def measure(
    target: Target, options: Options, directory: Path, count: int
) -> tuple[Report, dict[str, Any], list[str]]:
    """Kill the leader `count` times; returns the report, the numbers, and lines about slow ones."""
    run = _Kills(target, options, directory, count)
    report = run()
    logs = {node: target.log_text(node) for node in target.nodes}
    probe = gaps.Probe(write for write in report.history.writes if write.producer == PROBE)
    measured: list[float] = []
    slow: list[str] = []
    for kill in run.kills:
        gap_s = probe.gap_s(kill.fault.began_s, kill.fault.ended_s)
        if gap_s is None:
            slow.append(f"{kill.node}, term {kill.term}: no write was acknowledged any more")
            continue
        measured.append(gap_s)
        if gap_s > SLOW_S:
            why = reasons.explain(kill.wall_s, kill.wall_s + gap_s + 0.1, kill.term, logs)
            slow.append(f"{kill.node}, term {kill.term}: {gap_s * 1000:.0f} ms: {why}")
    return report, gaps.summary_ms({"failover_ms": measured}), slow


class _Kills(Run):
    """A run whose faults are kills of the leader, each when the cluster is whole and calm."""

    def __init__(self, target: Target, options: Options, directory: Path, count: int) -> None:
        super().__init__(target, options, directory)
        self.kills: list[Kill] = []
        self._count = count

    def _do_faults(self) -> None:
        for number in range(self._count):
            leader, term = self._settled()
            wall_s, began_s = time.time(), time.monotonic()
            self._target.kill([leader])
            self._resumes("kill_leader", began_s, term)  # what was on its way does not count
            fault = Fault("kill_leader", began_s, time.monotonic(), leader)
            self._history.faults.append(fault)
            self.kills.append(Kill(leader, term, fault, wall_s))
            self._say(f"kill {number + 1} of {self._count}: {leader}")
            self._target.start([leader])

    def _settled(self) -> tuple[str, int]:
        """The leader that all follow closely, and its term."""

        def whole() -> tuple[str, int] | None:
            self._wait(0.1)
            statuses = [self._target.status(node) for node in self._target.nodes]
            known = [one for one in statuses if one is not None]
            views = {(one.leader_id, one.term) for one in known}
            if len(known) < len(statuses) or len(views) != 1 or not known[0].leader_id:
                return None
            leader = next(one for one in known if one.node_id == known[0].leader_id)
            behind = [one for one in known if one.durable_index < leader.commit_index - CLOSE_ENTRIES]
            return None if behind else (leader.node_id, leader.term)

        settled: tuple[str, int] = eventually(whole, "all nodes follow one leader closely", SETTLED_UNITS)
        return settled
