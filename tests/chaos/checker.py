"""Which promises a history breaks. Pure: a History and the replicas' final contents in, a Verdict out.

What is judged (the letters are those of the test catalogue's global invariants):

    lost         I1  an acknowledged record is not at its offset, on some replica, in the end
    diverged     I2  an offset had two values: between replicas, or between a reader and the end
    phantom      I3  a record that nobody sent, or one that had surely failed, is there or was read
    gap          I4  a replica's offsets, or a stream's, do not follow each other
    uncommitted  I5  a reader saw what is not there in the end
    stale        I5  a session or linearizable read did not show what it had to
    election     I6  two leaders in one term, a term that went back, one raft index under two terms
    duplicated   I8  a record is there more than once
    reordered        a producer's records of one partition are not in the order of sending

I7 (equal bytes) is judged on files: files.py. I11 (recovery in time) by the run, while it waits.
"""

from __future__ import annotations

import bisect
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tests.chaos.history import Fault, Held, History, Outcome, Place, Read, Run, Sample, Write

KINDS = (
    "lost",
    "duplicated",
    "reordered",
    "phantom",
    "diverged",
    "gap",
    "uncommitted",
    "stale",
    "election",
)

_SHOWN = 20  # violations that are described; all are counted


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken promise; `records` is how many records it is about."""

    kind: str
    text: str
    records: int = 1


@dataclass(slots=True)
class Verdict:
    """What was found."""

    violations: list[Violation] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether every promise was kept."""
        return not self.violations

    def count(self, kind: str) -> int:
        """How many records this kind of violation is about."""
        return sum(one.records for one in self.violations if one.kind == kind)

    def __str__(self) -> str:
        lines = [f"{one.kind}: {one.text}" for one in self.violations[:_SHOWN]]
        more = len(self.violations) - _SHOWN
        return "\n".join(lines + ([f"... and {more} more"] if more > 0 else []))


class Contents:
    """What one partition holds, as runs ascending by offset, asked by offset."""

    def __init__(self, start_offset: int, runs: Sequence[Run]) -> None:
        self.start_offset = start_offset
        self.runs = list(runs)
        self._offsets = [run.offset for run in self.runs]
        self.end = self.runs[-1].offset + self.runs[-1].count if self.runs else start_offset

    def at(self, offset: int, count: int) -> Iterator[Run]:
        """What stands from `offset` on for `count` offsets, as far as there is something."""
        last = offset + count
        number = max(bisect.bisect_right(self._offsets, offset) - 1, 0)
        for run in self.runs[number:]:
            if run.offset >= last:
                return
            begin, end = max(run.offset, offset), min(run.offset + run.count, last)
            if begin < end:
                yield Run(begin, run.producer, run.first + begin - run.offset, end - begin)

    def holds(self, wanted: Run) -> bool:
        """Whether exactly these records stand there; what lies before the log's start cannot be asked."""
        skipped = max(0, min(self.start_offset - wanted.offset, wanted.count))
        offset, first = wanted.offset + skipped, wanted.first + skipped
        left = wanted.count - skipped
        for found in self.at(offset, left):
            if (found.offset, found.producer, found.first) != (offset, wanted.producer, first):
                return False
            offset, first, left = offset + found.count, first + found.count, left - found.count
        return left == 0


def check(history: History) -> Verdict:
    """Judge everything that the history can tell."""
    violations: list[Violation] = []
    final: dict[Place, Contents] = {}
    for place, replicas in _by_place(history.held).items():
        violations += _gaps(replicas)
        final[place] = _fullest(replicas)
        violations += _divergence(replicas)
    violations += _written(history.writes, history.held)
    violations += _contents(history.writes, final)
    violations += _reads(history.reads, final, history.writes)
    violations += _streams(history.reads)
    violations += _stale(history.reads, history.writes)
    violations += _linearizable(history.reads, history.writes)
    violations += _elections(history.samples, history.writes, history.faults)
    return Verdict(violations)


def _by_place(held: Iterable[Held]) -> dict[Place, list[Held]]:
    places: dict[Place, list[Held]] = defaultdict(list)
    for one in held:
        places[one.place].append(one)
    return places


def _fullest(replicas: Sequence[Held]) -> Contents:
    return max((Contents(one.start_offset, one.runs) for one in replicas), key=lambda one: one.end)


def _gaps(replicas: Iterable[Held]) -> Iterator[Violation]:
    for one in replicas:
        expected = one.start_offset
        for run in one.runs:
            if run.offset != expected:
                yield Violation("gap", f"{one.node} {one.place}: offset {expected} is followed by {run}")
            expected = run.offset + run.count


