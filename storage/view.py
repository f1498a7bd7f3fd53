"""View of a segment: what maps the offsets of all partitions to the bytes of their batches.

A view has a row for every batch and, for every offset, the number of its row: finding a record is two
reads at computed places, however many there are. The row holds all that a BatchHeader does, so serving
needs no other read than that of the body. `ActiveView` grows in memory, bounded by the segment; when the
segment is sealed, `to_bytes` of it is the file which `SealedView` maps.

Both publish an offset only after its row is there. An ActiveView is used by one thread, and by another
only after it is frozen; a SealedView by any.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeAlias

from quorumlog.proto import batch_pb2
from quorumlog.proto.checksum import Buffer, crc32c, masked
from quorumlog.storage.errors import Damaged, UnknownVersion
from quorumlog.storage.format import (
    SUM,
    VERSION,
    VIEW_DIRECTORY,
    VIEW_HEADER,
    VIEW_HEADER_BYTES,
    VIEW_MAGIC,
    VIEW_ROW,
    VIEW_ROW_NUMBER,
)

PartitionKey: TypeAlias = tuple[int, int]  # topic id, partition


class BatchRow(NamedTuple):
    """One batch: where its body is, and its header. Fields in the order of the file."""

    raft_index: int
    base_offset: int
    append_time_ms: int  # the leader's time in the entry
    first_timestamp_ms: int
    last_timestamp_ms: int
    producer_id: int
    position: int  # of the body, in the segment's .log
    body_size: int
    body_crc: int
    count: int  # type: ignore[assignment]  # tuple.count is nothing that anybody wants of a row
    span: int
    producer_epoch: int
    sequence: int
    encoding: int
    codec: int
    flags: int = 0  # none are defined yet

    @classmethod
    def of(
        cls,
        header: batch_pb2.BatchHeader,
        raft_index: int,
        base_offset: int,
        append_time_ms: int,
        position: int,
    ) -> BatchRow:
        """Return the row of a batch whose body stands at `position` of its segment's .log."""
        return cls(
            raft_index,
            base_offset,
            append_time_ms,
            header.first_timestamp_ms,
            header.last_timestamp_ms,
            header.producer_id,
            position,
            header.body_size,
            header.body_crc32c,
            header.count,
            header.span,
            header.producer_epoch,
            header.sequence,
            header.encoding,
            header.codec,
        )

    def header(self) -> batch_pb2.BatchHeader:
        """Return the batch's header as its producer sent it (offset deltas of a cleaned one excepted)."""
        return batch_pb2.BatchHeader(
            encoding=self.encoding,
            codec=batch_pb2.Codec.Name(self.codec),
            count=self.count,
            span=self.span,
            first_timestamp_ms=self.first_timestamp_ms,
            last_timestamp_ms=self.last_timestamp_ms,
            producer_id=self.producer_id,
            producer_epoch=self.producer_epoch,
            sequence=self.sequence,
            body_crc32c=self.body_crc,
            body_size=self.body_size,
        )

    @property
    def next_offset(self) -> int:
        """The offset after the batch."""
        return self.base_offset + self.span


class Tables:
    """One partition's part of a view: rows, and the row of every offset. Read alike wherever they stand."""

    __slots__ = ("first_offset", "numbers", "rows")

    def __init__(self, first_offset: int, rows: bytearray | memoryview, numbers: array[int] | memoryview):
        self.first_offset = first_offset
        self.rows = rows  # VIEW_ROW.size bytes each
        self.numbers = numbers  # of rows, by offset less first_offset; unsigned, four bytes each

    def select(self, offset: int, max_bytes: int, max_rows: int) -> list[BatchRow]:
        """Return the row that holds `offset` and those after it, within both limits but at least one."""
        number = self.numbers[offset - self.first_offset]
        end = min(len(self.rows), (number + max_rows) * VIEW_ROW.size)
        selected: list[BatchRow] = []
        room = max_bytes
        for position in range(number * VIEW_ROW.size, end, VIEW_ROW.size):
            row = BatchRow._make(VIEW_ROW.unpack_from(self.rows, position))
            room -= row.body_size
            if room < 0 and selected:
                break
            selected.append(row)
        return selected

    def row(self, number: int) -> BatchRow:
        """Return a row by its number."""
        return BatchRow._make(VIEW_ROW.unpack_from(self.rows, number * VIEW_ROW.size))

    def at_time(self, append_time_ms: int) -> BatchRow | None:
        """Return the first row appended at that time or later: append times never fall."""
        low, high = 0, len(self.rows) // VIEW_ROW.size
        if not high or self.row(high - 1).append_time_ms < append_time_ms:
            return None
        while low < high:
            middle = (low + high) // 2
            if self.row(middle).append_time_ms < append_time_ms:
                low = middle + 1
            else:
                high = middle
        return self.row(low)


