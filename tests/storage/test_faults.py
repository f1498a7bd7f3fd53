"""A full disk leaves a log that works after; a failed sync ends it."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable

import pytest

from quorumlog.storage.errors import NoSpace, SyncFailed
from quorumlog.storage.log import Log, LogOptions
from tests.storage.model import OPTIONS, Model, contents, fill, next_frame, open_log, same, state_of, view_of
from tests.support.simulated_disk import SimulatedDisk


def work(model: Model) -> list[Callable[[], object]]:
    """Steps of a log's life, each of which may find the disk full."""
    return [
        lambda: model.append(3000),
        lambda: model.append(9000),
        lambda: model.append(9000, 4000),
        model.sync,
        lambda: model.log.prepare_next(),
        lambda: model.append(9000),
        lambda: model.log.ensure_space(20_000, True),
        lambda: model.append(15_000),
        lambda: model.log.ensure_space(90_000, False),
        lambda: model.log.ensure_space(30_000, True, count=3),
        lambda: model.append(20_000, 3, 3, rolls=False),
        lambda: model.append(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, rolls=False),
        model.sync,
        model.seal,
        lambda: model.drop(1),
        lambda: model.append(50),
    ]


@pytest.mark.parametrize("operation", ["pwritev", "allocate", "rename", "create"])
def test_no_space_at_any_call_changes_nothing_and_passes(operation: str) -> None:
    """Row 13."""
    for after in range(40):
        disk = SimulatedDisk()
        model = Model(disk)
        disk.fail(operation, errno.ENOSPC, after=after)
        failed = 0
        for step in work(model):
            before = same(contents(model.log))
            first = model.log.first_index
            try:
                step()
            except NoSpace:
                failed += 1
                assert same(contents(model.log)) == before
                assert model.log.first_index == first
                model.maybe = model.maybe[: model.log.last_index]
                step()  # there is room again
            except SyncFailed:
                # Where the watermark could not be written: a sync that failed has failed, whatever it was.
                assert operation == "pwritev"
                break
            else:
                model.check()
        else:
            model.check()
            assert failed == (after < disk.calls[operation] and failed)
            model.check_recovered(disk.after_power_loss(random.Random(after)))


def test_short_writes_are_continued() -> None:
    """Row 15."""
    disk = SimulatedDisk(short_writes=random.Random(1))
    model = Model(disk)
    for step in work(model):
        step()
    model.check()
    model.check_recovered(disk.after_kill())


def test_very_many_parts_are_written_in_several_calls() -> None:
    disk = SimulatedDisk()
    log = open_log(disk, LogOptions(reserve_bytes=0))
    frame = next_frame(log, b"")
    parts = [bytes([number % 256]) for number in range(3000)]
    frame = type(frame).build(1, 1, 0x10, parts, frame.flags, log.last_chain)
    log.append([frame])
    assert log.read(1).payload() == b"".join(parts)


def test_a_write_that_takes_nothing_is_fatal_not_a_loop() -> None:
    disk = SimulatedDisk()
    log = open_log(disk)
    fill(log, 1)
    file = log._active.store.file
    log._active.store.file = _Idle(file)  # type: ignore[assignment]
    with pytest.raises(SyncFailed, match="took nothing"):
        fill(log, 1)


class _Idle:
    def __init__(self, file: object) -> None:
        self._file = file

    def pwritev(self, buffers: object, position: int) -> int:
        return 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._file, name)


def test_a_full_disk_refuses_and_goes_on_when_there_is_room() -> None:
    disk = SimulatedDisk()
    log = open_log(disk, LogOptions(segment_bytes=16 * 1024, segment_entries=6, reserve_bytes=4096))
    kept = fill(log, 3, 3000)
    log.sync()
    disk.capacity = disk.used() + 6000
    with pytest.raises(NoSpace):
        log.ensure_space(30_000, False)
    with pytest.raises(NoSpace):
        log.prepare_next()
    with pytest.raises(NoSpace):
        log.ensure_space(9000, True)
    with pytest.raises(NoSpace):
        log.append([next_frame(log, bytes(30_000), rolls=False)])
    with pytest.raises(NoSpace):
        log.append([next_frame(log, bytes(9000), rolls=True)])
    assert same(contents(log)) == same(kept)
    # A no-op or a small entry may use what is kept in reserve.
    log.ensure_space(0, True, urgent=True)
    with pytest.raises(NoSpace):
        log.ensure_space(3000, True)
    disk.capacity *= 10
    log.ensure_space(30_000, False)
    log.ensure_space(9000, True)
    kept += fill(log, 5, 9000)
    assert same(contents(log)) == same(kept)


