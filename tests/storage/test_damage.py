"""What is torn is cut; what is damaged is fenced, reported and never served."""

from __future__ import annotations

import errno
import random
from pathlib import Path

import pytest

from quorumlog.storage.errors import CannotOpen, Damaged, OutOfLog, SyncFailed
from quorumlog.storage.fences import MAX_DAMAGE
from quorumlog.storage.format import FRAME_HEADER_BYTES, SEGMENT_HEADER_BYTES, STARTS_SEGMENT
from quorumlog.storage.frame import Frame
from quorumlog.storage.header import SegmentHeader
from quorumlog.storage.log import Log
from quorumlog.storage.manifest import Manifest
from quorumlog.storage.recovery import LastSegment, Recovery
from tests.storage.model import (
    GROUP,
    IDENTITY,
    TOPIC,
    Model,
    contents,
    fill,
    next_frame,
    open_log,
    row_of,
    same,
    state_of,
)
from tests.support.simulated_disk import SimulatedDisk

LOG = GROUP / "log"


def path(base: int, suffix: str) -> Path:
    return LOG / f"{base:020}.{suffix}"


def three_segments() -> tuple[SimulatedDisk, list[Frame]]:
    """Two sealed segments of two entries and an active one, all synced and under the watermark."""
    disk = SimulatedDisk()
    model = Model(disk)
    for _ in range(3):
        model.append(5, rolls=True)
        model.append(9, rolls=False)
    model.sync()
    model.sync()
    model.seal()
    assert model.log.bases == (1, 3, 5)
    return disk.copy(), model.maybe


def try_all(disk: SimulatedDisk, frames: list[Frame]) -> bool:
    """Open and read everything: what is served is right. Return whether something was noticed."""
    try:
        log = open_log(disk)
    except (CannotOpen, Damaged):
        return True
    noticed = bool(log.recovery.fenced or any("slot" in note for note in log.recovery.notes))
    for frame in frames:
        noticed |= not serves(log, frame)
    for base in (1, 3):
        noticed |= not serves_view(log, base, frames)
    base, state = log.load_state()
    assert state == (state_of(base) if base > 1 else None)
    return noticed or base != 5


def serves(log: Log, frame: Frame) -> bool:
    """Whether an entry is served. Asserts that it is served unchanged."""
    try:
        assert same([log.read(frame.index)]) == same([frame])
        raw, count = log.read_raw(frame.index, 1)
        assert (raw, count) == (same([frame])[0], 1)
        assert log.term_at(frame.index) == frame.term
    except Damaged as damage:
        noted = [each.file for each in log.damage]
        return damage.file not in noted
    return True


def serves_view(log: Log, base: int, frames: list[Frame]) -> bool:
    try:
        rows = log.open_view(base).rows(TOPIC, 0, base - 1, 10_000, 10)
    except (Damaged, CannotOpen):
        return False
    assert rows[0] == row_of(frames[base - 1], SEGMENT_HEADER_BYTES + FRAME_HEADER_BYTES)
    return len(rows) == 2


def used_bits(disk: SimulatedDisk, file: Path) -> list[int]:
    """Positions of the bytes of a file that mean something."""
    size = disk.names[file].size
    if file.suffix != ".log":
        return list(range(size))
    end = SEGMENT_HEADER_BYTES + 2 * FRAME_HEADER_BYTES + 5 + 9
    return [*range(80), *range(1024, 1048), *range(2048, 2072), *range(SEGMENT_HEADER_BYTES, end)]


