"""Commands that wait to be proposed, and entries that wait to be committed. No I/O; time is an argument.

Group commit: what waits goes out as one entry while the round before is on its way. When nothing is under
way a command goes at once; when much waits (HASTE_BYTES) it does not wait for the round either, up to
IN_FLIGHT_BYTES: small commands share entries, large ones are pipelined.

Every command has exactly one outcome: Committed, NotProposed (surely not applied) or OutcomeUnknown.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from quorumlog.raft.errors import Busy, Dropped, OutcomeUnknown, RaftError
from quorumlog.raft.proposal import Committed, Proposal

GROUP_BYTES: Final = 256 << 10  # enough that another command would not make the entry cheaper
HASTE_BYTES: Final = 64 << 10  # a producer's full batch, and less, is an entry worth a round of its own
ENTRY_BYTES: Final = 16 << 20  # bound of an entry; a single command is at most half of it
IN_FLIGHT_BYTES: Final = 16 << 20  # proposed and not committed
QUEUE_BYTES: Final = 64 << 20  # waiting; beyond it callers are told Busy
QUEUE_COUNT: Final = 100_000
GROUP_COUNT: Final = 4_096  # commands in one entry: bounds the work of applying it

Outcome = Committed | RaftError


_RELEASED: Final = Proposal(b"")


@dataclass(slots=True, eq=False)
class Pending:
    """One command on its way. `resolve` is called once; afterwards `done` is True."""

    proposal: Proposal
    deadline: float
    resolve_with: Callable[[Outcome], None]
    size: int
    proposed: bool = False  # others may have it: from now on a timeout means 'unknown'
    done: bool = field(default=False)

    def resolve(self, outcome: Outcome) -> None:
        if not self.done:
            self.done = True
            self.proposal = _RELEASED  # its bytes are not kept until the deadline that stands in a heap
            self.resolve_with(outcome)


class Proposals:
    """The commands of one node.

    - queued: in arrival order, bounded in bytes and count; none of them has left this node.
    - in flight: entries that this node appended as a leader, by raft index and term: an index can come again.
    """

    def __init__(self) -> None:
        self._queue: deque[Pending] = deque()
        self._queue_bytes = 0
        self._in_flight: dict[tuple[int, int], tuple[Sequence[Pending], int, int]] = {}
        self._in_flight_bytes = 0
        self._deadlines: list[tuple[float, int, Pending]] = []
        self._order = itertools.count()

    @property
    def queued_count(self) -> int:
        return len(self._queue)

    @property
    def in_flight_count(self) -> int:
        return len(self._in_flight)

    def offer(self, proposal: Proposal, deadline: float, resolve: Callable[[Outcome], None]) -> Pending:
        """Queue a command. Raises Busy when too much waits."""
        size = proposal.size
        if self._queue_bytes + size > QUEUE_BYTES or len(self._queue) >= QUEUE_COUNT:
            raise Busy(f"{len(self._queue)} commands of {self._queue_bytes} bytes are waiting here")
        pending = Pending(proposal, deadline, resolve, size)
        self._queue.append(pending)
        self._queue_bytes += size
        heapq.heappush(self._deadlines, (deadline, next(self._order), pending))
        return pending

    def watch(self, deadline: float, resolve: Callable[[Outcome], None]) -> Pending:
        """Something that is proposed by another way: it only gets its deadline here."""
        pending = Pending(_RELEASED, deadline, resolve, 0)
        heapq.heappush(self._deadlines, (deadline, next(self._order), pending))
        return pending

    def next_group(self) -> list[Pending]:
        """Take what should become one entry now; empty: nothing, or better to wait."""
        if not self._queue or self._in_flight_bytes >= IN_FLIGHT_BYTES:
            return []
        if self._in_flight and self._queue_bytes < HASTE_BYTES:
            return []
        group: list[Pending] = []
        size = 0
        while self._queue and size < GROUP_BYTES and len(group) < GROUP_COUNT:
            first = self._queue[0]
            if group and (first.proposal.solo or size + first.size > ENTRY_BYTES // 2):
                break
            self._queue.popleft()
            self._queue_bytes -= first.size
            if first.done:
                continue
            group.append(first)
            size += first.size
            if first.proposal.solo:
                break
        return group

    def proposed(self, index: int, term: int, group: Sequence[Pending], sync_policy: int) -> None:
        """The group is entry `index` of `term` now, appended under `sync_policy`."""
        for pending in group:
            pending.proposed = True
        size = sum(pending.size for pending in group)
        self._in_flight[index, term] = (group, size, sync_policy)
        self._in_flight_bytes += size

    def committed(self, index: int, term: int, results: Sequence[object], sync_policy: int) -> None:
        """Entry `index` was applied: each command has its result."""
        group, proposed_under = self._landed(index, term)
        weaker = max(proposed_under, sync_policy)  # the setting may have changed on the way
        assert len(results) == len(group), f"entry {index}: {len(group)} commands, {len(results)} results"
        for pending, result in zip(group, results, strict=True):
            pending.resolve(Committed(index, term, result, weaker))

    def dropped(self, index: int, term: int) -> None:
        """Another leader's entry took the place of ours: it will surely never be applied."""
        for pending in self._landed(index, term)[0]:
            pending.resolve(Dropped(f"another leader's entry took index {index}"))

    def refuse_queued(self, error: RaftError) -> None:
        """Nothing that waits here can be proposed: say so."""
        queue, self._queue, self._queue_bytes = self._queue, deque(), 0
        for pending in queue:
            pending.resolve(error)

    def hasten(self, deadline: float) -> None:
        """Leadership is lost: what is in flight may still land, but is not waited for beyond `deadline`."""
        for group, _, _ in self._in_flight.values():
            for pending in group:
                if not pending.done and pending.deadline > deadline:
                    heapq.heappush(self._deadlines, (deadline, next(self._order), pending))

    def forget_beyond(self, index: int) -> None:
        """A new leadership begins with a log that ends at `index`: what was in flight beyond is not in it.

        Another node may still hold it, so its outcome is unknown; nobody will call back for it.
        """
        for key in [key for key in self._in_flight if key[0] > index]:
            for pending in self._landed(*key)[0]:
                pending.resolve(
                    OutcomeUnknown("another leader took it from this log; it may still be applied")
                )

    def forget_up_to(self, index: int) -> None:
        """This log begins anew behind `index`: what became of entries before is not known here."""
        for key in [key for key in self._in_flight if key[0] <= index]:
            for pending in self._landed(*key)[0]:
                pending.resolve(OutcomeUnknown("this node's log was replaced; it may have been applied"))

    def expire(self, now: float) -> None:
        """Resolve what has waited too long, honestly."""
        while self._deadlines and (self._deadlines[0][0] <= now or self._deadlines[0][2].done):
            pending = heapq.heappop(self._deadlines)[2]
            if pending.done:
                continue
            if pending.proposed:
                pending.resolve(
                    OutcomeUnknown("no majority confirmed it within its time; it may still be applied")
                )
            else:
                pending.resolve(Busy("it was not proposed within its time"))

    def _landed(self, index: int, term: int) -> tuple[Sequence[Pending], int]:
        group, size, sync_policy = self._in_flight.pop((index, term), ((), 0, 0))
        self._in_flight_bytes -= size
        return group, sync_policy
