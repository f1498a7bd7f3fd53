"""A consumer's place in one partition that it reads from the newest record to the oldest. No I/O."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass

from quorumlog.client import errors
from quorumlog.client.records import RecordBatch
from quorumlog.proto import service_pb2
from quorumlog.proto.batch import BatchColumns, BatchError, check_batch, decode_batch

FIRST_STEP = 64  # offsets back from where the first answer is asked for; from there on it adapts
MOST_STEP = 1 << 20


@dataclass(slots=True)
class ReverseCursor:
    """Answers begin at an offset and go on: so each is asked for some way back, and has to reach up to here.

    - Nothing at or after `position` is unpacked again; nothing before `end` is unpacked at all.
    - `fetched` runs ahead of (below) `position` by what is buffered: reading resumes there.
    - An answer that does not reach `fetched` is dropped and asked for again from closer by, at last from
      the record just before, whose batch always comes whole: so one answer at a time is all that is held.
    """

    topic: str
    partition: int
    position: int  # offsets below are still to be unpacked
    end: int = 0  # the last offset wanted
    fetched: int = 0  # offsets below are to be asked for
    applied_index: int = 0
    high_watermark: int = 0
    delivered: int = 0  # one above the last offset that the user was given
    may_begin_later: bool = (
        False  # `end` was the log's start, which moves: what is gone meanwhile is no error
    )
    step: int = FIRST_STEP
    asked: int = 0

    def __post_init__(self) -> None:
        self.fetched = self.position
        self.delivered = self.position + 1

    @property
    def next_offset(self) -> int:
        """Offset of the next record for the user; one less than the last wanted, when there is none."""
        return self.delivered - 2

    @property
    def exhausted(self) -> bool:
        """True when nothing more is to be fetched."""
        return self.fetched <= self.end

    @property
    def finished(self) -> bool:
        """True when all down to `end` is unpacked."""
        return self.position <= self.end

    def ask_from(self) -> int:
        """Return the offset to ask for next."""
        self.asked = max(self.end, self.fetched - self.step)
        return self.asked

    def arrived(self, response: service_pb2.FetchResponse, max_bytes: int) -> bool:
        """Check the answer to ask_from(); False: it does not reach far enough, ask again.

        Raises DataDamaged, and then nothing has moved.
        """
        for batch in response.batches:
            try:
                check_batch(batch.header, batch.body)
            except BatchError as error:
                raise errors.DataDamaged(f"{self._place(batch.base_offset)}: {error}") from error
        self.high_watermark = max(self.high_watermark, response.high_watermark)
        self.applied_index = max(self.applied_index, response.applied_index)
        last = response.batches[-1] if response.batches else None
        if last is None or last.base_offset + last.header.span < self.fetched:
            self.step = max(1, self.step // 4)
            return False
        if sum(len(batch.body) for batch in response.batches) * 4 < max_bytes:
            self.step = min(self.step * 2, MOST_STEP)
        self.fetched = max(self.end, min(self.asked, response.batches[0].base_offset))
        return True

    def begin_later(self, earliest: int) -> bool:
        """The log's start has moved up: end there. False: records that were asked for would be skipped."""
        if not self.may_begin_later or earliest <= self.end:
            return False
        self.end = earliest
        if self.position < earliest:
            self.position = earliest
        self.fetched = max(self.fetched, earliest)
        return True

    def all_delivered(self) -> None:
        """Take note that the user was given all that is unpacked."""
        self.delivered = self.position + 1

    def unpack(self, response: service_pb2.FetchResponse) -> Iterator[RecordBatch]:
        """Yield the batches for the user, newest first, and their records so, too; move `position`."""
        for fetched in reversed(response.batches):
            batch = self._turned(fetched)
            if len(batch):
                self.position = batch.offsets[-1]
                yield batch
            self.position = max(self.end, min(self.position, fetched.base_offset))

    def _turned(self, fetched: service_pb2.FetchedBatch) -> RecordBatch:
        try:
            columns = decode_batch(fetched.header, fetched.body)
        except BatchError as error:
            raise errors.InvalidBatch(f"{self._place(fetched.base_offset)}: {error}") from error
        deltas = columns.offset_deltas  # rising
        first = bisect_left(deltas, self.end - fetched.base_offset)
        last = max(first, bisect_left(deltas, self.position - fetched.base_offset))
        return RecordBatch(
            self.topic,
            self.partition,
            fetched.base_offset,
            fetched.append_time_ms,
            _turned(columns),
            len(columns) - last,
            len(columns) - first,
        )

    def _place(self, offset: int) -> str:
        return f"{self.topic}/{self.partition} at offset {offset}"


def _turned(columns: BatchColumns) -> BatchColumns:
    last = len(columns) - 1
    return BatchColumns(
        values=columns.values[::-1],
        keys=None if columns.keys is None else columns.keys[::-1],
        first_timestamp_ms=columns.first_timestamp_ms,
        timestamp_deltas=columns.timestamp_deltas[::-1],
        offset_deltas=list(columns.offset_deltas)[::-1],
        headers={last - position: headers for position, headers in columns.headers.items()},
    )
