"""One connection to the HTTP port: uvicorn's protocol over h11, and the bounds that it lacks.

- There are REQUEST_S for a request's head, the first and any later one: who drips bytes is cut off.
- What a reader does not take is kept for WRITE_S.
- More than MAX_CONNECTIONS at once are closed as they come.

TLS's handshake is over when a connection gets here; raft/accepting.py bounds those that are under way.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Final

from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

MAX_CONNECTIONS: Final = 128  # probes, scrapers, and browsers with six each
MAX_HEAD_BYTES: Final = 16 * 1024
REQUEST_S: Final = 10.0
WRITE_S: Final = 30.0

CERTIFICATE: Final = "certificate"  # in a request's state: DER of the client's certificate, or None


class HttpConnection(H11Protocol):
    """See the module."""

    def __init__(self, config: Config, server_state: ServerState, write_s: float = WRITE_S) -> None:
        super().__init__(config, server_state, {}, asyncio.get_running_loop())
        self._write_s = write_s
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See asyncio.Protocol."""
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()
            return
        tls: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
        self.app_state = {CERTIFICATE: tls.getpeercert(binary_form=True) if tls is not None else None}
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        super().data_received(data)
        if self._is_answering:
            _cancel(self._head_timer)

    def on_response_complete(self) -> None:
        """See H11Protocol: the answer is written; the next request may be on its way."""
        super().on_response_complete()
        if not self._is_answering:
            self._await_head()

    def pause_writing(self) -> None:
        """See asyncio.Protocol."""
        super().pause_writing()
        self._write_timer = self._after(self._write_s, self._write_timer)

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        super().resume_writing()
        _cancel(self._write_timer)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        _cancel(self._head_timer)
        _cancel(self._write_timer)
        super().connection_lost(exc)

    @property
    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _await_head(self) -> None:
        self._head_timer = self._after(REQUEST_S, self._head_timer)

    def _after(self, delay_s: float, running: asyncio.TimerHandle | None) -> asyncio.TimerHandle:
        _cancel(running)
        return self.loop.call_later(delay_s, self.transport.abort)


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
