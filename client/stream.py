"""One producer's stream of batches to one partition: order, window, sequences, and repair after failures.

The cluster checks that each batch's sequence follows the one before, and answers a repeat of one of the
last WINDOW batches with its first result. So everything that is not acknowledged may be sent again, in the
same order with the same sequences, and is appended once:

    closed, open -> take() -> window: [ WAITING | SENT | DONE ] -> acknowledged from the left

What cannot be repaired by sending again (a batch in the middle is refused for good, or its outcome is
never learned) leaves a hole in the sequences. Then nothing more is sent until all that is under way has
come back; then what stands before the hole is sent again until it has ended, and only it; then what is left
is numbered anew:

    RENUMBER  from the hole on, under the same producer id where no old copy of what is left can be on its
              way; else under a new id, where an old copy cannot be mistaken (and the hole stops it)
    RESTART   under a new producer id; what may have been applied fails as unknown, since under the new id
              the cluster could not recognize it
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import IntEnum

from quorumlog.client import errors
from quorumlog.client.batches import BatchMetadata, PendingBatch, State
from quorumlog.client.errors import QuorumlogError

WINDOW = 5  # batches that the cluster remembers of each producer and partition
MAX_SEQUENCE = 2**32 - 1


@dataclass(frozen=True, slots=True)
class Identity:
    """A producer id and epoch, as the cluster gave them; id 0 does without idempotence."""

    producer_id: int
    epoch: int = 0


ANONYMOUS = Identity(0)


class Repair(IntEnum):
    """What has to be done once nothing is under way; the larger includes the smaller."""

    NONE = 0
    RENUMBER = 1
    RESTART = 2


class PartitionStream:
    """Invariants:

    - The window holds at most WINDOW batches; sequences in it are contiguous and rise.
    - `under_way` is the number of batches whose answer is awaited, also of those that were given up.
    - While `draining` nothing is sent; it ends when `under_way` is 0.
    - Batches end in the order in which they were added, as long as each ends well.
    """

    def __init__(self, topic: str, partition: int, *, idempotent: bool = True) -> None:
        self.topic = topic
        self.partition = partition
        self.open: PendingBatch | None = None  # takes more records
        self.closed: deque[PendingBatch] = deque()  # full, never sent
        self.window: deque[PendingBatch] = deque()
        self.under_way = 0
        self.draining = False
        self.identity: Identity | None = None if idempotent else ANONYMOUS
        self.retired: Identity | None = None  # must not be used again for this partition
        self.next_sequence = 0
        self._repair = Repair.NONE
        self._hole_sequence = 0  # first sequence to be numbered anew

    @property
    def idempotent(self) -> bool:
        """False: a batch is never sent again when it may have been applied, and only one is under way."""
        return self.identity is not ANONYMOUS

    @property
    def has_work(self) -> bool:
        """True while any batch is not done."""
        return bool(self.window or self.closed or self.open)

    @property
    def oldest(self) -> PendingBatch | None:
        """The first batch that is not done."""
        batch = next((each for each in self.window if not each.done), None)
        return batch or (self.closed[0] if self.closed else self.open)

    def close_open(self) -> None:
        """Take no more records into the open batch."""
        if self.open is not None:
            self.closed.append(self.open)
            self.open = None

    @property
    def ready(self) -> bool:
        """True when take() would give a batch (under some identity)."""
        if self.draining:
            return False
        if self._waiting() is not None:
            return True
        if self._repair or len(self.window) >= (WINDOW if self.idempotent else 1):
            return False
        # A batch that still takes records leaves only when nothing is under way: that is the whole linger.
        return bool(self.closed) or (self.open is not None and self.under_way == 0)

    @property
    def next_if_open(self) -> PendingBatch | None:
        """The batch that still takes records, where it is what take() would give."""
        return None if self.closed or self._waiting() is not None else self.open

    def renew_before_overflow(self) -> None:
        """Let go of an identity whose sequences are about to run out."""
        count = self._next_new().count if (self.closed or self.open) else 0
        if self.identity and not self.window and self.next_sequence + count > MAX_SEQUENCE:
            self._retire()

    def take(self) -> PendingBatch:
        """Return the next batch to send, sealed and numbered. Only when `ready` and an identity is set."""
        assert self.ready
        assert self.identity is not None
        batch = self._waiting() or self._admit()
        batch.state = State.SENT
        self.under_way += 1
        return batch

    def acknowledged(self, batch: PendingBatch, result: BatchMetadata) -> None:
        """Take in the good answer to a batch."""
        self.under_way -= 1
        if not batch.done:
            batch.finish(result, None)
        self._settle()

    def refused(self, batch: PendingBatch, error: QuorumlogError) -> None:
        """Take in a bad answer to a batch."""
        self.under_way -= 1
        if not batch.done:
            self._refused(batch, error)
        self._settle()

    def lost(self, batch: PendingBatch) -> None:
        """Take note that no answer to a batch will come."""
        self.under_way -= 1
        if not batch.done:
            self._lost(batch, errors.OutcomeUnknown("the connection was lost before an answer came"))
        self._settle()

    def expire(self, now_s: float, attempts: tuple[errors.Attempt, ...]) -> None:
        """Fail what is past its delivery timeout, oldest first."""
        while (batch := self.oldest) is not None and batch.deadline_s <= now_s:
            self._expire(batch, attempts)
        self._settle()

    def fail_all(self, error: QuorumlogError) -> None:
        """Fail everything: the producer is closed or fenced. Sent batches fail as unknown."""
        while (batch := self.oldest) is not None:
            sent = batch.ambiguous or batch.state is State.SENT
            if sent and not error.outcome_unknown:
                batch.finish(None, _unknown(batch, error.message, error.attempts))
            else:
                batch.finish(None, error)
            self._forget(batch)
        self._settle()

    # What follows is not for callers.

    def _waiting(self) -> PendingBatch | None:
        """The first batch to be sent again; while a hole is to be repaired, only one before it."""
        for batch in self.window:
            if batch.state is State.WAITING:
                return batch if not self._repair or batch.sequence < self._hole_sequence else None
        return None

    def _next_new(self) -> PendingBatch:
        batch = self.closed[0] if self.closed else self.open
        assert batch is not None
        return batch

    def _admit(self) -> PendingBatch:
        batch = self._next_new()
        if self.closed:
            self.closed.popleft()
        else:
            self.open = None
        batch.seal()
        if self.idempotent:
            batch.sequence = self.next_sequence
            self.next_sequence += batch.count
        self.window.append(batch)
        return batch

    def _refused(self, batch: PendingBatch, error: QuorumlogError) -> None:
        if isinstance(error, errors.OutOfSequence) and (self.draining or batch is not self.oldest):
            self._again(batch)  # one before it did not make it: both go again, in order
        elif error.outcome_unknown:
            self._lost(batch, error)
        elif error.retriable:
            self._again(batch)
        elif isinstance(error, errors.OutOfSequence | errors.UnknownProducer):
            self._misplaced(batch, error)
        else:
            self._fail(batch, error)

    def _again(self, batch: PendingBatch) -> None:
        batch.state = State.WAITING
        self.draining = True

    def _lost(self, batch: PendingBatch, error: QuorumlogError) -> None:
        batch.ambiguous = True
        if self.idempotent:
            self._again(batch)
        else:
            self._fail(batch, error)

    def _misplaced(self, batch: PendingBatch, error: QuorumlogError) -> None:
        """The cluster has forgotten this producer: go on under a new id, with what is surely not in."""
        if batch.ambiguous:
            self._fail(batch, _unknown(batch, error.message, error.attempts))
        else:
            self._again(batch)
        self._repair_later(Repair.RESTART, batch.sequence)

    def _fail(self, batch: PendingBatch, error: QuorumlogError) -> None:
        was_sent = batch in self.window
        if batch.ambiguous:  # an earlier attempt may have been applied, whatever is said now
            error.outcome_unknown = True
        batch.finish(None, error)
        self._forget(batch)
        if was_sent and self.idempotent:
            self._repair_later(Repair.RESTART if batch.ambiguous else Repair.RENUMBER, batch.sequence)

    def _expire(self, batch: PendingBatch, attempts: tuple[errors.Attempt, ...]) -> None:
        if batch.state is State.SENT:
            batch.ambiguous = True
        message = f"{batch.count} records to {batch.topic}/{batch.partition} not acknowledged in time"
        if batch.ambiguous:
            self._fail(batch, _unknown(batch, message, attempts))
        else:
            error = errors.DeliveryTimeout(
                f"{message}; surely not appended", attempts=attempts, outcome_unknown=False
            )
            self._fail(batch, error)

    def _forget(self, batch: PendingBatch) -> None:
        if self.closed and self.closed[0] is batch:
            self.closed.popleft()
        if self.open is batch:
            self.open = None

    def _repair_later(self, repair: Repair, sequence: int) -> None:
        self._hole_sequence = min(sequence, self._hole_sequence) if self._repair else sequence
        self._repair = max(self._repair, repair)
        self.draining = True

    def _settle(self) -> None:
        while self.window and self.window[0].done:
            self.window.popleft()
        if self.under_way > 0:
            return
        self.draining = False
        if self._repair and not any(self._before_hole(batch) for batch in self.window):
            self._mend()

    def _before_hole(self, batch: PendingBatch) -> bool:
        return not batch.done and batch.sequence < self._hole_sequence

    def _mend(self) -> None:
        repair, self._repair = self._repair, Repair.NONE
        if repair is Repair.RESTART:
            for batch in [each for each in self.window if each.ambiguous and not each.done]:
                batch.finish(None, _unknown(batch, "a batch before it was lost", ()))
        self.window = deque(batch for batch in self.window if not batch.done)  # all behind the hole
        if repair is Repair.RENUMBER and not any(batch.ambiguous for batch in self.window):
            self._number_from(self._hole_sequence)
        else:
            self._retire()
            self._number_from(0)

    def _retire(self) -> None:
        self.retired, self.identity = self.identity, None
        self.next_sequence = 0

    def _number_from(self, sequence: int) -> None:
        for batch in self.window:
            assert batch.state is State.WAITING
            batch.sequence = sequence
            batch.ambiguous = False
            sequence += batch.count
        self.next_sequence = sequence


def _unknown(
    batch: PendingBatch, message: str, attempts: tuple[errors.Attempt, ...]
) -> errors.DeliveryTimeout:
    return errors.DeliveryTimeout(
        f"{message}; it is unknown whether {batch.count} records to {batch.topic}/{batch.partition} are in",
        attempts=attempts,
    )
