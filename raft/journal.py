"""The engine's journal: a thin face of storage.Log. The log IS the Raft log; there is no second copy.

pysyncobj sees a list-like of (command, index, term) that begins with a stub: the entry before the first one
that is kept (index 0 and term 0 when nothing was dropped). Commands are never shown to it: it needs indexes
and terms only. Recent frames stay in memory, bounded in bytes, for the peers that are level and for applying;
older ones are read from their segment.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from quorumlog.proto.checksum import Buffer
from quorumlog.raft.core import ENGINE_NO_OP
from quorumlog.raft.hardstate import HardState
from quorumlog.raft.membership import Members
from quorumlog.storage import format as layout
from quorumlog.storage.frame import Frame
from quorumlog.storage.log import Log

RECENT_BYTES: Final = 32 << 20  # the peers' windows and what is not applied yet, with room


@dataclass(frozen=True, slots=True)
class Draft:
    """An entry that a leader is about to append; index, chain and segment bit are the journal's to give."""

    kind: int
    parts: tuple[Buffer, ...]


class Journal:
    """The log as the engine, the sender and the applier use it.

    - What `add` took is readable at once; it is in the file after `flush`, durable after a sync.
    - The last `RECENT_BYTES` of frames are in memory; the recent frames are always a suffix of the log.
    - Term and vote are saved before anything is said about them (HardState).
    - `members` follows the log: what is appended holds at once, what is truncated holds no more.
    """

    def __init__(self, log: Log, hard_state: HardState, members: Members) -> None:
        self.log = log
        self.members = members
        self._hard_state = hard_state
        self._recent: deque[Frame] = deque()
        self._recent_bytes = 0
        self._unwritten: list[Frame] = []
        self._tail = (log.last_index, log.last_term, log.last_chain)

    def find_members(self, base: int, state: bytes) -> None:
        """Take the configurations of the log from `base` on, committed or not; `state`: the one before."""
        self.members.restore(base, state)
        for index in self.log.indexes_of_kind(base, layout.KIND_MEMBERSHIP):
            self.members.appended(index, bytes(self.log.read(index).payload()))

    def begin_anew(self, membership: bytes) -> None:
        """The log was replaced by an empty one, before whose start that configuration holds."""
        assert not self._unwritten
        self._recent.clear()
        self._recent_bytes = 0
        self._tail = (self.log.last_index, self.log.last_term, self.log.last_chain)
        self.find_members(self.log.first_index, membership)

    # What the sender and the applier use -----------------------------------------------------

    @property
    def first_index(self) -> int:
        return self.log.first_index

    @property
    def last_index(self) -> int:
        return self._tail[0]

    @property
    def durable_index(self) -> int:
        return self.log.durable_index

    def term_at(self, index: int) -> int | None:
        """Term of the stub or of an entry; None beyond either end. Never reads an entry."""
        if index == self._tail[0]:
            return self._tail[1]
        if index > self._tail[0]:
            return None
        frame = self._recent_at(index)
        return frame.term if frame is not None else self.log.term_at(index)

    def first_index_of_term_at(self, index: int) -> int:
        """First index of the run of equal terms around `index` (bisection: terms never fall)."""
        term = self.term_at(index)
        assert term is not None
        low, high = self.first_index, index
        while low < high:
            middle = (low + high) // 2
            if self._term_or_fail(middle) < term:
                low = middle + 1
            else:
                high = middle
        return low

    def frame_at(self, index: int) -> Frame:
        """An entry, from memory or verified from its segment."""
        return self._recent_at(index) or self.log.read(index)

    def run_from(self, index: int, max_bytes: int) -> tuple[list[Buffer], int, int]:
        """Return (buffers, count, bytes) of whole consecutive frames from `index` on: at least one."""
        if self._recent_at(index) is None:
            raw, count = self.log.read_raw(index, max_bytes)
            return [raw], count, len(raw)
        buffers: list[Buffer] = []
        size = count = 0
        start = index - self._recent[0].index
        for number in range(start, len(self._recent)):
            frame = self._recent[number]
            if count and (size + frame.size > max_bytes or frame.starts_segment):
                break  # one segment's start per message: the receiver asks for room for one
            buffers.append(frame.header)
            buffers.extend(frame.parts)
            size += frame.size
            count += 1
        return buffers, count, size

    def next_rolls(self, payload_size: int) -> bool:
        """Would an entry that this node appends as a leader start a segment?"""
        assert not self._unwritten
        return self.log.should_roll(payload_size)

    def truncate_from(self, index: int, commit_index: int) -> None:
        """Delete a conflicting tail. Only admission calls it, and never at or below the commit index."""
        assert index > commit_index, f"truncating {index}, but {commit_index} is committed"
        assert not self._unwritten
        self.log.truncate_from(index)
        while self._recent and self._recent[-1].index >= index:
            self._recent_bytes -= self._recent.pop().size
        self.members.truncated_from(index)
        self._tail = (self.log.last_index, self.log.last_term, self.log.last_chain)

    def flush(self) -> None:
        """Write what was added, in one go. Raises storage's NoSpace: the caller has asked for room before."""
        if self._unwritten:
            frames, self._unwritten = self._unwritten, []
            self.log.append(frames)

    # What the engine uses --------------------------------------------------------------------

    def __len__(self) -> int:
        return self.last_index - self.first_index + 2  # with the stub

    def __getitem__(self, item: int) -> tuple[None, int, int]:
        index = self._tail[0] if item == -1 else self.first_index - 1 + item
        return None, index, self._term_or_fail(index)

    def add(self, command: Any, idx: int, term: int) -> None:
        """Append: a Draft or the engine's own no-op (written at once), or a leader's Frame (on flush)."""
        index, last_term, chain = self._tail
        assert idx == index + 1, f"entry {idx} after {index}"
        assert term >= last_term, f"entry {idx}: term {term} after {last_term}"
        if isinstance(command, Frame):
            assert (command.index, command.term) == (idx, term)
            self._take(command)
            return
        draft = Draft(layout.KIND_NO_OP, ()) if command == ENGINE_NO_OP else command
        assert isinstance(draft, Draft), f"entry {idx}: the engine appends {type(command)}"
        rolls = self.next_rolls(sum(map(len, draft.parts)))
        flags = layout.STARTS_SEGMENT if rolls else 0
        self._take(Frame.build(idx, term, draft.kind, draft.parts, flags, chain))
        self.flush()

    def setCurrentTerm(self, term: int, votedForNodeId: str | None) -> None:
        self._hard_state.save(term, votedForNodeId)

    def getCurrentTerm(self) -> int:
        return self._hard_state.term

    def getVotedForNodeId(self) -> str | None:
        return self._hard_state.vote

    def getRaftCommitIndex(self) -> int:
        return self.first_index - 1  # overwritten at start by what the loaded state covers

    def setRaftCommitIndex(self, raftCommitIndex: int) -> None:
        """Not kept: a persisted commit index lets a node that lost its tail commit entries of its own."""

    def onOneSecondTimer(self) -> None:
        pass

    def _destroy(self) -> None:
        pass

    # Inside ----------------------------------------------------------------------------------

    def _recent_at(self, index: int) -> Frame | None:
        if not self._recent or index < self._recent[0].index or index > self._recent[-1].index:
            return None
        return self._recent[index - self._recent[0].index]

    def _term_or_fail(self, index: int) -> int:
        term = self.term_at(index)
        assert term is not None, f"no term for index {index} in {self.first_index}..{self.last_index}"
        return term

    def _take(self, frame: Frame) -> None:
        self._unwritten.append(frame)
        if frame.kind == layout.KIND_MEMBERSHIP:
            self.members.appended(frame.index, bytes(frame.payload()))
        self._tail = (frame.index, frame.term, frame.chain)
        self._recent.append(frame)
        self._recent_bytes += frame.size
        while self._recent_bytes > RECENT_BYTES and len(self._recent) > 1:
            self._recent_bytes -= self._recent.popleft().size


def total_size(frames: Sequence[Frame]) -> int:
    """Bytes that they take in a segment."""
    return sum(frame.size for frame in frames)
