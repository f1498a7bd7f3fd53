"""Readers that wait at the end of a partition, woken when a batch of theirs is applied.

One Signal per partition that has waiters: an entry wakes those whom it concerns, so a thousand idle
consumers cost nothing while another topic is written.
"""

from __future__ import annotations

from collections.abc import Iterable

from quorumlog.node.signals import Signal

PartitionKey = tuple[int, int]  # topic id, partition


class Tails:
    """The ends of partitions. All calls are made on the event loop."""

    def __init__(self) -> None:
        self._signals: dict[PartitionKey, Signal] = {}
        self._ended = False

    @property
    def is_awaited(self) -> bool:
        """Does anybody wait at the end of any partition?"""
        return bool(self._signals)

    def applied(self, changed: Iterable[PartitionKey]) -> None:
        """Wake whoever waits at one of these partitions: it grew, or its topic was deleted."""
        for key in changed:
            signal = self._signals.get(key)
            if signal is not None:
                signal.fire()

    def end(self) -> None:
        """Wake everyone for good: the node is stopping, and each reader is to look at that."""
        self._ended = True
        for signal in self._signals.values():
            signal.fire()

    async def wait(self, key: PartitionKey, timeout_s: float | None = None) -> bool:
        """Return True when the partition changed, False when the time is up.

        To be awaited right after looking, without another await in between: then nothing is missed.
        """
        if self._ended:
            return True
        signal = self._signals.get(key)
        if signal is None:
            signal = self._signals[key] = Signal()
        try:
            return await signal.wait(signal.count, timeout_s)
        finally:
            # The first one that is woken takes it away; whoever waits next makes another.
            if not signal.is_awaited and self._signals.get(key) is signal:
                del self._signals[key]
