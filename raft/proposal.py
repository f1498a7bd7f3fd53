"""What a caller hands to the engine to have replicated, and what comes back."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Proposal:
    """One command. Several travel in one entry (group commit), each with a result of its own."""

    fragment: bytes  # proto.entry.command_fragment(command)
    bodies: tuple[bytes, ...] = ()  # of its appends, in order
    solo: bool = False  # alone in its entry: a topic's id is the raft index of its entry

    @property
    def size(self) -> int:
        """Bytes that it adds to an entry's payload."""
        return len(self.fragment) + sum(map(len, self.bodies))


@dataclass(frozen=True, slots=True)
class Committed:
    """A proposal that was replicated and applied. `result` is what the machine said of it."""

    index: int  # raft index of its entry: the session token
    term: int
    result: object
    sync_policy: int  # entry_pb2.SyncPolicy that the acknowledgement is given under