def _divergence(replicas: Sequence[Held]) -> Iterator[Violation]:
    """Replicas must hold the same where both hold something."""
    first, *others = replicas
    reference = Contents(first.start_offset, first.runs)
    for other in others:
        for run in other.runs:
            begin = max(run.offset, reference.start_offset)
            end = min(run.offset + run.count, reference.end)
            part = Run(begin, run.producer, run.first + begin - run.offset, end - begin)
            if begin < end and not reference.holds(part):
                found = list(reference.at(begin, end - begin))[:3]
                text = f"{first.place}: {other.node} holds {part}, {first.node} {found}"
                yield Violation("diverged", text)


def _written(writes: Iterable[Write], held: Sequence[Held]) -> Iterator[Violation]:
    """Every acknowledged record stands at its offset, on every replica."""
    replicas = {
        place: [(one.node, Contents(one.start_offset, one.runs)) for one in ones]
        for place, ones in _by_place(held).items()
    }
    for write in writes:
        if write.outcome is not Outcome.OK:
            continue
        wanted = Run(write.offset, write.producer, write.first, write.count)
        for node, contents in replicas.get(write.place, []):
            if not contents.holds(wanted):
                found = list(contents.at(wanted.offset, wanted.count))[:3]
                text = f"{write.place}: {wanted} was acknowledged; {node} has {found}"
                yield Violation("lost", text, write.count)
                break
        if write.place not in replicas:
            yield Violation(
                "lost", f"{write.place}: {wanted} was acknowledged; no replica has it", write.count
            )


def _contents(writes: Sequence[Write], final: Mapping[Place, Contents]) -> Iterator[Violation]:
    """What is there was sent, did not fail, is there once, and in its producer's order."""
    sent = _Sent(writes)
    seen: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for place, contents in final.items():
        latest: dict[str, int] = {}
        here: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for run in contents.runs:
            if not sent.covers(place, run):
                yield Violation("phantom", f"{place}: nobody sent {run}, or it had surely failed", run.count)
            if run.first <= latest.get(run.producer, -1) and not _overlaps(run, here[run.producer]):
                text = f"{place}: {run} comes behind {run.producer}-{latest[run.producer]}"
                yield Violation("reordered", text, run.count)
            latest[run.producer] = max(latest.get(run.producer, -1), run.first + run.count - 1)
            here[run.producer].append((run.first, run.first + run.count))
        for producer, ranges in here.items():
            seen[producer] += ranges
    for producer, ranges in seen.items():
        end = -1
        for first, last in sorted(ranges):
            if first < end:
                text = f"{producer}-{first} to {producer}-{min(end, last) - 1} are there more than once"
                yield Violation("duplicated", text, min(end, last) - first)
            end = max(end, last)


def _overlaps(run: Run, ranges: Iterable[tuple[int, int]]) -> bool:
    return any(first < run.first + run.count and run.first < end for first, end in ranges)


class _Sent:
    """What may be found in a partition: all that was sent there and did not surely fail."""

    def __init__(self, writes: Iterable[Write]) -> None:
        ranges: dict[tuple[Place, str], list[tuple[int, int]]] = defaultdict(list)
        for write in writes:
            if write.outcome is not Outcome.FAIL:
                ranges[write.place, write.producer].append((write.first, write.first + write.count))
        self._ranges = {key: _joined(sorted(found)) for key, found in ranges.items()}

    def covers(self, place: Place, run: Run) -> bool:
        ranges = self._ranges.get((place, run.producer), [])
        number = bisect.bisect_right(ranges, (run.first, float("inf"))) - 1
        return number >= 0 and run.first + run.count <= ranges[number][1]