class ActiveView:
    """The view of a segment that is still being applied.

    - A partition's rows are contiguous: each begins at the offset where the one before ends.
    - Append times never fall.
    - Memory: 80 bytes a batch and 4 a record.
    """

    def __init__(self, base: int) -> None:
        self.base = base  # of the segment
        self.first_append_time_ms = 0
        self.last_append_time_ms = 0
        self._next_offsets: dict[PartitionKey, int] = {}
        self._tables: dict[PartitionKey, Tables] = {}  # made when a partition gets its first row
        self._is_empty = True

    def ensure(self, topic_id: int, partition: int, next_offset: int = 0) -> None:
        """Make a partition known that exists from `next_offset` on; nothing where it is known."""
        self._next_offsets.setdefault((topic_id, partition), next_offset)

    def remove_topic(self, topic_id: int) -> None:
        """Forget a deleted topic's partitions. Takes a look at all that there are."""
        for key in [key for key in self._next_offsets if key[0] == topic_id]:
            del self._next_offsets[key]
            self._tables.pop(key, None)

    def add(self, topic_id: int, partition: int, row: BatchRow) -> None:
        """Publish a batch: it must continue its partition, which `ensure` has made known."""
        key = topic_id, partition
        assert row.base_offset == self._next_offsets[key], (
            f"topic {topic_id}, partition {partition}: expected offset {self._next_offsets[key]}, got {row}"
        )
        tables = self._tables.get(key)
        if tables is None:
            tables = self._tables[key] = Tables(row.base_offset, bytearray(), array("I"))
        number = len(tables.rows) // VIEW_ROW.size
        tables.rows += VIEW_ROW.pack(*row)  # type: ignore[operator]
        tables.numbers.frombytes(VIEW_ROW_NUMBER.pack(number) * row.span)  # type: ignore[union-attr]
        self._next_offsets[key] = row.base_offset + row.span
        if self._is_empty:
            self._is_empty = False
            self.first_append_time_ms = row.append_time_ms
        assert row.append_time_ms >= self.last_append_time_ms or not self.last_append_time_ms
        self.last_append_time_ms = row.append_time_ms

    def partitions(self) -> Iterator[tuple[PartitionKey, int]]:
        """Yield each partition that exists with its next offset, in no order."""
        yield from self._next_offsets.items()

    def first_offset(self, topic_id: int, partition: int) -> int | None:
        """Return where the partition's part in this segment begins; None where it does not exist."""
        tables = self._tables.get((topic_id, partition))
        return tables.first_offset if tables else self._next_offsets.get((topic_id, partition))

    def next_offset(self, topic_id: int, partition: int) -> int | None:
        """Return the offset that the partition's next record gets; None where it does not exist."""
        return self._next_offsets.get((topic_id, partition))

    def rows(
        self, topic_id: int, partition: int, offset: int, max_bytes: int, max_rows: int
    ) -> list[BatchRow]:
        """Return the batches from the one that holds `offset` on; none where this view holds it not.

        `max_bytes` limits the bodies together, but at least one batch is returned.
        """
        tables = self._tables.get((topic_id, partition))
        if tables is None or not tables.first_offset <= offset < self._next_offsets[topic_id, partition]:
            return []
        return tables.select(offset, max_bytes, max_rows)

    def row_at_time(self, topic_id: int, partition: int, append_time_ms: int) -> BatchRow | None:
        """Return the first batch appended at that time or later."""
        tables = self._tables.get((topic_id, partition))
        return tables.at_time(append_time_ms) if tables else None

    def to_bytes(self, next_base: int) -> bytes:
        """Return the bytes of the file; `next_base` is the base of the segment that follows."""
        keys = sorted(self._next_offsets)
        position = VIEW_HEADER_BYTES + VIEW_DIRECTORY.size * len(keys)
        directory = []
        pieces: list[bytes] = []
        for key in keys:
            next_offset = self._next_offsets[key]
            tables = self._tables.get(key)
            piece = bytes(tables.rows) + tables.numbers.tobytes() if tables else b""
            directory.append(
                VIEW_DIRECTORY.pack(
                    *key,
                    len(tables.rows) // VIEW_ROW.size if tables else 0,
                    tables.first_offset if tables else next_offset,
                    next_offset,
                    position,
                    crc32c(piece),
                    0,
                )
            )
            pieces.append(piece)
            position += len(piece)
        directory_bytes = b"".join(directory)
        header = VIEW_HEADER.pack(
            VIEW_MAGIC,
            VERSION,
            0,
            VIEW_HEADER_BYTES,
            self.base,
            next_base,
            self.first_append_time_ms,
            self.last_append_time_ms,
            position,
            len(keys),
            crc32c(directory_bytes),
            0,
        )
        return b"".join([header, SUM.pack(masked(crc32c(header))), directory_bytes, *pieces])


