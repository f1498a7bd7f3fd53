"""Views: the views of all segments as one, from an offset to the rows of batches, wherever they stand.

The newest segment's view is in memory; so are those of finished segments until their files are durable.
All others are maps of files, opened when they are first asked. Which segment holds an offset is found by
bisection over the segments, since offsets rise from one to the next; within it everything is arithmetic.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from typing import Protocol, TypeAlias

from quorumlog.storage.view import ActiveView, BatchRow, PartitionKey, SealedView

# Maps kept: enough for a bisection over very many segments and for some consumers far behind.
OPEN_VIEWS = 64

Located: TypeAlias = tuple[int, BatchRow]  # base of the segment whose .log holds the batch


class ViewSource(Protocol):
    """Where the sealed views are: Log."""

    @property
    def bases(self) -> tuple[int, ...]:
        """The bases of all segments, ascending."""

    def open_view(self, base: int) -> SealedView:
        """Map a sealed segment's view. Raises Damaged."""


class Views:
    """All that is applied, readable by offset. Used by one thread.

    - The segments before the oldest view in memory have their view on disk.
    - A partition's offsets rise from segment to segment without gaps.
    """

    def __init__(self, source: ViewSource) -> None:
        self._source = source
        self._in_memory: dict[int, ActiveView] = {}  # by base, ascending; the last one is the active
        self._open: OrderedDict[int, SealedView] = OrderedDict()

    @property
    def active(self) -> ActiveView:
        """The view of the segment that is being applied."""
        return next(reversed(self._in_memory.values()))

    def clear(self) -> None:
        """All segments were replaced; `begin` comes next."""
        self._in_memory.clear()
        self._open.clear()

    def begin(self, view: ActiveView) -> None:
        """Make `view` the active one; the one before stays readable until `sealed`.

        One whose base is not above the active one's replaces all that is in memory: a new start.
        """
        if self._in_memory and view.base <= self.active.base:
            self._in_memory.clear()
        self._in_memory[view.base] = view

    def sealed(self, base: int) -> None:
        """The file of segment `base` is durable, and so are those before: forget its view in memory."""
        assert base != self.active.base, f"segment {base} is the active one"
        assert base == next(iter(self._in_memory)), f"segment {base} is not the oldest in memory"
        del self._in_memory[base]

    def forget_before(self, base: int) -> None:
        """The segments before `base` are dropped: a map would keep their files' space."""
        for each in [each for each in self._open if each < base]:
            del self._open[each]

    def forget(self, base: int) -> None:
        """The view of segment `base` has been replaced: a map would show the old one."""
        self._open.pop(base, None)

    def ends_before(self, base: int) -> list[tuple[PartitionKey, int]]:
        """Return each partition's next offset as of the segment `base`, ascending. Raises Damaged.

        The segment before it is sealed.
        """
        bases = self._source.bases
        number = bases.index(base)
        assert number > 0, f"nothing stands before {base}"
        return list(self._source.open_view(bases[number - 1]).partitions())

    def earliest_offset(self, topic_id: int, partition: int) -> int:
        """Return the first offset whose bytes are kept here. Raises Damaged."""
        return self._view(self._bases()[0]).first_offset(topic_id, partition) or 0

    def next_offset(self, topic_id: int, partition: int) -> int | None:
        """Return the offset that the partition's next record gets; None where it does not exist."""
        return self.active.next_offset(topic_id, partition)

    def rows(
        self,
        topic_id: int,
        partition: int,
        offset: int,
        max_bytes: int,
        max_rows: int,
        end_offset: int | None = None,
    ) -> list[Located]:
        """Return the batches from the one that holds `offset` on, with their segments; none at the tail.

        `max_bytes` limits the bodies together, but at least one batch is returned; those that begin at
        `end_offset` or after are left out. Raises Damaged.
        """
        located: list[Located] = []
        room = max_bytes
        while len(located) < max_rows:
            base = self._segment_of(topic_id, partition, offset)
            if base is None:
                break
            rows = self._view(base).rows(topic_id, partition, offset, room, max_rows - len(located))
            # Of a further segment, too, a view returns at least one batch: it must fit here.
            if not rows or (located and rows[0].body_size > room):
                break
            located.extend((base, row) for row in rows)
            room -= sum(row.body_size for row in rows)
            offset = rows[-1].next_offset
            if room <= 0 or (end_offset is not None and offset >= end_offset):
                break
        if end_offset is None:
            return located
        return [each for each in located if each[1].base_offset < end_offset]

    def offset_at_time(self, topic_id: int, partition: int, append_time_ms: int) -> tuple[int, int] | None:
        """Return offset and append time of the first batch appended at that time or later. Raises Damaged."""
        bases = self._bases()
        number = self._first_ending_at(bases, append_time_ms)
        if number is None:
            return None
        view = self._view(bases[number])
        row = view.row_at_time(topic_id, partition, append_time_ms)
        if row is None:
            # Nothing of the partition is there so late, so its next batch, wherever it is, is the one.
            following = self.rows(topic_id, partition, view.next_offset(topic_id, partition) or 0, 0, 1)
            if not following:
                return None
            row = following[0][1]
        return row.base_offset, row.append_time_ms

    def _bases(self) -> tuple[int, ...]:
        """The bases of all that is readable, ascending."""
        on_disk = self._source.bases
        oldest = next(iter(self._in_memory))
        return (*on_disk[: bisect_left(on_disk, oldest)], *self._in_memory)

    def _segment_of(self, topic_id: int, partition: int, offset: int) -> int | None:
        """Return the base of the segment that holds an offset; None where none does."""
        first = self.active.first_offset(topic_id, partition)
        if first is None or offset >= first:
            return self.active.base if first is not None else None
        bases = self._bases()
        low, high = 0, len(bases) - 1
        while low < high:
            middle = (low + high) // 2
            # A partition that did not exist yet comes after: every offset of it does.
            if (self._view(bases[middle]).next_offset(topic_id, partition) or 0) <= offset:
                low = middle + 1
            else:
                high = middle
        return bases[low]

    def _first_ending_at(self, bases: tuple[int, ...], append_time_ms: int) -> int | None:
        """Return the number of the first segment whose last batch is of that time or later."""
        low, high = 0, len(bases)
        while low < high:
            middle = probe = (low + high) // 2
            # A segment without batches has no time: look at the one before.
            while probe > low and not self._view(bases[probe]).last_append_time_ms:
                probe -= 1
            if self._view(bases[probe]).last_append_time_ms < append_time_ms:
                low = middle + 1
            else:
                high = probe
        return low if low < len(bases) else None

    def _view(self, base: int) -> ActiveView | SealedView:
        in_memory = self._in_memory.get(base)
        if in_memory is not None:
            return in_memory
        view = self._open.get(base)
        if view is None:
            view = self._open[base] = self._source.open_view(base)
            if len(self._open) > OPEN_VIEWS:
                self._open.popitem(last=False)
        else:
            self._open.move_to_end(base)
        return view
