"""Readers in other threads, on real files, while the log appends, rolls, truncates and drops."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from quorumlog.storage.errors import OutOfLog
from quorumlog.storage.log import Log, LogOptions
from tests.storage.model import IDENTITY, fill, payload_of, state_of, view_of

OPTIONS = LogOptions(segment_bytes=32 * 1024, segment_entries=50, reserve_bytes=0, open_segments=2)


def run_beside(readers: list[Callable[[], None]], work: Callable[[], None]) -> None:
    """Run `work` here while each reader is called again and again in a thread of its own."""
    done = threading.Event()
    ready = threading.Barrier(len(readers) + 1)

    def repeat(read: Callable[[], None]) -> int:
        ready.wait()
        rounds = 0
        while not done.is_set() or not rounds:
            read()
            rounds += 1
        return rounds

    with ThreadPoolExecutor(len(readers)) as pool:
        futures = [pool.submit(repeat, read) for read in readers]
        try:
            ready.wait()
            work()
        finally:
            done.set()
        assert all(future.result() > 0 for future in futures)


def check_entry(log: Log, index: int, size: int) -> None:
    frame = log.read(index)
    assert frame.index == index
    assert frame.payload() == payload_of(index, size)


def test_reading_while_appending_rolling_and_syncing(tmp_path: Path) -> None:
    log = Log.open(tmp_path, IDENTITY, options=OPTIONS)
    fill(log, 1, 600)

    def newest() -> None:
        check_entry(log, log.last_index, 600)

    def all_from_the_first() -> None:
        index, last = 1, log.last_index
        while index <= last:
            data, count = log.read_raw(index, 5000)
            assert len(data) == count * 648
            assert log.term_at(index) == 1
            index += count

    def work() -> None:
        with ThreadPoolExecutor(1) as worker:
            for _ in range(150):
                fill(log, 3, 600)
                ticket = log.begin_sync()
                run = worker.submit(ticket.run)
                if log.wants_next:
                    worker.submit(log.prepare_next)
                fill(log, 1, 600)
                run.result()
                log.finish_sync(ticket)

    run_beside([newest, all_from_the_first], work)
    assert log.last_index == 601
    assert log.damage == []
    assert len(log.bases) > 10
    log.close()


def test_reading_while_truncating_says_out_of_log_and_never_damage(tmp_path: Path) -> None:
    log = Log.open(tmp_path, IDENTITY, options=OPTIONS)
    fill(log, 60, 300)

    def tail() -> None:
        index = log.last_index
        try:
            check_entry(log, index, 300)
            log.read_raw(index, 2000)
        except OutOfLog:
            assert index > 30

    def work() -> None:
        with ThreadPoolExecutor(1) as worker:
            for term in range(2, 120):
                fill(log, 30, 300, term=term)
                ticket = log.begin_sync()
                run = worker.submit(ticket.run)
                log.truncate_from(40 + term % 30)
                run.result()
                assert log.finish_sync(ticket) <= log.last_index

    run_beside([tail, tail], work)
    assert log.damage == []
    log.close()


def test_reading_while_sealing_and_dropping(tmp_path: Path) -> None:
    log = Log.open(tmp_path, IDENTITY, options=OPTIONS)
    frames = fill(log, 60, 300)

    def oldest() -> None:
        index = log.first_index
        try:
            check_entry(log, index, 300)
            log.read_body(index, 4096 + 48, 300)
        except OutOfLog:
            assert log.first_index > index

    def work() -> None:
        with ThreadPoolExecutor(1) as worker:
            for _ in range(30):
                frames.extend(fill(log, 30, 300))
                log.sync()
                base, following = log.bases[:2]
                view = view_of(base, frames[base - 1 : following - 1])
                worker.submit(log.seal, base, view, state_of(following)).result()
                if len(log.bases) > 2:
                    log.drop_before(following)

    run_beside([oldest, oldest], work)
    assert log.damage == []
    log.close()
