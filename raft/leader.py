"""Leading: what is sent to whom and when, and what of the answers is counted.

A peer's MATCHED is counted only up to what is durable here too. So every majority that the engine counts
holds its entries on disk, this node's copy included, and the engine may go on counting itself for everything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from quorumlog.proto.checksum import Buffer
from quorumlog.proto.peer_pb2 import AppendEntries, AppendReply, PeerMessage
from quorumlog.raft.alarms import Alarms
from quorumlog.raft.core import Core
from quorumlog.raft.interfaces import Network
from quorumlog.raft.journal import Journal
from quorumlog.raft.progress import BATCH_BYTES, Progress, State
from quorumlog.storage.errors import Damaged


class Leader:
    """The leader's half of a replica. `progress` is empty while this node does not lead.

    Progress begins anew with each leadership, so nothing that was held in an older term is ever counted.
    """

    def __init__(
        self,
        core: Core,
        journal: Journal,
        network: Network,
        sessions: Mapping[str, int],
        alarms: Alarms,
        countable_index: Callable[[], int],
        required_policy: Callable[[], int],
    ) -> None:
        self.progress: dict[str, Progress] = {}
        self.no_op_index = 0  # of the newest leadership; applied: all that was acknowledged is known here
        self._core = core
        self._journal = journal
        self._network = network
        self._sessions = sessions
        self._alarms = alarms
        self._countable_index = countable_index
        self._required_policy = required_policy
        self._round = 0
        self._must_answer = False

    def start(self, peer_ids: Sequence[str]) -> None:
        """The engine has just appended the no-op of a new leadership."""
        self.no_op_index = self._journal.last_index
        self.progress = {peer_id: Progress(self.no_op_index - 1) for peer_id in peer_ids}

    def stop(self) -> None:
        self.progress = {}

    def peer_connected(self, peer_id: str) -> None:
        if peer_id in self.progress:
            self.progress[peer_id].restart()

    # Answers ---------------------------------------------------------------------------------

    def on_reply(self, peer_id: str, reply: AppendReply) -> None:
        """Take an answer of this term."""
        progress = self.progress.get(peer_id)
        if progress is None:
            return
        progress.round_seen = max(progress.round_seen, reply.round)
        if reply.outcome == AppendReply.MATCHED:
            assert reply.index <= self._journal.last_index, (
                f"{peer_id} matched {reply.index}, beyond this log"
            )
            progress.matched(reply.index)
        elif reply.outcome == AppendReply.NO_SPACE:
            progress.refused()
        elif reply.outcome == AppendReply.RESET:
            progress.reset(reply.index, self._journal.last_index)
        if not self._count(peer_id, progress):
            self._deliver(peer_id, success=False, index=0)  # alive: feeds check-quorum, claims nothing

    def on_durable(self) -> None:
        """A sync has finished here: count what was held back for it."""
        for peer_id, progress in self.progress.items():
            self._count(peer_id, progress)

    def _count(self, peer_id: str, progress: Progress) -> bool:
        """Tell the engine what this peer holds, up to what is durable here too. False: nothing new."""
        index = min(progress.match, self._countable_index())
        if index <= progress.counted:
            return False
        progress.counted = index
        self._deliver(peer_id, success=True, index=index)
        return True

    def _deliver(self, peer_id: str, *, success: bool, index: int) -> None:
        message = {"type": "next_node_idx", "next_node_idx": index + 1, "reset": False, "success": success}
        self._core.deliver(peer_id, message)

    # Sending ---------------------------------------------------------------------------------

    @property
    def has_unsent_commit(self) -> bool:
        """Is there a peer that follows and has not been told the commit index?"""
        commit_index = self._core.commit_index
        return any(
            progress.state is State.REPLICATE and progress.commit_sent < commit_index
            for progress in self.progress.values()
        )

    def send(self, *, push_commit: bool, heartbeat: bool) -> None:
        """Send what may be sent.

        `push_commit`: a new commit index goes out also where there are no entries. `heartbeat`: a message
        that must be answered at once, whatever is durable there, goes to everybody, and an unanswered probe
        is repeated. Other messages are answered only when there is something new to claim.
        """
        self._must_answer = heartbeat
        for peer_id, progress in self.progress.items():
            if heartbeat:
                progress.repeat_probe()
            if peer_id in self._sessions and self._network.has_room(peer_id):
                self._send_to(peer_id, progress, push_commit=push_commit)

    def _send_to(self, peer_id: str, progress: Progress, *, push_commit: bool) -> None:
        if progress.may_probe():
            progress.probed()
            # A peer that is behind the log's start is asked at the start until it can be given a snapshot.
            previous = max(progress.next, self._journal.first_index) - 1
            self._send_append(peer_id, previous, [], 0, must_answer=True)
            return
        try:
            sent = self._send_entries(peer_id, progress)
        except Damaged as error:
            self._alarms.damage(error)
            return
        news = push_commit and progress.commit_sent < self._core.commit_index
        if not sent and progress.state is State.REPLICATE and (news or self._must_answer):
            self._send_append(peer_id, progress.next - 1, [], 0)

    def _send_entries(self, peer_id: str, progress: Progress) -> bool:
        sent = False
        while (
            progress.may_send()
            and progress.next <= self._journal.last_index
            and self._network.has_room(peer_id)
        ):
            previous = progress.next - 1
            buffers, count, size = self._journal.run_from(progress.next, BATCH_BYTES)
            self._send_append(peer_id, previous, buffers, count)
            progress.sent(previous + count, size)
            sent = True
        return sent

    def _send_append(
        self, peer_id: str, previous: int, buffers: Sequence[Buffer], count: int, *, must_answer: bool = False
    ) -> None:
        previous_term = self._journal.term_at(previous)
        assert previous_term is not None, f"entry {previous} before a message to {peer_id} is not here"
        self._round += 1
        append = AppendEntries(
            previous_index=previous,
            previous_term=previous_term,
            commit_index=self._core.commit_index,
            count=count,
            sync_policy=self._required_policy(),
            round=self._round if must_answer or self._must_answer else 0,
        )
        self.progress[peer_id].commit_sent = self._core.commit_index
        self._network.send(peer_id, PeerMessage(term=self._core.term, append_entries=append), buffers)
