"""Lending: giving other nodes the sealed files that are damaged there.

A piece is sent only after all of the file up to its end has been verified just then, and nothing is sent of
a file that is fenced here: what is bad at one node must not spread. Everything is read in the worker's
thread, a bounded part at a time, one question after the other; of each peer only the newest question counts.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final, NoReturn

from quorumlog.proto.peer_pb2 import (
    SEGMENT_LOG,
    SEGMENT_STATE,
    SEGMENT_VIEW,
    FetchSegment,
    PeerMessage,
    SegmentChunk,
)
from quorumlog.raft.interfaces import Network, Worker
from quorumlog.storage.check import FileCheck
from quorumlog.storage.errors import Damaged, OutOfLog
from quorumlog.storage.fences import SealedFile
from quorumlog.storage.log import Log

logger = logging.getLogger(__name__)

CHUNK_BYTES: Final = 512 << 10
STEP_COST: Final = 512 << 10  # of work in one piece: some milliseconds, so that no seal waits for long

SUFFIXES: Final = {SEGMENT_LOG: "log", SEGMENT_VIEW: "view", SEGMENT_STATE: "state"}


class Loan:
    """A file on its way to one peer. Used in the worker's thread."""

    def __init__(self, log: Log, file: SealedFile) -> None:
        self.file = file
        self._log = log
        self._check: FileCheck | None = None

    def read(self, position: int) -> tuple[bytes, int] | None:
        """Return the piece at `position`, and the file's size; None: call again. Raises Damaged, OutOfLog."""
        if self.file in self._log.fenced or not self._log.has_file(self.file):
            raise OutOfLog(self.file.base, self._log.first_index, self._log.last_index)
        if self._check is None:
            self._check = self._log.begin_check(self.file, whole=False)
        check = self._check
        end = min(position + CHUNK_BYTES, check.size)
        if check.verified < end:
            check.step(STEP_COST)
        if check.verified < end:
            return None
        return check.file.pread(max(0, end - position), position), check.size


class Lender:
    """Answers the questions of other nodes' repairs."""

    def __init__(
        self,
        log: Log,
        network: Network,
        sessions: Mapping[str, int],
        worker: Worker,
        term: Callable[[], int],
        fail: Callable[[BaseException], NoReturn],
    ) -> None:
        self._log = log
        self._network = network
        self._sessions = sessions
        self._worker = worker
        self._term = term
        self._fail = fail
        self._questions: dict[str, tuple[int, FetchSegment]] = {}  # by peer: session, question
        self._loans: dict[str, Loan] = {}  # by peer
        self._busy = False

    def on_question(self, peer_id: str, session: int, question: FetchSegment) -> None:
        """Take a question; it is answered in its turn."""
        self._questions[peer_id] = session, question
        self._next()

    def forget(self, peer_id: str) -> None:
        """The session has ended."""
        self._questions.pop(peer_id, None)
        self._loans.pop(peer_id, None)

    def _next(self) -> None:
        if self._busy or not self._questions:
            return
        peer_id = next(iter(self._questions))
        session, question = self._questions.pop(peer_id)
        suffix = SUFFIXES.get(question.file)
        if suffix is None:
            self._answer(peer_id, session, question, b"", 0)
            return
        file = SealedFile(question.base, suffix)
        loan = self._loans.get(peer_id)
        if loan is None or loan.file != file or question.position == 0:
            loan = self._loans[peer_id] = Loan(self._log, file)
        self._busy = True
        self._read(peer_id, session, question, loan)

    def _read(self, peer_id: str, session: int, question: FetchSegment, loan: Loan) -> None:
        pieces: list[tuple[bytes, int] | None] = []
        done = partial(self._done, peer_id, session, question, loan, pieces)
        self._worker.submit(lambda: pieces.append(loan.read(question.position)), done)

    def _done(
        self,
        peer_id: str,
        session: int,
        question: FetchSegment,
        loan: Loan,
        pieces: list[tuple[bytes, int] | None],
        error: BaseException | None,
    ) -> None:
        if error is None and pieces[0] is None and self._sessions.get(peer_id) == session:
            self._read(peer_id, session, question, loan)
            return
        self._busy = False
        data, size = (pieces[0] if error is None else None) or (b"", 0)
        if isinstance(error, Damaged):
            self._log.report(error)
        elif error is not None and not isinstance(error, (OutOfLog, OSError)):
            self._fail(error)
        self._answer(peer_id, session, question, data, size if data else 0)
        self._next()

    def _answer(self, peer_id: str, session: int, question: FetchSegment, data: bytes, size: int) -> None:
        if self._sessions.get(peer_id) != session:
            return
        if not size:
            self._loans.pop(peer_id, None)
        chunk = SegmentChunk(base=question.base, file=question.file, position=question.position, size=size)
        self._network.send(
            peer_id, PeerMessage(term=self._term(), segment_chunk=chunk), (data,) if data else ()
        )
