"""Retention of the whole log, by age and by bytes: whole segments go, oldest first, the same on every node.

    decide    the leader, once a second: a pure function of its segments, its limits and its clock
    agree     a command that says where the log starts; what can be read moves when it is applied
    drop      every node for itself: when the state of the new first segment is durable here, its files go

The active segment never goes, nor does one whose view, or whose successor's state, is not on disk yet. The
start that was agreed upon is in the machine's state, so a node that restarts drops what it had not dropped.

A follower is not waited for: one that lacks what was dropped gets a snapshot. Only one that is connected may
hold the decision up, for PATIENCE_S.

Time. A record is kept for at least `age_s` from the time in its entry, which is its leader's clock and never
falls. So a clock that was ahead makes records go later, by as much. What could make them go early is a clock
that jumps ahead after they were written: RetentionClock does not follow a jump but walks towards it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, NoReturn

from quorumlog.raft.errors import NotProposed, RaftError
from quorumlog.raft.interfaces import Worker
from quorumlog.raft.machine import Machine
from quorumlog.raft.progress import Progress, State
from quorumlog.raft.proposal import Proposal
from quorumlog.raft.proposals import Outcome
from quorumlog.storage.drop import Drop
from quorumlog.storage.errors import Damaged, NoSpace
from quorumlog.storage.log import Log

logger = logging.getLogger(__name__)

CHECK_S: Final = 1.0
SEGMENTS_PER_CHECK: Final = 64  # looked at; the rest has its turn a second later
PATIENCE_S: Final = 30.0
HEARD_S: Final = 1.0  # a peer that answered so lately is connected
PROPOSAL_S: Final = 10.0
# A clock that jumped ahead is walked after at so much of the time that passes: an hour takes ten hours, in
# which it may be set right. A machine that was suspended looks the same; that only delays what goes.
CATCH_UP: Final = 0.1


@dataclass(frozen=True, slots=True)
class RetentionLimits:
    """What is kept at least. None: without limit."""

    size_bytes: int | None = None  # of the newest log files
    age_s: float | None = None

    def __bool__(self) -> bool:
        return self.size_bytes is not None or self.age_s is not None


KEEP_EVERYTHING: Final = RetentionLimits()


@dataclass(frozen=True, slots=True)
class Candidate:
    """A segment that may go, and what is known of it."""

    base: int
    next_base: int
    size_bytes: int
    last_append_ms: int  # time of its newest record; 0: it has none


def first_to_keep(
    candidates: Sequence[Candidate], total_bytes: int, limits: RetentionLimits, now_ms: int
) -> int | None:
    """Return the base of the first segment to keep; None: nothing goes.

    `candidates` are the oldest, in order; `total_bytes` is the size of all segments, the active one
    included. Either limit is reason enough.
    """
    first = None
    for each in candidates:
        rest = total_bytes - each.size_bytes
        is_too_much = limits.size_bytes is not None and rest >= limits.size_bytes
        is_too_old = limits.age_s is not None and each.last_append_ms + limits.age_s * 1000 <= now_ms
        if not is_too_much and not is_too_old:
            break
        first, total_bytes = each.next_base, rest
    return first


class RetentionClock:
    """The wall clock, but for jumps ahead. Read it about once a second.

    - It never runs ahead of the wall clock: where that is set back, it follows at once.
    - It gains on the time that really passed at most CATCH_UP of it.
    """

    def __init__(self, monotonic: Callable[[], float], wall_clock_ms: Callable[[], int]) -> None:
        self._monotonic = monotonic
        self._wall_clock_ms = wall_clock_ms
        self._read_at = monotonic()
        self._now_ms: float = wall_clock_ms()

    def now_ms(self) -> int:
        """Return milliseconds since the epoch."""
        read_at = self._monotonic()
        passed_ms = (read_at - self._read_at) * 1000
        self._read_at = read_at
        self._now_ms = min(self._wall_clock_ms(), self._now_ms + passed_ms * (1 + CATCH_UP))
        return int(self._now_ms)


class Retention:
    """One node's part in it.

    - At most one move of the start is proposed, at most one drop is under way.
    - Nothing at or above the agreed start is ever dropped.
    """

    def __init__(
        self,
        log: Log,
        machine: Machine,
        limits: RetentionLimits,
        worker: Worker,
        progress: Callable[[], Mapping[str, Progress]],
        propose: Callable[[Proposal, float, Callable[[Outcome], None]], object],
        *,
        clock: Callable[[], float],
        wall_clock_ms: Callable[[], int],
        damaged: Callable[[Damaged], None],
        fail: Callable[[BaseException], NoReturn],
    ) -> None:
        """`worker` is the one that seals."""
        self._log = log
        self._machine = machine
        self._limits = limits
        self._worker = worker
        self._progress = progress
        self._propose = propose
        self._clock = clock
        self._retention_clock = RetentionClock(clock, wall_clock_ms)
        self._damaged = damaged
        self._fail = fail
        self._next_check = clock()
        self._held_up_since: float | None = None
        self._is_proposed = False
        self._drop: Drop | None = None

    @property
    def busy(self) -> bool:
        """Is a drop under way?"""
        return self._drop is not None

    def tend(self, *, leads: bool) -> None:
        """With every tick. `leads`: this node leads and knows all that was acknowledged."""
        now = self._clock()
        if now < self._next_check:
            return
        self._next_check = now + CHECK_S
        now_ms = self._retention_clock.now_ms()
        self._follow()
        if leads and self._limits and not self._is_proposed:
            try:
                self._decide(now, now_ms)
            except Damaged as error:  # of a view: it is known when its segment's last record was appended
                self._damaged(error)

    # Agreeing --------------------------------------------------------------------------------

    def _decide(self, now: float, now_ms: int) -> None:
        start = self._machine.log_start
        going = sum(self._log.size_of(base) for base in self._log.bases[:-1] if base < start)
        base = first_to_keep(self._candidates(), self._log.size_bytes - going, self._limits, now_ms)
        if base is None or self._is_held_up(base, now):
            return
        fragment = self._machine.move_log_start(base)
        try:
            self._propose(Proposal(fragment), PROPOSAL_S, self._proposed)
        except NotProposed:
            return  # not now
        logger.info("retention: the log is to start at entry %d", base)
        self._is_proposed = True
        self._held_up_since = None

    def _candidates(self) -> list[Candidate]:
        """The oldest segments behind the agreed start that are sealed."""
        bases = [base for base in self._log.bases if base >= self._machine.log_start]
        candidates = []
        for base, next_base in pairwise(bases[: SEGMENTS_PER_CHECK + 1]):
            if not (self._log.has_view(base) and self._log.has_state(next_base)):
                break
            last_append_ms = 0
            if self._limits.age_s is not None:
                last_append_ms = self._log.open_view(base).last_append_time_ms
            candidates.append(Candidate(base, next_base, self._log.size_of(base), last_append_ms))
        return candidates

    def _is_held_up(self, base: int, now: float) -> bool:
        """Is there a peer that would need a snapshot then, and may catch up soon?"""
        if not any(
            each.state is not State.SNAPSHOT and each.heard_at > now - HEARD_S and each.match + 1 < base
            for each in self._progress().values()
        ):
            return False
        if self._held_up_since is None:
            self._held_up_since = now
        return now < self._held_up_since + PATIENCE_S

    def _proposed(self, outcome: Outcome) -> None:
        self._is_proposed = False
        if isinstance(outcome, RaftError):
            logger.info("retention: the start was not moved: %s", outcome)

    # Dropping --------------------------------------------------------------------------------

    def _follow(self) -> None:
        """Begin to drop what lies before the agreed start."""
        if self._drop is not None:
            return
        start = self._machine.log_start
        bases = [base for base in self._log.bases if base <= start]
        if len(bases) > 1 and self._log.has_state(bases[-1]):
            try:
                self._drop = self._log.begin_drop(bases[-1])
            except Damaged as error:  # of the new first segment's header
                self._damaged(error)
                return
            self._worker.submit(self._drop.record, self._recorded)

    def _recorded(self, error: BaseException | None) -> None:
        drop = self._drop
        assert drop is not None
        if isinstance(error, NoSpace):
            logger.warning("retention: no room to note the new start yet: %s", error)
            self._drop = None
            return
        if error is not None:
            self._fail(error)
        self._log.forget(drop)
        logger.info("retention: segments %d to %d go", drop.bases[0], drop.bases[-1])
        self._worker.submit(drop.remove, self._removed)

    def _removed(self, error: BaseException | None) -> None:
        if error is not None:
            self._fail(error)
        self._drop = None
