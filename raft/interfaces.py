"""What a replica asks of the world: a network and threads. Engine and simulation each bring their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from quorumlog.proto.checksum import Buffer
from quorumlog.proto.peer_pb2 import PeerMessage


class Network(Protocol):
    """Sessions to peers. A session is one connection: what it delivers comes in order, and nothing later."""

    def send(self, peer_id: str, message: PeerMessage, attachment: Sequence[Buffer] = ()) -> None:
        """Hand a message to the peer's session; without one it is lost."""

    def has_room(self, peer_id: str) -> bool:
        """Is there a session whose outbound queue is below its bound?"""


class Worker(Protocol):
    """Runs what may block away from the loop, one piece after the other."""

    def submit(self, work: Callable[[], None], done: Callable[[BaseException | None], None]) -> None:
        """Run `work`, then `done` on the loop's thread with what it raised."""
