"""The HTTP port: uvicorn's protocol on the node's own loop, and nothing else of uvicorn.

Its Server would take the process's signals, wake up ten times a second and end by polling; a protocol needs
none of that. Connections are accepted as those of peers are, with the bounds on handshakes that are there.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING

from uvicorn.config import Config
from uvicorn.server import ServerState

from quorumlog.node.http_connection import MAX_HEAD_BYTES, REQUEST_S, HttpConnection
from quorumlog.node.values import Address
from quorumlog.raft.accepting import Acceptor

if TYPE_CHECKING:
    from starlette.types import ASGIApp


class HttpServer:
    """Serves one application; started once and stopped once."""

    def __init__(self, listen: Address, app: ASGIApp, tls: Callable[[], ssl.SSLContext] | None) -> None:
        """`tls` is asked for each connection; None: plain text."""
        self._listen = listen
        config = Config(
            app,
            interface="asgi3",
            lifespan="off",
            ws="none",
            access_log=False,
            log_config=None,
            log_level="error",  # what strangers send is not our news
            proxy_headers=False,
            server_header=False,
            date_header=False,
            h11_max_incomplete_event_size=MAX_HEAD_BYTES,
            timeout_keep_alive=int(REQUEST_S),
        )
        config.load()
        self._state = ServerState()
        self._acceptor = Acceptor(lambda: HttpConnection(config, self._state), tls)

    async def start(self) -> Address:
        """Listen; return the address, with the port that was chosen. Raises OSError."""
        try:
            address = await self._acceptor.start(self._listen.host, self._listen.port)
        except OSError as error:
            raise OSError(f"http.listen: {self._listen} cannot be bound: {error}") from error
        return self._listen.with_port(int(address.rpartition(":")[2]))

    async def stop(self, grace_s: float) -> None:
        """Accept nobody any more, let answers under way finish within the grace, close everything."""
        await self._acceptor.stop()
        for connection in list(self._state.connections):
            connection.shutdown()
        if self._state.tasks:
            await asyncio.wait(self._state.tasks, timeout=grace_s)
        for connection in list(self._state.connections):
            connection.transport.abort()