@pytest.mark.parametrize(
    "file",
    [path(1, "log"), path(1, "index"), path(3, "view"), path(5, "state"), path(5, "log"), GROUP / "manifest"],
    ids=lambda file: file.name.lstrip("0"),
)
def test_every_flipped_bit_is_noticed_and_nothing_wrong_is_served(file: Path) -> None:
    """Rows 7 and 8."""
    disk, frames = three_segments()
    assert not try_all(disk.copy(), frames)
    silent = []
    for position in used_bits(disk, file):
        for bit in range(8):
            flipped = disk.copy()
            flipped.flip(file, position, bit)
            if not try_all(flipped, frames):
                silent.append((position, bit))
    if file.suffix == ".index":
        # An index that is not believed is made anew from the log: nothing to notice, nothing wrong served.
        return
    if file == path(1, "log"):
        # The slots of a sealed segment mean nothing any more: all of it is durable.
        silent = [each for each in silent if not 1024 <= each[0] < 2072]
    assert silent == []


def test_a_bad_index_is_made_anew_and_kept() -> None:
    """Row 10."""
    disk, frames = three_segments()
    before = bytes(disk.names[path(1, "index")].cached)
    disk.flip(path(1, "index"), 60, 3)
    log = open_log(disk)
    assert same([log.read(1), log.read(2)]) == same(frames[:2])
    assert bytes(disk.names[path(1, "index")].cached) == before
    assert log.damage == []


@pytest.mark.parametrize("fault", ["unlink", "full"])
def test_a_missing_index_does_no_harm_even_on_a_full_disk(fault: str) -> None:
    disk, frames = three_segments()
    disk.unlink(path(1, "index"))
    log = open_log(disk)
    if fault == "full":
        disk.capacity = disk.used()
    assert same(contents(log)) == same(frames)
    assert (path(1, "index") in disk.names) == (fault == "unlink")
    assert not [each for each in disk.names if each.suffix == ".tmp" and "index" in each.name]


@pytest.mark.parametrize("filler", ["cut", "zeros", "garbage"])
def test_a_log_cut_at_every_byte_of_its_unsynced_frames_opens_with_the_whole_ones(filler: str) -> None:
    """Row 5."""
    disk = SimulatedDisk()
    log = open_log(disk)
    synced = fill(log, 2, 30)
    log.sync()
    frames = [next_frame(log, b"first", rolls=False)]
    for size in (0, 1, 40):
        last = frames[-1]
        frames.append(Frame.build(last.index + 1, 1, 1, [b"\xff" * size], 0, last.chain))
    log.append(frames)
    start = SEGMENT_HEADER_BYTES + sum(frame.size for frame in synced)
    raw = b"".join(same(frames))
    ends = [start]
    for frame in frames:
        ends.append(ends[-1] + frame.size)
    rng = random.Random(5)
    for cut in range(start, ends[-1] + 1):
        torn = disk.copy()
        inode = torn.names[path(1, "log")]
        size = inode.size
        inode.resize(cut)
        if filler != "cut":
            inode.resize(size)
        if filler == "garbage":
            inode.write(rng.randbytes(199) + b"!", cut)
        inode.store_all()
        opened = open_log(torn)
        whole = sum(end <= cut for end in ends[1:])
        assert same(contents(opened)) == same([*synced, *frames[:whole]]), f"cut at {cut}"
        rest = raw[max(end for end in ends if end <= cut) - start : cut - start]
        expected = len(rest) + 200 if filler == "garbage" else len(rest.rstrip(b"\0"))
        assert opened.recovery.cut_bytes == expected
        # What was cut is gone for good: it does not come back behind something new.
        fill(opened, 1, 3)
        assert open_log(torn.after_kill()).last_index == opened.last_index


def test_a_bad_payload_below_the_watermark_is_fenced_and_what_follows_is_served() -> None:
    disk, frames = three_segments()
    disk.flip(path(5, "log"), SEGMENT_HEADER_BYTES + FRAME_HEADER_BYTES, 0)
    log = open_log(disk)
    assert [(each.file, each.position, each.entry) for each in log.recovery.fenced] == [
        (path(5, "log").name, SEGMENT_HEADER_BYTES, 5)
    ]
    with pytest.raises(Damaged, match="entry 5"):
        log.read(5)
    assert same([log.read(6)]) == same(frames[5:])
    assert log.last_index == 6


