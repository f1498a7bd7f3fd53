"""What clients wrote down: every call with its times, what was said to it, and what a reader saw.

Times are those of CLOCK_MONOTONIC, which all processes of a machine share, in seconds. A record's value is
`<producer>-<number>`, perhaps with `-` and padding behind it, so that consecutive records of one producer are
written down as one Run. A file holds one JSON object a line: `to_json` and `from_json`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias

Place: TypeAlias = tuple[str, int]  # topic, partition

FOREIGN = "?"  # stands for the producer of a value that none of ours has written


class Outcome(StrEnum):
    """What a writer knows of its records."""

    OK = "ok"  # acknowledged
    FAIL = "fail"  # surely not appended
    INFO = "info"  # nobody knows


@dataclass(frozen=True, slots=True)
class Write:
    """Records `first` to `first + count - 1` of one producer, which share one fate."""

    producer: str
    topic: str
    partition: int
    first: int
    count: int
    invoked_s: float
    ended_s: float
    outcome: Outcome
    offset: int = -1  # of the first record; acknowledged ones have it, and the next two
    raft_index: int = 0
    raft_term: int = 0  # of the answer: a repeat is answered in a later term than its first append
    duplicate: bool = False
    error: str = ""

    @property
    def place(self) -> Place:
        """Where it was sent."""
        return self.topic, self.partition


@dataclass(frozen=True, slots=True)
class Run:
    """Consecutive offsets that hold consecutive records of one producer."""

    offset: int
    producer: str
    first: int
    count: int


@dataclass(frozen=True, slots=True)
class Read:
    """One answer to a reader.

    - `consistency` is empty where only the records count: a consumer's stream.
    - `stream` names what must go on without a gap: consecutive reads of it begin where the last one ended.
    """

    reader: str
    node: str
    topic: str
    partition: int
    invoked_s: float
    ended_s: float
    runs: tuple[Run, ...]
    consistency: str = ""  # committed | session | linearizable
    min_raft_index: int = 0
    applied_index: int = 0
    high_watermark: int = 0
    stream: str = ""

    @property
    def place(self) -> Place:
        """Where it was read."""
        return self.topic, self.partition


@dataclass(frozen=True, slots=True)
class Sample:
    """What a node said of itself."""

    time_s: float
    node: str
    role: str
    term: int
    leader: str
    commit_index: int
    applied_index: int
    alarms: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Fault:
    """What the nemesis did, from the moment it was there to the moment it was gone."""

    kind: str
    began_s: float
    ended_s: float
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Held:
    """All that a replica holds of a partition, after the end."""

    node: str
    topic: str
    partition: int
    start_offset: int
    runs: tuple[Run, ...]

    @property
    def place(self) -> Place:
        """What it holds."""
        return self.topic, self.partition


@dataclass(slots=True)
class History:
    """Everything of one run."""

    writes: list[Write] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)

    def add(self, event: Event) -> None:
        """Take one event of any kind."""
        lists: dict[type, list[Any]] = {
            Write: self.writes,
            Read: self.reads,
            Sample: self.samples,
            Fault: self.faults,
            Held: self.held,
        }
        lists[type(event)].append(event)

    def __iter__(self) -> Iterator[Event]:
        for events in (self.writes, self.reads, self.samples, self.faults, self.held):
            yield from events


Event: TypeAlias = Write | Read | Sample | Fault | Held

_KINDS: dict[str, type] = {kind.__name__.lower(): kind for kind in (Write, Read, Sample, Fault, Held)}


def value_of(producer: str, number: int, size: int = 0) -> bytes:
    """The value of a record, padded to `size` bytes where it is shorter."""
    value = b"%s-%d" % (producer.encode(), number)
    return value if len(value) + 1 >= size else value + b"-" + b"." * (size - len(value) - 1)


def runs_of(records: Iterable[tuple[int, bytes]]) -> tuple[Run, ...]:
    """Fold (offset, value) pairs into runs; a value that is none of ours becomes a run of FOREIGN."""
    runs: list[Run] = []
    offset, producer, first, count = -1, "", 0, 0
    for at, value in records:
        who, number = parse_value(value)
        if count and at == offset + count and who == producer and number == first + count:
            count += 1
            continue
        if count:
            runs.append(Run(offset, producer, first, count))
        offset, producer, first, count = at, who, number, 1
    if count:
        runs.append(Run(offset, producer, first, count))
    return tuple(runs)


def parse_value(value: bytes) -> tuple[str, int]:
    """Return producer and number."""
    producer, _, rest = value.partition(b"-")
    number, _, padding = rest.partition(b"-")
    if not number.isdigit() or padding.strip(b"."):
        return f"{FOREIGN}{value[:40]!r}", 0
    return producer.decode(errors="replace"), int(number)


def to_json(event: Event) -> str:
    """One line, without its end."""
    fields = dataclasses.asdict(event)
    if "runs" in fields:
        fields["runs"] = [list(run.values()) for run in fields["runs"]]
    return json.dumps({"event": type(event).__name__.lower(), **fields}, separators=(",", ":"))


def from_json(line: str) -> Event:
    """The event of a line."""
    fields = json.loads(line)
    kind = _KINDS[fields.pop("event")]
    if "runs" in fields:
        fields["runs"] = tuple(Run(*run) for run in fields["runs"])
    if "outcome" in fields:
        fields["outcome"] = Outcome(fields["outcome"])
    if "alarms" in fields:
        fields["alarms"] = tuple(fields["alarms"])
    event: Event = kind(**fields)
    return event


def load(lines: Iterable[str]) -> History:
    """The history of some lines. A last line that was cut off (its writer was killed) does not count."""
    history = History()
    complete: Sequence[str] = [line for line in lines if line.endswith("\n")]
    for line in complete:
        history.add(from_json(line))
    return history
