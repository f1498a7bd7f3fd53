"""What an operator must know of this node's disk: raised and cleared here, shown in its status."""

from __future__ import annotations

import logging
from typing import Final

from quorumlog.storage.errors import Damaged, NoSpace
from quorumlog.storage.log import Log

logger = logging.getLogger(__name__)

DISK_FULL: Final = "DISK_FULL"
DAMAGE: Final = "DAMAGE"


class Alarms:
    """The alarms of one log; each is logged when it begins and when it ends."""

    def __init__(self, log: Log) -> None:
        self.raised: set[str] = set()
        self._log = log

    def ensure_space(self, payload_size: int, count: int, *, rolls: bool) -> bool:
        """Is there room for `count` more entries? Asked before the engine hears of them."""
        try:
            self._log.ensure_space(payload_size, rolls, count=count)
        except NoSpace as error:
            if DISK_FULL not in self.raised:
                logger.error("the disk is full, writes are refused until there is room: %s", error)
            self.raised.add(DISK_FULL)
            return False
        if DISK_FULL in self.raised:
            logger.warning("there is room on the disk again")
            self.raised.discard(DISK_FULL)
        return True

    def damage(self, error: Damaged) -> None:
        """A bad frame in what is sealed: it is never sent; the peer waits for a leader that has it."""
        if DAMAGE not in self.raised:
            logger.error("damaged data is fenced, not served: %s", error)
        self.raised.add(DAMAGE)