def test_a_bad_header_below_the_watermark_fences_the_rest_and_nothing_is_cut() -> None:
    disk, _ = three_segments()
    size = disk.names[path(5, "log")].size
    disk.flip(path(5, "log"), SEGMENT_HEADER_BYTES, 0)
    before = bytes(disk.names[path(5, "log")].cached)
    log = open_log(disk)
    assert log.recovery.fenced[0].entry == 5
    assert log.last_index == 4
    for refused in (
        lambda: log.append([next_frame(log, b"x")]),
        lambda: log.truncate_from(4),
        log.begin_sync,
        lambda: log.ensure_space(10, False),
        lambda: log.drop_before(3),
    ):
        with pytest.raises(Damaged):
            refused()
    log.close()
    assert bytes(disk.names[path(5, "log")].cached) == before
    assert disk.names[path(5, "log")].size == size


def test_frames_that_a_state_covers_are_never_cut() -> None:
    disk = SimulatedDisk()
    model = Model(disk)
    model.append(5, rolls=True)
    model.append(9, rolls=False)
    model.append(5, rolls=True)
    model.seal()
    crashed = disk.copy()
    # The last segment lost its log file: its state says that there was one.
    crashed.unlink(path(3, "log"))
    with pytest.raises(Damaged, match=path(3, "log").name):
        open_log(crashed)


def test_a_log_that_ends_before_what_a_state_covers_is_damaged() -> None:
    disk = SimulatedDisk()
    log = open_log(disk)
    fill(log, 2, 10)
    log.sync()
    log.close()
    # As if a rename had brought back the end of the segment from before: names say 9, the log says 2.
    log = open_log(disk)
    recovery = Recovery()
    active = LastSegment(log._directory, IDENTITY, 1, 9, recovery).open(1, 1)
    assert active.last_index == 2
    assert "covers entry 9" in str(recovery.fenced[0])


def test_both_synced_slots_bad_leaves_the_end_unknown() -> None:
    disk, _ = three_segments()
    disk.flip(path(5, "log"), 1024, 0)
    disk.flip(path(5, "log"), 2048, 0)
    with pytest.raises(Damaged, match="both synced slots"):
        open_log(disk)


def test_a_missing_segment_is_noticed_at_opening_and_named() -> None:
    """Row 12."""
    disk, frames = three_segments()
    for suffix in ("log", "index", "view", "state"):
        disk.unlink(path(3, suffix))
    log = open_log(disk)
    assert log.recovery.fenced[0].file == path(3, "log").name
    assert same([log.read(1), log.read(2), log.read(5)]) == same([frames[0], frames[1], frames[4]])
    for index in (3, 4):
        with pytest.raises(Damaged):
            log.read(index)
    with pytest.raises(Damaged):
        log.append([next_frame(log, b"x")])


def test_swapped_segments_are_noticed() -> None:
    """Row 12."""
    disk, frames = three_segments()
    one, three = disk.names[path(1, "log")], disk.names[path(3, "log")]
    disk.names[path(1, "log")], disk.names[path(3, "log")] = three, one
    log = open_log(disk)
    for frame in frames[:4]:
        assert not serves(log, frame)


def test_a_stale_copy_of_a_segment_does_not_continue_the_chain() -> None:
    """Row 11."""
    disk, frames = three_segments()
    other = SimulatedDisk()
    model = Model(other)
    for _ in range(3):
        model.append(4, rolls=True)
        model.append(9, rolls=False)
    model.sync()
    disk.names[path(3, "log")] = other.names[path(3, "log")]
    log = open_log(disk)
    assert serves(log, frames[0])
    assert not serves(log, frames[2])
    assert log.damage


