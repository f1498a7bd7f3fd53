"""The small parts, each alone: store, index, watermark, state, manifest, files."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorumlog.storage.errors import Damaged, NoSpace, SyncFailed, UnknownVersion
from quorumlog.storage.files import OsFiles, read_file, replace_file, write_all
from quorumlog.storage.index import Index
from quorumlog.storage.manifest import Manifest
from quorumlog.storage.scan import WINDOW_BYTES, count_nonzero_tail
from quorumlog.storage.state import decode_state, encode_state
from quorumlog.storage.store import Store
from quorumlog.storage.watermark import ReadSlots, Watermark
from tests.storage.model import IDENTITY
from tests.support.simulated_disk import SimulatedDisk

PATH = Path("/d/file")


def new_file(size: int = 0):  # type: ignore[no-untyped-def]
    disk = SimulatedDisk()
    file = disk.open(PATH, create=True)
    if size:
        file.allocate(0, size)
    return disk, file


# Store


@given(st.lists(st.lists(st.binary(max_size=20), min_size=1), max_size=10), st.randoms(use_true_random=False))
def test_a_store_holds_what_was_appended_whatever_writes_take(appends, rng) -> None:  # type: ignore[no-untyped-def]
    disk, file = new_file()
    disk.short_writes = rng
    store = Store(file, 0, 0)
    written = b""
    for buffers in appends:
        data = b"".join(buffers)
        if data:
            assert store.append(buffers, len(data)) == len(written)
            written += data
    assert store.read(0, 10_000) == written
    assert store.end == len(written) == store.allocated


def test_a_store_allocates_only_what_is_missing() -> None:
    disk, file = new_file()
    store = Store(file, 0, 0)
    store.allocate(100)
    store.allocate(50)
    assert (store.allocated, disk.calls["allocate"]) == (100, 1)
    for error, expected in ((errno.ENOSPC, NoSpace), (errno.EIO, SyncFailed)):
        disk.fail("allocate", error)
        with pytest.raises(expected):
            store.allocate(200)
    assert store.allocated == 100


# Index


def test_an_index_grows_is_sealed_and_is_loaded_again() -> None:
    _, file = new_file()
    index = Index.create(file, 10, 2)
    for number in range(7):
        index.reserve(1)
        index.add(100 * number, 100, 5 + number)
    assert (index.last, index.slot(12)) == (16, (200, 100, 7))
    index.seal(99)
    loaded = Index.load(file, 10)
    assert loaded is not None
    assert (loaded.count, loaded.chain, loaded.slot(16)) == (7, 99, (600, 100, 11))
    loaded.cut(3)
    loaded.reserve(1)
    loaded.add(300, 50, 20)
    assert [loaded.slot(index) for index in (12, 13)] == [(200, 100, 7), (300, 50, 20)]
    # Sealed again without having been extended.
    loaded.seal(98)
    again = Index.load(file, 10)
    assert again is not None
    again.seal(97)
    assert Index.load(file, 10) is not None
    assert Index.load(file, 11) is None


def test_an_index_that_is_too_short_is_not_believed() -> None:
    _, file = new_file()
    assert Index.load(file, 1) is None


def test_an_index_in_memory_cannot_grow_and_sealing_it_is_nothing() -> None:
    index = Index(None, 1, memoryview(Index.encode(1, [(4096, 50, 1)], 9)), 1, 9)
    with pytest.raises(NoSpace):
        index.reserve(1)
    index.seal(9)
    index.sync()
    assert index.slot(1) == (4096, 50, 1)


def test_an_index_on_a_failing_disk_says_so() -> None:
    disk, file = new_file()
    for error, expected in ((errno.ENOSPC, NoSpace), (errno.EIO, OSError)):
        disk.fail("allocate", error)
        with pytest.raises(expected):
            Index.create(file, 1, 5)


@given(st.lists(st.integers(1, 100), min_size=1, max_size=30), st.data())
def test_the_last_entry_that_fits_is_found(sizes: list[int], data: st.DataObject) -> None:
    _, file = new_file()
    index = Index.create(file, 1, len(sizes))
    position = 0
    ends = []
    for size in sizes:
        index.add(position, size, 1)
        position += size
        ends.append(position)
    first = data.draw(st.integers(1, len(sizes)))
    limit = data.draw(st.integers(0, position + 10))
    fitting = [number for number, end in enumerate(ends, 1) if end <= limit and number >= first]
    assert index.last_at_or_below(first, limit) == max(fitting, default=first)


# Watermark


def test_the_newer_valid_slot_counts() -> None:
    _, file = new_file(4096)
    for at, slot in Watermark.initial(9):
        write_all(file, slot, at)
    watermark = Watermark(file, 9, 2, 4096)
    for position in (5000, 6000, 5500):
        watermark.raise_to(position)
        watermark.record()
    slots = ReadSlots(file.pread(4096, 0), 9)
    assert (slots.position, slots.sequence, slots.is_clean, slots.bad_count) == (6000, 4, False, 0)
    watermark.set_both(4500)
    write_all(file, b"torn", 1024)
    slots = ReadSlots(file.pread(4096, 0), 9)
    assert (slots.position, slots.bad_count) == (4500, 1)
    watermark.record_clean()
    watermark.record_clean()
    assert ReadSlots(file.pread(4096, 0), 9).is_clean
    assert ReadSlots(file.pread(4096, 0), 10).bad_count == 2
    assert ReadSlots(bytes(4096), 9).bad_count == 2


# State and manifest


@given(st.binary(max_size=100))
def test_a_state_comes_back(state: bytes) -> None:
    assert decode_state(encode_state(5, state), 5, "s") == state


def test_every_flipped_bit_of_a_state_or_manifest_is_noticed() -> None:
    for good, decode in (
        (encode_state(5, b"some state"), lambda data: decode_state(data, 5, "s")),
        (Manifest(5, 2, 1, 99).encode(IDENTITY), lambda data: Manifest.decode(data, IDENTITY)),
    ):
        for position in range(len(good)):
            for bit in range(8):
                bad = bytearray(good)
                bad[position] ^= 1 << bit
                with pytest.raises(Damaged):
                    decode(bytes(bad))
        for size in range(len(good)):
            with pytest.raises(Damaged):
                decode(good[:size])
        with pytest.raises(Damaged):
            decode(good + b"x")


def test_a_state_of_another_segment_or_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Damaged, match="base"):
        decode_state(encode_state(5, b""), 6, "s")
    with monkeypatch.context() as context:
        context.setattr("quorumlog.storage.state.VERSION", 2)
        newer = encode_state(5, b"")
    with pytest.raises(UnknownVersion, match="expected 1, got 2"):
        decode_state(newer, 5, "s")


def test_a_manifest_comes_back() -> None:
    manifest = Manifest(2**50, 7, 3, 2**64 - 1)
    assert Manifest.decode(manifest.encode(IDENTITY), IDENTITY) == manifest


# Scanning


def test_tails_are_measured_over_windows() -> None:
    _, file = new_file(3 * WINDOW_BYTES)
    write_all(file, b"x", WINDOW_BYTES + 5)
    assert count_nonzero_tail(file, 100, 3 * WINDOW_BYTES) == WINDOW_BYTES - 94
    assert count_nonzero_tail(file, 2 * WINDOW_BYTES, 3 * WINDOW_BYTES) == 0


# The real file system


def test_real_files_do_what_the_seam_says(tmp_path: Path) -> None:
    files = OsFiles()
    directory = tmp_path / "a" / "b"
    files.make_directory(directory)
    files.make_directory(directory)
    path = directory / "file"
    assert not files.exists(path)
    file = files.open(path, create=True)
    file.allocate(0, 10_000)
    assert file.size() == 10_000
    assert file.pwritev([b"one", memoryview(b"two")], 5) == 6
    file.fdatasync()
    file.forget_cache()
    assert file.pread(8, 4) == b"\0onetwo\0"
    assert file.pread(100, 9_990) == bytes(10)
    view = file.map(100, writable=True)
    view[0:4] = b"mapp"
    file.fsync()
    again = files.open(path, writable=False)
    assert again.pread(4, 0) == b"mapp"
    assert again.map(4).tobytes() == b"mapp"
    file.truncate(5)
    assert [(entry.name, entry.size) for entry in files.list(directory)] == [("file", 5)]
    files.rename(path, directory / "other")
    files.sync_directory(directory)
    files.unlink(directory / "other")
    assert files.list(directory) == []
    assert files.free_bytes(directory) > 0
    with pytest.raises(FileNotFoundError):
        files.open(path)


def test_a_descriptor_lives_as_long_as_its_file(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    file = OsFiles().open(tmp_path / "file", create=True)
    view = None
    file.allocate(0, 100)
    view = file.map(100)
    assert len(os.listdir("/proc/self/fd")) > before
    del file
    assert view[99] == 0
    del view
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_lock_is_held_by_one(tmp_path: Path) -> None:
    files = OsFiles()
    lock = files.lock(tmp_path / "lock")
    assert lock is not None
    assert files.lock(tmp_path / "lock") is None
    lock.release()
    lock.release()
    assert files.lock(tmp_path / "lock") is not None


def test_a_replaced_file_is_whole(tmp_path: Path) -> None:
    files = OsFiles()
    path = tmp_path / "file"
    assert read_file(files, path) is None
    for data in (b"first", b"second and longer", b""):
        replace_file(files, path, data)
        assert read_file(files, path) == data
    assert [entry.name for entry in files.list(tmp_path)] == ["file"]


@pytest.mark.parametrize("operation", ["fsync", "sync_directory"])
def test_a_replacement_that_cannot_be_synced_is_fatal(operation: str) -> None:
    disk = SimulatedDisk()
    disk.fail(operation, errno.ENOSPC)
    with pytest.raises(SyncFailed):
        replace_file(disk, PATH, b"data")


def test_a_read_cut_short_by_a_signal_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = OsFiles().open(tmp_path / "file", create=True)
    write_all(file, b"0123456789", 0)
    real = os.pread
    monkeypatch.setattr(os, "pread", lambda descriptor, size, at: real(descriptor, min(size, 3), at))
    assert file.pread(8, 1) == b"12345678"
    assert file.pread(20, 5) == b"56789"
