"""Processes of a peer: found on PATH, started, killed, and stopped in the end."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path


class Missing(Exception):
    """A peer cannot take part; the text says why, and how it could."""


def found(program: str, package: str) -> str:
    """Return the program's path. Raises Missing."""
    # Debian puts servers where a user's PATH may not lead.
    path = shutil.which(program) or shutil.which(program, path="/usr/local/sbin:/usr/sbin:/sbin")
    if path is None:
        raise Missing(f"no {program} on PATH (apt-get install {package})")
    return path


def output_of(*command: str) -> str:
    """Return what a command prints, errors too."""
    run = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    return run.stdout + run.stderr


class PeerProcess:
    """One node. Its output goes to <name>.log."""

    def __init__(self, name: str, command: Sequence[str], directory: Path) -> None:
        self.name = name
        self._command = command
        self._log = directory / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it; it is not up yet."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    async def kill(self) -> None:
        """SIGKILL; returns when it is gone."""
        assert self._process is not None
        self._process.kill()
        await asyncio.to_thread(self._process.wait)

    async def stop(self) -> None:
        """End it where it runs. Its data is not kept, so it is not asked: etcd would take 7 s to leave."""
        if self._process is not None and self._process.poll() is None:
            await self.kill()

    def check(self) -> None:
        """Raise RuntimeError, with the end of its log, where it has ended."""
        if self._process is not None and self._process.poll() is not None:
            end = self._log.read_text(errors="replace")[-2000:]
            raise RuntimeError(f"{self.name} ended with {self._process.returncode}:\n{end}")


async def stop_all(processes: Sequence[PeerProcess]) -> None:
    """Stop them together."""
    await asyncio.gather(*(process.stop() for process in processes))
