"""Running the commands of a page, as somebody would type them: one directory and environment for the page."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from tests.docs.printed import ANYTHING, begins, matches
from tests.support.waiting import UNIT_S, NeverHappened, eventually

_TIMEOUT_UNITS = 60
_ENDING_UNITS = 20
_PRINTED_MAX = 4_000  # characters of what was printed, in the report of a failure

# What a command exports is there for those after it.
_SCRIPT = """\
set -eo pipefail
[ ! -f "$KEPT" ] || . "$KEPT"
trap 'export -p > "$KEPT"' EXIT
{command}
"""


class Differs(AssertionError):
    """A command did not do what the page shows."""


@dataclass(frozen=True, slots=True)
class Command:
    """What is typed, and what the page shows of its output (None: nothing is said about that)."""

    line: int
    text: str
    shown: str | None


def commands(text: str, line: int, *, console: bool) -> list[Command]:
    """Split a block: `$ ` begins a command, `> ` goes on with it; without them all of it is one script."""
    if not console:
        return [Command(line, text, None)]
    found: list[tuple[int, list[str], list[str]]] = []
    for number, each in enumerate(text.splitlines(), line):
        if each.startswith("$ "):
            found.append((number, [each[2:]], []))
        elif each.startswith("> ") and found and not found[-1][2]:
            found[-1][1].append(each[2:])
        else:
            assert found, f"line {number}: output before any command"
            found[-1][2].append(each)
    return [Command(at, "\n".join(typed), "\n".join(shown)) for at, typed, shown in found]


class Shell:
    """A directory with its commands; what stays in the background ends with the block."""

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        self.directory = directory
        self._environment = {**environment, "KEPT": str(directory.parent / f"{directory.name}.exports")}
        self._background: list[tuple[subprocess.Popen[bytes], Path]] = []
        directory.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Shell:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process, _ in self._background:  # all at once, then one after the other
            _interrupt(process, signal.SIGINT)
        for process, _ in self._background:
            _end(process)

    def run(self, command: Command, where: str) -> None:
        """Run it to its end. Raises Differs."""
        done = subprocess.run(
            ["bash", "-c", _SCRIPT.format(command=command.text)],
            cwd=self.directory,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_TIMEOUT_UNITS * UNIT_S,
            check=False,
        )
        printed = done.stdout.decode(errors="replace")
        if command.shown is None:
            if done.returncode != 0:
                raise Differs(f"{where}: {command.text}\nexit code {done.returncode}\n{printed}")
        elif not matches(command.shown, printed):
            raise Differs(f"{command.text}\n{_difference(where, command.shown, printed)}")

    def follow(self, command: Command, where: str, *, stay: bool = False) -> Path:
        """Run it until it has printed what is shown; then stop it by Ctrl-C, or let it `stay`.

        Returns the file that its output goes to.
        """
        output = self.directory.parent / f"{self.directory.name}.{len(self._background)}.out"
        with output.open("wb") as file:
            process = subprocess.Popen(
                ["bash", "-c", _SCRIPT.format(command=command.text)],
                cwd=self.directory,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._background.append((process, output))

        self.wait_until_shown(command.shown or ANYTHING, where)
        if not stay:
            _end(process)
        return output

    def wait_until_shown(self, shown: str, where: str) -> None:
        """Wait until the newest command in the background has printed this. Raises Differs."""
        process, output = self._background[-1]

        def is_shown() -> bool:
            return begins(shown, output.read_text(errors="replace"))

        with suppress(NeverHappened):
            eventually(lambda: is_shown() or process.poll() is not None, shown, _TIMEOUT_UNITS)
        if not is_shown():
            raise Differs(_difference(where, shown, output.read_text(errors="replace")))


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ctrl-C, which reaches all of a pipeline; what does not heed it is killed."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        _interrupt(process, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_ENDING_UNITS * UNIT_S)
            return


def _interrupt(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _difference(where: str, shown: str, printed: str) -> str:
    return f"{where}\n--- shown:\n{shown}\n--- printed:\n{printed[-_PRINTED_MAX:]}"
