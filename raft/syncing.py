"""Making entries durable: one sync at a time, away from the loop, each for all that waits."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Final, NoReturn

from quorumlog.proto import entry_pb2
from quorumlog.raft.durations import Durations
from quorumlog.raft.interfaces import Worker
from quorumlog.storage.errors import NoSpace
from quorumlog.storage.log import Log, Ticket

logger = logging.getLogger(__name__)

INTERVAL_S: Final = 1.0  # of the policy `interval`
# The file says how far it is durable one sync late. When nothing comes for so long, one more sync says the
# rest, so that damage to the newest entries is told from a torn tail.
IDLE_S: Final = 0.5


class Syncer:
    """Syncs the log as `policy()`, a SyncPolicy, asks; `on_durable` is called when more is durable.

    The same worker prepares the next segment's files, so that starting it costs the loop little.
    """

    def __init__(
        self,
        log: Log,
        policy: Callable[[], int],
        worker: Worker,
        clock: Callable[[], float],
        on_durable: Callable[[], None],
        fail: Callable[[BaseException], NoReturn],
    ) -> None:
        self._log = log
        self._policy = policy
        self._worker = worker
        self._clock = clock
        self._on_durable = on_durable
        self._fail = fail
        self._ticket: Ticket | None = None
        self._began = clock()
        self._took_s = 0.0  # written by the worker, read when it is done
        self.durations = Durations()  # of the syncs themselves, without the way to and from the worker
        self._mark_is_behind = False
        self._preparing = False

    @property
    def busy(self) -> bool:
        return self._ticket is not None

    @property
    def countable_index(self) -> int:
        """What this node may count of its own copy: the durable part; under a weaker policy, all of it."""
        if self._policy() == entry_pb2.SYNC_ALWAYS:
            return self._log.durable_index
        return self._log.last_index

    def start(self) -> None:
        """Begin a sync if one is due and none is under way."""
        if self._ticket is None and self._is_due():
            self._began = self._clock()
            self._ticket = self._log.begin_sync()
            self._worker.submit(partial(self._run, self._ticket), self._done)

    def _is_due(self) -> bool:
        policy = self._policy()
        waited_s = self._clock() - self._began
        if policy == entry_pb2.SYNC_OS:
            return False
        if self._log.durable_index >= self._log.last_index:
            return self._mark_is_behind and waited_s >= IDLE_S
        return policy == entry_pb2.SYNC_ALWAYS or waited_s >= INTERVAL_S

    def _run(self, ticket: Ticket) -> None:
        began = self._clock()
        ticket.run()
        self._took_s = self._clock() - began

    def _done(self, error: BaseException | None) -> None:
        ticket, self._ticket = self._ticket, None
        assert ticket is not None
        if error is not None:
            self._fail(error)
        self.durations.add(self._took_s)
        before = self._log.durable_index
        self._mark_is_behind = self._log.finish_sync(ticket) > before
        self._prepare_next()
        self.start()
        self._on_durable()

    def _prepare_next(self) -> None:
        if self._log.wants_next and not self._preparing:
            self._preparing = True
            self._worker.submit(self._log.prepare_next, self._prepared)

    def _prepared(self, error: BaseException | None) -> None:
        self._preparing = False
        if isinstance(error, NoSpace):
            logger.warning("no room for the next segment yet: %s", error)
        elif error is not None:
            self._fail(error)
