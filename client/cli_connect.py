"""How commands reach the cluster: --servers, then QUORUMLOG_SERVERS, then localhost:9650."""

from __future__ import annotations

import argparse
import os
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quorumlog.client.aio import AsyncClient

SERVERS_VARIABLE = "QUORUMLOG_SERVERS"
DEFAULT_SERVERS = "localhost:9650"

CONNECT_TIMEOUT_MS = 3_000  # somebody sits and waits
REQUEST_TIMEOUT_MS = 10_000  # an election or two


def add_connection(parser: argparse.ArgumentParser) -> None:
    """Add the options; SUPPRESS lets them stand before and behind the command's name."""
    group = parser.add_argument_group("connection")
    group.add_argument(
        "-s",
        "--servers",
        "--bootstrap-servers",
        metavar="HOST:PORT,...",
        default=argparse.SUPPRESS,
        help=f"nodes to ask first (default: ${SERVERS_VARIABLE}, then {DEFAULT_SERVERS})",
    )


def add_output(parser: argparse.ArgumentParser) -> None:
    """Add -o text|json."""
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="default: text")


def servers_of(options: argparse.Namespace) -> str:
    """Return whom to ask: flag, environment, default."""
    flag: str | None = getattr(options, "servers", None)
    return flag or os.environ.get(SERVERS_VARIABLE) or DEFAULT_SERVERS


def client_of(options: argparse.Namespace, **settings: Any) -> AsyncClient:
    """Return a client that is not connected yet."""
    from quorumlog.client.aio import AsyncClient

    settings = {"request_timeout_ms": REQUEST_TIMEOUT_MS, **settings}
    return AsyncClient(
        servers_of(options), client_id="quorumlog-cli", connect_timeout_ms=CONNECT_TIMEOUT_MS, **settings
    )


def run(coroutine: Coroutine[Any, Any, int]) -> int:
    """Run a command to its exit code, on uvloop where there is one."""
    import asyncio

    try:
        from uvloop import new_event_loop
    except ImportError:
        new_event_loop = asyncio.new_event_loop  # type: ignore[assignment]
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(coroutine)
