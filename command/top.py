"""`quorumlog cluster top`: the cluster live, so that a failover can be watched."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from quorumlog.command.connecting import add_connection, add_output, run, servers_of, tls_of
from quorumlog.command.parser import examples

if TYPE_CHECKING:
    import asyncio

    from quorumlog.command.top_view import View
    from quorumlog.command.watching import Watcher

_DESCRIPTION = """\
Watch the cluster: who leads, how far each node is, how fast topics grow, and what happens. Every node is
asked twenty times a second, so that the time without a leader is seen to a tenth of a second, whoever dies.
On a terminal q or Ctrl-C ends it; elsewhere, and with -o json, there is a block or a line for each interval.
"""
_KEYS = "q: quit"
_INTERVAL_S_MIN = 0.1
_TICK_S = 0.05  # between two looks
_PIPE_COLUMNS = 200


def add_command(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the group `cluster`."""
    top = verbs.add_parser(
        "top",
        help="watch it live",
        description=_DESCRIPTION,
        epilog=examples("quorumlog cluster top", "quorumlog cluster top -i 5 -n 12 -o json"),
    )
    add_connection(top)
    add_output(top)
    top.add_argument(
        "-i",
        "--interval",
        type=_interval,
        default=1.0,
        metavar="SECONDS",
        help="what rates are averaged over, and how often they are made (default: %(default)g)",
    )
    top.add_argument(
        "-n", "--iterations", type=_count, metavar="N", help="end after so many intervals (default: never)"
    )
    top.set_defaults(run=lambda options: run(_top(options)))


def _interval(text: str) -> float:
    seconds = float(text)
    if not _INTERVAL_S_MIN <= seconds <= 3600:
        raise argparse.ArgumentTypeError(f"expected {_INTERVAL_S_MIN} to 3600 seconds, got {text}")
    return seconds


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, got {text}")
    return count


async def _top(options: argparse.Namespace) -> int:
    from quorumlog.client.channels import Channels
    from quorumlog.client.endpoints import parse_servers
    from quorumlog.client.errors import Attempt, ConnectionFailed
    from quorumlog.command.watching import Watcher

    addresses = parse_servers(servers_of(options))
    channels = Channels("quorumlog-cli", tls_of(options))
    async with Watcher(channels, addresses, min(options.interval, 1.0)) as watcher:
        await watcher.first()
        if not watcher.look().nodes:
            attempts = [Attempt(address, why) for address, why in watcher.failures.items()]
            raise ConnectionFailed("no node answered", attempts=attempts)
        if options.output in ("text", "wide") and sys.stdout.isatty():
            await _on_a_screen(watcher, options)
        else:
            await _in_blocks(watcher, options)
    return 0


async def _on_a_screen(watcher: Watcher, options: argparse.Namespace) -> None:
    """Show it until q, or as often as was asked for."""
    import asyncio

    from rich.console import Console
    from rich.live import Live

    from quorumlog.command.top_screen import screen
    from quorumlog.command.top_view import advance

    console, quitting = Console(highlight=False, markup=False, emoji=False), asyncio.Event()
    with _keys(quitting), Live(console=console, screen=True, auto_refresh=False) as live:
        view: View | None = None
        shown, measured = -1, 0
        while not quitting.is_set() and measured <= (options.iterations or measured):
            before, view = view, advance(view, watcher.look(), options.interval)
            measured += before is not None and view.measured_from is not before.measured_from
            if view.revision != shown or not view.leader_id:
                live.update(screen(view, console.size.height, _KEYS), refresh=True)
                shown = view.revision
            await _tick(quitting)


async def _tick(quitting: asyncio.Event) -> None:
    import asyncio

    with suppress(TimeoutError):
        async with asyncio.timeout(_TICK_S):
            await quitting.wait()


async def _in_blocks(watcher: Watcher, options: argparse.Namespace) -> None:
    """Print it once an interval."""
    import asyncio

    from quorumlog.command.top_view import advance

    view = advance(None, watcher.look(), options.interval)
    printed, told_ms = 0, 0
    while True:
        _print(view, told_ms, options)
        printed, told_ms = printed + 1, view.look.time_ms
        if printed == options.iterations:
            return
        begun = view.measured_from
        while view.measured_from is begun:
            await asyncio.sleep(_TICK_S)
            view = advance(view, watcher.look(), options.interval)


def _print(view: View, told_ms: int, options: argparse.Namespace) -> None:
    """Print a block, or as JSON and YAML what there is, with the events since `told_ms`."""
    from rich.console import Console

    from quorumlog.command.output import print_structured
    from quorumlog.command.top_screen import screen

    shown = {
        "time_ms": view.look.time_ms,
        "cluster": view.look.cluster,
        "leader_id": view.leader_id,
        "term": view.term,
        "nodes": view.nodes,
        "topics": view.topics,
        "events": [event for event in view.events if event.time_ms > told_ms],
    }
    if print_structured(shown, options):
        return
    console = Console(width=_PIPE_COLUMNS, highlight=False, markup=False, emoji=False)
    console.print(screen(view))
    print(flush=True)


@contextmanager
def _keys(quitting: asyncio.Event) -> Iterator[None]:
    """Let q set the event, where there is a keyboard; keys are not echoed meanwhile."""
    import asyncio
    import os
    import termios
    import tty

    if not sys.stdin.isatty():
        yield
        return
    descriptor = sys.stdin.fileno()
    saved = termios.tcgetattr(descriptor)
    loop = asyncio.get_running_loop()

    def pressed() -> None:
        if os.read(descriptor, 64).lower().startswith(b"q"):
            quitting.set()

    tty.setcbreak(descriptor)
    loop.add_reader(descriptor, pressed)
    try:
        yield
    finally:
        loop.remove_reader(descriptor)
        termios.tcsetattr(descriptor, termios.TCSADRAIN, saved)
