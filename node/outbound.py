"""Answers that gRPC has and that are not known to be gone: a bound on what readers who do not read cost.

An answer counts from before it is read from the disk until its call is over or HTTP/2's flow control has
taken it. So the sum is bounded, whatever readers do:

- While little room is left, answers get smaller; without room they wait.
- A stream whose reader takes nothing for the write timeout is overdue. When the reader comes back it is told
  so and the stream ends (SLOW_READER); to end it earlier would not help, since gRPC keeps what it was given
  until the reader takes it, and tells nobody that it does.
- When others wait for room, or too many answers are overdue, the connection of the one that has waited
  longest is cut: there is no other way to make gRPC let go.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Callable
from typing import Final
from urllib.parse import unquote

import grpc

from quorumlog.node.reasons import Reason, Refusal
from quorumlog.node.signals import Signal

logger = logging.getLogger(__name__)

BYTES: Final = 64 * 1024 * 1024
SHARE_BYTES_MIN: Final = 16 * 1024
# One answer may take this part of the room that is left: many slow readers get smaller messages.
_SHARE: Final = 1 / 8
# Overdue answers that are left alone: an application may be slow without harm.
_OVERDUE_MAX: Final = 64
# Whoever takes an answer does so in milliseconds: nobody who reads is cut, even when room is short.
_SHORT_S: Final = 1.0
_SWEEP_S: Final = 1.0
_LOOK_AGAIN_S: Final = 0.1


class Held:
    """One answer."""

    __slots__ = ("_context", "_outbound", "is_cut", "since_s", "size")

    def __init__(self, outbound: Outbound, size: int, since_s: float) -> None:
        self._outbound = outbound
        self._context: grpc.aio.ServicerContext[bytes, bytes] | None = None
        self.size = size
        self.since_s = since_s
        self.is_cut = False

    @property
    def peer(self) -> str:
        """Where it goes; empty while it is not given."""
        return self._context.peer() if self._context is not None else ""

    def going_to(self, context: grpc.aio.ServicerContext[bytes, bytes], now_s: float) -> None:
        """Note whose connection holds it from now on."""
        self._context = context
        self.since_s = now_s

    def give(self, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
        """The one answer of a call: it counts until the call is over, from whichever side."""
        self._context = context
        context.add_done_callback(self._over)  # type: ignore[arg-type]  # called with the context

    def release(self) -> None:
        """It is gone. May be said again."""
        self._context = None
        self._outbound.released(self)

    def _over(self, _: object) -> None:
        self.release()


class Outbound:
    """All answers of one node. Called on the event loop."""

    def __init__(self, write_timeout_s: float, cut: Callable[[str], None]) -> None:
        """`cut` ends the connection of a gRPC peer, such as ipv4:127.0.0.1:50000."""
        self.write_timeout_s = write_timeout_s
        self.held_bytes = 0
        self._cut = cut
        self._held: dict[Held, None] = {}  # the oldest first
        self._released = Signal()

    def share(self) -> int:
        """Return how large another answer should be at most."""
        return max(SHARE_BYTES_MIN, int((BYTES - self.held_bytes) * _SHARE))

    async def reserve(self, size: int) -> Held:
        """Return when there is room for so many bytes. Raises Refusal (BUSY) when there is none in time."""
        if not self._has_room(size):
            await self._room(size)
        return self.hold(size)

    def _has_room(self, size: int) -> bool:
        return not self.held_bytes or self.held_bytes + size <= BYTES

    async def _room(self, size: int) -> None:
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + self.write_timeout_s
        while not self._has_room(size):
            if loop.time() >= deadline_s:
                raise Refusal(Reason.BUSY, f"{self.held_bytes} bytes of answers wait for their readers")
            self._cut_oldest(loop.time() - _SHORT_S)
            await self._released.wait(self._released.count, _LOOK_AGAIN_S)

    def hold(self, size: int) -> Held:
        """Count an answer that is there already."""
        held = Held(self, size, asyncio.get_running_loop().time())
        self._held[held] = None
        self.held_bytes += size
        return held

    def released(self, held: Held) -> None:
        """Held's side."""
        if held in self._held:
            del self._held[held]
            self.held_bytes -= held.size
            assert self.held_bytes >= 0, self.held_bytes
            self._released.fire()

    async def write(
        self, context: grpc.aio.ServicerContext[bytes, bytes], message: bytes, held: Held
    ) -> None:
        """Write to a stream. Raises Refusal (SLOW_READER) when it was not taken within the write timeout."""
        loop = asyncio.get_running_loop()
        held.going_to(context, loop.time())
        try:
            await context.write(message)
        finally:
            held.release()
        late_s = loop.time() - held.since_s
        if late_s > self.write_timeout_s:
            raise Refusal(Reason.SLOW_READER, f"nothing was read for {late_s:.0f} s; go on where you are")

    async def sweep(self) -> None:
        """Cut connections while too many answers are overdue. Runs until it is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_SWEEP_S)
            before_s = loop.time() - self.write_timeout_s
            overdue = sum(held.since_s <= before_s for held in self._held)
            for _ in range(overdue - _OVERDUE_MAX):
                self._cut_oldest(before_s)

    def _cut_oldest(self, before_s: float) -> None:
        for held in self._held:
            if held.since_s <= before_s and not held.is_cut and held.peer:
                held.is_cut = True
                logger.warning("%s does not read its answers: its connection is cut", held.peer)
                # Looking through all descriptors takes milliseconds: not on the loop.
                asyncio.get_running_loop().run_in_executor(None, self._cut, held.peer)
                return


def cut_connection(peer: str, port: int) -> None:
    """Shut down the socket on which this process, at `port`, talks with a gRPC peer.

    gRPC gives no way to a connection but through the descriptors of the process. A duplicate is looked at, so
    that a descriptor which is closed and used anew meanwhile is never mistaken; shutting down the duplicate
    shuts down the connection.
    """
    kind, _, address = unquote(peer).partition(":")
    host, _, peer_port = address.rpartition(":")
    if kind not in ("ipv4", "ipv6") or not peer_port.isdecimal():
        return
    wanted = host.strip("[]"), int(peer_port)
    try:
        descriptors = [int(name) for name in os.listdir("/proc/self/fd")]
    except OSError:
        logger.error("connections cannot be cut on this system: there is no /proc/self/fd")
        return
    for descriptor in descriptors:
        with contextlib.suppress(OSError):  # closed meanwhile, no socket, or not connected
            duplicate = os.dup(descriptor)
            try:
                if _cut(duplicate, wanted, port):
                    return
            finally:
                os.close(duplicate)


def _cut(descriptor: int, wanted: tuple[str, int], port: int) -> bool:
    """Shut the descriptor down if it is the connection; it stays open."""
    connection = socket.socket(fileno=descriptor)
    try:
        if connection.family not in (socket.AF_INET, socket.AF_INET6):
            return False
        host, peer_port = connection.getpeername()[:2]
        # An IPv4 peer of a socket for both families has an address that begins so.
        if (host.removeprefix("::ffff:"), peer_port) != wanted or connection.getsockname()[1] != port:
            return False
        connection.shutdown(socket.SHUT_RDWR)
        return True
    finally:
        connection.detach()
