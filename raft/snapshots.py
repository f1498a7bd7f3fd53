"""Snapshots: the state at the log's start, for a follower that lacks entries which are kept no longer.

    leader     the state file of the first kept segment (as of base - 1) goes out in pieces, one in flight;
               with every heartbeat the follower is asked how far it has come
    follower   pieces are collected in memory; when all are there and their crc is right:
               at or below the commit index, or held already   nothing to do: entries may follow
               otherwise                                       the log and the machine begin anew at base

The state is small beside the log: topics, offsets, producers and members, no records. Everything before
`base` is committed, by whatever leader: a node holds it, or it holds nothing that is worth keeping. So an
install that has begun goes on whoever leads meanwhile, and nothing on this path is committed by the engine.

While the log is replaced (storage/install.py has the order of the disk operations, in the worker's thread)
the node hears its leader and answers votes, but takes no entries and does not stand.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NoReturn

from quorumlog.proto.checksum import Buffer, crc32c
from quorumlog.proto.peer_pb2 import InstallSnapshot, PeerMessage, SnapshotReply
from quorumlog.raft.alarms import Alarms
from quorumlog.raft.core import Core
from quorumlog.raft.interfaces import Network, Worker
from quorumlog.raft.journal import Journal
from quorumlog.raft.progress import Progress, SnapshotProgress, State
from quorumlog.storage.errors import Damaged, NoSpace
from quorumlog.storage.frame import BadFrame
from quorumlog.storage.header import SegmentHeader
from quorumlog.storage.install import Installation
from quorumlog.storage.log import Log

logger = logging.getLogger(__name__)

PIECE_BYTES: Final = 256 << 10
# The largest that a machine can reach (node/producers.py and node/topics.py have its bounds), twice.
STATE_BYTES_MAX: Final = 128 << 20


class SnapshotSender:
    """The leader's half. What is under way to a peer is in its Progress."""

    def __init__(self, core: Core, log: Log, network: Network, alarms: Alarms) -> None:
        self._core = core
        self._log = log
        self._network = network
        self._alarms = alarms
        self.begun = 0  # states that were begun to be sent, since the node started

    def send(self, peer_id: str, progress: Progress, *, heartbeat: bool) -> None:
        """Send what may be sent to a peer that lacks entries before the log's start."""
        snapshot = progress.snapshot
        if snapshot is None and progress.state is State.SNAPSHOT and not heartbeat:
            return  # it could not be read
        try:
            if snapshot is None or snapshot.header.base != self._log.first_index:
                snapshot = self._open()
                logger.info("%s lacks entries before %d: sending the state", peer_id, snapshot.header.base)
                self.begun += 1
                progress.become_snapshot(snapshot)
                self._send(peer_id, snapshot, 0, b"")
            elif heartbeat:
                snapshot.heartbeat()
                self._send(peer_id, snapshot, 0, b"")
            elif (position := snapshot.wanted) is not None:
                piece = snapshot.source.read(position, PIECE_BYTES)
                snapshot.sent()
                self._send(peer_id, snapshot, position, piece)
        except Damaged as error:
            self._log.report(error)
            self._alarms.damage(error)
            progress.lack_snapshot()

    def _open(self) -> SnapshotProgress:
        base = self._log.first_index
        assert base > 1, "nothing was dropped, and a peer lacks it"
        return SnapshotProgress(self._log.header_of(base), self._log.open_state(base))

    def _send(self, peer_id: str, snapshot: SnapshotProgress, position: int, piece: bytes) -> None:
        header = snapshot.header
        message = InstallSnapshot(
            base=header.base,
            previous_term=header.previous_term,
            previous_chain=header.previous_chain,
            previous_base=header.previous_base,
            ordinal=header.ordinal,
            size=snapshot.source.size,
            crc32c=snapshot.source.crc,
            position=position,
        )
        attachment = [piece] if piece else []
        self._network.send(peer_id, PeerMessage(term=self._core.term, install_snapshot=message), attachment)

    def on_reply(self, peer_id: str, progress: Progress, reply: SnapshotReply) -> None:
        """Take an answer of this term and session."""
        snapshot = progress.snapshot
        if snapshot is None or reply.base != snapshot.header.base:
            return
        if reply.installed:
            logger.info("%s has the state before entry %d", peer_id, reply.base)
            progress.installed()
        else:
            snapshot.answered(reply.position)


@dataclass(slots=True)
class Incoming:
    """A state that is being collected, and whose word it is."""

    leader_id: str
    session: int
    term: int
    header: SegmentHeader
    size: int
    crc: int
    data: bytearray = field(default_factory=bytearray)  # at most `size` bytes

    def is_of(self, other: Incoming) -> bool:
        """Do both tell of the same state, by the same session and term?"""
        return (self.leader_id, self.session, self.term, self.header, self.size, self.crc) == (
            other.leader_id,
            other.session,
            other.term,
            other.header,
            other.size,
            other.crc,
        )


