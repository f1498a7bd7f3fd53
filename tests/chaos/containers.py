"""A target of containers: deploy/compose.yaml with compose.override.yaml.

With root on this machine their network is made bad from outside (netns.py), and n3 keeps its data on a small
file system that can be filled; without, what is left is killing, stopping, pausing and disconnecting.
"""

from __future__ import annotations

import io
import os
import signal
import tarfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import docker
from docker.models.containers import Container

from tests.chaos import netns, plan
from tests.chaos.target import Link, Target, possible
from tests.support.compose import NODES, ComposeCluster, build_image, compose_command
from tests.support.observer import Observer
from tests.support.smalldisk import SmallDisk
from tests.support.waiting import UNIT_S, eventually

_HERE = Path(__file__).resolve().parent
_USER = 9650  # as in deploy/Dockerfile
_LOG = "/var/lib/quorumlog/group-0/log"

_Result = TypeVar("_Result")


class Containers(Target):
    """The three nodes of the compose file, from an image that was built before."""

    name = "compose"
    nodes = NODES

    def __init__(
        self, directory: Path, engine: docker.DockerClient, image: str, *, disk_bytes: int = 512 << 20
    ) -> None:
        command = compose_command()
        assert command is not None, "neither `docker compose` nor docker-compose is installed"
        self._directory = directory.resolve()
        self._engine = engine
        overrides, variables = [_HERE / "compose.override.yaml"], {}
        self.missing = {}
        self.small_disk, self._disk = "", None
        if os.geteuid() == 0 and SmallDisk.works():
            self.small_disk = NODES[-1]
            self._disk = SmallDisk(self._directory / "disk", disk_bytes, owner=_USER)
            overrides.append(_HERE / "compose.disk.yaml")
            variables["CHAOS_DISK"] = str(self._disk.directory)
        else:
            self.missing |= dict.fromkeys(plan.DISKS, "mounting a small file system needs root")
            self.missing |= dict.fromkeys((*plan.WIPES, *plan.BIT_FLIPS), "volumes belong to root")
        self._project = ComposeCluster(engine, command, image, overrides=overrides, variables=variables)
        self.servers = self._project.addresses
        self.peers = {node: f"{node}:9651" for node in NODES}
        self.observer = Observer(self.servers)
        self._limited: list[str] = []
        self._away: set[str] = set()
        self._running = ExitStack()

    def __enter__(self) -> Containers:
        with ExitStack() as starting:
            if self._disk is not None:
                starting.enter_context(self._disk)
            starting.enter_context(self._project)
            starting.callback(self.observer.close)
            self._project.launch()
            self._wait_until_serving(NODES)
            self.missing = {**self.missing, **netns.missing(self._pid(NODES[0]))}
            self.kinds = possible(self.missing)
            self._running = starting.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._running.close()

    # Nodes.

    def _container(self, node: str) -> Container:
        return self._project.container(node)

    def _pid(self, node: str) -> int:
        return int(self._container(node).attrs["State"]["Pid"])

    def _runs(self, node: str) -> bool:
        return bool(self._container(node).attrs["State"]["Running"])

    def _all_at_once(self, nodes: Iterable[str], work: Callable[[str], _Result]) -> list[_Result]:
        names = list(nodes)
        with ThreadPoolExecutor(max_workers=max(len(names), 1)) as pool:
            return list(pool.map(work, names))

    def _signal(self, nodes: Iterable[str], number: signal.Signals) -> None:
        names = [node for node in nodes if self._runs(node)]
        if os.geteuid() == 0:  # at once; a call of the engine takes a tenth of a second
            for pid in [self._pid(node) for node in names]:
                os.kill(pid, number)
        else:
            self._all_at_once(names, lambda node: self._container(node).kill(number.name))

    def kill(self, nodes: Iterable[str]) -> None:
        names = list(nodes)
        self._signal(names, signal.SIGKILL)
        self._all_at_once(names, lambda node: self._container(node).wait(timeout=20 * UNIT_S))

    def stop(self, nodes: Iterable[str]) -> None:
        names = [node for node in nodes if self._runs(node)]
        self._all_at_once(names, lambda node: self._container(node).stop(timeout=30))
        for node in names:
            code = self._container(node).attrs["State"]["ExitCode"]
            assert code == 0, f"{node} ended with {code} after SIGTERM\n{self.log_text(node)[-3000:]}"

    def start(self, nodes: Iterable[str]) -> None:
        names = [node for node in nodes if not self._runs(node)]
        self._all_at_once(names, lambda node: self._container(node).start())
        self._wait_until_serving(names)

    def _wait_until_serving(self, nodes: Iterable[str]) -> None:
        for node in nodes:

            def serves(node: str = node) -> bool:
                assert self._runs(node), f"{node} has ended\n{self.log_text(node)[-3000:]}"
                return self.observer.status_soon(node) is not None

            eventually(serves, f"{node} serves", units=60)

    def pause(self, nodes: Iterable[str]) -> None:
        self._signal(nodes, signal.SIGSTOP)

    def resume(self, nodes: Iterable[str]) -> None:
        self._signal(nodes, signal.SIGCONT)

    def ended(self) -> dict[str, int]:
        states = {node: self._container(node).attrs["State"] for node in NODES}
        return {node: int(state["ExitCode"]) for node, state in states.items() if not state["Running"]}

    # Network.

    def disconnect(self, node: str) -> None:
        self._project.cut_off(node)
        self._away.add(node)

    def reconnect(self, node: str) -> None:
        self._project.connect_again(node)
        self._away.discard(node)

    def drop(self, links: Iterable[Link]) -> None:
        for source, target in links:
            netns.drop(self._pid(target), [self._project.address(source)])

    def degrade(self, kind: str, strength: float, links: Iterable[Link]) -> str:
        shape: Any = netns.shape_of(kind, strength)
        pairs = list(links)
        if "share" in shape:
            for source, target in pairs:
                netns.lose(self._pid(target), [self._project.address(source)], shape["share"])
        elif "rate" in shape:
            for target in sorted({target for _, target in pairs}):
                self._limited.append(netns.limit_arriving(self._pid(target), shape["rate"]))
        else:
            for source in sorted({source for source, _ in pairs}):
                netns.netem(self._pid(source), shape["netem"])
        return str(shape)

    def heal_network(self) -> None:
        for node in NODES:
            if self._runs(node):
                netns.heal(self._pid(node))
        for interface in self._limited:
            netns.lift_limit(interface)
        self._limited = []

    # Disks.

    def fill_disk(self) -> None:
        assert self._disk is not None, "fill_disk is missing here"
        self._disk.fill()

    def free_disk(self) -> None:
        assert self._disk is not None, "fill_disk is missing here"
        self._disk.free()

    def disk(self, node: str) -> Path:
        mounts = {mount["Destination"]: mount["Source"] for mount in self._container(node).attrs["Mounts"]}
        return Path(mounts["/var/lib/quorumlog"])

    def data(self) -> dict[str, Path]:
        return {node: self._copy_of(node) for node in NODES}

    def _copy_of(self, node: str) -> Path:
        """The engine gives a stopped container's files as a tar; no root is needed."""
        copy = self._directory / f"{node}-data"
        chunks, _ = self._container(node).get_archive(_LOG)
        (copy / "group-0").mkdir(parents=True)
        with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
            archive.extractall(copy / "group-0", filter="data")
        return copy

    def log_text(self, node: str) -> str:
        text: str = self._container(node).logs(timestamps=False).decode(errors="replace")
        return text


@contextmanager
def built_image(engine: docker.DockerClient) -> Iterator[str]:
    """The project's image, built from this checkout and removed afterwards."""
    tag = build_image()
    try:
        yield tag
    finally:
        engine.images.remove(tag, force=True)


def engine_here() -> docker.DockerClient | None:
    """A client of the Docker engine, where there is one and compose is installed."""
    if compose_command() is None:
        return None
    try:
        engine = docker.from_env()
        engine.ping()
    except docker.errors.DockerException:
        return None
    return engine
