"""The event loop thread that the synchronous client runs on."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from quorumlog.client.errors import ClientClosed

_Result = TypeVar("_Result")

# Python shows a signal to the main thread only when that wakes up.
_LOOK_AGAIN_S = 0.5


class LoopThread:
    """One event loop in a daemon thread, shared by all synchronous clients of the process.

    Shared because grpc.aio serves a process best through one loop. It starts with the first client and
    stays: an idle loop costs nothing, and stopping it under a late callback costs a hang. A forked child
    has no such thread: create clients after forking.
    """

    _shared: LoopThread | None = None
    _lock = threading.Lock()

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="quorumlog-client", daemon=True)
        self._thread.start()

    @classmethod
    def shared(cls) -> LoopThread:
        """Return the thread of this process."""
        with cls._lock:
            if cls._shared is None or not cls._shared._thread.is_alive():
                cls._shared = cls()
            return cls._shared

    def run(self, coroutine: Coroutine[Any, Any, _Result]) -> _Result:
        """Run a coroutine there and return its result. Ctrl-C cancels it and raises here."""
        if threading.current_thread() is self._thread:
            coroutine.close()
            raise RuntimeError("the synchronous client was called from its own event loop: use AsyncClient")
        future = self.begin(coroutine)
        try:
            return _waited_for(future)
        except concurrent.futures.CancelledError:
            raise ClientClosed("closed by another thread") from None
        except BaseException:
            # KeyboardInterrupt in this thread, or the coroutine's own error, when it has ended already.
            future.cancel()
            raise

    def begin(self, coroutine: Coroutine[Any, Any, _Result]) -> concurrent.futures.Future[_Result]:
        """Run a coroutine there, without waiting for it."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def stop(self) -> None:
        """End the thread; not for the shared one, which others may need."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            # Whoever waits for one of these in another thread is told.
            tasks = asyncio.all_tasks(self._loop)
            for task in tasks:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            self._loop.close()


def _waited_for(future: concurrent.futures.Future[_Result]) -> _Result:
    """Return the result; wake up now and then, for a Ctrl-C that another thread was interrupted by."""
    while True:
        try:
            return future.result(_LOOK_AGAIN_S)
        except TimeoutError:
            if future.done():  # then it is the coroutine's own, or just too late
                return future.result()
