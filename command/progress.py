"""How far producing a file is: a bar on a terminal, a line every few seconds elsewhere; always to stderr."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING

from quorumlog.command.output import complain, counted, lasting, sized

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

LINE_EVERY_S = 5.0


class Progress:
    """What was acknowledged so far of `total` bytes. `start_s`: when it began, on the clock of update()."""

    def __init__(self, total: int, start_s: float) -> None:
        self._total = total
        self._start_s = start_s
        self._last_line_s = start_s
        self._bar: Bar | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Progress:
        if sys.stderr.isatty():
            self._bar = _bar()
            self._task = self._bar.add_task("", total=self._total, records="0 records")
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, records: int, position: int, now_s: float) -> None:
        """Show that so many records, up to this position in the file, are acknowledged."""
        if self._bar is not None and self._task is not None:
            rate = records / max(now_s - self._start_s, 0.001)
            text = f"{counted(records, 'record')}, {rate:,.0f}/s"
            self._bar.update(self._task, completed=position, records=text)
        elif now_s - self._last_line_s >= LINE_EVERY_S:
            self._last_line_s = now_s
            complain(progress_line(records, position, self._total, now_s - self._start_s))


def progress_line(records: int, position: int, total: int, seconds: float) -> str:
    """Return one line: how much is done, how fast, and how long it goes on if it stays so."""
    parts = [
        f"{counted(records, 'record')} acknowledged",
        f"{sized(position)} of {sized(total)} ({100 * position // max(total, 1)} %)",
        f"{records / seconds:,.0f} records/s",
    ]
    if position:
        parts.append(f"{lasting(int(1000 * seconds * (total - position) / position))} left")
    return ", ".join(parts)


def _bar() -> Bar:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as RichProgress

    return RichProgress(
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TextColumn("{task.fields[records]}"),
        TimeRemainingColumn(compact=True),
        console=Console(stderr=True),
        redirect_stdout=False,  # acknowledgements may go to a pipe
    )
