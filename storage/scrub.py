"""Scrub: a walk over all sealed files of a log, in small steps: damage is found before the data is needed.

It reads what is on the disk, not what the page cache remembers of it. What it finds is reported to the log,
which fences the file. Segments may be sealed, dropped, truncated or repaired while it walks: what is not
there any more is passed over.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

from quorumlog.storage.check import FileCheck, LogCheck, Steps
from quorumlog.storage.errors import Damaged, OutOfLog
from quorumlog.storage.fences import SealedFile
from quorumlog.storage.reader import LogReader


@dataclass(frozen=True, slots=True)
class ScrubProgress:
    """How far a walk has come."""

    base: int  # of the segment that is being read; 0: it has not begun
    bytes_done: int  # of log files
    bytes_total: int  # of all sealed log files, now
    found: int  # files that it has reported


class Scrub:
    """One walk, from the oldest segment to the newest sealed one.

    `step` is called in one thread, whichever; `progress` and `is_done` in any.
    """

    def __init__(self, log: LogReader) -> None:
        self.is_done = False
        self._log = log
        self._steps = self._walk()
        self._base = 0
        self._bytes_done = 0
        self._found = 0

    @property
    def progress(self) -> ScrubProgress:
        """How far it has come."""
        total = sum(each.size_bytes for each in self._log.segments if not each.is_active)
        return ScrubProgress(self._base, min(self._bytes_done, total), total, self._found)

    def step(self, budget: int) -> int:
        """Go on for about so much (bytes; see check.py), or to the end; return what it cost."""
        spent = 0
        while spent < budget and not self.is_done:
            cost = next(self._steps, None)
            self.is_done = cost is None
            spent += cost or 0
        return spent

    def _walk(self) -> Steps:
        log = self._log
        for base in log.bases[:-1]:
            self._base = base
            check = yield from self._check(SealedFile(base, "log"))
            if check is not None:
                self._bytes_done += check.size
                yield from self._check(SealedFile(base, "index"), check.log)
            yield from self._check(SealedFile(base, "view"))
            yield from self._check(SealedFile(base, "state"))
        yield from self._check(SealedFile(log.bases[-1], "state"))

    def _check(
        self, file: SealedFile, log_check: LogCheck | None = None
    ) -> Generator[int, None, FileCheck | None]:
        """Check a file; return the check if it passed."""
        log = self._log
        truncations = log.truncations
        if file in log.fenced or not log.has_file(file):
            return None
        try:
            check = log.begin_check(file, log=log_check, whole=False)
            check.file.forget_cache()
            while not check.is_done:
                yield check.step(1)
            check.file.forget_cache()
        except OutOfLog:
            return None
        except Damaged as damage:
            # While it was read it may have been cut, or dropped: then it is simply not there any more.
            if truncations == log.truncations and truncations % 2 == 0 and log.has_file(file):
                self._found += 1
                log.report(damage)
            return None
        return check
