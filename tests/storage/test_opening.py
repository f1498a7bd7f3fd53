"""Opening: what it costs, what it puts right, what it refuses."""

from __future__ import annotations

import pytest

from quorumlog.storage.errors import Damaged
from quorumlog.storage.log import Log
from tests.storage.model import GROUP, Model, contents, fill, open_log, same
from tests.support.simulated_disk import SimulatedDisk


def with_segments(count: int) -> SimulatedDisk:
    disk = SimulatedDisk()
    model = Model(disk)
    for _ in range(count):
        model.append(10, rolls=True)
    model.sync()
    model.seal()
    return disk


@pytest.mark.parametrize("clean", [True, False])
def test_opening_costs_the_same_however_many_segments_there_are(clean: bool) -> None:
    """Rows 20 and 73, counted in calls of the file system."""
    calls = []
    for count in (5, 200):
        disk = with_segments(count)
        if clean:
            disk = disk.after_kill()
            open_log(disk).close()
        disk = disk.copy()
        log = open_log(disk)
        log.load_state()
        assert log.recovery.is_clean == clean
        assert len(log.segments) == count
        calls.append(disk.calls)
    assert calls[0] == calls[1]
    assert sum(calls[0].values()) < 50


def test_a_clean_stop_is_believed_only_as_long_as_nothing_was_written_since() -> None:
    disk = SimulatedDisk()
    log = open_log(disk)
    frames = fill(log, 3)
    log.close()
    log = open_log(disk)
    assert log.recovery.is_clean
    frames += fill(log, 1)
    killed = disk.after_kill()
    log = open_log(killed)
    assert not log.recovery.is_clean
    assert same(contents(log)) == same(frames)


@pytest.mark.parametrize("spoil", ["no index", "bad index", "other end", "bad last frame"])
def test_a_clean_stop_whose_index_does_not_fit_is_scanned(spoil: str) -> None:
    disk = SimulatedDisk()
    log = open_log(disk)
    frames = fill(log, 3)
    log.close()
    index, store = GROUP / "log" / f"{1:020}.index", GROUP / "log" / f"{1:020}.log"
    if spoil == "no index":
        disk.unlink(index)
    elif spoil == "bad index":
        disk.flip(index, 50, 0)
    elif spoil == "other end":
        other = SimulatedDisk()
        log = open_log(other)
        fill(log, 4)
        log.close()
        disk.names[index] = other.names[index]
    else:
        disk.flip(store, log._active.store.end - frames[-1].size, 0)
    log = open_log(disk)
    assert not log.recovery.is_clean
    if spoil == "bad last frame":
        assert log.recovery.fenced[0].entry == 3
    else:
        assert same(contents(log)) == same(frames)


def test_a_closed_empty_log_is_believed() -> None:
    disk = SimulatedDisk()
    open_log(disk).close()
    assert open_log(disk).recovery.is_clean


def test_what_is_below_the_log_start_or_unfinished_is_removed_and_strangers_are_left() -> None:
    disk = with_segments(4)
    log = open_log(disk.after_kill())
    kept = {path: disk.names[path] for path in list(disk.names) if path.name.startswith(f"{1:020}")}
    log.drop_before(3)
    disk = log._directory.files  # type: ignore[assignment]
    disk.names.update(kept)
    for name in ("next.log.tmp", f"{9:020}.view.tmp", "notes.txt"):
        disk.open(GROUP / "log" / name, create=True)
    disk.open(GROUP / "log" / f"{9:020}.index", create=True)
    again = open_log(disk.copy())
    names = {path.name for path in again._directory.files.names}  # type: ignore[attr-defined]
    assert "notes.txt" in names
    assert not any(name.endswith(".tmp") or name[:20] in (f"{1:020}", f"{9:020}") for name in names)
    assert f"{1:020}.log: removed" in again.recovery.notes


def test_a_manifest_that_is_missing_is_made_for_a_new_log_and_missed_in_any_other() -> None:
    disk = SimulatedDisk()
    open_log(disk)
    new = disk.copy()
    for path in list(new.names):
        if path.name == "manifest":
            del new.names[path]
        elif path.suffix == ".log":
            new.names[path].resize(4096)
    assert open_log(new).last_index == 0
    used = with_segments(2).copy()
    used.names.pop(GROUP / "manifest")
    with pytest.raises(Damaged, match="manifest"):
        open_log(used)
    for path in list(used.names):
        if path.suffix in (".log", ".index"):
            del used.names[path]
    with pytest.raises(Damaged, match="manifest and log files"):
        open_log(used)


def test_a_log_whose_first_segment_is_missing_is_refused() -> None:
    disk = with_segments(3).copy()
    disk.names.pop(GROUP / "log" / f"{1:020}.log")
    with pytest.raises(Damaged, match="first segment is missing"):
        open_log(disk)


def test_several_missing_segments_are_noticed() -> None:
    disk = with_segments(6).copy()
    for path in list(disk.names):
        if path.name[:20] in (f"{2:020}", f"{3:020}", f"{5:020}"):
            del disk.names[path]
    log = open_log(disk)
    assert [each.entry for each in log.recovery.fenced] == [3, 5]


def test_a_real_directory_is_opened_by_its_name(tmp_path: object) -> None:
    from quorumlog.storage.errors import Locked
    from tests.storage.model import IDENTITY, OPTIONS

    directory = f"{tmp_path}/data/group-0"
    log = Log.open(directory, IDENTITY, options=OPTIONS)
    frames = fill(log, 20, 1000)
    log.sync()
    with pytest.raises(Locked):
        Log.open(directory, IDENTITY, options=OPTIONS)
    log.close()
    log = Log.open(directory, IDENTITY, options=OPTIONS)
    assert same(contents(log)) == same(frames)
    log.close()
    Log.open(f"{tmp_path}/defaults", IDENTITY).close()
