"""Ticket: one fdatasync under way, in whatever thread, and what it will prove."""

from __future__ import annotations

from quorumlog.storage.active import ActiveSegment
from quorumlog.storage.errors import SyncFailed


class Ticket:
    """Made by Log.begin_sync, run in a worker thread, handed back to Log.finish_sync.

    - `target` and `position` were appended before the sync began. A truncation lowers them, in the log's
      thread: the sync then proves only the unchanged prefix.
    """

    def __init__(self, segment: ActiveSegment, target: int, position: int) -> None:
        self.segment = segment  # held: its file stays open whatever the log does meanwhile
        self.target = target  # raft index
        self.position = position  # in the segment's file
        self.is_done = False
        self.error: SyncFailed | None = None

    def run(self) -> None:
        """Write the watermark of the previous sync and make everything durable. Raises SyncFailed."""
        try:
            self.segment.watermark.record()
            self.segment.sync_data()
        except (OSError, SyncFailed) as error:
            self.error = SyncFailed(f"{self.segment.name}: {error}")
            raise self.error from error
        self.is_done = True
