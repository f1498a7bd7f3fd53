"""The log as its users see it: appending, reading, syncing, truncating, retention."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorumlog.storage.errors import Damaged, Locked, OutOfLog, UnknownVersion, WrongIdentity
from quorumlog.storage.format import KIND_MEMBERSHIP, KIND_NO_OP, STARTS_SEGMENT, first_chain
from quorumlog.storage.frame import Frame
from quorumlog.storage.log import Log, LogIdentity, LogOptions
from quorumlog.storage.manifest import Manifest
from quorumlog.storage.segment import file_name
from tests.storage.model import GROUP, IDENTITY, OPTIONS, Model, contents, fill, next_frame, open_log, same
from tests.support.simulated_disk import SimulatedDisk


def test_a_new_log_is_empty_and_begins_with_a_stub() -> None:
    log = open_log(SimulatedDisk())
    assert (log.first_index, log.last_index, log.last_term, log.durable_index) == (1, 0, 0, 0)
    assert log.last_chain == first_chain(IDENTITY.cluster_id, IDENTITY.group)
    assert (log.term_at(0), log.term_at(1)) == (0, None)
    assert log.should_roll(0)
    assert log.load_state() == (1, None)
    with pytest.raises(OutOfLog, match="entry 1"):
        log.read(1)


def test_it_says_of_which_segments_it_is_made() -> None:
    log = open_log(SimulatedDisk())
    frames = fill(log, 8, 100)
    assert [(each.base, each.last_index, each.is_active) for each in log.segments] == [
        (1, 6, False),
        (7, 8, True),
    ]
    assert log.size_bytes == 2 * 4096 + sum(frame.size for frame in frames)
    assert log.bases == (1, 7)


def test_it_finds_the_entries_of_a_kind_in_all_segments() -> None:
    disk = SimulatedDisk()
    log = open_log(disk)
    expected = []
    for number in range(20):
        fill(log, 1, 10)
        if number % 5 == 0:
            other = Frame.build(
                log.last_index + 1, log.last_term, KIND_MEMBERSHIP, [b"m"], roll(log), log.last_chain
            )
            log.append([other])
            expected.append(other.index)
    assert len(log.bases) > 2
    assert log.indexes_of_kind(1, KIND_MEMBERSHIP) == expected
    assert log.indexes_of_kind(expected[1] + 1, KIND_MEMBERSHIP) == expected[2:]
    assert log.indexes_of_kind(log.last_index + 1, KIND_MEMBERSHIP) == []
    log.sync()
    file = log.segments[0]
    disk.flip(GROUP / "log" / file_name(file.base, "log"), 4096 + 3, 1)
    with pytest.raises(Damaged):
        log.indexes_of_kind(1, KIND_MEMBERSHIP)
    assert log.damage


def roll(log: Log) -> int:
    return STARTS_SEGMENT if log.should_roll(1) else 0


def test_a_leader_is_told_to_roll_by_size_and_by_count() -> None:
    log = open_log(SimulatedDisk())
    fill(log, 1, 10_000)
    assert not log.should_roll(1000)
    assert log.should_roll(3000)
    fill(log, 5, 10)
    assert log.should_roll(0)


def test_it_asks_for_the_next_segment_when_half_full() -> None:
    log = open_log(SimulatedDisk())
    assert not log.wants_next
    fill(log, 1, 5000)
    assert log.wants_next
    log.prepare_next()
    assert not log.wants_next


def test_the_first_entry_must_start_a_segment_and_no_other_may_unasked() -> None:
    log = open_log(SimulatedDisk())
    with pytest.raises(AssertionError, match="starts a segment"):
        log.append([next_frame(log, b"", rolls=False)])
    fill(log, 1)


@pytest.mark.parametrize("wrong", ["index", "term", "chain"])
def test_what_does_not_continue_the_log_is_a_bug(wrong: str) -> None:
    log = open_log(SimulatedDisk())
    fill(log, 2, term=3)
    index = log.last_index + (2 if wrong == "index" else 1)
    term = 2 if wrong == "term" else 3
    chain = 5 if wrong == "chain" else log.last_chain
    with pytest.raises(AssertionError, match=wrong):
        log.append([Frame.build(index, term, KIND_NO_OP, [], 0, chain)])


def test_one_run_of_frames_is_one_write() -> None:
    disk = SimulatedDisk()
    log = open_log(disk)
    fill(log, 1)
    before = disk.calls["pwritev"]
    chain, frames = log.last_chain, []
    for index in (2, 3, 4):
        frames.append(Frame.build(index, 1, 0x10, [b"head", bytes(100), b"tail"], 0, chain))
        chain = frames[-1].chain
    log.append(frames)
    assert disk.calls["pwritev"] == before + 1


def test_a_read_is_one_read_and_a_term_is_none() -> None:
    disk = SimulatedDisk()
    log = open_log(disk)
    fill(log, 10, 100)
    log.read(2)
    before = disk.calls.copy()
    assert log.read_raw(1, 10_000)[1] == 6
    log.read(9)
    assert disk.calls["pread"] == before["pread"] + 2
    assert [log.term_at(index) for index in range(1, 11)] == [1] * 10
    assert disk.calls["pread"] == before["pread"] + 2


def test_the_watermark_trails_by_one_sync() -> None:
    disk = SimulatedDisk()
    log = open_log(disk)
    for _ in range(4):
        position = log._active.watermark.position
        end = log._active.store.end
        fill(log, 1)
        log.sync()
        assert log._active.watermark.position > end >= position


def test_a_sync_that_changes_nothing_writes_no_slot() -> None:
    disk = SimulatedDisk()
    log = open_log(disk)
    fill(log, 1)
    log.sync()
    log.sync()
    before = disk.calls["pwritev"]
    log.sync()
    assert disk.calls["pwritev"] == before


def test_tickets_prove_what_was_appended_before_them() -> None:
    log = open_log(SimulatedDisk())
    fill(log, 2)
    first = log.begin_sync()
    fill(log, 2)
    second = log.begin_sync()
    second.run()
    first.run()
    assert log.finish_sync(first) == 2
    assert log.finish_sync(second) == 4
    with pytest.raises(AssertionError, match="before run"):
        log.finish_sync(log.begin_sync())


@pytest.mark.parametrize("when", ["before run", "after run"])
def test_a_truncation_lowers_what_a_sync_under_way_proves(when: str) -> None:
    log = open_log(SimulatedDisk())
    fill(log, 4)
    ticket = log.begin_sync()
    if when == "after run":
        ticket.run()
    log.truncate_from(3)
    fill(log, 3, 50, term=2)
    if when == "before run":
        ticket.run()
    assert log.finish_sync(ticket) == 2


def test_a_roll_makes_all_before_it_durable_and_a_ticket_of_before_does_no_harm() -> None:
    log = open_log(SimulatedDisk())
    fill(log, 5)
    ticket = log.begin_sync()
    fill(log, 3)
    assert log.durable_index == 6
    ticket.run()
    assert log.finish_sync(ticket) == 6
    assert log.sync() == 8


@pytest.mark.parametrize("evict", [False, True])
def test_a_segment_that_is_reopened_while_it_is_synced_keeps_one_watermark(evict: bool) -> None:
    disk = SimulatedDisk()
    log = open_log(disk)
    fill(log, 6)
    ticket = log.begin_sync()
    fill(log, 6)
    fill(log, 6)
    if evict:
        log._sealed._open.clear()
    log.truncate_from(4)
    assert log._active is ticket.segment
    ticket.run()
    assert log.finish_sync(ticket) == 3
    again = open_log(disk.after_power_loss(random.Random(1)))
    assert again.last_index == 3


def test_an_entry_that_starts_no_segment_takes_back_an_empty_one() -> None:
    disk = SimulatedDisk()
    log = open_log(disk)
    kept = fill(log, 4)
    log.append([next_frame(log, b"another leader's", rolls=True)])
    log.truncate_from(5)
    assert log.bases == (1, 5)
    assert log.should_roll(1)
    kept += [next_frame(log, b"the new leader's", term=2, rolls=False)]
    log.append(kept[-1:])
    assert log.bases == (1,)
    log.append([next_frame(log, b"and it rolls", term=2, rolls=True)])
    assert log.bases == (1, 6)
    assert same(contents(log)[:5]) == same(kept)


def test_truncating_what_a_state_covers_is_a_bug() -> None:
    model = Model(SimulatedDisk())
    model.append(10)
    model.append(10, rolls=True)
    model.seal()
    for index in (1, 3):
        with pytest.raises(AssertionError):
            model.log.truncate_from(index)
    model.log.truncate_from(2)
    with pytest.raises(AssertionError, match="committed"):
        model.log.append([next_frame(model.log, b"", rolls=False)])


def test_truncating_everything_leaves_an_empty_log_that_works() -> None:
    disk = SimulatedDisk()
    log = open_log(disk)
    fill(log, 20, 3000)
    log.truncate_from(1)
    assert (log.first_index, log.last_index, log.bases) == (1, 0, (1,))
    frames = fill(log, 3)
    log.close()
    assert same(contents(open_log(disk))) == same(frames)


def test_the_first_kept_segment_can_be_emptied() -> None:
    model = Model(SimulatedDisk())
    for _ in range(3):
        model.append(10, rolls=True)
    model.sync()
    model.seal()
    model.drop(2)
    model.truncate(3)
    assert (model.log.first_index, model.log.last_index, model.log.last_term) == (3, 2, 1)
    model.append(10, term=2)
    model.check()


def test_dropping_needs_a_segment_and_its_state_and_dropping_nothing_is_fine() -> None:
    model = Model(SimulatedDisk())
    for _ in range(3):
        model.append(10, rolls=True)
    with pytest.raises(AssertionError, match="state"):
        model.log.drop_before(2)
    with pytest.raises(AssertionError, match="base"):
        model.log.drop_before(9)
    model.seal()
    model.log.drop_before(2)
    model.log.drop_before(2)
    assert model.log.bases == (2, 3)


def test_a_seal_is_of_a_finished_durable_segment() -> None:
    model = Model(SimulatedDisk())
    model.append(10)
    model.append(10, rolls=True)
    with pytest.raises(AssertionError, match="no segment"):
        model.log.seal(5, b"", b"")
    with pytest.raises(AssertionError, match="no segment"):
        model.log.seal(0, b"", b"")
    with pytest.raises(AssertionError, match="active"):
        model.log.seal(2, b"", b"")
    with pytest.raises(AssertionError, match="base"):
        model.log.write_state(5, b"")


def test_one_process_at_a_time() -> None:
    disk = SimulatedDisk()
    log = open_log(disk)
    with pytest.raises(Locked):
        open_log(disk)
    log.close()
    log.close()
    open_log(disk)
    with pytest.raises(AssertionError, match="closed"):
        log.begin_sync()


@pytest.mark.parametrize("other", [LogIdentity(b"another cluster!"), LogIdentity(IDENTITY.cluster_id, 1)])
def test_a_log_of_another_identity_is_refused(other: LogIdentity) -> None:
    disk = SimulatedDisk()
    open_log(disk).close()
    with pytest.raises(WrongIdentity, match="manifest"):
        Log.open(GROUP, other, disk, OPTIONS)
    disk.names.pop(GROUP / "manifest")
    with pytest.raises(WrongIdentity, match="log"):
        Log.open(GROUP, other, disk, OPTIONS)


def test_a_newer_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = SimulatedDisk()
    open_log(disk).close()
    for module in ("manifest", "header"):
        monkeypatch.setattr(f"quorumlog.storage.{module}.VERSION", 2)
        with pytest.raises(UnknownVersion, match="expected 2, got 1"):
            open_log(disk)
        monkeypatch.undo()
    with monkeypatch.context() as context:
        context.setattr("quorumlog.storage.manifest.VERSION", 9)
        newer = Manifest.initial(IDENTITY).encode(IDENTITY)
    disk.names[GROUP / "manifest"].write(newer, 0)
    with pytest.raises(UnknownVersion):
        open_log(disk)


def test_options_are_checked() -> None:
    for wrong in ({"segment_bytes": 100}, {"segment_entries": 0}, {"open_segments": 0}):
        with pytest.raises(AssertionError):
            LogOptions(**wrong)


def test_replicas_with_other_sizes_have_the_same_files_but_for_the_slots() -> None:
    """A follower's own limits play no part: the leader's entries alone say where segments begin."""
    small, large = SimulatedDisk(), SimulatedDisk()
    leader = open_log(small)
    follower = open_log(large, LogOptions(segment_bytes=1 << 20, segment_entries=2, reserve_bytes=0))
    for _ in range(9):
        frames = fill(leader, 3, 900)
        follower.append(frames)
        follower.sync()
    leader.close()
    follower.close()
    assert [path for path in small.names if path.suffix in (".log", ".index")] == [
        path for path in large.names if path.suffix in (".log", ".index")
    ]
    for path in small.names:
        if path.suffix not in (".log", ".index"):
            continue
        ours, theirs = small.names[path], large.names[path]
        slots = slice(1024, 4096 if path.suffix == ".log" else 1024)
        assert _without(ours.cached[: ours.size], slots) == _without(theirs.cached[: theirs.size], slots)


def _without(data: bytearray, part: slice) -> bytes:
    return bytes(data[: part.start] + data[part.stop :])


operations = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.lists(st.integers(0, 5000), min_size=1, max_size=5)),
        st.tuples(st.just("truncate"), st.floats(0, 1)),
        st.tuples(st.just("sync"), st.none()),
        st.tuples(st.just("seal"), st.none()),
        st.tuples(st.just("drop"), st.none()),
        st.tuples(st.just("reopen"), st.none()),
    ),
    max_size=25,
)


@settings(max_examples=80)
@given(operations)
def test_any_sequence_of_operations_gives_what_a_list_would(steps: list[tuple[str, object]]) -> None:
    disk = SimulatedDisk()
    model = Model(disk)
    term = 1
    for name, argument in steps:
        lowest = max(model.sealed_up_to, model.log.first_index)
        match name, argument:
            case "append", list(sizes):
                model.append(*sizes, term=term)
            case "truncate", float(share) if lowest <= model.log.last_index:
                model.truncate(lowest + int(share * (model.log.last_index - lowest)))
                term += 1
            case "seal", _:
                model.seal()
            case "drop", _ if len(model.log.bases) > 1 and model.log.bases[1] <= model.sealed_up_to:
                model.drop(1)
            case "sync", _:
                model.sync()
            case "reopen", _:
                model.reopen(disk)
    model.check()


def test_a_cleaned_entry_is_taken_with_the_chain_of_its_original() -> None:
    from quorumlog.storage.format import CLEANED

    log = open_log(SimulatedDisk())
    original = next_frame(log, b"what it was")
    cleaned = Frame.build(1, 1, 0x10, [b"stub"], STARTS_SEGMENT | CLEANED, 99)
    fields = {name: getattr(cleaned, name) for name in Frame.__slots__}
    log.append([Frame(**{**fields, "chain": original.chain})])
    log.append([Frame.build(2, 1, 0x10, [b"next"], 0, original.chain)])
    assert log.last_index == 2


def test_a_log_that_is_abandoned_is_let_go_of_and_not_called_clean() -> None:
    disk = SimulatedDisk()
    log = open_log(disk)
    fill(log, 3, 100)
    log.sync()
    log.close()
    log = open_log(disk)
    assert log.recovery.is_clean
    fill(log, 3, 100)
    log.abandon()
    log.close()  # nothing more
    again = open_log(disk)  # the lock is free
    assert not again.recovery.is_clean
    assert again.last_index == 6
