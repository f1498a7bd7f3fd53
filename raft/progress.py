"""What a leader knows of one peer, and what may be sent to it next. No I/O, no clock.

    probe      one message without payload is under way, until the peer matches: a diverged tail is found
               at one round trip per conflicting term, and a full batch is never wasted on it
    replicate  entries stream, ahead of the answers, within a window of bytes
    snapshot   the peer is behind the log's start: the state there goes out, one piece in flight

A new session starts in probe behind what was counted: what was in flight is taken as lost.
"""

from __future__ import annotations

import enum
import math
from collections import deque
from typing import Final

from quorumlog.storage.header import SegmentHeader
from quorumlog.storage.state import StateFile

WINDOW_BYTES: Final = 8 << 20  # sent and not yet durable there: about 60 ms of a fast disk
LOST_HEARTBEATS: Final = 10  # a session loses nothing; but a slow link may take so long for a piece
BATCH_BYTES: Final = 512 << 10  # per message: 1 MiB messages were slower than 256 KiB in a prototype


class State(enum.StrEnum):
    """See the module."""

    PROBE = "probe"
    REPLICATE = "replicate"
    SNAPSHOT = "snapshot"


class SnapshotProgress:
    """A state on its way to one peer, in one session.

    - One piece is in flight. The peer says with every answer what it has; questions with the heartbeats make
      it say so where a piece, or its answer, was lost.
    """

    def __init__(self, header: SegmentHeader, source: StateFile) -> None:
        self.header = header  # of the segment that the state begins
        self.source = source
        self.wanted: int | None = None  # position of the piece to send; None: wait for an answer
        self._in_flight = -1  # position of the piece that was sent last
        self._quiet_heartbeats = 0

    def sent(self) -> None:
        """The wanted piece has been handed to the network."""
        assert self.wanted is not None
        self._in_flight, self.wanted = self.wanted, None
        self._quiet_heartbeats = 0

    def answered(self, position: int) -> None:
        """The peer has everything up to `position`; all of it: it is at work."""
        if position != self._in_flight and position < self.source.size:
            self.wanted = position

    def heartbeat(self) -> None:
        """The peer is asked how far it has come; what stays unanswered for long is taken as lost."""
        self._quiet_heartbeats += 1
        if self._quiet_heartbeats >= LOST_HEARTBEATS:
            self._in_flight = -1


class Progress:
    """Replication to one peer, by one leader, in one term.

    - match < next; every entry up to match is at the peer, as durable as the policy asks. Within a session
      match never falls.
    - counted: what the engine was told, after the leader's own copy was durable. It never falls.
    - in probe at most one message is unanswered; in replicate WINDOW_BYTES and the message that passes it.
    """

    def __init__(self, last_index: int) -> None:
        self.state = State.PROBE
        self.match = 0
        self.counted = 0
        self.next = last_index + 1
        self.commit_sent = 0
        self.push_at: float | None = None  # when a new commit index goes out without entries
        self.awaited = False  # does somebody there wait for it?
        self.round_seen = 0  # newest round that the peer echoed: evidence for reads
        self.heard_at = -math.inf  # when it answered last
        self.voter = False  # in this session: is its directory one that votes?
        self.level = math.inf  # match must have come so far, to show that it keeps up; not said yet
        self.snapshot: SnapshotProgress | None = None  # in state snapshot, if it can be read
        self._awaiting_probe = False
        self._in_flight: deque[tuple[int, int]] = deque()  # (last index of a message, bytes)
        self._in_flight_bytes = 0
        self._window = WINDOW_BYTES

    def restart(self) -> None:
        """A new session: nothing that was sent can be counted on, nothing held is believed."""
        self.voter = False
        self.match = 0  # under a weak policy even what was counted may be gone there
        self._become_probe(self.counted + 1)

    def may_probe(self) -> bool:
        return self.state is State.PROBE and not self._awaiting_probe

    def may_send(self) -> bool:
        """May entries be sent (there being any)?"""
        return self.state is State.REPLICATE and self._in_flight_bytes < self._window

    def probed(self) -> None:
        self._awaiting_probe = True

    def repeat_probe(self) -> None:
        """A heartbeat is due: the last probe may have been refused (a full disk): ask again."""
        self._awaiting_probe = False

    def sent(self, last_index: int, size: int) -> None:
        """Entries up to `last_index` have been handed to the network."""
        assert last_index >= self.next
        self.next = last_index + 1
        self._in_flight.append((last_index, size))
        self._in_flight_bytes += size

    def matched(self, index: int) -> None:
        """The peer holds, durably, what we hold up to `index`."""
        if index > self.match:
            self.match = index
            self._window = WINDOW_BYTES
        while self._in_flight and self._in_flight[0][0] <= index:
            self._in_flight_bytes -= self._in_flight.popleft()[1]
        if self.state is State.PROBE:
            self.state = State.REPLICATE
            self._awaiting_probe = False
            self.next = self.match + 1
        self.next = max(self.next, self.match + 1)

    def contradicted(self, index: int) -> None:
        """The peer takes another entry there for committed: ours goes out, and stops that node."""
        self._become_probe(index)
        self.state = State.REPLICATE

    def refused(self) -> None:
        """The peer's disk is full: ask again with the next heartbeat, then send little until it takes it."""
        self._become_probe(self.match + 1)
        self._awaiting_probe = True
        self._window = 1

    def reset(self, hint: int, last_index: int) -> bool:
        """The peer lacks what stands before our message; it asks to go on from `hint`. False: a stale one.

        Answers to messages that were already under way when the first reset came carry the same or a higher
        hint than the place that was stepped back to: obeying those would undo the step (a livelock that was
        seen).
        """
        hint = min(max(hint, self.match + 1), last_index + 1)
        if hint >= self.next:
            return False
        self._become_probe(hint)
        return True

    def become_snapshot(self, snapshot: SnapshotProgress) -> None:
        """The peer lacks what is kept no longer: it needs the state first."""
        self._become_probe(self.next)
        self.state = State.SNAPSHOT
        self.snapshot = snapshot

    def lack_snapshot(self) -> None:
        """The state cannot be read here: it may have been repaired when the next heartbeat is due."""
        self._become_probe(self.next)
        self.state = State.SNAPSHOT

    def installed(self) -> None:
        """The peer has the state, or does not need it: entries from its base on may follow."""
        assert self.snapshot is not None
        self._become_probe(self.snapshot.header.base)

    def _become_probe(self, next_index: int) -> None:
        self.state = State.PROBE
        self.snapshot = None
        self.next = next_index
        self.commit_sent = 0
        self.push_at = None
        self._awaiting_probe = False
        self._in_flight.clear()
        self._in_flight_bytes = 0
