"""A new beginning in the place of a log: the old one whole or the new one, whatever happens (row 56)."""

from __future__ import annotations

import errno
import random
from itertools import pairwise

import pytest

from quorumlog.proto.checksum import crc32c, masked
from quorumlog.storage.errors import Damaged, NoSpace, SyncFailed, UnknownVersion
from quorumlog.storage.format import MANIFEST, SUM
from quorumlog.storage.install import Installation, temporary_name
from quorumlog.storage.log import Log
from quorumlog.storage.manifest import Manifest
from quorumlog.storage.segment import file_name
from quorumlog.storage.state import decode_state, encode_state
from tests.storage.model import (
    GROUP,
    IDENTITY,
    Model,
    contents,
    fill,
    header_of,
    open_log,
    same,
    state_of,
    view_of,
)
from tests.support.simulated_disk import PowerCut, SimulatedDisk

BASE = 9  # the old log has a segment of that name too, not committed


def old_log(disk: SimulatedDisk) -> Model:
    """A log of five segments, of which three are sealed; the fifth begins at BASE."""
    model = Model(disk)
    for _ in range(4):
        model.append(8000)
        model.append(3000)
    model.sync()
    model.append(8000)
    model.sync()
    for base, following in pairwise(model.log.bases):
        view = view_of(base, model.maybe[base - 1 : following - 1])
        if following == BASE:  # its last entry is not committed
            break
        model.log.seal(base, view, state_of(following))
    assert model.log.bases == (1, 3, 5, 7, 9)
    assert not model.log._derived.has_state(BASE)
    return model


def names_of(disk: SimulatedDisk) -> set[str]:
    return {entry.name for entry in disk.list(GROUP / "log")}


def is_new(log: Log) -> bool:
    """Whether it is the new log, whole; an old one must be whole too."""
    if log.first_index == BASE:
        assert (log.last_index, log.last_term, log.term_at(BASE - 1)) == (BASE - 1, 9, 9)
        assert log.load_state() == (BASE, state_of(BASE))
        return True
    assert (log.first_index, log.last_index) == (1, 9)
    assert len(contents(log)) == 9
    assert log.load_state() == (7, state_of(7))
    return False


def test_afterwards_nothing_but_the_new_beginning_is_there() -> None:
    disk = SimulatedDisk()
    model = old_log(disk)
    model.log.install(header_of(BASE, 7), state_of(BASE))
    assert is_new(model.log)
    assert model.log.durable_index == BASE - 1
    assert not model.log.damage
    assert names_of(disk) == {file_name(BASE, suffix) for suffix in ("log", "index", "state")}
    frames = fill(model.log, 9, 700, term=9)
    model.log.sync()
    assert same(contents(model.log)) == same(frames)
    model.log.close()
    again = open_log(disk)
    assert again.recovery.is_clean
    assert same(contents(again)) == same(frames)


def test_the_new_segment_is_that_of_the_other_replicas_byte_for_byte() -> None:
    """Headers too: they name the segment before, though it is not here."""
    leader = old_log(SimulatedDisk())
    disk = SimulatedDisk()
    follower = open_log(disk)
    follower.install(leader.log.header_of(7), state_of(7))
    follower.append(leader.maybe[6:8])
    follower.append([leader.maybe[8]])
    pages = [log._segment(7).store.file.pread(1024, 0) for log in (leader.log, follower)]
    assert pages[0] == pages[1]


@pytest.mark.parametrize("power", [False, True])
@pytest.mark.parametrize("seed", [1, 2])
def test_a_crash_at_any_step_and_another_while_it_is_opened_leave_the_old_or_the_new(
    seed: int, *, power: bool
) -> None:
    """Rows 3 and 56: every step of the install, and for each of them every step of the recovery."""
    seen: set[bool] = set()
    killed, step = True, 0
    while killed:
        step += 1
        rng = random.Random(f"{seed} {step}")
        disk = SimulatedDisk()
        model = old_log(disk)
        disk.kill_at(step, rng)
        killed = _runs_into_a_kill(lambda log=model.log: log.install(header_of(BASE, 7), state_of(BASE)))
        second_killed, second = True, 0
        found = disk.after_power_loss(rng) if power else disk.after_kill()
        while second_killed:
            second += 1
            again = found.copy()
            again.kill_at(second, rng)
            second_killed = _runs_into_a_kill(lambda disk=again: open_log(disk))
            again = again.after_power_loss(rng) if power else again.after_kill()
            log = open_log(again)
            assert not log.recovery.fenced, (step, second, log.recovery)
            seen.add(is_new(log))
            if log.first_index == BASE:
                assert names_of(again) == {file_name(BASE, suffix) for suffix in ("log", "index", "state")}
            fill(log, 3, 700, term=10)
            log.sync()
            log.close()
    assert seen == {False, True}
    assert step > 15


