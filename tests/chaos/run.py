"""A whole run: start, load, faults, heal, read everything, judge, report."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.chaos import checker, files, gaps, plan
from tests.chaos.history import Held, History, Outcome, Place, Sample, load, runs_of, to_json
from tests.chaos.nemesis import Nemesis
from tests.chaos.target import Target
from tests.support.replica import Replica
from tests.support.waiting import UNIT_S, eventually

TOPICS: Final = {"chaos-probe": 1, "chaos-many": 2, "chaos-few": 1}
PLACES: Final[list[Place]] = [(topic, number) for topic, count in TOPICS.items() for number in range(count)]
PROBE: Final = "probe"

RECOVERY_UNITS: Final = 15  # I11: how long writes may take to resume once a fault is undone
FINISH_S: Final = 30.0  # how long what is under way at the end may take
SAMPLE_S: Final = 0.25
PROGRESS_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Options:
    """What a run is."""

    seed: int
    duration_s: float = math.inf
    count: float = math.inf  # of faults; the run ends with whichever limit comes first
    hold_s_max: float = plan.HOLD_S_MAX
    quiet_s_max: float = plan.PAUSE_S_MAX
    load: float = 1.0  # scales the rates of the clients


@dataclass(slots=True)
class Report:
    """What a run found."""

    history: History
    verdict: checker.Verdict
    problems: list[str] = field(default_factory=list)  # unequal files, no recovery, nodes that ended
    where: Path | None = None  # the kept history, when something is wrong

    @property
    def good(self) -> bool:
        """Whether every promise was kept."""
        return self.verdict.good and not self.problems

    def summary(self) -> dict[str, Any]:
        """The last line of a run."""
        outcomes = checker.count_outcomes(self.history.writes)
        probe = gaps.Probe(write for write in self.history.writes if write.producer == PROBE)
        return {
            "operations": len(self.history.writes) + len(self.history.reads),
            "acknowledged": outcomes[Outcome.OK],
            **{kind: self.verdict.count(kind) for kind in checker.KINDS},
            "unknown": outcomes[Outcome.INFO],
            "failed": outcomes[Outcome.FAIL],
            "problems": len(self.problems),
            "faults": dict(sorted(Counter(fault.kind for fault in self.history.faults).items())),
            "write_gap_ms": gaps.summary_ms(gaps.gaps_by_kind(self.history.faults, probe)),
        }


def roles(load: float) -> list[list[dict[str, Any]]]:
    """What the processes of clients do, one list for each process."""

    def producer(name: str, batch: int, rate: float, **more: Any) -> dict[str, Any]:
        role = {"role": "produce", "name": name, "batch": batch, "rate": rate * load, "padding": 0}
        return {**role, "route": "leader", "compression": None, **more}

    def consumer(name: str, place: int, source: str, consistency: str) -> dict[str, Any]:
        role = {"role": "consume", "name": name, "place": place, "from": source, "consistency": consistency}
        return {**role, "reopen_s": 3.0}

    def reader(name: str, consistency: str, *, writes: bool) -> dict[str, Any]:
        rate = 20 * load
        return {"role": "read", "name": name, "consistency": consistency, "writes": writes, "rate": rate}

    probe = {"role": "probe", "name": PROBE, "interval_s": 0.005}
    return [
        [probe],
        [
            producer("single", 0, 60, padding=100),
            producer("small", 10, 15, route="any"),
            producer("large", 300, 3, padding=60, compression="lz4"),
        ],
        [
            consumer("from-leader", 1, "leader", "committed"),
            consumer("from-n1", 2, "n1", "committed"),
            consumer("from-any", 3, "", "session"),
            consumer("probe-from-any", 0, "", "session"),
        ],
        [
            reader("session", "session", writes=True),
            reader("committed", "committed", writes=False),
            reader("linearizable", "linearizable", writes=True),
        ],
    ]


class Tail:
    """The new lines of a file that another process writes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = 0
        self._rest = b""

    def lines(self) -> list[bytes]:
        """What has come since the last call."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._position)
            new = file.read()
        self._position += len(new)
        *lines, self._rest = (self._rest + new).split(b"\n")
        return lines


class Load:
    """The processes of clients, from entering to `finish`."""

    def __init__(self, directory: Path, target: Target, options: Options) -> None:
        self.paths: list[Path] = []
        self.operations = 0
        self.acknowledged = 0
        self.probe_acked_s = 0.0
        self.probe_term = 0  # of its last acknowledgement
        self._processes: list[subprocess.Popen[bytes]] = []
        self._tails: list[Tail] = []
        self._directory = directory
        for number, ones in enumerate(roles(options.load)):
            config = {
                "servers": dict(target.servers),
                "places": PLACES if number else PLACES[:1],
                "finish_s": FINISH_S * UNIT_S,
                "seed": options.seed * 100 + number,
                "roles": ones,
            }
            self._launch(number, config)

    def _launch(self, number: int, config: dict[str, Any]) -> None:
        path = self._directory / f"clients-{number}.jsonl"
        with (self._directory / f"clients-{number}.stderr").open("wb") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.worker"],
                stdin=subprocess.PIPE,
                stdout=errors,
                stderr=errors,
                start_new_session=True,
            )
        assert process.stdin is not None
        process.stdin.write(json.dumps({**config, "history": str(path)}).encode() + b"\n")
        process.stdin.flush()
        self._processes.append(process)
        self.paths.append(path)
        self._tails.append(Tail(path))

    def __enter__(self) -> Load:
        return self

    def __exit__(self, *error: object) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.kill()
                process.wait()
            if process.stdin is not None and not process.stdin.closed:
                process.stdin.close()

    def look(self) -> None:
        """Take note of what the clients have written down; raises when one has ended."""
        for process in self._processes:
            assert process.poll() is None, f"clients ended with {process.poll()}: {self.complaints()}"
        for tail in self._tails:
            for line in tail.lines():
                self.operations += 1
                if b'"outcome":"ok"' in line:
                    self.acknowledged += int(json.loads(line)["count"])
                    if b'"producer":"%s"' % PROBE.encode() in line:
                        acked = json.loads(line)
                        self.probe_acked_s, self.probe_term = acked["ended_s"], acked["raft_term"]

    def finish(self) -> None:
        """Send nothing more, and wait until all that is under way has ended."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.close()
        for process in self._processes:
            code = process.wait((FINISH_S + 20) * UNIT_S)
            assert code == 0, f"clients ended with {code}: {self.complaints()}"

    def complaints(self) -> str:
        """The end of what the clients printed."""
        parts = [
            path.read_text(errors="replace")[-3000:] for path in self._directory.glob("clients-*.stderr")
        ]
        return "\n".join(part for part in parts if part)


