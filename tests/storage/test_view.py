"""Views: from an offset to rows, in memory and from a file, over one segment and over many."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorumlog.proto.batch import encode_values
from quorumlog.storage.errors import Damaged, UnknownVersion
from quorumlog.storage.view import ActiveView, BatchRow, SealedView
from quorumlog.storage.views import OPEN_VIEWS, Views


def row(base_offset: int, span: int = 1, *, time: int = 0, size: int = 100, index: int = 1) -> BatchRow:
    return BatchRow(index, base_offset, time, 1, 2, 3, 4, size, 5, span, span, 6, 7, 1, 0)


def view_with(spans: list[int], *, base: int = 1, first: int = 0, time: int = 10) -> ActiveView:
    view = ActiveView(base)
    view.ensure(1, 0, first)
    for number, span in enumerate(spans):
        view.add(1, 0, row(first, span, time=time + number, index=base + number))
        first += span
    return view


def both(view: ActiveView) -> list[ActiveView | SealedView]:
    return [view, SealedView(memoryview(view.to_bytes(1000)), "view")]


@given(st.lists(st.integers(1, 9), max_size=20), st.integers(0, 1000), st.integers(1, 500), st.integers(1, 5))
def test_every_offset_is_found_with_what_follows_it(
    spans: list[int], first: int, max_bytes: int, max_rows: int
) -> None:
    active = view_with(spans, first=first)
    offsets, expected = first, []
    for span in spans:
        expected.append(row(offsets, span))
        offsets += span
    for view in both(active):
        assert view.first_offset(1, 0) == first
        assert view.next_offset(1, 0) == offsets
        for offset in range(first, offsets):
            rows = view.rows(1, 0, offset, max_bytes, max_rows)
            number = next(n for n, each in enumerate(expected) if offset < each.next_offset)
            count = max(1, min(max_rows, max_bytes // 100))
            assert [each.base_offset for each in rows] == [
                each.base_offset for each in expected[number : number + count]
            ]
        assert view.rows(1, 0, offsets, 100, 1) == []
        assert view.rows(1, 0, first - 1, 100, 1) == []


def test_all_partitions_that_exist_are_in_the_file_ascending() -> None:
    active = ActiveView(5)
    for topic, partition, offset in ((9, 1, 4), (2, 7, 0), (9, 0, 8)):
        active.ensure(topic, partition, offset)
    active.ensure(9, 0, 100)  # known already
    active.add(9, 0, row(8, 3, time=20))
    sealed = SealedView(memoryview(active.to_bytes(9)), "view")
    assert list(sealed.partitions()) == [((2, 7), 0), ((9, 0), 11), ((9, 1), 4)]
    assert dict(active.partitions()) == dict(sealed.partitions())
    assert (sealed.base, sealed.next_base) == (5, 9)
    assert (sealed.first_append_time_ms, sealed.last_append_time_ms) == (20, 20)
    for view in (active, sealed):
        assert view.first_offset(9, 1) == view.next_offset(9, 1) == 4
        assert view.rows(9, 1, 4, 1, 1) == []
        assert view.row_at_time(9, 1, 0) is None
        for unknown in ((1, 0), (9, 2), (10, 0)):
            assert view.first_offset(*unknown) is None
            assert view.next_offset(*unknown) is None
            assert view.rows(*unknown, 0, 1, 1) == []
            assert view.row_at_time(*unknown, 0) is None


def test_a_row_holds_the_whole_header_of_a_batch() -> None:
    header, _ = encode_values([b"a", b"b"], 77)
    header.producer_id, header.producer_epoch, header.sequence = 2**60, 3, 2**32 - 1
    assert BatchRow.of(header, 9, 4, 99, 5000).header() == header
    assert BatchRow.of(header, 9, 4, 99, 5000).next_offset == 6


def test_a_deleted_topic_leaves_no_trace() -> None:
    view = view_with([1, 1])
    view.ensure(2, 0)
    view.remove_topic(1)
    assert dict(view.partitions()) == {(2, 0): 0}
    assert view.rows(1, 0, 0, 1, 1) == []


def test_what_does_not_continue_its_partition_is_a_bug() -> None:
    view = view_with([2])
    with pytest.raises(AssertionError, match="expected offset 2"):
        view.add(1, 0, row(3, time=99))
    with pytest.raises(AssertionError):
        view.add(1, 0, row(2, time=1))


def test_the_first_batch_at_a_time_or_later_is_found() -> None:
    for view in both(view_with([1] * 7, time=10)):
        found = [view.row_at_time(1, 0, time) for time in (0, 10, 13, 16, 17)]
        assert [each and each.base_offset for each in found] == [0, 0, 3, 6, None]


def test_every_flipped_bit_of_a_file_is_noticed() -> None:
    good = view_with([2, 1]).to_bytes(3)
    for position in range(len(good)):
        for bit in range(8):
            bad = bytearray(good)
            bad[position] ^= 1 << bit
            with pytest.raises(Damaged):
                SealedView(memoryview(bad), "view").rows(1, 0, 0, 1, 1)


def test_a_newer_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as context:
        context.setattr("quorumlog.storage.view.VERSION", 2)
        data = view_with([1]).to_bytes(2)
    with pytest.raises(UnknownVersion, match="expected 1, got 2"):
        SealedView(memoryview(data), "view")


class Source:
    """Sealed views in memory: a ViewSource."""

    def __init__(self, views: list[ActiveView]) -> None:
        self.files = {
            view.base: view.to_bytes(following.base)
            for view, following in zip(views, [*views[1:], ActiveView(10**6)], strict=True)
        }
        self.bases = tuple(self.files)
        self.opened = 0

    def open_view(self, base: int) -> SealedView:
        self.opened += 1
        return SealedView(memoryview(self.files[base]), f"{base}.view")


def segments(counts: list[int], time: int = 100) -> list[ActiveView]:
    """One view for each count of batches of two records; append times rise by one a batch."""
    views, first, base = [], 0, 1
    for count in counts:
        views.append(view_with([2] * count, base=base, first=first, time=time))
        first += 2 * count
        time += count
        base += count + 1
    return views


def views_of(counts: list[int], in_memory: int) -> Views:
    made = segments(counts)
    views = Views(Source(made))
    for view in made[len(made) - in_memory :]:
        views.begin(view)
    return views


@settings(max_examples=60)
@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=8),
    st.integers(1, 8),
    st.integers(1, 900),
    st.integers(1, 9),
)
def test_segments_are_read_as_one(counts: list[int], in_memory: int, max_bytes: int, max_rows: int) -> None:
    views = views_of(counts, min(in_memory, len(counts)))
    total = sum(counts)
    assert views.next_offset(1, 0) == 2 * total
    for offset in range(2 * total):
        located = views.rows(1, 0, offset, max_bytes, max_rows)
        number = offset // 2
        expected = max(1, min(max_rows, max_bytes // 100, total - number))
        assert [each.base_offset for _, each in located] == [2 * (number + n) for n in range(expected)]
        assert [base for base, _ in located] == [_segment_of(counts, number + n) for n in range(expected)]
        ended = views.rows(1, 0, offset, max_bytes, max_rows, offset + 1)
        assert ended == located[:1]
    assert views.rows(1, 0, 2 * total, 100, 1) == []
    for time in range(98, 102 + total):
        number = max(0, time - 100)
        found = (2 * number, 100 + number) if number < total else None
        assert views.offset_at_time(1, 0, time) == found


def _segment_of(counts: list[int], number: int) -> int:
    base = 1
    for count in counts:
        if number < count:
            return base
        number -= count
        base += count + 1
    raise AssertionError


def test_a_partition_that_began_later_is_found_where_it_is() -> None:
    made = segments([3, 3, 3, 3])
    made[2].ensure(5, 0)
    made[2].add(5, 0, row(0, 4, time=made[2].last_append_time_ms))
    made[3].ensure(5, 0, 4)
    source = Source(made)
    views = Views(source)
    views.begin(made[3])
    assert [base for base, _ in views.rows(5, 0, 2, 10, 10)] == [9]
    assert views.offset_at_time(5, 0, 0) == (0, 108)
    assert views.offset_at_time(5, 0, 109) is None
    assert views.rows(6, 0, 0, 10, 10) == []
    assert views.next_offset(6, 0) is None


def test_what_was_dropped_is_not_found() -> None:
    made = segments([2, 2, 2])
    source = Source(made[1:])
    views = Views(source)
    views.begin(made[2])
    assert views.rows(1, 0, 3, 10, 10) == []
    assert views.rows(1, 0, 4, 10, 1)[0][1].base_offset == 4


def test_views_stay_in_memory_until_they_are_sealed_and_a_new_start_forgets_them() -> None:
    made = segments([1, 1, 1, 1])
    source = Source(made)
    views = Views(source)
    for view in made[1:]:
        views.begin(view)
    assert views.active is made[3]
    views.rows(1, 0, 2, 10, 1)
    assert source.opened == 1  # to look; the batch itself is in memory
    with pytest.raises(AssertionError, match="oldest"):
        views.sealed(5)
    with pytest.raises(AssertionError, match="active"):
        views.sealed(7)
    views.sealed(3)
    assert views.rows(1, 0, 2, 10, 1)[0][0] == 3
    views.begin(made[1])
    assert views.active is made[1]


def test_a_bounded_number_of_files_is_kept_open() -> None:
    made = segments([1] * (OPEN_VIEWS + 10))
    source = Source(made)
    views = Views(source)
    views.begin(made[-1])
    for offset in range(0, 2 * len(made), 2):
        views.rows(1, 0, offset, 10, 1)
    assert len(views._open) == OPEN_VIEWS
    views.forget_before(made[-3].base)
    assert list(views._open) == [made[-3].base, made[-2].base]
