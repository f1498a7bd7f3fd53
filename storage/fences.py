"""Fences: which sealed files are not what was written, and so are not served until they are repaired.

A segment's log file is fenced as a whole: one bad frame says that the disk spoils this file, and a copy that
is good from end to end can be had from a peer. A fenced index or state is only not believed; a fenced view
is not opened. Nothing is ever truncated or deleted because of a fence.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from threading import Lock
from types import MappingProxyType
from typing import NamedTuple

from quorumlog.storage.errors import Damaged

# Places that are remembered: more would say no more than that the disk is dying.
MAX_DAMAGE = 1000

_NAME = re.compile(r"([0-9]{20})\.(log|index|view|state)")


class SealedFile(NamedTuple):
    """One file of a segment that is not written to any more."""

    base: int
    suffix: str  # "log", "index", "view" or "state"

    @property
    def name(self) -> str:
        """The file's name, without directories."""
        return f"{self.base:020}.{self.suffix}"

    @classmethod
    def named(cls, name: str) -> SealedFile | None:
        """Return the file of that name; None where it is none of a segment's."""
        match = _NAME.fullmatch(name)
        return None if match is None else cls(int(match[1]), match[2])


class Fences:
    """What damage was met, and which files it fences. Any thread reports; any thread asks, without a lock.

    - `damage` is all that was ever met, each place once, up to a bound.
    - Only what `is_sealed` says is sealed is fenced: the rest is the log's own affair.
    """

    def __init__(self, damage: list[Damaged], is_sealed: Callable[[SealedFile], bool]) -> None:
        self.damage = damage
        self._is_sealed = is_sealed
        self._fenced: MappingProxyType[SealedFile, Damaged] = MappingProxyType({})  # replaced, never changed
        self._lock = Lock()

    @property
    def fenced(self) -> MappingProxyType[SealedFile, Damaged]:
        """The fenced files, each with the damage that was met first."""
        return self._fenced

    def report(self, damage: Damaged) -> None:
        """Remember damage, and fence the file if it is a sealed one."""
        file = SealedFile.named(damage.file)
        with self._lock:
            self._remember(damage)
            if file is not None and file not in self._fenced and self._is_sealed(file):
                self._fenced = MappingProxyType({**self._fenced, file: damage})

    def _remember(self, damage: Damaged) -> None:
        is_new = all((each.file, each.position) != (damage.file, damage.position) for each in self.damage)
        if is_new and len(self.damage) < MAX_DAMAGE:
            self.damage.append(damage)

    def check(self, base: int, suffix: str) -> None:
        """Raise Damaged where the file is fenced."""
        if self._fenced and (damage := self._fenced.get(SealedFile(base, suffix))) is not None:
            # A new one: whoever catches it adds its own traceback.
            raise Damaged(damage.file, damage.position, damage.entry, f"fenced: {damage.reason}")

    def lift(self, file: SealedFile) -> None:
        """The file is whole again."""
        with self._lock:
            self._fenced = MappingProxyType({each: why for each, why in self._fenced.items() if each != file})

    def forget(self, base: int) -> None:
        """The files of segment `base` are gone."""
        with self._lock:
            kept = {each: why for each, why in self._fenced.items() if each.base != base}
            self._fenced = MappingProxyType(kept)

    def clear(self) -> None:
        """All that was here is gone, and so is what was damaged of it."""
        with self._lock:
            self.damage.clear()
            self._fenced = MappingProxyType({})
