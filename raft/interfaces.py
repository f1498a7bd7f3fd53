"""What a replica asks of the world: a network and threads. Engine and simulation each bring their own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from quorumlog.proto.checksum import Buffer
from quorumlog.proto.peer_pb2 import PeerMessage


@dataclass(frozen=True, slots=True)
class Standing:
    """What a node says of itself when a session begins."""

    directory_id: bytes
    term: int  # 0: it has never heard of an election, and its log is empty
    configuration: int = 0  # raft index of the newest configuration in its log, committed or not


class Network(Protocol):
    """Sessions to peers. A session is one connection: what it delivers comes in order, and nothing later."""

    def send(self, peer_id: str, message: PeerMessage, attachment: Sequence[Buffer] = ()) -> None:
        """Hand a message to the peer's session; without one it is lost."""

    def has_room(self, peer_id: str) -> bool:
        """Is there a session whose outbound queue is below its bound?"""

    def set_peers(self, addresses: Mapping[str, str], learners: Iterable[str]) -> None:
        """Who the other members are from now on: id -> host:port. Who is refused now loses its session."""


class Worker(Protocol):
    """Runs what may block away from the loop, one piece after the other."""

    def submit(self, work: Callable[[], None], done: Callable[[BaseException | None], None]) -> None:
        """Run `work`, then `done` on the loop's thread with what it raised."""