def _joined(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for first, last in ranges:
        if joined and first <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(joined[-1][1], last)
        else:
            joined.append((first, last))
    return joined


def _reads(
    reads: Iterable[Read], final: Mapping[Place, Contents], writes: Sequence[Write]
) -> Iterator[Violation]:
    """What anybody ever read is what is there in the end; one value per offset, at any time."""
    sent = _Sent(writes)
    empty = Contents(0, [])
    for read in reads:
        contents = final.get(read.place, empty)
        for run in read.runs:
            if contents.holds(run):
                continue
            where = f"{read.reader} read {run} of {read.place} at {read.node or 'some node'}"
            if not sent.covers(read.place, run):
                yield Violation("phantom", f"{where}: nobody sent it, or it had surely failed", run.count)
            elif run.offset + run.count > contents.end:
                yield Violation("uncommitted", f"{where}: the end is {contents.end}", run.count)
            else:
                text = f"{where}: in the end there is {list(contents.at(run.offset, run.count))[:3]}"
                yield Violation("diverged", text, run.count)


def _streams(reads: Iterable[Read]) -> Iterator[Violation]:
    """A consumer's offsets follow each other, whatever node it reads."""
    positions: dict[tuple[str, Place], int] = {}
    for read in reads:
        if not read.stream:
            continue
        key = (read.stream, read.place)
        for run in read.runs:
            expected = positions.get(key)
            if expected is not None and run.offset != expected:
                yield Violation("gap", f"{read.stream} {read.place}: expected {expected}, then came {run}")
            positions[key] = run.offset + run.count


class _Marks:
    """The highest `end` of all that came up to some key."""

    def __init__(self, pairs: Iterable[tuple[float, int]]) -> None:
        self._keys: list[float] = []
        self._ends: list[int] = []
        for key, end in sorted(pairs):
            self._keys.append(key)
            self._ends.append(max(end, self._ends[-1] if self._ends else 0))

    def up_to(self, key: float) -> int:
        number = bisect.bisect_right(self._keys, key)
        return self._ends[number - 1] if number else 0

    def before(self, key: float) -> int:
        number = bisect.bisect_left(self._keys, key)
        return self._ends[number - 1] if number else 0


def _stale(reads: Iterable[Read], writes: Iterable[Write]) -> Iterator[Violation]:
    """A session read has applied its token, and shows every write up to it."""
    pairs: dict[Place, list[tuple[float, int]]] = defaultdict(list)
    for write in writes:
        if write.outcome is Outcome.OK:
            pairs[write.place].append((write.raft_index, write.offset + write.count))
    marks = {place: _Marks(found) for place, found in pairs.items()}
    for read in reads:
        if read.consistency != "session":
            continue
        where = f"{read.reader} at {read.node} asked {read.place} with token {read.min_raft_index}"
        if read.applied_index < read.min_raft_index:
            yield Violation("stale", f"{where}: applied was {read.applied_index}")
        wanted = marks[read.place].up_to(read.min_raft_index) if read.place in marks else 0
        if read.high_watermark < wanted:
            yield Violation("stale", f"{where}: the end was {read.high_watermark}, {wanted} was acknowledged")


def _linearizable(reads: Sequence[Read], writes: Iterable[Write]) -> Iterator[Violation]:
    """A linearizable read shows all that was acknowledged, or read by anybody, before it was asked."""
    pairs: dict[Place, list[tuple[float, int]]] = defaultdict(list)
    for write in writes:
        if write.outcome is Outcome.OK:
            pairs[write.place].append((write.ended_s, write.offset + write.count))
    for read in reads:
        if read.consistency:
            pairs[read.place].append((read.ended_s, read.high_watermark))
    marks = {place: _Marks(found) for place, found in pairs.items()}
    for read in reads:
        if read.consistency != "linearizable":
            continue
        wanted = marks[read.place].before(read.invoked_s)
        if read.high_watermark < wanted:
            where = f"{read.reader} at {read.node}: {read.place}"
            text = f"{where} ended at {read.high_watermark}, {wanted} was known"
            yield Violation("stale", text)


def _elections(
    samples: Iterable[Sample], writes: Iterable[Write], faults: Iterable[Fault]
) -> Iterator[Violation]:
    leaders: dict[int, str] = {}
    terms: dict[str, int] = {}
    # A node whose disk was wiped has forgotten its term: that is why it must not vote under its old identity.
    wiped = sorted((one.began_s, one.detail) for one in faults if one.kind.startswith("wipe_"))
    for sample in sorted(samples, key=lambda one: one.time_s):
        while wiped and wiped[0][0] <= sample.time_s:
            terms.pop(wiped.pop(0)[1], None)
        if sample.role == "leader" and leaders.setdefault(sample.term, sample.node) != sample.node:
            text = f"{leaders[sample.term]} and {sample.node} both lead in term {sample.term}"
            yield Violation("election", text)
        if sample.term < terms.get(sample.node, 0):
            yield Violation("election", f"{sample.node} went from term {terms[sample.node]} to {sample.term}")
        terms[sample.node] = max(terms.get(sample.node, 0), sample.term)
    # A repeat carries the index of its first append, and the term that answered it.
    acked = [one for one in writes if one.outcome is Outcome.OK and not one.duplicate]
    by_index: dict[int, set[int]] = defaultdict(set)
    for write in acked:
        by_index[write.raft_index].add(write.raft_term)
    latest = 0
    for index in sorted(by_index):
        if len(by_index[index]) > 1:
            yield Violation("election", f"raft index {index} was acknowledged in terms {by_index[index]}")
        if min(by_index[index]) < latest:
            yield Violation("election", f"raft index {index}: term {by_index[index]} behind term {latest}")
        latest = max(latest, *by_index[index])


def count_outcomes(writes: Iterable[Write]) -> Counter[Outcome]:
    """How many records ended how."""
    counts: Counter[Outcome] = Counter()
    for write in writes:
        counts[write.outcome] += write.count
    return counts
