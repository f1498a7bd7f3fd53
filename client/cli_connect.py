"""How commands reach the cluster: --servers, then QUORUMLOG_SERVERS, then localhost:9650.

With --ca, --cert and --cert-key (or QUORUMLOG_CA, QUORUMLOG_CERT and QUORUMLOG_CERT_KEY) they speak TLS, else
plain text.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quorumlog.client.aio import AsyncClient
    from quorumlog.client.tls import Tls

SERVERS_VARIABLE = "QUORUMLOG_SERVERS"
DEFAULT_SERVERS = "localhost:9650"
_TLS_FILES = (
    ("ca", "authority to believe"),
    ("cert", "certificate to show"),
    ("cert-key", "its private key"),
)

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
    for option, what in _TLS_FILES:
        group.add_argument(
            f"--{option}",
            metavar="FILE",
            default=argparse.SUPPRESS,
            help=f"{what}, PEM (default: ${_variable(option)}); all three, or plain text is spoken",
        )


def add_consistency(parser: argparse.ArgumentParser) -> None:
    """Add --consistency; the words are consumer.CONSISTENCIES."""
    parser.add_argument(
        "--consistency",
        choices=("session", "committed", "linearizable"),
        default="session",
        help="linearizable: all that was acknowledged before, confirmed by a majority; committed: whatever "
        "the asked node has (default: session: this client's own writes)",
    )


def add_output(parser: argparse.ArgumentParser) -> None:
    """Add -o text|wide|json|yaml. cli_output.print_structured() does the last two."""
    parser.add_argument(
        "-o",
        "--output",
        choices=("text", "wide", "json", "yaml"),
        default="text",
        help="wide: as text, with more columns (default: text)",
    )


def servers_of(options: argparse.Namespace) -> str:
    """Return whom to ask: flag, environment, default."""
    flag: str | None = getattr(options, "servers", None)
    return flag or os.environ.get(SERVERS_VARIABLE) or DEFAULT_SERVERS


def tls_of(options: argparse.Namespace) -> Tls | None:
    """Return what to show: flag, environment, None. Raises UnknownOption unless all or none is given."""
    given = {option: _given(options, option) for option, _ in _TLS_FILES}
    if not any(given.values()):
        return None

    from quorumlog.client.errors import UnknownOption
    from quorumlog.client.tls import Tls

    for option, file in given.items():
        if not file:
            raise UnknownOption(
                f"--{option}: must be given too (or {_variable(option)}): TLS needs all three files"
            )
    ca, cert, key = map(str, given.values())
    return Tls(ca, cert, key)


def client_of(options: argparse.Namespace, **settings: Any) -> AsyncClient:
    """Return a client that is not connected yet."""
    from quorumlog.client.aio import AsyncClient

    settings = {"request_timeout_ms": REQUEST_TIMEOUT_MS, **settings}
    return AsyncClient(
        servers_of(options),
        client_id="quorumlog-cli",
        connect_timeout_ms=CONNECT_TIMEOUT_MS,
        tls=tls_of(options),
        require_leader=False,  # each command says itself what it cannot do without one
        **settings,
    )


def _given(options: argparse.Namespace, option: str) -> str | None:
    flag: str | None = getattr(options, option.replace("-", "_"), None)
    return flag or os.environ.get(_variable(option))


def _variable(option: str) -> str:
    return f"QUORUMLOG_{option.upper().replace('-', '_')}"


def run(coroutine: Coroutine[Any, Any, int]) -> int:
    """Run a command to its exit code, on uvloop where there is one."""
    import asyncio

    try:
        from uvloop import new_event_loop
    except ImportError:
        new_event_loop = asyncio.new_event_loop  # type: ignore[assignment]
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(coroutine)