@pytest.mark.parametrize("base", [1, 3])
def test_a_sealed_log_file_that_vanishes_while_open_is_damage(base: int) -> None:
    disk, _ = three_segments()
    log = open_log(disk)
    disk.unlink(path(base, "log"))
    with pytest.raises(Damaged, match="missing"):
        log.read(base)
    assert log.damage


def test_a_sealed_log_file_that_was_cut_short_is_fenced_as_a_whole() -> None:
    disk, frames = three_segments()
    inode = disk.names[path(1, "log")]
    inode.resize(SEGMENT_HEADER_BYTES + frames[0].size + 3)
    inode.store_all()
    disk.unlink(path(1, "index"))
    log = open_log(disk)
    for each in frames[:2]:
        assert not serves(log, each)
    with pytest.raises(Damaged, match="fenced"):
        log.read_body(1, SEGMENT_HEADER_BYTES, 10)
    assert [file.name for file in log.fenced] == [path(1, "log").name]
    assert serves(log, frames[2])


def test_an_active_segment_that_was_cut_below_its_watermark_is_fenced() -> None:
    disk, frames = three_segments()
    for size in (4096, 4096 + 20, 4096 + frames[4].size + FRAME_HEADER_BYTES + 1):
        cut = disk.copy()
        inode = cut.names[path(5, "log")]
        inode.resize(size)
        inode.store_all()
        assert try_all(cut.copy(), frames)
        assert open_log(cut).recovery.fenced
    disk.names[path(5, "log")].resize(1000)
    with pytest.raises(Damaged, match="expected 4096 bytes, got 1000"):
        open_log(disk)


def test_an_unsynced_frame_with_a_whole_header_and_half_a_payload_is_torn() -> None:
    """Row 6."""
    disk = SimulatedDisk()
    log = open_log(disk)
    fill(log, 1, 3000)
    disk.names[path(1, "log")].write(bytes(2000), 5000)
    again = open_log(disk.after_kill())
    assert (again.last_index, again.recovery.fenced) == (0, [])
    assert again.recovery.cut_bytes > 0


def test_a_second_segment_start_within_a_segment_is_no_entry_of_it() -> None:
    disk = SimulatedDisk()
    log = open_log(disk)
    first = fill(log, 1, 10)[0]
    second = Frame.build(2, 1, 0x10, [b"x"], STARTS_SEGMENT, first.chain)
    disk.names[path(1, "log")].write(same([second])[0], SEGMENT_HEADER_BYTES + first.size)
    assert open_log(disk.after_kill()).last_index == 1


def test_what_only_the_page_cache_has_after_a_failed_fsync_does_not_count() -> None:
    """Row 14: the pages are clean and on no disk; a scan of the cache would find them whole."""
    disk = SimulatedDisk()
    log = open_log(disk)
    kept = fill(log, 3)
    log.sync()
    fill(log, 2)
    disk.fail("fdatasync", errno.EIO)
    with pytest.raises(SyncFailed):
        log.sync()
    disk = disk.after_kill()
    again = open_log(disk)
    assert same(contents(again)) == same(kept)
    assert (again.recovery.cut_bytes, again.recovery.fenced) == (0, [])
    assert same(contents(open_log(disk.after_power_loss(random.Random(1))))) == same(kept)


def test_a_log_whose_disk_cannot_sync_is_not_opened() -> None:
    disk = SimulatedDisk()
    fill(open_log(disk), 3)
    disk = disk.after_kill()
    disk.fail("fdatasync", errno.EIO)
    with pytest.raises(SyncFailed):
        open_log(disk)


def test_a_manifest_that_does_not_fit_the_segments_is_damage() -> None:
    disk, _ = three_segments()
    disk.names[GROUP / "manifest"].write(Manifest(1, 2, 0, 0).encode(IDENTITY), 0)
    assert open_log(disk).recovery.fenced[0].file == "manifest"


