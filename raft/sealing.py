"""Writing the view and state files of finished segments, one after the other, away from the loop."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final, NoReturn

from quorumlog.raft.interfaces import Worker
from quorumlog.raft.machine import Machine, Sealable
from quorumlog.storage.errors import NoSpace
from quorumlog.storage.log import Log

logger = logging.getLogger(__name__)

RETRY_S: Final = 1.0  # after the disk was full


class Sealer:
    """The queue of segments to seal; at most one is being written.

    A full disk postpones a seal: until there is room its view stays in memory, and a restart replays from the
    last state that is there.
    """

    def __init__(
        self,
        log: Log,
        machine: Machine,
        worker: Worker,
        clock: Callable[[], float],
        fail: Callable[[BaseException], NoReturn],
    ) -> None:
        self._log = log
        self._machine = machine
        self._worker = worker
        self._clock = clock
        self._fail = fail
        self._queue: deque[Sealable] = deque()
        self.busy = False
        self._retry_at = 0.0

    def add(self, sealable: Sealable) -> None:
        self._queue.append(sealable)
        self.tend()

    def tend(self) -> None:
        """With every tick: what found no room is tried again from time to time."""
        if self._queue and not self.busy and self._clock() >= self._retry_at:
            self._next()

    def clear(self) -> None:
        """The log was replaced: there is nothing to seal any more."""
        assert not self.busy
        self._queue.clear()

    def _next(self) -> None:
        if self.busy or not self._queue:
            return
        self.busy = True
        sealable = self._queue[0]
        self._worker.submit(
            lambda: self._log.seal(sealable.base, sealable.view, sealable.state),
            partial(self._done, sealable),
        )

    def _done(self, sealable: Sealable, error: BaseException | None) -> None:
        self.busy = False
        if isinstance(error, NoSpace):
            logger.warning("segment %d is not sealed yet: %s", sealable.base, error)
            self._retry_at = self._clock() + RETRY_S
            return
        if error is not None:
            self._fail(error)
        self._queue.popleft()
        self._machine.sealed(sealable.base)
        self._next()
