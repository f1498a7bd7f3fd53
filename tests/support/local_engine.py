"""LocalEngine: quorumlog.raft.engine.Engine's public face over a real log, without any replication.

For tests of the node's services: what is proposed is appended to the log, synced and applied at once, so that
services, state machine and storage are real and only Raft is not. A test can take leadership away, name
another leader, hold commits back, let a proposal, a read index, a transfer or a change of members fail, or
feed a second engine what the first has committed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence

from quorumlog.proto.entry import entry_parts
from quorumlog.proto.entry_pb2 import Member
from quorumlog.raft.durations import Durations
from quorumlog.raft.engine import EngineCounters, EngineStatus, PeerState, Role
from quorumlog.raft.errors import (
    MembershipRefused,
    NotConfirmed,
    NotLeader,
    OutcomeUnknown,
    RaftError,
    Stopping,
    TransferFailed,
)
from quorumlog.raft.machine import Machine
from quorumlog.raft.membership import encode
from quorumlog.raft.proposal import Committed, Proposal
from quorumlog.raft.scrubbing import ScrubStatus
from quorumlog.storage.format import KIND_COMMANDS, KIND_MEMBERSHIP, KIND_NO_OP, STARTS_SEGMENT
from quorumlog.storage.frame import Frame
from quorumlog.storage.log import Log

_Waiting = tuple[Proposal, "asyncio.Future[Committed]"]


class LocalEngine:
    """See the module. Every call is made on one event loop."""

    def __init__(
        self, log: Log, machine: Machine, node_id: str = "n1", client_address: str = "127.0.0.1:0"
    ) -> None:
        self.node_id = node_id
        self.log = log
        self.machine = machine
        self.client_address = client_address
        self.role = Role.FOLLOWER
        self.term = 1
        self.leader_id: str | None = None
        self.leader_address: str | None = None
        self.is_leader = False
        self.applied_index = 0
        self.peers: dict[str, PeerState] = {}
        self.alarms: set[str] = set()
        self.on_alarms: list[Callable[[], None]] = []
        self.on_applied: list[Callable[[], None]] = []
        self.is_awaited: Callable[[], bool] = lambda: False
        self.on_role: list[Callable[[Role, int, str | None], None]] = []
        self.on_voting: list[Callable[[], None]] = []
        self.why_not_voting: str | None = None
        self.members: dict[str, Member] = {node_id: Member(node_id=node_id, peer_address="127.0.0.1:1")}
        self.told_commit_index = 0  # what a leader is said to have committed
        self.unconfirmed = 0  # so many linearizable reads find no majority
        self.reads_asked = 0
        self.learners_stay = False  # what is added does not catch up
        self.stop_checks: dict[str, tuple[bool, str]] = {}
        self.peer_address = "127.0.0.1:0"
        self.followers: list[LocalEngine] = []
        self.leader: LocalEngine | None = None  # where it is one of this process
        self.failures: list[RaftError] = []  # raised by the next proposals, instead of doing them
        self.entries: list[Frame] = []  # all that was appended here, for tests that apply it elsewhere
        self._held = False
        self._waiting: list[_Waiting] = []
        self._received: list[Frame] = []
        self._stopping = False
        base, state = log.load_state()
        machine.restore(base, state)
        self.applied_index = base - 1

    # What a test does ---------------------------------------------------------------------------

    def lead(self) -> None:
        """Become the leader of a new term, with its first entry applied."""
        self.term += 1
        self._set_role(Role.LEADER, self.node_id, self.client_address)
        self._append(KIND_NO_OP, [b""])
        self.is_leader = True
        self._tell_applied()

    def follow(self, leader_id: str, address: str | None) -> None:
        """Follow another leader, or one whose address is not known yet."""
        self.term += 1
        self.is_leader = False
        self._set_role(Role.FOLLOWER, leader_id, address)

    def lose_leader(self) -> None:
        """Know of no leader."""
        self.is_leader = False
        self._set_role(Role.FOLLOWER, None, None)

    def hold(self) -> None:
        """Take proposals, and frames from a leader, but apply nothing until `release`."""
        self._held = True

    def release(self) -> None:
        """Do what was held back."""
        self._held = False
        self._commit()
        frames, self._received = self._received, []
        for frame in frames:
            self.receive(frame)

    def receive(self, frame: Frame) -> None:
        """As a follower: take an entry that is committed."""
        if self._held:
            self._received.append(frame)
            return
        self._store(frame)
        self._tell_applied()

    @property
    def waiting_count(self) -> int:
        """Proposals that are held back."""
        return len(self._waiting)

    # What Engine offers -------------------------------------------------------------------------

    async def start(self) -> None:
        """Apply what the log holds."""
        for index in range(self.applied_index + 1, self.log.last_index + 1):
            self._apply(self.log.read(index))
        self._tell_applied()

    async def stop(self) -> None:
        """See Engine."""
        self._stopping = True
        if self.leader is not None and self in self.leader.followers:
            self.leader.followers.remove(self)
        self.log.close()

    async def propose(self, proposal: Proposal, timeout_s: float) -> Committed:
        """See Engine."""
        return await self.begin(proposal, timeout_s)

    def begin(self, proposal: Proposal, timeout_s: float) -> asyncio.Future[Committed]:
        """See Engine."""
        if self._stopping:
            raise Stopping("this node is stopping")
        self._check_leads()
        if self.failures:
            raise self.failures.pop(0)
        loop = asyncio.get_running_loop()
        landed: asyncio.Future[Committed] = loop.create_future()

        def expire() -> None:
            if not landed.done():
                landed.set_exception(OutcomeUnknown("no majority confirmed it within its time"))

        alarm = loop.call_later(timeout_s, expire)
        landed.add_done_callback(lambda _: alarm.cancel())
        self._waiting.append((proposal, landed))
        if not self._held:
            self._commit()
        return landed

    async def wait_applied(self, index: int, timeout_s: float) -> None:
        """See Engine."""
        reached = asyncio.Event()

        def look() -> None:
            if self.applied_index >= index:
                reached.set()

        self.on_applied.append(look)
        look()
        try:
            async with asyncio.timeout(timeout_s):
                await reached.wait()
        finally:
            self.on_applied.remove(look)

    async def read_index(self, timeout_s: float) -> int:
        """See Engine. A follower asks its leader, where the test has one for it."""
        self.reads_asked += 1
        if self.unconfirmed:
            self.unconfirmed -= 1
            raise NotConfirmed("no majority confirmed within its time who leads")
        if self.role is Role.LEADER:
            return self.commit_index
        if self.leader is None:
            raise NotConfirmed("no majority confirmed within its time who leads")
        return self.leader.commit_index

    async def transfer_leadership(self, target: str | None, timeout_s: float) -> str:
        """See Engine."""
        self._check_leads()
        if self.failures:
            raise self.failures.pop(0)
        heirs = {follower.node_id: follower for follower in self.followers}
        heir = heirs.get(target or min(heirs, default=""))
        if heir is None:
            raise TransferFailed(f"{target or 'no other voter'} is not connected to the leader")
        self.followers.remove(heir)
        heir.followers = [*self.followers, self]
        self.followers = []
        self.leader = heir
        self.follow(heir.node_id, heir.client_address)
        heir.term = self.term - 1
        heir.leader = None
        heir.lead()
        return heir.node_id

    async def add_member(self, node_id: str, peer_address: str, timeout_s: float) -> int:
        """See Engine."""
        self._check_leads()
        if self.failures:
            raise self.failures.pop(0)
        member = Member(node_id=node_id, peer_address=peer_address, learner=self.learners_stay)
        index = self._change({**self.members, node_id: member})
        if self.learners_stay:
            raise OutcomeUnknown(f"{node_id} is a learner and has not caught up yet")
        return index

    async def remove_member(self, node_id: str, timeout_s: float) -> int:
        """See Engine."""
        self._check_leads()
        if self.failures:
            raise self.failures.pop(0)
        if node_id == self.node_id:
            await self.transfer_leadership(None, timeout_s)
            raise NotLeader(self.leader_id, self.leader_address, self.term)
        if node_id not in self.members:
            raise MembershipRefused(f"{node_id} is no member")
        return self._change({name: each for name, each in self.members.items() if name != node_id})

    def check_stop(self, node_id: str) -> tuple[bool, str]:
        """See Engine."""
        self._check_leads()
        return self.stop_checks.get(node_id, (True, "2 of 3 voters keep up without it"))

    @property
    def commit_index(self) -> int:
        """See Engine."""
        return self.applied_index

    @property
    def known_commit_index(self) -> int:
        """See Engine."""
        return max(self.commit_index, self.told_commit_index)

    @property
    def leader_client_address(self) -> str | None:
        """See Engine."""
        return self.leader_address

    def status(self) -> EngineStatus:
        """See Engine."""
        return EngineStatus(
            self.node_id,
            self.role,
            self.term,
            self.leader_id,
            self.commit_index,
            self.applied_index,
            self.log.first_index,
            self.log.last_index,
            self.log.durable_index,
            self.peers,
            self.log.size_bytes,
            len(self.log.segments),
            sorted(self.alarms),
            ScrubStatus(0, 0, 0, 0),
        )

    def counters(self) -> EngineCounters:
        """See Engine."""
        damage, fenced = len(self.log.damage), len(self.log.fenced)
        return EngineCounters(Durations(), Durations(), 0, 0, damage, fenced)

    # Inside -------------------------------------------------------------------------------------

    def _check_leads(self) -> None:
        if self.role is not Role.LEADER:
            raise NotLeader(self.leader_id, self.leader_address, self.term)

    def _change(self, members: Mapping[str, Member]) -> int:
        """Append a configuration; it holds here and on the followers."""
        self._append(KIND_MEMBERSHIP, [encode(members.values())])
        for engine in (self, *self.followers):
            engine.members = dict(members)
        self._tell_applied()
        return self.log.last_index

    def _set_role(self, role: Role, leader_id: str | None, address: str | None) -> None:
        self.role, self.leader_id, self.leader_address = role, leader_id, address
        for listener in list(self.on_role):
            listener(role, self.term, leader_id)

    def _tell_applied(self) -> None:
        for listener in list(self.on_applied):
            listener()

    def _commit(self) -> None:
        waiting, self._waiting = self._waiting, []
        for group in _groups(waiting):
            prefix = self.machine.entry_prefix(time.time_ns() // 1_000_000)
            fragments = [proposal.fragment for proposal, _ in group]
            bodies = [body for proposal, _ in group for body in proposal.bodies]
            results = self._append(KIND_COMMANDS, entry_parts(*prefix, fragments, bodies))
            for (_, landed), result in zip(group, results, strict=True):
                if not landed.done():
                    policy = self.machine.sync_policy
                    landed.set_result(Committed(self.log.last_index, self.term, result, policy))
        if waiting:
            self._tell_applied()

    def _append(self, kind: int, parts: Sequence[bytes]) -> Sequence[object]:
        size = sum(map(len, parts))
        rolls = self.log.should_roll(size)
        self.log.ensure_space(size, rolls)
        flags = STARTS_SEGMENT if rolls else 0
        index = self.log.last_index + 1
        frame = Frame.build(index, self.term, kind, parts, flags, self.log.last_chain)
        results = self._store(frame)
        for follower in self.followers:
            follower.receive(frame)
        return results

    def _store(self, frame: Frame) -> Sequence[object]:
        self.log.append([frame])
        self.log.sync()
        self.entries.append(frame)
        return self._apply(frame)

    def _apply(self, frame: Frame) -> Sequence[object]:
        if frame.starts_segment:
            sealable = self.machine.begin_segment(frame.index)
            if sealable is not None:
                self.log.seal(sealable.base, sealable.view, sealable.state)
                self.machine.sealed(sealable.base)
        results = self.machine.apply(frame)
        self.applied_index = frame.index
        return results


def _groups(waiting: Sequence[_Waiting]) -> list[list[_Waiting]]:
    """Split into what shares an entry: a solo proposal is alone in its own."""
    groups: list[list[_Waiting]] = []
    for each in waiting:
        if not groups or each[0].solo or groups[-1][-1][0].solo:
            groups.append([])
        groups[-1].append(each)
    return groups
