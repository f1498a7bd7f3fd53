"""What the engine asks of the state machine that it feeds; node/machine.py implements it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from quorumlog.storage.frame import Frame
from quorumlog.storage.view import ActiveView


@dataclass(frozen=True, slots=True)
class Sealable:
    """A finished segment: what its files are written from, in a worker thread, when it is durable."""

    base: int  # raft index of the segment's first entry
    view: ActiveView  # frozen: nobody adds to it any more
    next_base: int  # of the segment that follows
    state: bytes  # StateSnapshot as of next_base - 1


class Machine(Protocol):
    """A deterministic state machine: same entries, same state and same results, on every node.

    No call may consult a clock, randomness or the outcome of I/O. `apply` never raises for anything
    that a client did: a refusal is a result. What it does raise stops the node.
    """

    def restore(self, base: int, state: bytes | None) -> None:
        """Take the state as of `base - 1` (None: before the first entry); entries from `base` on follow."""

    def begin_segment(self, base: int) -> Sealable | None:
        """Entry `base` starts a segment and is about to be applied: freeze the view of the one before.

        Returns None where there is nothing to seal: `base` is where replaying begins.
        """

    def sealed(self, base: int) -> None:
        """The files of segment `base` are durable: the frozen view in memory may go."""

    def apply(self, frame: Frame) -> Sequence[object]:
        """Apply one committed entry; one result per command in it, in order (none for a no-op)."""

    def entry_prefix(self, now_ms: int) -> tuple[int, int]:
        """Return (time_ms, feature_level) for an entry that a leader builds now."""

    @property
    def sync_policy(self) -> int:
        """The replicated entry_pb2.SyncPolicy: what acknowledgements are given under."""

    @property
    def log_start(self) -> int:
        """Base of the first segment that retention keeps, as was agreed; 0: all. Part of the state."""

    def move_log_start(self, base: int) -> bytes:
        """Return the command (entry.command_fragment) that moves the start to the segment `base`.

        Called on the leader, for a segment whose predecessor is sealed. Raises Damaged.
        """

    @property
    def membership(self) -> bytes:
        """Payload of the newest membership entry that was applied, or empty. Part of the state."""