class SnapshotReceiver:
    """The follower's half.

    - At most one state is collected, at most one is being installed.
    - From the moment an install begins until it ends nothing is appended, synced or sealed here.
    """

    def __init__(
        self,
        core: Core,
        journal: Journal,
        network: Network,
        worker: Worker,
        alarms: Alarms,
        *,
        is_idle: Callable[[], bool],
        adopt: Callable[[int, bytes], None],
        installed: Callable[[], None],
        fail: Callable[[BaseException], NoReturn],
        is_voter: Callable[[], bool],
    ) -> None:
        """`is_idle`: is nothing being written? `adopt`: the log begins anew at that index with that state."""
        self._core = core
        self._journal = journal
        self._log = journal.log
        self._network = network
        self._worker = worker
        self._alarms = alarms
        self._is_idle = is_idle
        self._adopt = adopt
        self._installed = installed
        self._fail = fail
        self._is_voter = is_voter
        self._incoming: Incoming | None = None
        self._installation: Installation | None = None
        self._waits_for_room = False  # to finish what was decided
        self.installs = 0  # that are finished, since the node started

    @property
    def is_installing(self) -> bool:
        return self._installation is not None

    def on_install(
        self, peer_id: str, session: int, term: int, message: InstallSnapshot, attachment: Buffer | None
    ) -> None:
        """Take a piece of the leader's state, or its question how far it has come. Raises BadFrame."""
        told = _incoming_of(peer_id, session, term, message)
        if self.is_installing:
            assert self._incoming is not None
            is_the_same = self._incoming.header == told.header
            self._reply(peer_id, message.base, told.size if is_the_same else 0)
        elif self._is_needless(message):
            self._incoming = None
            self._reply(peer_id, message.base, 0, installed=True)
        else:
            incoming = self._collect(told, message.position, attachment or b"")
            # Answered first: the install may be over before this call returns.
            self._reply(peer_id, message.base, len(incoming.data))
            if len(incoming.data) == incoming.size and self._is_idle():
                self._begin(incoming)

    def tend(self) -> None:
        """With every tick: finish what had no room."""
        if self._waits_for_room:
            self._waits_for_room = False
            self._finish()

    def _is_needless(self, message: InstallSnapshot) -> bool:
        if message.base - 1 <= self._core.commit_index:
            return True
        return self._journal.term_at(message.base - 1) == message.previous_term

    def _collect(self, told: Incoming, position: int, piece: Buffer) -> Incoming:
        """Add a piece that is the next one to what there is; the rest comes again, or has come."""
        incoming = self._incoming
        if incoming is None or not incoming.is_of(told):
            incoming = self._incoming = told
        if position != len(incoming.data):
            return incoming
        if position + len(piece) > incoming.size:
            raise BadFrame(position, "end of the piece", incoming.size, position + len(piece))
        incoming.data += piece
        if len(incoming.data) == incoming.size and crc32c(incoming.data) != incoming.crc:
            logger.warning("the state from %s arrived damaged: asking for it again", told.leader_id)
            incoming.data.clear()
        return incoming

    def _begin(self, incoming: Incoming) -> None:
        assert incoming.header.base - 1 > self._core.commit_index, "would take back what is committed"
        logger.warning(
            "entries before %d are kept nowhere: replacing this log (entries %d to %d) by the leader's state",
            incoming.header.base,
            self._log.first_index,
            self._log.last_index,
        )
        self._installation = self._log.begin_install(incoming.header, bytes(incoming.data))
        self._worker.submit(self._installation.prepare, self._prepared)

    def _prepared(self, error: BaseException | None) -> None:
        installation, incoming = self._installation, self._incoming
        assert installation is not None
        assert incoming is not None
        if isinstance(error, NoSpace):
            self._alarms.disk_full(error)
            self._installation = None  # the leader's next question tries again
            return
        if error is not None:
            self._fail(error)
        self._log.switch_to(installation)
        self._adopt(incoming.header.base, bytes(incoming.data))
        self._finish()

    def _finish(self) -> None:
        assert self._installation is not None
        self._worker.submit(self._installation.finish, self._finished)

    def _finished(self, error: BaseException | None) -> None:
        installation, incoming = self._installation, self._incoming
        assert installation is not None
        assert incoming is not None
        if isinstance(error, NoSpace):
            self._alarms.disk_full(error)
            self._waits_for_room = True
            return
        if error is not None:
            self._fail(error)
        self._alarms.has_room()
        self._log.end_install(installation)
        self._installation = self._incoming = None
        self.installs += 1
        base = incoming.header.base
        logger.warning("this log begins anew at entry %d", base)
        self._reply(incoming.leader_id, base, incoming.size, installed=True)
        self._installed()

    def _reply(self, peer_id: str, base: int, position: int, *, installed: bool = False) -> None:
        reply = SnapshotReply(base=base, position=position, installed=installed, voter=self._is_voter())
        self._network.send(peer_id, PeerMessage(term=self._core.term, snapshot_reply=reply))


def _incoming_of(peer_id: str, session: int, term: int, message: InstallSnapshot) -> Incoming:
    """What a message tells of; no data yet. Raises BadFrame."""
    if message.size > STATE_BYTES_MAX:
        raise BadFrame(0, "size of the state", STATE_BYTES_MAX, message.size)
    if not 0 < message.previous_base < message.base:
        raise BadFrame(0, "base of the segment before", message.base - 1, message.previous_base)
    header = SegmentHeader(
        message.base, message.previous_term, message.previous_chain, message.previous_base, message.ordinal
    )
    return Incoming(peer_id, session, term, header, message.size, message.crc32c)
