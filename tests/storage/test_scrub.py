"""Damage in sealed files is found by a walk over them, fenced, and mended by a copy that passes its check."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from quorumlog.storage.check import FRAME_COST, PIECE_BYTES, PIECE_COST, FileCheck, Place
from quorumlog.storage.copy import Copy
from quorumlog.storage.errors import Damaged, NoSpace, OutOfLog, SyncFailed
from quorumlog.storage.fences import SealedFile
from quorumlog.storage.format import FRAME_HEADER_BYTES, SEGMENT_HEADER_BYTES
from quorumlog.storage.frame import Frame
from quorumlog.storage.header import SegmentHeader
from quorumlog.storage.log import Log, LogOptions
from quorumlog.storage.scrub import Scrub
from tests.storage.model import GROUP, IDENTITY, Model, contents, fill, open_log, same
from tests.storage.test_damage import path, three_segments
from tests.support.simulated_disk import PowerCut, SimulatedDisk

STEP = 64 * 1024


def scrub(log: Log, budget: int = STEP) -> list[str]:
    """Walk over a log; return the names of the files that are fenced then."""
    walk = Scrub(log)
    while not walk.is_done:
        walk.step(budget)
    return sorted(file.name for file in log.fenced)


def check(log: Log, file: SealedFile, content: bytes | None = None) -> FileCheck:
    """Check a file to its end, or a copy of it with that content."""
    copy = None
    if content is not None:
        begun = log.begin_copy(file)
        begun.write(content)
        copy = begun.content
    found = log.begin_check(file, copy, with_index=file.suffix == "log")
    while not found.is_done:
        found.step(STEP)
    return found


def mend(log: Log, file: SealedFile, content: bytes) -> None:
    """Do what a repair does with the bytes of a peer."""
    copy = log.begin_copy(file)
    copy.write(content[:1000])
    copy.write(content[1000:])
    found = log.begin_check(file, copy.content)
    while not found.is_done:
        found.step(STEP)
    copy.sync()
    log.install_copy(copy, found.log.place if found.log else None)


def test_a_whole_log_passes() -> None:
    disk, frames = three_segments()
    log = open_log(disk)
    assert scrub(log) == []
    assert log.damage == []
    assert same(contents(log)) == same(frames)


def compared_positions(disk: SimulatedDisk, file: Path) -> list[int]:
    """Positions of all bytes but those of the synced slots, which mean nothing in a sealed segment."""
    size = disk.names[file].size
    slots = [*range(1024, 1048), *range(2048, 2072)] if file.suffix == ".log" else []
    return [position for position in range(size) if position not in slots]


@pytest.mark.parametrize(
    "file",
    [
        path(1, "log"),
        path(3, "log"),
        path(1, "index"),
        path(1, "view"),
        path(3, "view"),
        path(3, "state"),
        path(5, "state"),
    ],
    ids=lambda file: file.name.lstrip("0"),
)
def test_every_flipped_bit_of_a_sealed_file_is_found_and_fences_that_file_alone(file: Path) -> None:
    """Rows 7, 8 and 10: header page, every field of frames, payloads, index, views, states."""
    disk, frames = three_segments()
    rng = random.Random(7)
    silent = []
    for position in compared_positions(disk, file):
        flipped = disk.copy()
        flipped.flip(file, position, rng.randrange(8))
        if scrub(open_log(flipped)) != [file.name]:
            silent.append(position)
    assert silent == []
    # The slots of a sealed segment may hold anything.
    if file.suffix == ".log":
        disk.flip(file, 1030, 1)
        assert scrub(open_log(disk)) == []
    del frames


@pytest.mark.parametrize("change", ["cut", "longer", "empty", "missing"])
@pytest.mark.parametrize("suffix", ["log", "index", "view", "state"])
def test_a_file_of_another_size_is_found(suffix: str, change: str) -> None:
    disk, _ = three_segments()
    log = open_log(disk)
    file = path(3, suffix)
    inode = disk.names[file]
    if change == "missing":
        disk.unlink(file)
    else:
        inode.resize({"cut": inode.size - 1, "longer": inode.size + 1, "empty": 0}[change])
    expected = [] if (suffix, change) == ("index", "missing") else [file.name]
    assert scrub(log) == expected


def test_a_stale_file_whose_sums_are_right_is_found_by_the_chain() -> None:
    """Row 11: a lost write leaves what stood there before, as it was."""
    other = SimulatedDisk()
    model = Model(other)
    for _ in range(3):
        model.append(5, rolls=True, term=2)
        model.append(9, rolls=False, term=2)
    model.sync()
    model.seal()
    for base in (1, 3):
        disk, _ = three_segments()
        disk.names[path(base, "log")] = other.names[path(base, "log")]
        assert path(base, "log").name in scrub(open_log(disk))


def test_swapped_segments_and_files_of_another_cluster_are_found() -> None:
    """Row 12."""
    disk, _ = three_segments()
    names = disk.names
    names[path(1, "log")], names[path(3, "log")] = names[path(3, "log")], names[path(1, "log")]
    assert scrub(open_log(disk)) == [path(1, "log").name, path(3, "log").name]
    disk, _ = three_segments()
    inode = disk.names[path(1, "log")]
    identity = type(IDENTITY)(b"another cluster!", 0)
    inode.write(SegmentHeader(1, 0, 0, 0, 1).encode(identity), 0)
    assert scrub(open_log(disk)) == [path(1, "log").name]


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (SegmentHeader(3, 1, 0, 1, 7), "ordinal"),
        (SegmentHeader(3, 1, 0, 2, 2), "previous base"),
    ],
)
def test_a_header_that_does_not_fit_its_neighbours_is_found(header: SegmentHeader, reason: str) -> None:
    disk, _ = three_segments()
    disk.names[path(3, "log")].write(header.encode(IDENTITY), 0)
    log = open_log(disk)
    scrub(log)
    assert reason in log.fenced[SealedFile(3, "log")].reason


def test_the_first_segment_continues_what_the_manifest_says() -> None:
    disk, frames = three_segments()
    inode = disk.names[path(1, "log")]
    inode.write(SegmentHeader(1, 0, frames[0].chain, 0, 1).encode(IDENTITY), 0)
    log = open_log(disk)
    scrub(log)
    assert "previous term and chain" in log.fenced[SealedFile(1, "log")].reason


def test_a_read_error_is_found_and_does_not_end_the_walk() -> None:
    """Row 15: EIO on read stops this file, not the log."""
    disk, frames = three_segments()
    log = open_log(disk)
    disk.fail("pread", errno.EIO, name=path(1, "log").name, times=100)
    assert scrub(log) == [path(1, "log").name]
    assert same([log.read(3)]) == same(frames[2:3])


def test_a_read_error_while_opening_fences_the_segment() -> None:
    disk, _ = three_segments()
    log = open_log(disk)
    disk.fail("open", errno.EIO, name=path(1, "log").name)
    with pytest.raises(Damaged, match="cannot be read"):
        log.read(1)
    assert list(log.fenced) == [SealedFile(1, "log")]


def test_a_damaged_header_hides_only_the_end_of_the_segment_before() -> None:
    disk, _ = three_segments()
    disk.flip(path(3, "log"), 50, 0)
    assert scrub(open_log(disk)) == [path(3, "log").name]


def test_a_walk_is_made_of_small_steps() -> None:
    disk = SimulatedDisk()
    options = LogOptions(segment_bytes=4 << 20, segment_entries=5000, reserve_bytes=0)
    log = open_log(disk, options)
    fill(log, 1, 3 << 20)
    fill(log, 4000, 3)
    fill(log, 2, 1 << 20)
    log.sync()
    walk = Scrub(log)
    costs = []
    while not walk.is_done:
        costs.append(walk.step(1))
    assert max(costs) <= PIECE_BYTES + PIECE_COST
    sealed = sum(each.size_bytes for each in log.segments if not each.is_active)
    assert sum(costs) >= sealed + log.bases[-1] * FRAME_COST - FRAME_COST
    assert walk.progress.bytes_done == walk.progress.bytes_total == sealed
    assert walk.progress.found == 0


@pytest.mark.parametrize("change", ["drop", "truncate", "seal"])
def test_what_changes_while_it_is_walked_over_is_no_damage(change: str) -> None:
    steps = 0
    while True:
        disk = SimulatedDisk()
        model = Model(disk, LogOptions(segment_bytes=1 << 20, segment_entries=100, reserve_bytes=0))
        for rolls in (True, False, True, False, True, False):
            model.append(500_000 if rolls else 9, rolls=rolls)
        model.sync()
        if change == "drop":
            model.seal()
        walk = Scrub(model.log)
        for _ in range(steps):
            walk.step(1)
        ended = walk.is_done
        if change == "drop":
            model.drop(2)
        elif change == "truncate":
            model.truncate(4)
        else:
            model.seal()
        while not walk.is_done:
            walk.step(STEP)
        assert not model.log.fenced
        assert model.log.damage == []
        if ended:
            assert steps > 5
            return
        steps += 1


def test_a_fence_goes_with_its_segment() -> None:
    disk, _ = three_segments()
    disk.flip(path(1, "log"), 5000 - 900, 0)
    disk.flip(path(3, "view"), 80, 0)
    log = open_log(disk)
    assert scrub(log) == [path(1, "log").name, path(3, "view").name]
    log.drop_before(3)
    assert list(log.fenced) == [SealedFile(3, "view")]


def test_a_fence_goes_with_a_truncation() -> None:
    disk = SimulatedDisk()
    model = Model(disk)
    for _ in range(3):
        model.append(5, rolls=True)
        model.append(9, rolls=False)
    model.sync()
    disk.flip(path(3, "log"), SEGMENT_HEADER_BYTES + 20, 0)
    assert scrub(model.log) == [path(3, "log").name]
    with pytest.raises(Damaged):
        model.log.truncate_from(4)
    model.log.truncate_from(3)
    assert not model.log.fenced


# Serving beside a fence ----------------------------------------------------------------------


def test_a_fenced_segment_is_refused_and_all_else_goes_on() -> None:
    """Row 7."""
    disk, frames = three_segments()
    disk.flip(path(1, "log"), SEGMENT_HEADER_BYTES + frames[0].size + FRAME_HEADER_BYTES, 0)
    before = bytes(disk.names[path(1, "log")].cached)
    log = open_log(disk)
    with pytest.raises(Damaged, match="entry 2"):
        log.read(2)
    refused: list[Callable[[], object]] = [
        lambda: log.read(1),
        lambda: log.read_raw(1, 100),
        lambda: log.read_body(1, SEGMENT_HEADER_BYTES, 1),
    ]
    for read in refused:
        with pytest.raises(Damaged, match="fenced") as caught:
            read()
        assert (caught.value.file, caught.value.entry) == (path(1, "log").name, 2)
    assert [log.term_at(index) for index in (0, 1, 2, 3)] == [0, 1, 1, 1], "terms are not of the bad bytes"
    assert same([log.read(index) for index in range(3, 7)]) == same(frames[2:])
    added = fill(log, 20, 3000)
    log.sync()
    log.truncate_from(log.last_index)
    assert same([log.read(added[0].index)]) == same(added[:1])
    log.close()
    assert bytes(disk.names[path(1, "log")].cached) == before, "nothing is cut, nothing is healed"


def test_a_fenced_view_is_not_opened_and_a_table_that_is_bad_fences_it() -> None:
    disk, _ = three_segments()
    disk.flip(path(1, "view"), 140, 0)
    log = open_log(disk)
    view = log.open_view(1)
    with pytest.raises(Damaged):
        view.rows(7, 0, 0, 1000, 10)
    assert list(log.fenced) == [SealedFile(1, "view")]
    with pytest.raises(Damaged, match="fenced"):
        log.open_view(1)
    log.open_view(3)


def test_the_term_before_the_active_segment_needs_no_other_file() -> None:
    disk, _ = three_segments()
    log = open_log(disk)
    disk.unlink(path(3, "log"))
    assert log.term_at(4) == 1


# Repair --------------------------------------------------------------------------------------


def spoiled(file: Path) -> tuple[SimulatedDisk, bytes, list[Frame]]:
    """A disk with one damaged file, the good bytes, and what the log holds."""
    disk, frames = three_segments()
    good = bytes(disk.names[file].cached[: disk.names[file].size])
    disk.flip(file, disk.names[file].size - 3, 2)
    return disk, good, frames


@pytest.mark.parametrize("suffix", ["log", "view", "state", "index"])
def test_a_copy_that_passes_takes_the_place_and_lifts_the_fence(suffix: str) -> None:
    disk, good, frames = spoiled(path(3, suffix))
    log = open_log(disk)
    assert scrub(log) == [path(3, suffix).name]
    file = SealedFile(3, suffix)
    if suffix == "index":
        copy = log.begin_copy(file)
        whole = check(log, SealedFile(3, "log")).log
        assert whole is not None
        copy.write(whole.index_bytes)
        found = log.begin_check(file, copy.content, whole)
        while not found.is_done:
            found.step(STEP)
        copy.sync()
        log.install_copy(copy, whole.place)
    else:
        mend(log, file, good)
    assert not log.fenced
    assert bytes(disk.names[path(3, suffix)].cached) == good
    assert scrub(log) == []
    assert same(contents(log)) == same(frames)
    assert log.open_view(3).rows(7, 0, 2, 100, 1)


def test_a_cut_file_gets_its_size_back() -> None:
    disk, good, _ = spoiled(path(1, "log"))
    disk.names[path(1, "log")].resize(4100)
    log = open_log(disk)
    scrub(log)
    mend(log, SealedFile(1, "log"), good)
    assert log.segments[0].size_bytes == len(good)


@pytest.mark.parametrize("suffix", ["log", "view", "state"])
def test_a_bad_copy_never_passes(suffix: str) -> None:
    """Every byte of what a peer sends may be bad."""
    disk, good, _ = spoiled(path(3, suffix))
    log = open_log(disk)
    rng = random.Random(3)
    for position in range(len(good)):
        if suffix == "log" and (1024 <= position < 1048 or 2048 <= position < 2072):
            continue
        bad = bytearray(good)
        bad[position] ^= 1 << rng.randrange(8)
        with pytest.raises(Damaged):
            check(log, SealedFile(3, suffix), bytes(bad))
    for bad_size in (0, len(good) // 2, len(good) - 1):
        with pytest.raises(Damaged):
            check(log, SealedFile(3, suffix), good[:bad_size])
    with pytest.raises(Damaged):
        check(log, SealedFile(3, suffix), good + b"\0")
    check(log, SealedFile(3, suffix), good)


def test_a_copy_from_another_history_never_passes() -> None:
    other = SimulatedDisk()
    model = Model(other)
    for _ in range(3):
        model.append(5, rolls=True)
        model.append(10, rolls=False)
    disk, _, _ = spoiled(path(3, "log"))
    log = open_log(disk)
    foreign = bytes(other.names[path(3, "log")].cached[: other.names[path(3, "log")].size])
    with pytest.raises(Damaged, match="chain"):
        check(log, SealedFile(3, "log"), foreign)


@pytest.mark.parametrize("suffix", ["log", "view", "state"])
def test_a_kill_or_power_loss_at_any_step_of_a_repair_leaves_the_bad_file_or_the_good_one(
    suffix: str,
) -> None:
    file = path(3, suffix)
    finished = False
    step = 0
    outcomes = set()
    while not finished:
        step += 1
        for power_loss in (False, True):
            disk, good, frames = spoiled(file)
            bad = bytes(disk.names[file].cached)
            log = open_log(disk)
            scrub(log)
            disk.kill_at(step, random.Random(step))
            try:
                mend(log, SealedFile(3, suffix), good)
                finished = True
            except PowerCut:
                pass
            after = disk.after_power_loss(random.Random(step)) if power_loss else disk.after_kill()
            after.locks.clear()
            found = bytes(after.names[file].cached)
            assert found in (good, bad), f"step {step}"
            outcomes.add(found == good)
            again = open_log(after)
            assert scrub(again) == ([] if found == good else [file.name])
            assert not [each for each in after.names if each.suffix == ".tmp" and "copy" in each.name]
            if found != good:
                mend(again, SealedFile(3, suffix), good)
            assert same(contents(again)) == same(frames)
    assert outcomes == {True, False}
    assert step > 4


@pytest.mark.parametrize("operation", ["create", "pwritev", "rename"])
def test_a_full_disk_leaves_the_fence_and_the_log_goes_on(operation: str) -> None:
    disk, good, _ = spoiled(path(3, "log"))
    log = open_log(disk)
    scrub(log)
    disk.fail(operation, errno.ENOSPC, name=path(3, "log").name)
    with pytest.raises(NoSpace):
        mend(log, SealedFile(3, "log"), good)
    assert list(log.fenced) == [SealedFile(3, "log")]
    fill(log, 1)
    log.sync()
    mend(log, SealedFile(3, "log"), good)
    assert not log.fenced


@pytest.mark.parametrize("operation", ["create", "pwritev", "fsync", "rename", "sync_directory"])
def test_any_other_error_of_a_repair_is_fatal(operation: str) -> None:
    """Row 14: an fsync that failed once has failed, whatever the next one says."""
    disk, good, _ = spoiled(path(3, "log"))
    log = open_log(disk)
    scrub(log)
    name = "log" if operation == "sync_directory" else path(3, "log").name
    disk.fail(operation, errno.EIO, name=name)
    with pytest.raises(SyncFailed):
        mend(log, SealedFile(3, "log"), good)
    if operation in ("rename", "sync_directory"):
        with pytest.raises(SyncFailed):
            log.sync()


def test_a_copy_that_cannot_be_removed_is_fatal() -> None:
    disk, _, _ = spoiled(path(3, "log"))
    copy = open_log(disk).begin_copy(SealedFile(3, "log"))
    disk.fail("unlink", errno.EIO)
    with pytest.raises(SyncFailed):
        copy.discard()


def test_a_copy_is_discarded_once_or_more() -> None:
    disk, _, _ = spoiled(path(3, "log"))
    log = open_log(disk)
    copy = log.begin_copy(SealedFile(3, "log"))
    copy.discard()
    copy.discard()
    assert not [each for each in disk.names if "copy" in each.name]


@pytest.mark.parametrize("change", ["drop", "truncate"])
def test_a_copy_for_a_place_that_has_changed_is_not_installed(change: str) -> None:
    disk = SimulatedDisk()
    model = Model(disk)
    for _ in range(3):
        model.append(5, rolls=True)
        model.append(9, rolls=False)
    model.sync()
    log = model.log
    if change == "drop":
        model.seal()
    file = SealedFile(1, "log")
    copy, place = checked_copy(log, disk, file)
    if change == "drop":
        log.drop_before(3)
    else:
        log.truncate_from(2)
        model.append(9, rolls=False, term=2)
        model.append(9, rolls=True, term=2)
    with pytest.raises(OutOfLog):
        log.install_copy(copy, place)


def checked_copy(log: Log, disk: SimulatedDisk, file: SealedFile) -> tuple[Copy, Place]:
    inode = disk.names[path(file.base, file.suffix)]
    copy = log.begin_copy(file)
    copy.write(bytes(inode.cached[: inode.size]))
    found = log.begin_check(file, copy.content)
    while not found.is_done:
        found.step(STEP)
    copy.sync()
    assert found.log is not None
    return copy, found.log.place


def test_a_segment_that_is_being_synced_is_not_replaced() -> None:
    """A truncation would go on appending to the file that the sync holds, whose name is gone."""
    disk = SimulatedDisk()
    model = Model(disk)
    model.append(5, rolls=True)
    ticket = model.log.begin_sync()
    model.append(5, rolls=True)
    copy, place = checked_copy(model.log, disk, SealedFile(1, "log"))
    with pytest.raises(OutOfLog):
        model.log.install_copy(copy, place)
    ticket.run()
    model.log.finish_sync(ticket)
    model.log.install_copy(copy, place)


def test_only_sealed_files_can_be_checked() -> None:
    disk, _ = three_segments()
    log = open_log(disk)
    for file in (
        SealedFile(5, "log"),
        SealedFile(2, "log"),
        SealedFile(5, "view"),
        SealedFile(9, "view"),
        SealedFile(0, "log"),
    ):
        with pytest.raises(OutOfLog):
            log.begin_check(file)


def test_a_seal_that_is_done_again_lifts_the_fences_of_what_it_writes() -> None:
    disk, frames = three_segments()
    view = bytes(disk.names[path(3, "view")].cached)
    disk.flip(path(3, "view"), 20, 0)
    disk.flip(path(5, "state"), 20, 0)
    log = open_log(disk)
    assert scrub(log) == [path(3, "view").name, path(5, "state").name]
    assert log.load_state() == (3, b"state as of 2")
    log.seal(3, view, b"state as of 4")
    assert not log.fenced
    assert log.load_state() == (5, b"state as of 4")
    del frames


def test_a_log_that_lacks_a_segment_fences_nothing_and_refuses_to_change() -> None:
    """Row 12: a missing segment is no damage of its neighbours."""
    disk, _ = three_segments()
    for suffix in ("log", "index", "view", "state"):
        disk.unlink(path(3, suffix))
    log = open_log(disk)
    with pytest.raises(Damaged):
        log.read(3)
    assert not log.fenced
    assert log.recovery.fenced[0].file == path(3, "log").name


def test_names_of_files() -> None:
    assert SealedFile.named(path(3, "view").name) == SealedFile(3, "view")
    assert SealedFile.named("manifest") is None
    assert GROUP.name == "group-0"