class Run:
    """One run on a target that has been started."""

    def __init__(self, target: Target, options: Options, directory: Path) -> None:
        self._target = target
        self._options = options
        self._directory = directory
        self._history = History()
        self._problems: list[str] = []
        self._load: Load | None = None
        self._began_s = time.monotonic()
        self._sampled_s = 0.0
        self._told_s = time.monotonic()

    def __call__(self) -> Report:
        """Do it all; the report is good or says what is wrong, and where the history is."""
        try:
            return self._run()
        except BaseException:
            self._keep()  # what the nodes said goes with them
            raise

    def _run(self) -> Report:
        create_topics(self._target)
        with Load(self._directory, self._target, self._options) as self._load:
            try:
                self._resumes("the load begins", self._began_s)
                self._do_faults()
            finally:
                self._revive()
            self._load.finish()
            paths = self._load.paths
        self._history.held = list(self._read_all(paths))
        self._compare_files()
        for path in paths:
            with path.open(encoding="utf-8") as lines:
                for event in load(lines):
                    self._history.add(event)
        report = Report(self._history, checker.check(self._history), self._problems)
        if not report.good:
            report.where = self._keep()
        return report

    def _say(self, text: str) -> None:
        print(f"{time.monotonic() - self._began_s:7.1f} s  {text}", file=sys.stderr, flush=True)

    # The faults.

    def _do_faults(self) -> None:
        nemesis = Nemesis(self._target, self._wait, self._say)
        until_s = time.monotonic() + self._options.duration_s
        options = self._options
        drawn = plan.steps(
            options.seed, self._target.kinds, hold_s_max=options.hold_s_max, quiet_s_max=options.quiet_s_max
        )
        for number, step in enumerate(drawn):
            if number >= options.count or time.monotonic() > until_s:
                return
            self._history.faults += nemesis.do(step)
            self._revive()
            self._resumes(step.kind, time.monotonic())
            self._wait(step.quiet_s)

    def _revive(self) -> None:
        """Start what has ended by itself, and say so: a fault that kills nobody should not."""
        ended = self._target.ended()
        if ended:
            self._problems.append(f"ended by themselves: {ended}")
            self._say(f"ended by themselves: {ended}")
            self._target.start(ended)

    def _resumes(self, after: str, since_s: float, term: int = 0) -> None:
        """I11: writes resume in time, where `term` is given under a leader of a later one."""
        assert self._load is not None
        limit_s = since_s + RECOVERY_UNITS * UNIT_S
        while self._load.probe_acked_s <= since_s or self._load.probe_term <= term:
            if time.monotonic() > limit_s:
                problem = f"no write was acknowledged within {RECOVERY_UNITS * UNIT_S:g} s after {after}"
                self._problems.append(problem)
                self._say(problem)
                limit_s = float("inf") if self._gave_up(since_s) else limit_s + RECOVERY_UNITS * UNIT_S
            self._wait(0.05)

    def _gave_up(self, since_s: float) -> bool:
        if time.monotonic() - since_s > 4 * RECOVERY_UNITS * UNIT_S:
            raise Stuck(
                f"{self._problems[-1]}; clients say:\n{self._load.complaints() if self._load else ''}"
            )
        return False

    def _wait(self, seconds: float) -> None:
        """Wait, while the nodes are asked what they are, and progress is shown."""
        assert self._load is not None
        until_s = time.monotonic() + seconds
        while True:
            self._load.look()
            self._sample()
            left_s = until_s - time.monotonic()
            if left_s <= 0:
                return
            time.sleep(min(left_s, 0.05))

    def _sample(self) -> None:
        now_s = time.monotonic()
        if now_s - self._sampled_s < SAMPLE_S:
            return
        self._sampled_s = now_s
        for node in self._target.nodes:
            began_s = time.monotonic()
            status = self._target.observer.status_soon(node)
            if status is not None:
                sample = Sample(
                    began_s,
                    node,
                    status.role,
                    status.term,
                    status.leader_id,
                    status.commit_index,
                    status.applied_index,
                    tuple(status.alarms),
                )
                self._history.samples.append(sample)
        if now_s - self._told_s > PROGRESS_S:
            self._told_s = now_s
            assert self._load is not None
            self._say(f"{self._load.operations} operations, {self._load.acknowledged} records acknowledged")

    # The end.

    def _read_all(self, paths: Iterable[Path]) -> Iterator[Held]:
        """Every replica's contents, with all applied that was acknowledged to anybody."""
        self._target.wait_for_leader(units=60)
        statuses = [self._target.status(node) for node in self._target.nodes]
        newest = max(status.commit_index for status in statuses if status is not None)
        self._target.observer.wait_until_applied(newest, self._target.nodes, units=60)
        for node in self._target.nodes:
            for topic, partition in PLACES:
                yield held(self._target.replica(node), node, topic, partition, newest)

    def _compare_files(self) -> None:
        """I7, when all have the same commit index, and nobody can elect any more."""

        def agreed() -> bool:
            statuses = [self._target.status(node) for node in self._target.nodes]
            return len({(one.commit_index, one.log_end) for one in statuses if one is not None}) == 1 and all(
                statuses
            )

        eventually(agreed, "all replicas have committed the same", units=30)
        self._target.kill(self._target.nodes)
        self._problems += [
            f"replicas differ: {problem}" for problem in files.differences(self._target.data())
        ]

    def _keep(self) -> Path:
        """Write down what is not in the clients' files, and the logs of the nodes."""
        with (self._directory / "run.jsonl").open("w", encoding="utf-8") as file:
            for events in (self._history.samples, self._history.faults, self._history.held):
                file.writelines(to_json(event) + "\n" for event in events)
        for node in self._target.nodes:
            (self._directory / f"{node}.log").write_text(self._target.log_text(node))
        return self._directory


class Stuck(AssertionError):
    """Writes do not resume though every fault was undone."""


def create_topics(target: Target) -> None:
    """Create what the clients use, and wait until every node knows it."""
    leader = target.wait_for_leader()
    created = [target.replica(leader).create_topic(topic, count) for topic, count in TOPICS.items()]
    target.observer.wait_until_applied(max(created), target.nodes)


def held(replica: Replica, node: str, topic: str, partition: int, raft_index: int) -> Held:
    """All that one replica holds of one partition."""
    records = replica.read_all(topic, partition, at_least_index=raft_index)
    pairs = ((record.offset, record.value) for record in records)
    start = records[0].offset if records else 0
    return Held(node, topic, partition, start, runs_of(pairs))