class ViewHeader(NamedTuple):
    """The header of a view's file."""

    base: int
    next_base: int
    first_append_time_ms: int
    last_append_time_ms: int
    partitions: int
    directory_crc: int

    @classmethod
    def decode(cls, data: Buffer, size: int, name: str) -> ViewHeader:
        """Read the first bytes of a file of that name and size. Raises Damaged or UnknownVersion."""
        found = min(size, len(data))
        _require(found >= VIEW_HEADER_BYTES, name, 0, f"size: at least {VIEW_HEADER_BYTES}, got {found}")
        magic, version, _, _, base, next_base, first, last, stated, count, crc, _ = VIEW_HEADER.unpack_from(
            data
        )
        _require(magic == VIEW_MAGIC, name, 0, f"magic: expected {VIEW_MAGIC!r}, got {magic!r}")
        (header_sum,) = SUM.unpack_from(data, VIEW_HEADER.size)
        actual = masked(crc32c(data[: VIEW_HEADER.size]))
        _require(header_sum == actual, name, 0, f"header crc: {header_sum:#010x} stated, got {actual:#010x}")
        if version != VERSION:
            raise UnknownVersion(f"{name}: version: expected {VERSION}, got {version}")
        _require(stated == size, name, 0, f"size: {stated} stated, got {size}")
        return cls(base, next_base, first, last, count, crc)

    def check_directory(self, directory: Buffer, name: str) -> None:
        """Check the directory, which follows. Raises Damaged."""
        crc, actual = self.directory_crc, crc32c(directory)
        reason = f"directory crc: {crc:#010x} stated, got {actual:#010x}"
        _require(crc == actual, name, VIEW_HEADER_BYTES, reason)


def _require(holds: bool, name: str, position: int, reason: str) -> None:
    if not holds:
        raise Damaged(name, position, None, reason)


