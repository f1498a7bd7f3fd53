"""Simulated time: what is to happen, in order.

Every event belongs to an owner (a node's life, a client, or nobody): the owner may be dead, and then its
events do not happen, or paused, and then they happen later, in their order.
"""

from __future__ import annotations

import heapq
from asyncio import events as asyncio_events
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol
from zlib import crc32

set_running: Callable[[Any], None] = asyncio_events._set_running_loop
get_running: Callable[[], Any] = asyncio_events._get_running_loop


class Owner(Protocol):
    """Whose events they are."""

    dead: bool
    paused_until: float
    backlog: deque[Handle]  # what came while it was paused

    def execute(self, callback: Callable[..., object], args: tuple[Any, ...]) -> None:
        """Run an event; the owner is the running loop then."""


class Handle:
    """An event that may be cancelled; asyncio asks for just that."""

    __slots__ = ("args", "callback", "moment")

    def __init__(self, moment: float, callback: Callable[..., object], args: tuple[Any, ...]) -> None:
        self.moment = moment
        self.callback: Callable[..., object] | None = callback
        self.args = args

    def cancel(self) -> None:
        self.callback = None
        self.args = ()

    def cancelled(self) -> bool:
        return self.callback is None

    def when(self) -> float:
        return self.moment


class Running:
    """Whose events are happening right now in this process; None: nobody's."""

    events: Events | None = None


class Events:
    """The queue. `digest` sums up what has happened: two runs of one seed end with the same."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.count = 0
        self.digest = 0
        self._queue: list[tuple[float, int, Owner | None, Handle]] = []
        self._order = 0
        self._stopped = False

    def clock(self) -> float:
        return self.now

    def after(self, delay: float, callback: Callable[..., object], *args: Any) -> Handle:
        return self.at(self.now + delay, None, callback, *args)

    def at(self, moment: float, owner: Owner | None, callback: Callable[..., object], *args: Any) -> Handle:
        handle = Handle(moment, callback, args)
        self._order += 1
        heapq.heappush(self._queue, (moment, self._order, owner, handle))
        return handle

    def note(self, text: str) -> None:
        """Let the digest depend on something. (Python's hash of text differs from process to process.)"""
        self.digest = hash((self.digest, crc32(text.encode())))

    def stop(self) -> None:
        """Nothing happens any more."""
        self._stopped = True

    def go_on(self) -> None:
        """After stop: it was nothing."""
        self._stopped = False

    def run_until(self, moment: float) -> None:
        queue, before = self._queue, Running.events
        Running.events = self
        try:
            while queue and queue[0][0] <= moment and not self._stopped:
                self._one(*heapq.heappop(queue))
        finally:
            Running.events = before
            set_running(None)
        self.now = max(self.now, moment)

    def _one(self, moment: float, order: int, owner: Owner | None, handle: Handle) -> None:
        callback = handle.callback
        if callback is None:
            return
        self.now = moment
        if owner is not None:
            if owner.dead:
                return
            if owner.paused_until > moment or owner.backlog:
                self._put_off(owner, handle)
                return
        self.count += 1
        self.digest = hash((self.digest, moment, order))
        if owner is None:
            callback(*handle.args)
            return
        self._run(owner, handle)

    def _run(self, owner: Owner, handle: Handle) -> None:
        assert handle.callback is not None
        if get_running() is not owner:
            set_running(owner)
        owner.execute(handle.callback, handle.args)

    def _put_off(self, owner: Owner, handle: Handle) -> None:
        """Its owner sleeps: it happens when he wakes up, after what came before it."""
        if not owner.backlog:
            self.at(owner.paused_until, None, self._wake, owner)
        owner.backlog.append(handle)

    def _wake(self, owner: Owner) -> None:
        while owner.backlog and not owner.dead:
            if owner.paused_until > self.now:  # it sleeps on
                self.at(owner.paused_until, None, self._wake, owner)
                return
            handle = owner.backlog.popleft()
            if handle.callback is not None:
                self._run(owner, handle)
