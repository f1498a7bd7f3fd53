"""Repair: giving a fenced file back what it held, from another node, while everything else goes on.

One file at a time, the newest segment first, since a log file is checked against the one that follows it:

    look    check the file once more: what was misread, and an index, which the log can make, need nobody
    fetch   ask one peer, piece by piece, one under way; the pieces go to a file of another name
    check   the whole copy, as the scrub would: every frame, the chain on both sides, sums, size
    install make it durable, rename it into the place of the damaged one, lift the fence

A peer that does not answer, has it not, or has it damaged too, is left for the next one; when none is left,
all are asked again after a while. Nothing is ever installed that has not passed the check, and nothing of the
damaged file is touched before. It does not matter who leads: replicas are the same, byte for byte.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NoReturn, TypeAlias

from quorumlog.proto.checksum import Buffer
from quorumlog.proto.peer_pb2 import FetchSegment, PeerMessage, SegmentChunk
from quorumlog.raft.alarms import Alarms
from quorumlog.raft.interfaces import Network, Worker
from quorumlog.raft.lending import CHUNK_BYTES, STEP_COST, SUFFIXES
from quorumlog.storage.check import FileCheck
from quorumlog.storage.copy import Copy
from quorumlog.storage.errors import Damaged, NoSpace, OutOfLog, SyncFailed
from quorumlog.storage.fences import SealedFile
from quorumlog.storage.log import Log

logger = logging.getLogger(__name__)

ANSWER_S: Final = 5.0  # for one piece: the peer may have to verify 16 MiB for it
RETRY_S: Final = 10.0  # after nobody could help, or the disk was full
MAX_FILE_BYTES: Final = 4 << 30  # no file of a segment is larger: a position is a u32

_ORDER: Final = ("log", "index", "view", "state")
_KINDS: Final = {suffix: kind for kind, suffix in SUFFIXES.items()}


@dataclass(frozen=True, slots=True)
class Question:
    """What a script waits for an answer to: a piece, or None."""

    peer_id: str
    session: int
    fetch: FetchSegment


Answer: TypeAlias = tuple[SegmentChunk, Buffer]
# A script yields work for the worker (and gets its result) or a question (and gets its answer).
Script: TypeAlias = Generator[Callable[[], Any] | Question, Any, bool]


class Repairer:
    """Repairs what is fenced. `tend`, `on_chunk` and the worker's callbacks come on one thread."""

    def __init__(
        self,
        log: Log,
        network: Network,
        sessions: Mapping[str, int],
        worker: Worker,
        alarms: Alarms,
        clock: Callable[[], float],
        term: Callable[[], int],
        repaired: Callable[[], None],
        fail: Callable[[BaseException], NoReturn],
    ) -> None:
        """`repaired` is called whenever a fence was lifted."""
        self._log = log
        self._network = network
        self._sessions = sessions
        self._worker = worker
        self._alarms = alarms
        self._clock = clock
        self._term = term
        self._repaired = repaired
        self._fail = fail
        self._file: SealedFile | None = None
        self._script: Script | None = None
        self._copy: Copy | None = None
        self._question: Question | None = None
        self._deadline = 0.0
        self._not_before: dict[SealedFile, float] = {}
        self._is_stopped = False

    @property
    def repairing(self) -> SealedFile | None:
        """The file that is being repaired."""
        return self._file

    def stop(self) -> None:
        """Nothing is begun, and nothing that ends is followed up, any more."""
        self._is_stopped = True
        self._script = self._question = None

    def tend(self) -> None:
        """With every tick: begin what is due, give up on who does not answer."""
        if self._question is not None and (
            self._clock() >= self._deadline
            or self._sessions.get(self._question.peer_id) != self._question.session
        ):
            self._advance(None)
        if self._file is None and self._log.fenced and not self._is_stopped:
            self._begin()

    def peer_connected(self) -> None:
        """Somebody new may be able to help."""
        self._not_before.clear()

    def on_chunk(self, peer_id: str, chunk: SegmentChunk, attachment: Buffer | None) -> None:
        """Take an answer; one that was not asked for is dropped."""
        question = self._question
        if question is None or question.peer_id != peer_id:
            return
        fetch = question.fetch
        if (chunk.base, chunk.file, chunk.position) != (fetch.base, fetch.file, fetch.position):
            return
        self._advance((chunk, attachment or b""))

    # Driving a script ------------------------------------------------------------------------

    def _begin(self) -> None:
        now = self._clock()
        fenced = self._log.fenced
        self._not_before = {file: moment for file, moment in self._not_before.items() if file in fenced}
        due = [file for file in fenced if self._not_before.get(file, now) <= now]
        if not due:
            return
        self._file = min(due, key=lambda file: (-file.base, _ORDER.index(file.suffix)))
        self._script = self._repair(self._file)
        self._advance(None)

    def _advance(self, value: Any, error: BaseException | None = None) -> None:
        script, self._question = self._script, None
        if script is None:
            return
        try:
            wanted = script.throw(error) if error is not None else script.send(value)
        except StopIteration as end:
            self._end(is_repaired=end.value)
        except OutOfLog:
            self._end(is_repaired=False)  # dropped, truncated or replaced meanwhile
        except NoSpace as problem:
            self._alarms.disk_full(problem)
            self._end(is_repaired=False)
        except Damaged as damage:
            self._log.report(damage)  # a file beside it, which has to be repaired first
            self._end(is_repaired=False)
        except SyncFailed as problem:
            self._fail(problem)
        else:
            self._follow(wanted)

    def _follow(self, wanted: Callable[[], Any] | Question) -> None:
        if isinstance(wanted, Question):
            self._question = wanted
            self._deadline = self._clock() + ANSWER_S
            message = PeerMessage(term=self._term(), fetch_segment=wanted.fetch)
            self._network.send(wanted.peer_id, message)
            return
        results: list[Any] = []
        work = wanted
        self._worker.submit(lambda: results.append(work()), partial(self._worked, results))

    def _worked(self, results: list[Any], error: BaseException | None) -> None:
        if error is not None and not isinstance(error, (Damaged, NoSpace, OutOfLog)):
            self._fail(error)
        self._advance(results[0] if results else None, error)

    def _end(self, *, is_repaired: bool) -> None:
        file, self._file, self._script = self._file, None, None
        copy, self._copy = self._copy, None
        assert file is not None
        if copy is not None:
            self._worker.submit(copy.discard, self._discarded)
        if is_repaired:
            logger.warning("%s is whole again", file.name)
            self._repaired()
        elif file in self._log.fenced:
            self._not_before[file] = self._clock() + RETRY_S

    def _discarded(self, error: BaseException | None) -> None:
        if error is not None:
            self._fail(error)

    # The scripts -----------------------------------------------------------------------------

    def _repair(self, file: SealedFile) -> Script:
        log = self._log
        if file.suffix == "index":
            return (yield from self._remake_index(file))
        try:
            check = log.begin_check(file)
            yield from self._check(check)
        except Damaged as damage:
            if damage.file != file.name:
                raise
        else:
            log.lift_fence(file)
            yield from self._look_at_index(check)
            return True
        tried: set[str] = set()
        while (peer_id := min(set(self._sessions) - tried, default=None)) is not None:
            tried.add(peer_id)
            if (yield from self._repair_from(peer_id, file)):
                return True
        if tried:
            logger.error("%s: no peer has a good copy; asking again in %.0f s", file.name, RETRY_S)
        return False

    def _check(self, check: FileCheck) -> Script:
        while not check.is_done:
            yield partial(check.step, STEP_COST)
        return True

    def _remake_index(self, file: SealedFile) -> Script:
        log = self._log
        check = log.begin_check(SealedFile(file.base, "log"), with_index=True)
        yield from self._check(check)
        assert check.log is not None
        copy = self._copy = yield partial(log.begin_copy, file)
        yield partial(copy.write, check.log.index_bytes)
        yield copy.sync
        log.install_copy(copy, check.log.place)
        self._copy = None
        return True

    def _repair_from(self, peer_id: str, file: SealedFile) -> Script:
        log = self._log
        copy = self._copy = yield partial(log.begin_copy, file)
        if not (yield from self._fetch(peer_id, file, copy)):
            return False
        check = log.begin_check(file, copy.content)
        try:
            yield from self._check(check)
        except Damaged as damage:
            logger.error("the copy from %s is damaged, too: %s", peer_id, damage)
            return False
        yield copy.sync
        log.install_copy(copy, check.log.place if check.log is not None else None)
        self._copy = None
        logger.warning("%s: replaced by the copy from %s, %d bytes", file.name, peer_id, copy.size)
        yield from self._look_at_index(check)
        return True

    def _look_at_index(self, check: FileCheck) -> Script:
        """A bad index may be what made a good log file look bad, or have hidden behind a bad one."""
        if check.log is not None:
            file = SealedFile(check.log.place.base, "index")
            try:
                if self._log.has_file(file):
                    yield from self._check(self._log.begin_check(file, log=check.log))
            except Damaged as damage:
                self._log.report(damage)
        return True

    def _fetch(self, peer_id: str, file: SealedFile, copy: Copy) -> Script:
        size = 0
        while copy.size < size or not copy.size:
            session = self._sessions.get(peer_id)
            if session is None:
                return False
            fetch = FetchSegment(base=file.base, file=_KINDS[file.suffix], position=copy.size)
            answer: Answer | None = yield Question(peer_id, session, fetch)
            if answer is None:
                return False
            chunk, data = answer
            size = size or chunk.size
            if not 0 < len(data) <= min(CHUNK_BYTES, size - copy.size) or chunk.size != size:
                return False  # it has it not, or is no node of ours
            if not copy.size:
                self._log.check_room(min(size, MAX_FILE_BYTES))
            yield partial(copy.write, bytes(data))
        return size <= MAX_FILE_BYTES
