"""A consumer's place in one partition. No I/O."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass

from quorumlog.client import errors
from quorumlog.client.records import RecordBatch
from quorumlog.proto import service_pb2
from quorumlog.proto.batch import BatchError, check_batch, decode_checked_batch


@dataclass(slots=True)
class Cursor:
    """Invariants:

    - Nothing before `position` is unpacked again; nothing at or after `end` is unpacked at all.
    - `position` moves batch by batch; `delivered` record by record, behind it.
    - `fetched` runs ahead of `position` by what is buffered: a lost stream resumes there.
    - `applied_index` never falls: whichever replica is asked next must have applied as much, so that the
      reader never sees the log go back.
    """

    topic: str
    partition: int
    position: int  # offset of the next record to unpack
    end: int | None = None  # stop before this offset; None: follow
    fetched: int = 0  # offset to ask for next
    applied_index: int = 0
    high_watermark: int = 0
    delivered: int = 0  # offset of the next record for the user
    may_begin_later: bool = False  # nothing has arrived yet, and no certain offset was asked for

    def __post_init__(self) -> None:
        self.fetched = self.delivered = self.position

    @property
    def next_offset(self) -> int:
        """Offset of the next record for the user."""
        return self.delivered

    @property
    def exhausted(self) -> bool:
        """True when nothing more is to be fetched."""
        return self.end is not None and self.fetched >= self.end

    @property
    def finished(self) -> bool:
        """True when all up to `end` is unpacked."""
        return self.end is not None and self.position >= self.end

    def arrived(self, response: service_pb2.FetchResponse) -> None:
        """Check an answer and move `fetched` behind it. Raises DataDamaged, and then nothing has moved."""
        fetched = self.fetched
        for batch in response.batches:
            try:
                check_batch(batch.header, batch.body)
            except BatchError as error:
                place = f"{self.topic}/{self.partition} at offset {batch.base_offset}"
                raise errors.DataDamaged(f"{place}: {error}") from error
            fetched = max(fetched, batch.base_offset + batch.header.span)
        self.fetched = fetched
        self.may_begin_later = False
        self.high_watermark = max(self.high_watermark, response.high_watermark)
        self.applied_index = max(self.applied_index, response.applied_index)

    def begin_later(self, earliest: int) -> bool:
        """The log's start has moved since it was looked up: begin there. False: records would be skipped."""
        if not self.may_begin_later or earliest <= self.fetched:
            return False
        self.position = self.fetched = self.delivered = earliest
        return True

    def all_delivered(self) -> None:
        """Take note that the user was given all that is unpacked."""
        self.delivered = self.position

    def unpack(self, response: service_pb2.FetchResponse) -> Iterator[RecordBatch]:
        """Yield the batches for the user, without what he has or did not ask for, and move `position`."""
        for fetched in response.batches:
            batch = self._trimmed(fetched)
            if batch.last > batch.first:
                self.position = batch.base_offset + batch.columns.offset_deltas[batch.last - 1] + 1
                yield batch
            # Also behind offsets that the cleaner has left out.
            self.position = max(self.position, fetched.base_offset + fetched.header.span)

    def _trimmed(self, fetched: service_pb2.FetchedBatch) -> RecordBatch:
        try:
            columns = decode_checked_batch(fetched.header, fetched.body)  # checked when it arrived
        except BatchError as error:
            place = f"{self.topic}/{self.partition} at offset {fetched.base_offset}"
            raise errors.InvalidBatch(f"{place}: {error}") from error
        deltas = columns.offset_deltas  # rising
        first = bisect_left(deltas, self.position - fetched.base_offset)
        last = len(columns) if self.end is None else bisect_left(deltas, self.end - fetched.base_offset)
        return RecordBatch(
            self.topic,
            self.partition,
            fetched.base_offset,
            fetched.append_time_ms,
            columns,
            first,
            max(first, last),
        )
