"""What an operator must know of this node's disk: raised and cleared here, shown in its status."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Final

from quorumlog.storage.errors import Damaged, NoSpace
from quorumlog.storage.fences import SealedFile
from quorumlog.storage.log import Log

logger = logging.getLogger(__name__)

DISK_FULL: Final = "DISK_FULL"
DAMAGE: Final = "DAMAGE"  # followed by a space and the file's name
LOOK_S: Final = 1.0
LOOK_BYTES: Final = 1 << 20  # beside the reserve: with less the alarm would come and go


class Alarms:
    """The alarms of one log; each is logged when it begins and when it ends."""

    def __init__(self, log: Log) -> None:
        self.raised: set[str] = set()
        self.on_change: list[Callable[[], None]] = []
        self._log = log
        self._fenced: Mapping[SealedFile, Damaged] | None = None  # as it was seen last
        self._unsealed: dict[str, Damaged] = {}  # by file name: met by the sender, in what is written to
        self._unsealed_seen: set[str] = set()
        self._look_at = 0.0

    def ensure_space(self, payload_size: int, count: int, *, rolls: bool) -> bool:
        """Is there room for `count` more entries? Asked before the engine hears of them."""
        try:
            self._log.ensure_space(payload_size, rolls, count=count)
        except NoSpace as error:
            self.disk_full(error)
            return False
        self.has_room()
        return True

    def ensure_urgent_space(self, *, rolls: bool) -> bool:
        """Is there room for an entry without payload, the reserve included?"""
        try:
            self._log.ensure_space(0, rolls, urgent=True)
        except NoSpace as error:
            self.disk_full(error)
            return False
        return True

    def disk_full(self, error: NoSpace) -> None:
        """Something found no room."""
        if DISK_FULL not in self.raised:
            logger.error("the disk is full, writes are refused until there is room: %s", error)
            self.raised.add(DISK_FULL)
            self._changed()

    def has_room(self) -> None:
        """Something found room."""
        if DISK_FULL in self.raised:
            logger.warning("there is room on the disk again")
            self.raised.discard(DISK_FULL)
            self._changed()

    def damage(self, error: Damaged) -> None:
        """The sender met a bad frame: it is never sent; the peer waits until it is repaired, or for another
        leader.

        A sealed file is fenced by the log already. One that is still written to cannot be repaired: it is
        remembered until it is sealed.
        """
        file = SealedFile.named(error.file)
        if file is not None and file.suffix == "log" and not self._log.is_sealed(file.base):
            self._unsealed.setdefault(error.file, error)

    def tend(self, now: float) -> None:
        """With every tick: let the alarms say how it is."""
        if DISK_FULL in self.raised and now >= self._look_at:
            self._look_at = now + LOOK_S
            self._look_for_room()
        self._look_for_damage()

    def _look_for_room(self) -> None:
        """There may be some again, though nothing has asked for it since."""
        try:
            self._log.check_room(LOOK_BYTES)
        except NoSpace:
            return
        self.has_room()

    def _look_for_damage(self) -> None:
        for name, error in list(self._unsealed.items()):
            file = SealedFile.named(name)
            assert file is not None
            if self._log.is_sealed(file.base):
                del self._unsealed[name]
                self._log.report(error)
        fenced = self._log.fenced
        if fenced is self._fenced and self._unsealed.keys() == self._unsealed_seen:
            return
        self._fenced, self._unsealed_seen = fenced, set(self._unsealed)
        damaged = {file.name: error for file, error in fenced.items()} | self._unsealed
        now = {f"{DAMAGE} {name}" for name in damaged}
        before = {alarm for alarm in self.raised if alarm.startswith(DAMAGE)}
        for name, error in damaged.items():
            if f"{DAMAGE} {name}" not in before:
                logger.error("damaged, not served until it is repaired: %s", error)
        self.raised = self.raised - before | now
        self._changed()

    def _changed(self) -> None:
        for listener in self.on_change:
            listener()