def _runs_into_a_kill(work: object) -> bool:
    assert callable(work)
    try:
        work()
    except PowerCut:
        return True
    return False


@pytest.mark.parametrize("operation", ["pwritev", "allocate", "rename", "create"])
def test_a_full_disk_leaves_the_old_log_and_the_install_can_be_tried_again(operation: str) -> None:
    """Row 56: before the decision nothing is changed; after it the install is finished later."""
    refused = 0
    for after in range(12):
        disk = SimulatedDisk()
        model = old_log(disk)
        installation = model.log.begin_install(header_of(BASE, 7), state_of(BASE))
        before = names_of(disk)
        disk.fail(operation, errno.ENOSPC, after=after)
        try:
            installation.prepare()
        except NoSpace:
            refused += 1
            assert names_of(disk) == before
            model.check()
            fill(model.log, 1)
            installation = model.log.begin_install(header_of(BASE, 7), state_of(BASE))
            installation.prepare()
        model.log.switch_to(installation)
        for _ in range(2):
            try:
                installation.finish()
            except NoSpace:
                refused += 1
        model.log.end_install(installation)
        disk.faults.clear()
        assert is_new(model.log)
        fill(model.log, 5, 4000, term=9)
        model.log.close()
        assert open_log(disk).first_index == BASE
    assert refused


def test_room_is_asked_for_with_the_reserve_left_alone() -> None:
    disk = SimulatedDisk()
    model = old_log(disk)
    disk.capacity = disk.used() + 20_000
    with pytest.raises(NoSpace, match="install of 9"):
        model.log.install(header_of(BASE, 7), bytes(50_000))
    model.check()


@pytest.mark.parametrize("operation", ["create", "pwritev", "fsync", "rename", "unlink", "sync_directory"])
def test_a_disk_that_fails_ends_the_log_and_what_is_found_later_is_whole(operation: str) -> None:
    for after in range(8):
        disk = SimulatedDisk()
        model = old_log(disk)
        disk.fail(operation, errno.EIO, after=after)
        try:
            model.log.install(header_of(BASE, 7), state_of(BASE))
        except SyncFailed:
            with pytest.raises(SyncFailed):
                model.log.sync()
        disk.faults.clear()
        model.log.close()
        is_new(open_log(disk.after_power_loss(random.Random(after))))


def test_a_disk_that_fails_while_room_is_given_back_ends_the_log_too() -> None:
    disk = SimulatedDisk()
    model = old_log(disk)
    disk.fail("rename", errno.ENOSPC)
    disk.fail("unlink", errno.EIO)
    with pytest.raises(SyncFailed, match="install of 9"):
        model.log.install(header_of(BASE, 7), state_of(BASE))


def decided(disk: SimulatedDisk) -> Installation:
    """An install that a kill interrupts after the decision."""
    installation = old_log(disk).log.begin_install(header_of(BASE, 7), state_of(BASE))
    installation.prepare()
    return installation


@pytest.mark.parametrize("suffix", ["state", "log"])
@pytest.mark.parametrize("how", ["flipped", "missing"])
def test_nothing_is_removed_for_a_beginning_that_is_damaged(suffix: str, how: str) -> None:
    disk = SimulatedDisk()
    decided(disk)
    disk = disk.after_kill()
    path = GROUP / "log" / temporary_name(suffix)
    if how == "flipped":
        disk.flip(path, 20, 3)
    else:
        disk.unlink(path)
    before = names_of(disk)
    with pytest.raises(Damaged, match=file_name(BASE, suffix) if how == "missing" else path.name):
        open_log(disk)
    assert names_of(disk) == before


def test_a_full_disk_while_it_is_finished_at_opening_is_no_space() -> None:
    disk = SimulatedDisk()
    decided(disk)
    disk = disk.after_kill()
    disk.fail("create", errno.ENOSPC)
    with pytest.raises(NoSpace):
        open_log(disk)
    assert is_new(open_log(disk))


def test_opening_says_that_it_finished() -> None:
    disk = SimulatedDisk()
    decided(disk)
    log = open_log(disk.after_kill())
    assert any("begins anew at 9" in note for note in log.recovery.notes)


def test_a_log_that_is_closed_amid_an_install_is_finished_when_it_is_opened() -> None:
    disk = SimulatedDisk()
    model = old_log(disk)
    installation = model.log.begin_install(header_of(BASE, 7), state_of(BASE))
    installation.prepare()
    model.log.switch_to(installation)
    with pytest.raises(AssertionError, match="being replaced"):
        fill(model.log, 1)
    model.log.close()
    assert is_new(open_log(disk))


