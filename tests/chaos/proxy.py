"""A process between peers: it delays, slows, holds or cuts what they say. See quorumlog.testing.switchboard.

    python -m tests.chaos.proxy      a line of JSON on stdin configures it, each further line is a command

The simulation reorders and repeats messages, which no proxy above TCP can.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any

from quorumlog.testing.switchboard import Link, Switchboard
from tests.support.waiting import UNIT_S


async def main() -> None:
    """Serve until stdin ends."""
    loop = asyncio.get_running_loop()
    commands = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    config = json.loads(await commands.readline())
    switchboard = Switchboard(random.Random(config["seed"]))
    for node, (listen, target) in config["doors"].items():
        await switchboard.serve(node, listen, target)
    print(json.dumps({"doors": len(config["doors"])}), flush=True)
    while line := await commands.readline():
        broken = await switchboard.obey(json.loads(line))
        print(json.dumps({"broken": broken}), flush=True)
    os._exit(0)  # nothing is kept, and connections need no farewell


class Proxy:
    """The process, from outside. It ends with its block, and by itself when this process is gone."""

    def __init__(self, doors: Mapping[str, tuple[str, str]], seed: int) -> None:
        self._config = {"seed": seed, "doors": {node: list(door) for node, door in doors.items()}}
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Proxy:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.proxy"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._say(self._config)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        with contextlib.suppress(OSError):
            self._process.communicate(timeout=5 * UNIT_S)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def shape(self, links: Iterable[Link], **shape: float | bool) -> None:
        """Change what happens on these links."""
        self._say({"links": list(links), "shape": shape})

    def cut(self, links: Iterable[Link], *, refuse: bool) -> int:
        """Break the connections of these pairs; with `refuse` new ones too, until `allow`."""
        answer = self._say({"links": list(links), "cut": True, "refuse": refuse})
        return int(answer["broken"])

    def heal(self) -> None:
        """All links as they were in the beginning."""
        self._say({"heal": True})

    def _say(self, command: Mapping[str, Any]) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, f"the proxy has ended with {self._process.wait()}"
        return json.loads(answer)


if __name__ == "__main__":
    asyncio.run(main())
