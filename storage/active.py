"""Active segment: the last one, which is appended to, synced and cut."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from quorumlog.proto.checksum import Buffer
from quorumlog.storage.errors import SyncFailed
from quorumlog.storage.format import FRAME_HEADER_BYTES, STARTS_SEGMENT
from quorumlog.storage.frame import BadFrame, Frame, check_link
from quorumlog.storage.header import SegmentHeader
from quorumlog.storage.index import Index
from quorumlog.storage.segment import Segment
from quorumlog.storage.store import Store
from quorumlog.storage.watermark import Watermark


class ActiveSegment(Segment):
    """The segment at the log's end.

    - An entry is published (in the index) only after its bytes are in the file.
    - The watermark never exceeds what an fdatasync has proved.
    """

    def __init__(
        self,
        directory: Path,
        header: SegmentHeader,
        store: Store,
        index: Index,
        watermark: Watermark,
        last_term: int,
        last_chain: int,
    ) -> None:
        super().__init__(directory, header, store, index)
        self.watermark = watermark
        self.last_term = last_term
        self.last_chain = last_chain

    def check(self, frames: Sequence[Frame]) -> None:
        """Assert that `frames` continue the log: whoever appends has made or checked them."""
        index, term, chain = self.last_index + 1, self.last_term, self.last_chain
        for frame in frames:
            try:
                check_link(frame, 0, index, chain, term)
            except BadFrame as bad:
                raise AssertionError(f"append: {bad}") from bad
            assert bool(frame.flags & STARTS_SEGMENT) == (index == self.base), (
                f"append of {index}: wrong segment"
            )
            index, term, chain = index + 1, frame.term, frame.chain

    def append(self, frames: Sequence[Frame]) -> None:
        """Write `frames` in one call and publish them. Raises NoSpace with nothing changed, or SyncFailed."""
        self.index.reserve(len(frames))
        buffers: list[Buffer] = []
        size = 0
        for frame in frames:
            buffers.append(frame.header)
            buffers.extend(frame.parts)
            size += frame.size
        position = self.store.append(buffers, size)
        for frame in frames:
            self.index.add(position, frame.size, frame.term)
            position += frame.size
        self.last_term = frames[-1].term
        self.last_chain = frames[-1].chain

    def needs(self, payload_bytes: int, count: int) -> int:
        """Return the file size that an append of `count` entries with such payloads together needs."""
        return self.store.end + payload_bytes + count * FRAME_HEADER_BYTES

    def cut_after(self, index: int, term: int, chain: int) -> None:
        """Forget the entries after `index`, of that term and chain: it is here or the one before the first.

        Durable on return. The slots are lowered and synced first: otherwise a power loss between the two
        would show damage where there is none. Raises SyncFailed or OSError.
        """
        end = self.end_of(index)
        if end < self.watermark.position:
            self.watermark.set_both(end)
            self.sync_data()
        self.index.cut(index - self.base + 1)
        self.store.cut(end)
        self.last_term, self.last_chain = term, chain

    def sync_data(self) -> None:
        """Make everything appended durable. Raises SyncFailed, after which nothing may be trusted."""
        try:
            self.store.file.fdatasync()
        except OSError as error:
            raise SyncFailed(f"{self.name}: fdatasync: {error}") from error

    def finish(self) -> None:
        """Trim and sync, when the next segment is about to begin. Raises SyncFailed."""
        self.store.cut(self.store.end)
        self.index.seal(self.last_chain)
