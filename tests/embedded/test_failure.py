"""A disk that fails under an embedded log: it stops for good, says so to everybody, and ends no process."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import threading
from pathlib import Path

import pytest

import quorumlog
from quorumlog.client import LogFailed
from quorumlog.raft.errors import Stopping
from quorumlog.storage.files import OsFiles
from quorumlog.storage.log import Log, LogIdentity
from tests.embedded.conftest import Open
from tests.embedded.test_log import values


class FailingSync:
    """os.fdatasync, which fails once when it is told to: the next one would say that all is well."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._real = os.fdatasync
        self.fails = False
        self.going_on = threading.Event()  # clear: whoever syncs waits
        self.going_on.set()
        self.begun = threading.Event()
        self.failed = 0
        monkeypatch.setattr(os, "fdatasync", self)

    def __call__(self, descriptor: int) -> None:
        self.begun.set()
        assert self.going_on.wait(60)
        if self.fails:
            self.fails = False
            self.failed += 1
            raise OSError(errno.EIO, "Input/output error")
        self._real(descriptor)


@pytest.fixture
def sync(monkeypatch: pytest.MonkeyPatch) -> FailingSync:
    return FailingSync(monkeypatch)


async def test_a_failed_sync_ends_everything_until_it_is_opened_again(
    open_log: Open, path: Path, sync: FailingSync, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_log(path) as log:
        await log.ensure_topic("orders")
        producer = log.producer()
        assert (await producer.send("orders", b"before")).offset == 0
        following = log.consumer("orders", start="latest")
        assert await following.getmany() == []
        waiting = asyncio.ensure_future(following.getone())

        sync.fails = True
        caplog.set_level(logging.CRITICAL)
        with pytest.raises(LogFailed, match="Input/output error") as failed:
            await producer.send("orders", b"lost or not")
        assert (failed.value.outcome_unknown, failed.value.retriable) == (True, False)
        assert "stopping at once" in caplog.text

        with pytest.raises(LogFailed):
            await waiting
        with pytest.raises(LogFailed):
            await producer.send("orders", b"after")
        with pytest.raises(LogFailed):
            await log.producer().send("orders", b"after")
        with pytest.raises(LogFailed):
            await log.list_topics()
        with pytest.raises(LogFailed):
            await values(log)
    assert sync.failed == 1
    async with open_log(path) as log:
        there = await values(log)
        assert there in ([b"before"], [b"before", b"lost or not"])
        async with log.producer() as producer:
            assert (await producer.send("orders", b"again")).offset == len(there)


async def test_many_on_their_way_are_told_too(open_log: Open, path: Path, sync: FailingSync) -> None:
    async with open_log(path) as log:
        await log.ensure_topic("orders")
        producer = log.producer()
        await producer.send("orders", b"first")
        sync.fails = True
        sending = (producer.send("orders", b"%d" % number) for number in range(20))
        outcomes = await asyncio.gather(*sending, return_exceptions=True)
        assert {type(each) for each in outcomes} == {LogFailed}


async def test_nothing_is_done_any_more_by_an_engine_that_has_failed(path: Path, sync: FailingSync) -> None:
    async with quorumlog.open_async(path) as log:
        await log.ensure_topic("orders")
        engine = log._node._parts.engine  # type: ignore[union-attr]
        log_identity = engine.config.cluster_id
        sync.fails = True
        with pytest.raises(LogFailed):
            await log.producer().send("orders", b"lost or not")
        durable, done = engine.log.durable_index, list[str]()
        engine._guarded(lambda: done.append("a tick, a message, the end of another sync"))
        engine._tick()
        assert (engine.log.durable_index, done) == (durable, [])
        with pytest.raises(Stopping, match="has failed"):
            await engine.read_index(1.0)
    assert not Log.open(path / "group-0", LogIdentity(log_identity, 0), OsFiles()).recovery.is_clean


async def test_closing_ends_though_the_disk_fails_amid_it(path: Path, sync: FailingSync) -> None:
    log = quorumlog.open_async(path)
    await log.connect()
    sync.going_on.clear()
    sync.begun.clear()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await log.create_topic("orders")
    await asyncio.to_thread(sync.begun.wait)
    closing = asyncio.ensure_future(log.close())
    await asyncio.sleep(0)
    sync.fails = True
    sync.going_on.set()
    with pytest.raises(LogFailed, match="while it was closed"):
        await closing
    async with quorumlog.open_async(path):
        pass


async def test_closing_that_was_given_up_goes_on(path: Path, sync: FailingSync) -> None:
    log = quorumlog.open_async(path)
    await log.connect()
    sync.going_on.clear()
    sync.begun.clear()
    creating = asyncio.ensure_future(log.create_topic("orders"))
    await asyncio.to_thread(sync.begun.wait)
    creating.cancel()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await log.close()
    sync.going_on.set()
    await log.close()
    async with quorumlog.open_async(path):  # it was let go of
        pass


async def test_a_last_sync_that_fails_is_told_where_acknowledgements_rest_on_it(
    open_log: Open, path: Path, sync: FailingSync
) -> None:
    async def session() -> None:
        async with open_log(path) as log:
            await log.set_sync_policy("os")
            await log.ensure_topic("orders")
            async with log.producer() as producer:
                assert (await producer.send("orders", b"value")).sync_policy == "os"
            sync.fails = True

    with pytest.raises(LogFailed, match="while it was closed"):
        await session()
