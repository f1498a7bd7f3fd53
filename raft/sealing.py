"""Writing the view and state files of finished segments, one after the other, away from the loop."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import NoReturn

from quorumlog.raft.interfaces import Worker
from quorumlog.raft.machine import Machine, Sealable
from quorumlog.storage.errors import NoSpace
from quorumlog.storage.log import Log

logger = logging.getLogger(__name__)


class Sealer:
    """The queue of segments to seal; at most one is being written.

    A full disk postpones a seal to the end of the next segment: until then its view stays in memory, and a
    restart replays from the last state that is there.
    """

    def __init__(
        self, log: Log, machine: Machine, worker: Worker, fail: Callable[[BaseException], NoReturn]
    ) -> None:
        self._log = log
        self._machine = machine
        self._worker = worker
        self._fail = fail
        self._queue: deque[Sealable] = deque()
        self.busy = False

    def add(self, sealable: Sealable) -> None:
        self._queue.append(sealable)
        self._next()

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
            return
        if error is not None:
            self._fail(error)
        self._queue.popleft()
        self._machine.sealed(sealable.base)
        self._next()
