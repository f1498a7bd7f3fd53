"""What a leader knows of one peer, and what may be sent to it next. No I/O, no clock.

    probe      one message without payload is under way, until the peer matches: a diverged tail is found
               at one round trip per conflicting term, and a full batch is never wasted on it
    replicate  entries stream, ahead of the answers, within a window of bytes
    snapshot   the peer is behind the log's start (comes with snapshots; until then such a peer waits)

A new session starts in probe behind what was counted: what was in flight is taken as lost.
"""

from __future__ import annotations

import enum
from collections import deque
from typing import Final

WINDOW_BYTES: Final = 8 << 20  # sent and not yet durable there: about 60 ms of a fast disk
BATCH_BYTES: Final = 512 << 10  # per message: 1 MiB messages were slower than 256 KiB in a prototype


class State(enum.StrEnum):
    """See the module."""

    PROBE = "probe"
    REPLICATE = "replicate"
    SNAPSHOT = "snapshot"


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
        self.round_seen = 0  # newest round that the peer echoed: evidence for reads
        self._awaiting_probe = False
        self._in_flight: deque[tuple[int, int]] = deque()  # (last index of a message, bytes)
        self._in_flight_bytes = 0
        self._window = WINDOW_BYTES

    def restart(self) -> None:
        """A new session: nothing that was sent can be counted on, nothing held is believed."""
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

    def _become_probe(self, next_index: int) -> None:
        self.state = State.PROBE
        self.next = next_index
        self.commit_sent = 0
        self._awaiting_probe = False
        self._in_flight.clear()
        self._in_flight_bytes = 0