def test_what_only_a_bug_would_ask_for() -> None:
    model = old_log(SimulatedDisk())
    log = model.log
    with pytest.raises(AssertionError, match="goes back"):
        log.begin_install(header_of(7, 7), state_of(7))
    installation = log.begin_install(header_of(BASE, 7), state_of(BASE))
    with pytest.raises(AssertionError, match="before prepare"):
        log.switch_to(installation)
    with pytest.raises(AssertionError, match="before prepare"):
        installation.finish()
    with pytest.raises(AssertionError, match="before finish"):
        log.end_install(installation)
    ticket = log.begin_sync()
    with pytest.raises(AssertionError, match="during a sync"):
        log.begin_install(header_of(BASE, 7), state_of(BASE))
    installation.prepare()
    with pytest.raises(AssertionError, match="during a sync"):
        log.switch_to(installation)
    ticket.run()
    log.finish_sync(ticket)


def test_a_spare_that_was_prepared_before_serves_afterwards() -> None:
    disk = SimulatedDisk()
    model = old_log(disk)
    model.log.prepare_next()
    model.log.install(header_of(BASE, 7), state_of(BASE))
    before = disk.calls["allocate"]
    fill(model.log, 1, 9000, term=9)
    fill(model.log, 1, 9000, term=9)
    assert model.log.bases == (9, 10)
    assert disk.calls["allocate"] <= before + 1


def test_who_holds_an_old_segment_reads_on_and_who_looks_for_one_is_told() -> None:
    """Row 47."""
    model = old_log(SimulatedDisk())
    held = model.log._segment(3)
    model.log.install(header_of(BASE, 7), state_of(BASE))
    assert held.read(3).index == 3
    with pytest.raises(Exception, match="the log holds 9 to 8"):
        model.log.read_body(3, 4096, 10)


def test_flags_that_are_not_known_are_refused() -> None:
    data = bytearray(Manifest.initial(IDENTITY).encode(IDENTITY))
    data[10] = 2
    data[MANIFEST.size :] = SUM.pack(masked(crc32c(bytes(data[: MANIFEST.size]))))
    with pytest.raises(UnknownVersion, match="flags"):
        Manifest.decode(bytes(data), IDENTITY)


def test_a_state_is_read_piece_by_piece_and_verified_with_the_last() -> None:
    disk = SimulatedDisk()
    log = old_log(disk).log
    log.write_state(7, bytes(range(250)))
    state = log.open_state(7)
    assert state.size == 250
    assert b"".join(state.read(position, 100) for position in (0, 100, 200)) == bytes(range(250))
    assert state.read(100, 100) == bytes(range(100, 200))  # again, out of order
    disk.flip(GROUP / "log" / file_name(7, "state"), 40 + 120, 1)
    flipped = log.open_state(7)
    flipped.read(0, 100)
    flipped.read(100, 100)
    with pytest.raises(Damaged, match="crc"):
        flipped.read(200, 100)
    log.drop_before(7)
    assert state.read(0, 3) == b"\x00\x01\x02"


@pytest.mark.parametrize("how", ["longer", "another base", "missing"])
def test_a_state_that_is_not_what_its_name_says_is_damaged(how: str) -> None:
    disk = SimulatedDisk()
    log = old_log(disk).log
    path = GROUP / "log" / file_name(7, "state")
    if how == "missing":
        disk.unlink(path)
    elif how == "longer":
        disk.open(path).pwritev([b"more"], disk.open(path).size())
    else:
        disk.rename(GROUP / "log" / file_name(5, "state"), path)
    with pytest.raises(Damaged, match=file_name(7, "state")):
        log.open_state(7)


@pytest.mark.parametrize(("operation", "error"), [("create", errno.EIO), ("unlink", errno.EIO)])
def test_a_drop_that_fails_ends_the_log_and_is_finished_when_it_is_opened(operation: str, error: int) -> None:
    """Row 4: what retention left half-done resumes."""
    disk = SimulatedDisk()
    log = old_log(disk).log
    disk.fail(operation, error, after=1 if operation == "unlink" else 0)
    with pytest.raises(SyncFailed):
        log.drop_before(7)
    with pytest.raises(SyncFailed):
        fill(log, 1)
    log.close()
    found = open_log(disk.after_kill())
    assert found.first_index == (7 if operation == "unlink" else 1)
    assert not found.recovery.fenced
    assert [name for name in names_of(disk) if found.first_index == 7 and name < file_name(7, "index")] == []


def test_a_state_of_another_size_than_it_says_is_damaged() -> None:
    with pytest.raises(Damaged, match="size: expected 3, got 4"):
        decode_state(encode_state(7, b"abc") + b"d", 7, "name")
