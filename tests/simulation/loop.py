"""An asyncio loop in simulated time: real coroutines, tasks, timeouts and protocols run on it unchanged.

Each process has its own, so that killing the process ends everything that it had under way, and pausing it
holds everything back. Only what quorumlog uses is there; whatever else is asked for raises
NotImplementedError.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager, suppress
from typing import Any

from tests.simulation.events import Events, Handle, get_running, set_running


class SimulatedLoop(asyncio.AbstractEventLoop):
    """The loop of one process, and the owner of its events.

    - Tasks are kept: those of a dead process are closed, not forgotten, so that nothing warns of them.
    """

    def __init__(self, queue: Events) -> None:
        self.dead = False
        self.paused_until = 0.0
        self.backlog: deque[Handle] = deque()
        self._queue = queue
        self._tasks: dict[asyncio.Task[Any], None] = {}

    # What asyncio calls

    def time(self) -> float:
        return self._queue.now

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return not self.dead

    def is_closed(self) -> bool:
        return self.dead

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Any = None) -> Any:
        return self._queue.at(self._queue.now, self, callback, *args)

    call_soon_threadsafe = call_soon

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> Any:
        return self._queue.at(self._queue.now + delay, self, callback, *args)

    def call_at(self, when: float, callback: Callable[..., object], *args: Any, context: Any = None) -> Any:
        return self._queue.at(max(when, self._queue.now), self, callback, *args)

    def _timer_handle_cancelled(self, handle: Handle) -> None:
        pass

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self)
        self._tasks[task] = None
        task.add_done_callback(self._forget)
        return task

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:
        """Work in another thread: it happens a moment later."""
        done = self.create_future()

        def work() -> None:
            if done.cancelled():
                return
            try:
                done.set_result(func(*args))
            except Exception as error:  # noqa: BLE001 (whatever it is, the caller gets it)
                done.set_exception(error)

        self.call_later(0.0002, work)
        return done

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Told of exceptions that nobody asked for, as those of calls whose caller has hung up."""

    # What the simulation calls

    def execute(self, callback: Callable[..., object], args: tuple[Any, ...]) -> None:
        """See Owner."""
        callback(*args)

    @contextmanager
    def running(self) -> Generator[None]:
        """Be the running loop, for what is called from outside of its events."""
        before = get_running()
        set_running(self)
        try:
            yield
        finally:
            set_running(before)

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Start a task from outside; what it raises ends the run."""
        with self.running():
            task = self.create_task(work)
        task.add_done_callback(_raise_unexpected)
        return task

    def die(self) -> None:
        """End everything: no event happens any more, and no task is left waiting."""
        self.dead = True
        tasks, self._tasks = self._tasks, {}
        with self.running():
            for task in tasks:
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                coroutine = task.get_coro()
                assert coroutine is not None
                with suppress(RuntimeError, ValueError):  # what runs now dies with this event
                    coroutine.close()

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)


def _raise_unexpected(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        raise error
