"""A byte stream into lines: each a record. Lines are bytes: nothing but the newline is taken away."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class SkippedLine:
    """A line that is too long for a record."""

    number: int  # from 1
    size: int


@dataclass(slots=True)
class LineSplitter:
    """Takes chunks, gives whole lines. Bounded: a line above the limit is counted, not kept."""

    max_line_size: int
    lines: int = 0  # seen so far, skipped ones included
    skipped: list[SkippedLine] = field(default_factory=list)  # since the caller last cleared it
    _pending: list[bytes] = field(default_factory=list)
    _pending_size: int = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the lines that this chunk completes."""
        *ends, rest = chunk.split(b"\n")
        complete = []
        if ends:
            self._keep(ends[0])
            complete += self._complete()
            for line in ends[1:]:
                self.lines += 1
                if len(line) <= self.max_line_size:
                    complete.append(line)
                else:
                    self.skipped.append(SkippedLine(self.lines, len(line)))
        self._keep(rest)
        return complete

    def finish(self) -> list[bytes]:
        """Return the last line, where the stream does not end with a newline."""
        return self._complete() if self._pending_size else []

    def _keep(self, part: bytes) -> None:
        self._pending_size += len(part)
        if self._pending_size > self.max_line_size:
            self._pending.clear()
        elif part:
            self._pending.append(part)

    def _complete(self) -> list[bytes]:
        self.lines += 1
        line, size = b"".join(self._pending), self._pending_size
        self._pending, self._pending_size = [], 0
        if size > self.max_line_size:
            self.skipped.append(SkippedLine(self.lines, size))
            return []
        return [line]
