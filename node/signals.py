"""Waiting for something to change, without polling.

A waiter notes `count`, looks at the state that interests it, and waits for the count to move on: nothing
that happens between looking and waiting is missed, because all of it is on one event loop.
"""

from __future__ import annotations

import asyncio


class Signal:
    """Fired when something changed; wakes everyone who waits, first come, first served."""

    def __init__(self) -> None:
        self.count = 0
        self._waiters: dict[asyncio.Future[None], None] = {}  # in the order in which they came

    @property
    def is_awaited(self) -> bool:
        """Does anybody wait now?"""
        return bool(self._waiters)

    def fire(self) -> None:
        """Wake all waiters."""
        self.count += 1
        if not self._waiters:
            return
        waiters, self._waiters = self._waiters, {}
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self, seen: int, timeout_s: float | None = None) -> bool:
        """Return True once `count` differs from `seen`, False when the time is up first."""
        if self.count != seen:
            return True
        waiter = asyncio.get_running_loop().create_future()
        self._waiters[waiter] = None
        try:
            if timeout_s is None:  # most wait so: a timeout that never ends is no small part of a wake-up
                await waiter
            else:
                async with asyncio.timeout(timeout_s):
                    await waiter
        except TimeoutError:
            return False
        finally:
            self._waiters.pop(waiter, None)
        return True
