"""One run of a page: its files, its commands and its Python blocks, in their order."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import io
import re
from pathlib import Path
from typing import Any

from quorumlog.client import AsyncClient, Client
from tests.docs.pages import Block, blocks
from tests.docs.printed import matches
from tests.docs.shell import Command, Differs, Shell, commands
from tests.docs.translation import LocalCluster, to_nodes, to_run

SHELL = ("sh", "console")

_ASYNC = re.compile(r"\basync (?=with|for|def)|\bawait ")
_LOCAL = "quorumlog local"


class PageRun:
    """Runs the blocks of a page in a shell's directory.

    - `servers`, where it is given, are the nodes that the page's addresses stand for; a page that starts
      `quorumlog local` has its own.
    - Python blocks share their names, and have a `client` as if the page had made it.
    - `plain`: Python blocks without async and await, for the other flavour of the client.
    """

    def __init__(self, page: Path, shell: Shell, servers: str = "", *, plain: bool = False) -> None:
        self._page = page
        self._shell = shell
        self._servers = servers
        self._plain = plain
        self._names: dict[str, Any] = {"__name__": "__main__"}
        self._printed = ""  # by the newest Python block
        self._translate = to_nodes(servers)

    def all_blocks(self) -> None:
        """Run it. Raises what a block raises, or Differs where the page shows something else."""
        for block in blocks(self._page):
            self._block(block)

    def _block(self, block: Block) -> None:
        if block.kind == "not run":
            return
        if block.kind == "file":
            (self._shell.directory / block.argument).write_text(self._translate(block.text))
        elif block.kind == "prints":
            self._compare(block)
        elif block.kind == "shows":
            self._shell.wait_until_shown(self._translate(block.text), block.where)
        elif block.language in SHELL:
            self._commands(block)
        elif block.language == "python":
            self._python(block)

    def _compare(self, block: Block) -> None:
        if not matches(self._translate(block.text), self._printed):
            raise Differs(f"{block.where}\n--- shown:\n{block.text}--- printed:\n{self._printed}")

    # Commands.

    def _commands(self, block: Block) -> None:
        for shown in commands(block.text, block.line, console=block.language == "console"):
            output = None if shown.shown is None else self._translate(shown.shown)
            command = Command(shown.line, self._translate(shown.text), output)
            if shown.text.startswith(_LOCAL):
                self._start_nodes(shown, block)
            elif block.kind in ("follows", "background"):
                self._shell.follow(command, block.where, stay=block.kind == "background")
            else:
                self._shell.run(command, block.where)

    def _start_nodes(self, command: Command, block: Block) -> None:
        """From here on the page's nodes are those that this command starts."""
        printed = self._shell.follow(command, block.where, stay=True).read_text()
        run = LocalCluster.of(printed)
        self._translate = to_run(LocalCluster.of(command.shown or ""), run)
        self._servers = ",".join(addresses[0] for addresses in run.nodes.values())

    # Python.

    def _python(self, block: Block) -> None:
        text = self._translate(block.text)
        if block.kind == "follows":
            text = text.replace('consumer("orders")', 'consumer("orders", end="latest")')
        if self._plain:
            text = _ASYNC.sub("", text).replace("AsyncClient", "Client")
        # Line numbers of errors are those of the page.
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        code = compile("\n" * (block.line - 1) + text, str(self._page), "exec", flags=flags)
        output = io.StringIO()
        with contextlib.chdir(self._shell.directory), contextlib.redirect_stdout(output):
            if _ASYNC.search(text):
                asyncio.run(self._awaited(code))
            else:
                self._plainly(code)
        self._printed = output.getvalue()

    async def _awaited(self, code: Any) -> None:
        async with AsyncClient(self._servers) as client:
            self._names["client"] = client
            running = eval(code, self._names)
            if inspect.iscoroutine(running):
                await running

    def _plainly(self, code: Any) -> None:
        with Client(self._servers) as client:
            self._names["client"] = client
            eval(code, self._names)
