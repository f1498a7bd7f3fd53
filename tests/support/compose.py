"""The cluster of deploy/compose.yaml for tests: built, started, asked through its ports, taken down.

Images cannot be pulled everywhere. Where QUORUMLOG_BASE names no base image, one is made from Debian's
packages (deploy/make_base_image.sh) and kept for the next run; the project's own image goes with the tests.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import docker
from docker.models.containers import Container
from docker.models.networks import Network

from tests.support.nodes import free_ports
from tests.support.observer import Observer
from tests.support.replica import Replica
from tests.support.waiting import UNIT_S, eventually

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
NODES = ("n1", "n2", "n3")

_PROJECT_LABEL = "com.docker.compose.project"
_SERVICE_LABEL = "com.docker.compose.service"
_BASE = "quorumlog-base:bookworm"


class CommandFailed(AssertionError):
    """A command that the tests need ended with an error; the message holds what it printed."""


def build_image() -> str:
    """Build the project's image as it stands and return its tag, which is the caller's to remove."""
    base = os.environ.get("QUORUMLOG_BASE")
    if base is None:
        base = _BASE
        _run([str(DEPLOY / "make_base_image.sh"), base], units=600)
    tag = f"quorumlog-test:{uuid.uuid4().hex[:12]}"
    _run([str(DEPLOY / "build_image.sh"), tag], {"BASE": base}, units=600)
    return tag


def compose_command() -> list[str] | None:
    """`docker compose` where it is installed, else `docker-compose`, else None."""
    if shutil.which("docker"):
        probe = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
        if probe.returncode == 0:
            return ["docker", "compose"]
    return ["docker-compose"] if shutil.which("docker-compose") else None


def _run(command: Sequence[str], more: Mapping[str, str] | None = None, *, units: float = 120) -> None:
    done = subprocess.run(
        command,
        env={**os.environ, **(more or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=units * UNIT_S,
        check=False,
    )
    if done.returncode != 0:
        raise CommandFailed(f"{' '.join(command)} ended with {done.returncode}\n{done.stdout[-6000:]}")


class ComposeCluster:
    """One project of deploy/compose.yaml, under a name of its own; leaving the block removes all of it.

    `overrides` are more compose files, `variables` more variables for them.
    """

    def __init__(
        self,
        engine: docker.DockerClient,
        command: Sequence[str],
        image: str,
        *,
        overrides: Iterable[Path] = (),
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self.project = f"quorumlog-test-{uuid.uuid4().hex[:8]}"
        self._engine = engine
        self._command = [*command, "-p", self.project, "-f", str(DEPLOY / "compose.yaml")]
        chosen = free_ports(2 * len(NODES))
        ports = dict(zip(NODES, chosen[: len(NODES)], strict=True))
        http_ports = dict(zip(NODES, chosen[len(NODES) :], strict=True))
        self._variables = {f"QUORUMLOG_PORT_{node_id.upper()}": str(port) for node_id, port in ports.items()}
        for node_id, port in http_ports.items():
            self._variables[f"QUORUMLOG_HTTP_PORT_{node_id.upper()}"] = str(port)
        self._variables["QUORUMLOG_IMAGE"] = image
        self._variables.update(variables or {})
        for file in overrides:
            self._command += ["-f", str(file)]
        self.addresses = {node_id: f"127.0.0.1:{port}" for node_id, port in ports.items()}
        self.http_addresses = {node_id: f"127.0.0.1:{port}" for node_id, port in http_ports.items()}
        self._observer = Observer(self.addresses)

    def __enter__(self) -> ComposeCluster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._observer.close()
        self.down()

    def up(self) -> None:
        """Start what is not running, from the image that was built before, and wait until all are healthy."""
        self.launch()
        self.wait_until_healthy(NODES)

    def launch(self) -> None:
        """The same without waiting."""
        _run([*self._command, "up", "--detach", "--no-build"], self._variables)

    def down(self) -> None:
        """Remove containers, network and volumes."""
        _run([*self._command, "down", "--volumes", "--remove-orphans"], self._variables)

    def container(self, node_id: str) -> Container:
        """The container of one node, running or not."""
        labels = [f"{_PROJECT_LABEL}={self.project}", f"{_SERVICE_LABEL}={node_id}"]
        (container,) = self._engine.containers.list(all=True, filters={"label": labels})
        return container

    def network(self) -> Network:
        """The network that the nodes share."""
        (network,) = self._engine.networks.list(filters={"label": f"{_PROJECT_LABEL}={self.project}"})
        return network

    def left(self) -> list[str]:
        """What the engine still has of this project: containers, networks, volumes."""
        filters = {"label": f"{_PROJECT_LABEL}={self.project}"}
        found: list[Any] = self._engine.containers.list(all=True, filters=filters)
        found += self._engine.networks.list(filters=filters)
        found += self._engine.volumes.list(filters=filters)
        return [one.name for one in found]

    def wait_until_healthy(self, among: Iterable[str], units: float = 60) -> None:
        """Wait until the engine calls each of `among` healthy."""
        names = sorted(among)

        def healthy() -> bool:
            return all(self.health(name) == "healthy" for name in names)

        eventually(healthy, f"{names} are healthy", units)

    def health(self, node_id: str) -> str:
        """What the engine's health check says: starting, healthy or unhealthy; empty when it does not run."""
        state = self.container(node_id).attrs["State"]
        return str(state.get("Health", {}).get("Status", "")) if state["Running"] else ""

    def address(self, node_id: str) -> str:
        """The node's address in the network, which its name stands for."""
        (network,) = self.container(node_id).attrs["NetworkSettings"]["Networks"].values()
        return str(network["IPAddress"])

    def cut_off(self, node_id: str) -> None:
        """Disconnect one node from the network: peers and the published port go away."""
        self.network().disconnect(self.container(node_id))

    def connect_again(self, node_id: str) -> None:
        """Undo `cut_off`; the node may get another IP address under its old name."""
        self.network().connect(self.container(node_id), aliases=[node_id])

    def replica(self, node_id: str) -> Replica:
        """Stubs to this node, through its published port."""
        return self._observer.replica(node_id)

    def wait_for_leader(self, among: Iterable[str] = NODES, units: float = 30) -> str:
        """Return the node that leads and that all of `among` follow."""
        return self._observer.wait_for_leader(among, units)

    def wait_until_applied(self, raft_index: int, among: Iterable[str] = NODES, units: float = 30) -> None:
        """Wait until each of `among` has applied the entry at `raft_index`."""
        self._observer.wait_until_applied(raft_index, among, units)

    def logs(self) -> str:
        """The end of every container's log: what a failing test shows."""
        parts = []
        for container in self._engine.containers.list(
            all=True, filters={"label": f"{_PROJECT_LABEL}={self.project}"}
        ):
            parts.append(f"--- {container.name} ---\n{container.logs(tail=60).decode(errors='replace')}")
        return "\n".join(parts)
