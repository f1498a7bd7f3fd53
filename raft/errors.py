"""Errors of the replication layer, by what the caller can do.

    RaftError
      NotProposed      surely not applied: try again, elsewhere or later
        NotLeader        ask the leader that it names, if any
        Dropped          another leader's entry took the place
        Busy             too much is waiting here
        NoSpace          the disk is full (storage's error, translated)
        Stopping         this node is shutting down
        TransferFailed   leadership stays, or went to another node than was asked
        MembershipRefused  the members cannot be changed so, or not now
        NotConfirmed     no majority confirmed who leads: nothing can be said of the newest entries
      OutcomeUnknown   may or may not have been applied: only an idempotent repeat is safe

What only a bug or a broken disk can cause ends the process, with one of the exit codes below.
"""

from __future__ import annotations

EXIT_BUG = 70  # an invariant does not hold (sysexits: EX_SOFTWARE)
EXIT_SYNC_FAILED = 74  # fsync failed: what is on disk is not known (EX_IOERR)
EXIT_DAMAGED = 75  # a file that a vote or a commit rests on is damaged

# What to do about the last one: nothing that the node could do by itself is safe.
WHEN_DAMAGED = (
    "this node must not take part with what it has: remove it from the cluster, empty its data directory and "
    "add it again (or restore the directory from a backup); the other nodes have what was acknowledged"
)


class RaftError(Exception):
    """Root of the replication layer's errors."""


class NotProposed(RaftError):
    """The command was surely not applied and never will be."""


class NotLeader(NotProposed):
    """This node does not lead; `leader_id` and `leader_address` (for clients) say who does, where known."""

    def __init__(self, leader_id: str | None, leader_address: str | None, term: int) -> None:
        super().__init__(f"not the leader of term {term}; leader: {leader_id or 'none known'}")
        self.leader_id = leader_id
        self.leader_address = leader_address
        self.term = term


class Dropped(NotProposed):
    """A new leader put another entry in its place."""


class Busy(NotProposed):
    """The queue of proposals is full."""


class NoSpace(NotProposed):
    """The disk is full: nothing was appended."""


class Stopping(NotProposed):
    """The node is shutting down."""


class TransferFailed(NotProposed):
    """Leadership was not handed over; the message says why."""


class MembershipRefused(NotProposed):
    """The members cannot be changed so, or not now; the message says why."""


class NotConfirmed(NotProposed):
    """A linearizable read could not be: no majority confirmed in time who leads."""


class OutcomeUnknown(RaftError):
    """The deadline passed, or leadership was lost, after the command had been sent to others."""


class DamagedHardState(RaftError):
    """The term/vote file cannot be read: starting could vote twice, so the node refuses to."""
