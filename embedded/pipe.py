"""Messages from one end of a call to the other, within one event loop."""

from __future__ import annotations

from collections import deque

from quorumlog.node.signals import Signal


class PipeClosed(Exception):
    """Nobody reads any more."""


class Pipe:
    """One direction of a stream.

    - At most one message waits: a writer waits until the one before was taken.
    - What was written before it was closed can still be read.
    """

    def __init__(self) -> None:
        self._messages: deque[bytes] = deque()
        self._changed = Signal()
        self._closed = False

    async def write(self, message: bytes) -> None:
        """Give a message. Raises PipeClosed."""
        while self._messages and not self._closed:
            await self._changed.wait(self._changed.count)
        if self._closed:
            raise PipeClosed
        self._messages.append(message)
        self._changed.fire()

    async def read(self) -> bytes | None:
        """Return the next message, or None behind the last one."""
        while not self._messages:
            if self._closed:
                return None
            await self._changed.wait(self._changed.count)
        message = self._messages.popleft()
        self._changed.fire()
        return message

    def close(self) -> None:
        """No more is written."""
        self._closed = True
        self._changed.fire()
