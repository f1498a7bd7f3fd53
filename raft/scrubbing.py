"""Scrubbing: walking over the sealed files, again and again, slowly, in the thread that seals."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, NoReturn

from quorumlog.raft.interfaces import Worker
from quorumlog.raft.lending import STEP_COST
from quorumlog.storage.log import Log
from quorumlog.storage.scrub import Scrub

logger = logging.getLogger(__name__)

DAY_S: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class ScrubStatus:
    """What the walks have come to."""

    bytes_done: int  # of the walk that is under way; 0: none is
    bytes_total: int  # of sealed log files; 0: no walk is under way
    walks: int  # finished, since the node started
    found: int  # damaged files that they found


class Scrubber:
    """Walks at no more than `bytes_per_s` (0: never), and begins one at most every `period_s`.

    A step is at most STEP_COST: a seal waits no longer than for one.
    """

    def __init__(
        self,
        log: Log,
        worker: Worker,
        clock: Callable[[], float],
        bytes_per_s: int,
        period_s: float,
        fail: Callable[[BaseException], NoReturn],
    ) -> None:
        self._log = log
        self._worker = worker
        self._clock = clock
        self._bytes_per_s = bytes_per_s
        self._period_s = period_s
        self._fail = fail
        self._walk: Scrub | None = None
        self._began = 0.0
        self._next_at = 0.0
        self._busy = False
        self._walks = 0
        self._found = 0
        self._is_stopped = bytes_per_s == 0
        # At a low rate in smaller steps: none takes more than a twentieth of a second's share.
        self._budget = min(STEP_COST, bytes_per_s // 20 + 1)

    @property
    def status(self) -> ScrubStatus:
        """How far it has come."""
        walk = self._walk
        if walk is None:
            return ScrubStatus(0, 0, self._walks, self._found)
        progress = walk.progress
        return ScrubStatus(
            progress.bytes_done, progress.bytes_total, self._walks, self._found + progress.found
        )

    def stop(self) -> None:
        """Take no further step."""
        self._is_stopped = True

    def tend(self) -> None:
        """With every tick: take a step if one is due."""
        now = self._clock()
        if self._is_stopped or self._busy or now < self._next_at:
            return
        if self._walk is None:
            if len(self._log.bases) < 2:
                return
            self._walk = Scrub(self._log)
            self._began = now
        self._busy = True
        costs: list[int] = []
        walk = self._walk
        self._worker.submit(
            lambda: costs.append(walk.step(self._budget)), partial(self._stepped, walk, costs)
        )

    def abandon(self) -> None:
        """The log is being replaced: the next walk begins anew."""
        self._walk = None

    def _stepped(self, walk: Scrub, costs: list[int], error: BaseException | None) -> None:
        self._busy = False
        if error is not None:
            self._fail(error)
        now = self._clock()
        self._next_at = max(self._next_at, now) + costs[0] / self._bytes_per_s
        if walk is self._walk and walk.is_done:
            self._walk = None
            self._walks += 1
            progress = walk.progress
            self._found += progress.found
            self._next_at = max(self._next_at, self._began + self._period_s)
            logger.info(
                "scrubbed %d bytes in %.0f s: %d damaged files",
                progress.bytes_done,
                now - self._began,
                progress.found,
            )
