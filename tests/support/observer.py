"""A cluster as seen from outside: the status of each node, and waiting for what they shall agree on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack

import grpc

from quorumlog.client.tls import Tls
from quorumlog.proto import service_pb2
from tests.support.replica import Replica, connected
from tests.support.waiting import UNIT_S, eventually

# What a node that is down, starting or stopping gives; anything else is a defect and shall surface.
_NOT_NOW = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


class Observer:
    """Asks nodes by their addresses, each on a channel of its own that stays open until `close`."""

    def __init__(self, addresses: Mapping[str, str], tls: Tls | None = None) -> None:
        self._addresses = dict(addresses)
        self._tls = tls
        self._channels = ExitStack()
        self._replicas: dict[str, Replica] = {}

    def know(self, node_id: str, address: str) -> None:
        """Ask one more node."""
        self._addresses[node_id] = address

    def close(self) -> None:
        """Close every channel."""
        self._channels.close()

    def replica(self, node_id: str) -> Replica:
        """Stubs to this node."""
        if node_id not in self._replicas:
            self._replicas[node_id] = self._channels.enter_context(
                connected(self._addresses[node_id], self._tls)
            )
        return self._replicas[node_id]

    def status(self, node_id: str) -> service_pb2.NodeStatus | None:
        """What the node says of itself, or None while it does not answer."""
        try:
            return self.replica(node_id).status()
        except grpc.RpcError as error:
            if error.code() in _NOT_NOW:
                return None
            raise

    def status_soon(self, node_id: str) -> service_pb2.NodeStatus | None:
        """The same for a node that may be asleep: it has a fifth of a unit to answer."""
        try:
            return self.replica(node_id).status(timeout_s=UNIT_S / 5)
        except grpc.RpcError as error:
            if error.code() in _NOT_NOW:
                return None
            raise

    def wait_for_leader(self, among: Iterable[str], units: float = 30) -> str:
        """Return the node of `among` that leads and that all of them follow, in one term."""
        names = sorted(among)
        return eventually(lambda: self._agreed_leader(names), f"{names} agree on a leader", units)

    def _agreed_leader(self, names: Sequence[str]) -> str | None:
        statuses = [status for name in names if (status := self.status(name)) is not None]
        views = {(status.leader_id, status.term) for status in statuses}
        leaders = [status.node_id for status in statuses if status.role == "leader"]
        if len(statuses) < len(names) or len(views) != 1 or len(leaders) != 1:
            return None
        leader_id, _ = views.pop()
        return leaders[0] if leaders[0] == leader_id else None

    def wait_until_applied(self, raft_index: int, among: Iterable[str], units: float = 30) -> None:
        """Wait until each of `among` has applied the entry at `raft_index`."""
        names = sorted(among)

        def applied() -> bool:
            statuses = [self.status(name) for name in names]
            return all(status is not None and status.applied_index >= raft_index for status in statuses)

        eventually(applied, f"{names} have applied {raft_index}", units)