def test_a_bad_header_leaves_the_segment_before_readable() -> None:
    disk, frames = three_segments()
    disk.flip(path(3, "log"), 50, 0)
    log = open_log(disk)
    assert serves(log, frames[0])
    assert not serves(log, frames[2])


def test_a_segment_that_follows_another_than_its_header_says_is_reported() -> None:
    disk, frames = three_segments()
    header = SegmentHeader(3, 1, frames[1].chain, 2, 2)
    disk.names[path(3, "log")].write(header.encode(IDENTITY), 0)
    log = open_log(disk)
    assert serves(log, frames[2])
    assert [each.entry for each in log.damage] == [2]


def test_too_many_open_files_is_an_error_of_the_moment() -> None:
    disk, frames = three_segments()
    log = open_log(disk)
    disk.fail("open", errno.EMFILE)
    with pytest.raises(Damaged, match="cannot be read"):
        log.read(1)
    assert log.damage == []
    assert serves(log, frames[0])


def test_a_segment_that_is_dropped_while_it_is_looked_for_is_out_of_log() -> None:
    disk, _ = three_segments()
    log = open_log(disk)
    bases = log.bases
    log.drop_before(3)
    with pytest.raises(OutOfLog):
        log._get_sealed(bases, 0, log._active)


def test_remembered_damage_is_bounded() -> None:
    log = open_log(SimulatedDisk())
    for position in range(MAX_DAMAGE + 10):
        log.report(Damaged("file", position, None, "bad"))
        log.report(Damaged("file", position, None, "bad"))
    assert len(log.damage) == MAX_DAMAGE


def test_a_read_error_is_damage_of_that_place() -> None:
    disk, frames = three_segments()
    log = open_log(disk)
    for read in (lambda: log.read(5), lambda: log.read_raw(5, 100), lambda: log.read_body(5, 5000, 5)):
        disk.fail("pread", errno.EIO, name=path(5, "log").name)
        with pytest.raises(Damaged, match="cannot be read"):
            read()
    assert same([log.read(5)]) == same([frames[4]])


def test_a_view_that_vanished_is_damage_and_a_lost_one_makes_replay_begin_before_it() -> None:
    disk, _ = three_segments()
    log = open_log(disk)
    disk.unlink(path(1, "view"))
    with pytest.raises(Damaged, match="missing"):
        log.open_view(1)
    assert open_log(disk.copy()).load_state() == (1, None)


def test_a_truncated_view_or_state_is_damage() -> None:
    disk, _ = three_segments()
    for file in (path(1, "view"), path(5, "state")):
        for size in (0, 10, disk.names[file].size - 1):
            cut = disk.copy()
            cut.names[file].resize(size)
            log = open_log(cut)
            if file.suffix == ".view":
                with pytest.raises(Damaged):
                    log.open_view(1)
            else:
                assert log.load_state() == (3, state_of(3))
            assert log.damage


def test_without_any_usable_state_a_log_that_starts_later_cannot_be_replayed() -> None:
    disk = SimulatedDisk()
    model = Model(disk)
    for _ in range(3):
        model.append(5, rolls=True)
    model.sync()
    model.seal()
    model.drop(1)
    for base in model.log.bases[::-1][:-1]:
        disk.unlink(path(base, "state"))
    disk.flip(path(2, "state"), 45, 1)
    log = open_log(disk.copy())
    with pytest.raises(Damaged, match="no state"):
        log.load_state()


def test_out_of_log_is_said_of_what_was_dropped_or_never_was() -> None:
    disk, _ = three_segments()
    log = open_log(disk)
    log.drop_before(3)
    for index in (0, 1, 2, 7, 100):
        with pytest.raises(OutOfLog):
            log.read(index)
        with pytest.raises(OutOfLog):
            log.read_raw(index, 1)
    assert (log.term_at(1), log.term_at(2), log.term_at(7)) == (None, 1, None)
    for base in (1, 4):
        with pytest.raises(OutOfLog):
            log.read_body(base, 4096, 1)
