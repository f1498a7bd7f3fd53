"""The event loop thread of the synchronous client."""

from __future__ import annotations

import asyncio
import threading

import pytest

from quorumlog.client import ClientClosed
from quorumlog.client.loop import LoopThread
from tests.support.waiting import UNIT_S


def test_whoever_waits_is_told_when_it_stops() -> None:
    thread, ended = LoopThread(), list[type[BaseException]]()
    waiting = threading.Event()

    async def for_ever() -> None:
        waiting.set()
        await asyncio.Event().wait()

    def wait() -> None:
        with pytest.raises(ClientClosed) as told:
            thread.run(for_ever())
        ended.append(told.type)

    waiter = threading.Thread(target=wait)
    waiter.start()
    assert waiting.wait(10 * UNIT_S)
    thread.stop()
    waiter.join(10 * UNIT_S)
    assert ended == [ClientClosed]