def test_an_append_over_two_segments_is_undone_as_a_whole() -> None:
    disk = SimulatedDisk()
    log = open_log(disk)
    kept = fill(log, 2, 300)
    first = next_frame(log, b"a", rolls=False)
    second = type(first).build(4, 1, 0x10, [b"b"], 1, first.chain)
    disk.fail("rename", errno.ENOSPC, name=".log")
    with pytest.raises(NoSpace):
        log.append([first, second])
    assert same(contents(log)) == same(kept)
    log.append([first, second])
    assert same(contents(log)) == same([*kept, first, second])
    assert log.bases == (1, 4)


def test_opening_on_a_full_disk_reads_and_refuses_appends() -> None:
    disk = SimulatedDisk()
    model = Model(disk)
    model.append(300)
    model.log.close()
    disk.capacity = disk.used()
    log = open_log(disk)
    assert same(contents(log)) == same(model.maybe)
    with pytest.raises(NoSpace):
        fill(log, 1)
    disk.capacity *= 100
    fill(log, 20, 4000)
    log.close()


def test_a_new_log_on_a_full_disk_is_no_space() -> None:
    disk = SimulatedDisk(capacity=100)
    with pytest.raises(NoSpace):
        open_log(disk)
    disk.capacity = 1 << 30
    open_log(disk)


def test_an_input_output_error_at_opening_is_fatal_and_lets_go_of_the_lock() -> None:
    disk = SimulatedDisk()
    disk.fail("fsync", errno.EIO)
    with pytest.raises(SyncFailed):
        open_log(disk)
    assert not disk.locks


@pytest.mark.parametrize("operation", ["fdatasync", "fsync", "sync_directory"])
def test_a_sync_error_is_fatal_and_never_retried(operation: str) -> None:
    """Row 14."""
    met = 0
    for after in range(30):
        disk = SimulatedDisk()
        model = Model(disk)
        disk.fail(operation, errno.EIO, after=after)
        try:
            for step in work(model):
                step()
            model.log.close()
        except SyncFailed:
            met += 1
            assert_dead(model.log, disk)
            model.check_recovered(disk.after_power_loss(random.Random(after)))
        # And where the error is that of a full disk, a sync that failed has failed all the same.
    assert met > 3


def assert_dead(log: Log, disk: SimulatedDisk) -> None:
    before = disk.steps
    if not log._is_closed:
        for refused in (
            lambda: log.append([next_frame(log, b"x")]),
            log.begin_sync,
            log.sync,
            lambda: log.truncate_from(log.last_index),
            lambda: log.ensure_space(1, False),
        ):
            with pytest.raises(SyncFailed):
                refused()
    log.close()
    assert disk.steps == before
    assert not disk.locks


def test_a_failed_ticket_stops_appends_even_before_it_is_taken_back() -> None:
    disk = SimulatedDisk()
    log = open_log(disk)
    fill(log, 1)
    ticket = log.begin_sync()
    disk.fail("fdatasync", errno.ENOSPC)
    with pytest.raises(SyncFailed):
        ticket.run()
    with pytest.raises(SyncFailed):
        fill(log, 1)
    with pytest.raises(SyncFailed):
        log.finish_sync(ticket)


@pytest.mark.parametrize("error", [errno.EIO, errno.EROFS])
@pytest.mark.parametrize("operation", ["pwritev", "allocate", "truncate", "rename", "unlink", "create"])
def test_any_other_error_of_a_change_is_fatal(operation: str, error: int) -> None:
    met = 0
    for after in range(12):
        disk = SimulatedDisk()
        model = Model(disk)
        disk.fail(operation, error, after=after)
        try:
            for step in work(model):
                step()
            model.truncate(model.log.last_index)
        except SyncFailed:
            met += 1
            model.check_recovered(disk.after_kill())
    assert met


def test_a_seal_that_found_no_room_is_done_again() -> None:
    disk = SimulatedDisk()
    model = Model(disk)
    model.append(10)
    model.append(10, rolls=True)
    view = view_of(1, model.maybe[:1])
    for name in ("view", "state"):
        disk.fail("pwritev", errno.EDQUOT, name=name)
        with pytest.raises(NoSpace):
            model.log.seal(1, view, state_of(2))
        assert model.log.load_state() == (1, None)
    model.log.seal(1, view.to_bytes(2), state_of(2))
    assert model.log.has_view(1)
    assert not model.log.has_view(2)
    assert model.log.load_state() == (2, state_of(2))


def test_what_cannot_be_undone_is_fatal() -> None:
    disk = SimulatedDisk()
    log = open_log(disk, OPTIONS)
    fill(log, 1)
    disk.fail("pwritev", errno.ENOSPC)
    disk.fail("truncate", errno.EIO)
    with pytest.raises(SyncFailed, match="undo"):
        fill(log, 1)
    with pytest.raises(SyncFailed):
        fill(log, 1)
