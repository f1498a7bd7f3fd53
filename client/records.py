"""What a consumer reads: records one by one, or a batch's columns at once."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Generic, NamedTuple

from typing_extensions import TypeVar

from quorumlog.proto.batch import BatchColumns

K = TypeVar("K", default=bytes)  # what keys and values are: bytes, or what a deserializer makes of them
V = TypeVar("V", default=bytes)


class Record(NamedTuple, Generic[K, V]):
    """One record at its place. A value of None is a tombstone; a key of None is no key.

    K and V are what the consumer's deserializers give; without them both are bytes.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int  #: as the producer gave it; since 1970, UTC
    append_time_ms: int  #: the leader's time when it was appended
    key: K | None
    value: V | None
    headers: tuple[tuple[str, bytes], ...]  #: in the order given; names may repeat

    @property
    def datetime(self) -> dt.datetime:
        """The producer's timestamp, in UTC."""
        return dt.datetime.fromtimestamp(self.timestamp_ms / 1000, dt.UTC)


@dataclass(frozen=True, slots=True)
class RecordBatch:
    """Consecutive records as they were sent together, column by column: the fast way to read.

    `values[i]`, `offset(i)` and so on belong together, for i from 0 to len(batch) - 1.
    """

    topic: str
    partition: int
    base_offset: int
    append_time_ms: int
    columns: BatchColumns
    first: int = 0  #: positions in the columns: what lies before was not asked for
    last: int = 0  #: one after the last one wanted

    def __len__(self) -> int:
        return self.last - self.first

    @property
    def values(self) -> Sequence[bytes | None]:
        """The values."""
        return self.columns.values[self.first : self.last]

    @property
    def keys(self) -> Sequence[bytes | None] | None:
        """The keys, or None where no record of the batch has one."""
        keys = self.columns.keys
        return None if keys is None else keys[self.first : self.last]

    @property
    def offsets(self) -> Sequence[int]:
        """The offsets, rising."""
        deltas = self.columns.offset_deltas[self.first : self.last]
        if isinstance(deltas, range):
            return range(self.base_offset + deltas.start, self.base_offset + deltas.stop)
        return [self.base_offset + delta for delta in deltas]

    @property
    def timestamps_ms(self) -> Sequence[int]:
        """The producer's timestamps."""
        first_ms = self.columns.first_timestamp_ms
        if not self.columns.timestamp_deltas:
            return [first_ms] * len(self)
        return [first_ms + delta for delta in self.columns.timestamp_deltas[self.first : self.last]]

    def records(self) -> Iterator[Record]:
        """Iterate over the records."""
        headers = self.columns.headers
        columns = zip(
            repeat(self.topic),
            repeat(self.partition),
            self.offsets,
            self.timestamps_ms,
            repeat(self.append_time_ms),
            self.keys or repeat(None),
            self.values,
            [headers.get(at, ()) for at in range(self.first, self.last)] if headers else repeat(()),
            strict=False,  # the repeated ones have no end
        )
        # As Record._make, without a Python call for each.
        return map(tuple.__new__, repeat(Record), columns)
