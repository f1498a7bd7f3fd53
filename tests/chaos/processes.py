"""A target of local processes; a proxy between the peers makes their network bad. Needs no root.

Clients reach the nodes directly, so that a leader that is cut off from its peers still hears them: what it
answers then is what counts. With root, n3 keeps its data on a small file system that can be filled.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

from tests.chaos import plan
from tests.chaos.proxy import Link, Proxy
from tests.chaos.target import Target, possible, settings
from tests.support.nodes import NodeCluster, free_ports
from tests.support.observer import Observer
from tests.support.smalldisk import SmallDisk

_IN_THIS_PROXY = "packets: a stream through the proxy shows neither (tests/simulation does it to messages)"


class Processes(Target):
    """`count` node processes under a directory."""

    name = "processes"

    def __init__(
        self,
        directory: Path,
        seed: int,
        *,
        count: int = 3,
        disk_bytes: int = 512 << 20,
        missing: Iterable[str] = (),
    ) -> None:
        self.nodes = [f"n{number}" for number in range(1, count + 1)]
        doors = {node: f"127.0.0.1:{port}" for node, port in zip(self.nodes, free_ports(count), strict=True)}
        peers = [f"{node}={door}" for node, door in doors.items()]
        self._cluster = NodeCluster(directory, count, {**settings(), "peers": peers}, name="chaos")
        self._proxy = Proxy(
            {node: (doors[node], self._cluster[node].peer_address) for node in self.nodes}, seed
        )
        self._running = ExitStack()
        self.servers = {node: self._cluster[node].client_address for node in self.nodes}
        self.peers = doors
        self.observer = Observer(self.servers)
        self.missing = dict.fromkeys(plan.REORDERS, _IN_THIS_PROXY)
        self.small_disk = ""
        self._disk: SmallDisk | None = None
        if os.geteuid() == 0 and SmallDisk.works():
            self.small_disk = self.nodes[-1]
            self._disk = SmallDisk(self._cluster[self.small_disk].data, disk_bytes)
        else:
            self.missing |= dict.fromkeys(plan.DISKS, "mounting a small file system needs root")
        self.kinds = tuple(kind for kind in possible(self.missing) if kind not in set(missing))

    def __enter__(self) -> Processes:
        with ExitStack() as starting:
            if self._disk is not None:
                starting.enter_context(self._disk)
            starting.enter_context(self._cluster)
            starting.enter_context(self._proxy)
            starting.callback(self.observer.close)
            self._cluster.start()
            self._running = starting.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._running.close()

    def kill(self, nodes: Iterable[str]) -> None:
        names = [node for node in nodes if self._cluster[node].is_running]
        for node in names:
            os.kill(self._cluster[node].pid, 9)
        for node in names:
            self._cluster[node].wait_for_exit()

    def stop(self, nodes: Iterable[str]) -> None:
        names = [node for node in nodes if self._cluster[node].is_running]
        for node in names:
            os.kill(self._cluster[node].pid, 15)
        for node in names:
            code = self._cluster[node].wait_for_exit()
            assert code == 0, f"{node} ended with {code} after SIGTERM\n{self._cluster[node].log_tail()}"

    def start(self, nodes: Iterable[str]) -> None:
        names = [node for node in nodes if not self._cluster[node].is_running]
        if names:
            self._cluster.start(*names)

    def pause(self, nodes: Iterable[str]) -> None:
        for node in nodes:
            if self._cluster[node].is_running:
                self._cluster[node].pause()

    def resume(self, nodes: Iterable[str]) -> None:
        for node in nodes:
            if self._cluster[node].is_running:
                self._cluster[node].resume()

    def ended(self) -> dict[str, int]:
        return {node.node_id: node.wait_for_exit() for node in self._cluster if not node.is_running}

    def disconnect(self, node: str) -> None:
        self._proxy.cut(self._of(node), refuse=True)

    def reconnect(self, node: str) -> None:
        self._proxy.heal()

    def _of(self, node: str) -> list[Link]:
        return [link for link in self.links() if node in link]

    def drop(self, links: Iterable[Link]) -> None:
        self._proxy.shape(links, hold=True)

    def degrade(self, kind: str, strength: float, links: Iterable[Link]) -> str:
        # From a neighbouring town to another continent; from a good line to a bad one.
        shapes = {
            "delay": {"delay_s": round(0.005 + 0.15 * strength, 3)},
            "jitter": {"delay_s": 0.005, "jitter_s": round(0.01 + 0.2 * strength, 3)},
            "loss": {"stall": round(0.01 + 0.29 * strength, 2)},
            "slow_follower_link": {"rate": round(1_000_000 - 900_000 * strength)},
        }
        self._proxy.shape(links, **shapes[kind])
        return str(shapes[kind])

    def heal_network(self) -> None:
        self._proxy.heal()

    def fill_disk(self) -> None:
        assert self._disk is not None, "fill_disk is missing here"
        self._disk.fill()

    def free_disk(self) -> None:
        assert self._disk is not None, "fill_disk is missing here"
        self._disk.free()

    def disk(self, node: str) -> Path:
        return self._cluster[node].data

    def data(self) -> dict[str, Path]:
        return {node.node_id: node.data for node in self._cluster}

    def log_text(self, node: str) -> str:
        return self._cluster[node].log_text()