class SealedView:
    """The view of a sealed segment, mapped from its file. Sums are verified before anything is believed.

    The header and the directory are verified when it is opened, a partition's tables when they are first
    read; `tables` raises Damaged where that fails.
    """

    def __init__(self, data: memoryview, name: str, report: Callable[[Damaged], None] | None = None) -> None:
        """Read the file's bytes; `name` is its name. Raises Damaged or UnknownVersion.

        `report` is told of damage that is met later.
        """
        self._report = report
        self._data = data.toreadonly()
        self._name = name
        self._tables: dict[int, Tables] = {}  # verified, by position in the directory
        self._read_header()

    def _read_header(self) -> None:
        header = ViewHeader.decode(self._data[:VIEW_HEADER_BYTES], len(self._data), self._name)
        end = VIEW_HEADER_BYTES + header.partitions * VIEW_DIRECTORY.size
        size = len(self._data)
        _require(end <= size, self._name, VIEW_HEADER_BYTES, f"directory: ends at {end} of {size}")
        header.check_directory(self._data[VIEW_HEADER_BYTES:end], self._name)
        self.base = header.base
        self.next_base = header.next_base
        self.first_append_time_ms = header.first_append_time_ms
        self.last_append_time_ms = header.last_append_time_ms
        self._count = header.partitions

    def partitions(self) -> Iterator[tuple[PartitionKey, int]]:
        """Yield each partition that existed with its next offset, ascending."""
        for slot in range(self._count):
            topic_id, partition, _, _, next_offset, _, _, _ = self._entry(slot)
            yield (topic_id, partition), next_offset

    def first_offset(self, topic_id: int, partition: int) -> int | None:
        """Return where the partition's part in this segment begins; None where it did not exist."""
        slot = self._find(topic_id, partition)
        return None if slot is None else self._entry(slot)[3]

    def next_offset(self, topic_id: int, partition: int) -> int | None:
        """Return the offset after the partition's last record here; None where it did not exist."""
        slot = self._find(topic_id, partition)
        return None if slot is None else self._entry(slot)[4]

    def rows(
        self, topic_id: int, partition: int, offset: int, max_bytes: int, max_rows: int
    ) -> list[BatchRow]:
        """Return the batches from the one that holds `offset` on; none where this view holds it not.

        `max_bytes` limits the bodies together, but at least one batch is returned. Raises Damaged.
        """
        slot = self._find(topic_id, partition)
        if slot is None:
            return []
        entry = self._entry(slot)
        if not entry[3] <= offset < entry[4]:
            return []
        selected = self._tables_at(slot).select(offset, max_bytes, max_rows)
        _require(bool(selected), self._name, entry[5], f"tables: no row for offset {offset}")
        return selected

    def row_at_time(self, topic_id: int, partition: int, append_time_ms: int) -> BatchRow | None:
        """Return the first batch appended at that time or later. Raises Damaged."""
        slot = self._find(topic_id, partition)
        return None if slot is None else self._tables_at(slot).at_time(append_time_ms)

    def _entry(self, slot: int) -> tuple[int, int, int, int, int, int, int, int]:
        """Topic id, partition, rows, first and next offset, position and crc of the tables, 0."""
        return VIEW_DIRECTORY.unpack_from(self._data, VIEW_HEADER_BYTES + slot * VIEW_DIRECTORY.size)

    def _find(self, topic_id: int, partition: int) -> int | None:
        low, high = 0, self._count
        while low < high:
            middle = (low + high) // 2
            if self._entry(middle)[:2] < (topic_id, partition):
                low = middle + 1
            else:
                high = middle
        return low if low < self._count and self._entry(low)[:2] == (topic_id, partition) else None

    def _tables_at(self, slot: int) -> Tables:
        tables = self._tables.get(slot)
        if tables is None:
            try:
                tables = self._tables[slot] = self._verified_tables(slot)
            except Damaged as damage:
                if self._report is not None:
                    self._report(damage)
                raise
        return tables

    def _verified_tables(self, slot: int) -> Tables:
        _, _, count, first_offset, next_offset, position, crc, _ = self._entry(slot)
        rows_end = position + count * VIEW_ROW.size
        end = rows_end + (next_offset - first_offset) * VIEW_ROW_NUMBER.size
        size = len(self._data)
        fits = position <= rows_end <= end <= size
        _require(fits, self._name, position, f"tables: {position} to {rows_end} to {end} of {size}")
        actual = crc32c(self._data[position:end])
        _require(crc == actual, self._name, position, f"tables crc: {crc:#010x} stated, got {actual:#010x}")
        return Tables(first_offset, self._data[position:rows_end], self._data[rows_end:end].cast("I"))
