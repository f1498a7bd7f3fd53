"""A cluster that faults are done to: what processes.py and containers.py have in common."""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from quorumlog.proto import service_pb2
from tests.chaos import plan
from tests.support.observer import Observer
from tests.support.replica import Replica

Link = tuple[str, str]  # from, to


class Target(ABC):
    """Nodes that can be killed, and a network between them that can be broken.

    - `kinds` are the faults that this machine can do here; `missing` says why others cannot be done.
    - Entering the block starts the cluster, leaving it removes everything.
    """

    name: str
    nodes: Sequence[str]
    servers: Mapping[str, str]  # node id -> address for clients
    peers: Mapping[str, str]  # node id -> address for peers
    kinds: Sequence[str]
    missing: Mapping[str, str]  # kind -> why not
    small_disk: str  # the node whose disk can be filled; empty: none
    observer: Observer

    @abstractmethod
    def __enter__(self) -> Target: ...

    @abstractmethod
    def __exit__(self, *error: object) -> None: ...

    # Nodes.

    @abstractmethod
    def kill(self, nodes: Iterable[str]) -> None:
        """SIGKILL, to all before any is waited for."""

    @abstractmethod
    def stop(self, nodes: Iterable[str]) -> None:
        """SIGTERM to all at once; each must end with 0."""

    @abstractmethod
    def start(self, nodes: Iterable[str]) -> None:
        """Start these and wait until each serves."""

    @abstractmethod
    def pause(self, nodes: Iterable[str]) -> None:
        """SIGSTOP."""

    @abstractmethod
    def resume(self, nodes: Iterable[str]) -> None:
        """SIGCONT."""

    @abstractmethod
    def ended(self) -> dict[str, int]:
        """The nodes that have ended, with their exit codes."""

    # Network.

    @abstractmethod
    def disconnect(self, node: str) -> None:
        """Take a node off the network: what was in flight is lost, connections break or starve."""

    @abstractmethod
    def reconnect(self, node: str) -> None:
        """Undo it."""

    @abstractmethod
    def drop(self, links: Iterable[Link]) -> None:
        """Let nothing through in these directions."""

    @abstractmethod
    def degrade(self, kind: str, strength: float, links: Iterable[Link]) -> str:
        """Make the network worse in a way of plan.BACKGROUND, `strength` 0 to 1; say how."""

    @abstractmethod
    def heal_network(self) -> None:
        """Undo drop and degrade."""

    # Disks.

    @abstractmethod
    def fill_disk(self) -> None:
        """Leave no room on the disk of `small_disk`."""

    @abstractmethod
    def free_disk(self) -> None:
        """Give the room back."""

    @abstractmethod
    def disk(self, node: str) -> Path:
        """The data directory of a node, dead or alive, as it is on this machine."""

    def wipe(self, node: str) -> None:
        """Remove all that a dead node has on its disk, which may be a mount itself."""
        for entry in self.disk(node).iterdir():
            if entry.is_dir():
                shutil.rmtree(entry)
            else:
                entry.unlink()

    @abstractmethod
    def data(self) -> dict[str, Path]:
        """The data directories, for reading when all nodes are dead."""

    # What it says.

    @abstractmethod
    def log_text(self, node: str) -> str:
        """All that a node logged."""

    def logs(self) -> str:
        """The end of every node's log: what a failing test shows."""
        return "\n".join(f"--- {node} ---\n{self.log_text(node)[-6000:]}" for node in self.nodes)

    def status(self, node: str) -> service_pb2.NodeStatus | None:
        """What the node says of itself, or None while it does not answer."""
        return self.observer.status(node)

    def replica(self, node: str) -> Replica:
        """Stubs to this node."""
        return self.observer.replica(node)

    def wait_for_leader(self, among: Iterable[str] = (), units: float = 30) -> str:
        """Return the node that leads and that all of `among` (default: all) follow."""
        return self.observer.wait_for_leader(tuple(among) or self.nodes, units)

    def leader(self) -> str | None:
        """The node that leads now, as far as one says so: of two, the one with the higher term."""
        statuses = [status for node in self.nodes if (status := self.status(node)) is not None]
        leaders = sorted((status.term, status.node_id) for status in statuses if status.role == "leader")
        return leaders[-1][1] if leaders else None

    def links(self) -> list[Link]:
        """Every directed pair of nodes."""
        return [(one, other) for one in self.nodes for other in self.nodes if one != other]


def possible(missing: Mapping[str, str]) -> tuple[str, ...]:
    """The kinds of faults that are not missing, in their order."""
    return tuple(kind for kind in plan.KINDS if kind not in missing)


def settings() -> dict[str, object]:
    """Settings of the nodes: small segments, so that they roll, are sealed and are sent within a run."""
    return {
        "log.segment_bytes": "1MiB",
        "log.segment_entries": 2000,
        # Damage has to be found while the run waits for it.
        "log.scrub_mb_per_s": 20,
        "log.scrub_period": "3s",
    }
