"""Accepting connections from whoever knocks, without letting strangers cost more than a fixed amount.

What has been accepted and has not finished its TLS handshake is a task here; MAX_HANDSHAKES of them may be
under way, each for HANDSHAKE_TIMEOUT_S, and one more ends the oldest. A member's handshake takes a few
milliseconds, so it gets through however many others come and go. asyncio's own server has neither bound: a
thousand connections that say nothing would each hold a descriptor for a minute.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from typing import Final

logger = logging.getLogger(__name__)

MAX_HANDSHAKES: Final = 64
HANDSHAKE_TIMEOUT_S: Final = 3.0
BACKLOG: Final = 128  # that the kernel holds while the loop is busy
# No descriptors or memory: those under way end in a moment. Trying at once would only burn the processor.
_PAUSE_S: Final = 0.1


class Acceptor:
    """Listens at one address and hands each connection to a protocol of its own, after its TLS handshake."""

    def __init__(
        self, make: Callable[[], asyncio.BaseProtocol], tls: Callable[[], ssl.SSLContext] | None
    ) -> None:
        """`tls` is asked for each connection: a certificate may have been replaced."""
        self._make = make
        self._tls = tls
        self._sockets: list[socket.socket] = []
        self._loops: list[asyncio.Task[None]] = []
        self._handshakes: dict[asyncio.Task[None], None] = {}  # in the order of their beginning

    async def start(self, host: str, port: int) -> str:
        """Listen; return host:port of the first address, in which a port 0 is the one that was chosen."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        try:
            for family, kind, protocol, _, address in dict.fromkeys(found):
                self._sockets.append(_listening(family, kind, protocol, address))
        except BaseException:
            self._close_sockets()
            raise
        for each in self._sockets:
            self._loops.append(loop.create_task(self._accept(each)))
        name = self._sockets[0].getsockname()
        return f"{name[0]}:{name[1]}"

    async def stop(self) -> None:
        """Stop listening and end the handshakes under way; connections that were handed over stay."""
        tasks = [*self._loops, *self._handshakes]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._close_sockets()

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, _ = await loop.sock_accept(listening)
            except OSError as error:
                logger.warning("a connection cannot be accepted: %s", error)
                await asyncio.sleep(_PAUSE_S)
                continue
            self._begin(accepted)
            await asyncio.sleep(0)  # the next one may be there already; others have work to do, too

    def _begin(self, accepted: socket.socket) -> None:
        if len(self._handshakes) >= MAX_HANDSHAKES:
            oldest = next(iter(self._handshakes))
            del self._handshakes[oldest]
            oldest.cancel()
        task = asyncio.get_running_loop().create_task(self._hand_over(accepted))
        self._handshakes[task] = None
        task.add_done_callback(lambda done: self._ended(done, accepted))

    async def _hand_over(self, accepted: socket.socket) -> None:
        timeout_s = HANDSHAKE_TIMEOUT_S if self._tls is not None else None
        await asyncio.get_running_loop().connect_accepted_socket(
            self._make,
            accepted,
            ssl=self._tls() if self._tls is not None else None,
            ssl_handshake_timeout=timeout_s,
        )

    def _ended(self, task: asyncio.Task[None], accepted: socket.socket) -> None:
        self._handshakes.pop(task, None)
        if task.cancelled():
            accepted.close()
        elif (error := task.exception()) is not None:
            accepted.close()
            # Whatever a stranger can cause is an OSError, as ssl.SSLError is.
            level = logging.DEBUG if isinstance(error, OSError) else logging.ERROR
            logger.log(level, "a connection ended before it said who it is: %s", error)

    def _close_sockets(self) -> None:
        for each in self._sockets:
            each.close()


def _listening(family: int, kind: int, protocol: int, address: object) -> socket.socket:
    made = socket.socket(family, kind, protocol)
    try:
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # 0.0.0.0 has a socket of its own
        made.bind(address)  # type: ignore[arg-type]  # as getaddrinfo gave it
        made.listen(BACKLOG)
    except BaseException:
        made.close()
        raise
    return made
