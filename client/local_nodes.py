"""Node processes on this machine: started with a configuration file each, watched, killed, stopped."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from quorumlog.client.errors import QuorumlogError
from quorumlog.client.local_certs import LocalCertificates
from quorumlog.client.tls import Tls

CLUSTER = "local"
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 15.0
_LOG_LINES_SHOWN = 15

_CONFIG = """\
# Written by `quorumlog local`; start this node alone with: quorumlog serve --config {path}
cluster = "{cluster}"
node_id = "{node_id}"
data = "{data}"
peers = [{peers}]

[client]
listen = "{client_address}"

[peer]
listen = "{peer_address}"

[http]
listen = "{http_address}"
"""


class NodeEnded(QuorumlogError):
    """A node process ended that should serve."""

    code = "NODE_ENDED"


class LocalNode:
    """One node process. Its output goes to <directory>/<node id>.log."""

    def __init__(
        self, node_id: str, directory: Path, client_address: str, peer_address: str, http_address: str
    ) -> None:
        self.node_id = node_id
        self.client_address = client_address
        self.peer_address = peer_address
        self.http_address = http_address
        self.config = directory / f"{node_id}.toml"
        self.data = directory / node_id
        self.log = directory / f"{node_id}.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        """True while the process exists."""
        return self._process is not None and self._process.poll() is None

    def configure(self, peers: list[LocalNode], certificates: LocalCertificates | None) -> None:
        """Write the configuration file."""
        members = ", ".join(f'"{peer.node_id}={peer.peer_address}"' for peer in peers)
        text = _CONFIG.format(
            path=self.config,
            cluster=CLUSTER,
            node_id=self.node_id,
            data=_quoted(self.data),
            peers=members,
            client_address=self.client_address,
            peer_address=self.peer_address,
            http_address=self.http_address,
        )
        if certificates is not None:
            files = certificates.settings(self.node_id).items()
            text += "\n[tls]\n" + "".join(f'{key} = "{_quoted(file)}"\n' for key, file in files)
        self.config.write_text(text)

    def start(self) -> None:
        """Start the process; in a session of its own, so that Ctrl-C reaches only the one who stops it."""
        with ExitStack() as files:
            log: IO[bytes] = files.enter_context(self.log.open("ab"))
            self._process = subprocess.Popen(
                [sys.executable, "-m", "quorumlog.node", "--config", str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=_environment(),
                start_new_session=True,
            )

    def check(self) -> None:
        """Raise NodeEnded, with the end of its log, where the process is gone."""
        if self.running:
            return
        assert self._process is not None
        lines = self.log.read_text(errors="replace").splitlines()[-_LOG_LINES_SHOWN:]
        end = "\n  ".join([f"the end of {self.log}:", *lines])
        raise NodeEnded(
            f"node {self.node_id} ended with exit code {self._process.returncode}; {end}",
            hint="another cluster on the same directory? choose one with --directory",
        )

    def kill(self) -> None:
        """SIGKILL, as a crash."""
        assert self._process is not None
        self._process.kill()

    def terminate(self) -> None:
        """Ask it to stop."""
        if self.running:
            assert self._process is not None
            self._process.send_signal(signal.SIGTERM)

    async def ended(self, timeout_s: float) -> bool:
        """Wait until the process is gone; False: it is not."""
        assert self._process is not None
        try:
            await asyncio.to_thread(self._process.wait, timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True


class LocalNodes:
    """All nodes of one run. `async with` starts them and leaves none behind."""

    def __init__(self, directory: Path, count: int, *, tls: bool = False) -> None:
        self._directory = directory
        self._certificates = LocalCertificates(directory / "certs", CLUSTER) if tls else None
        self.tls: Tls | None = self._certificates.client() if self._certificates is not None else None
        addresses = [f"127.0.0.1:{port}" for port in free_ports(3 * count)]
        self.nodes = [
            LocalNode(f"n{number + 1}", directory, *addresses[3 * number : 3 * number + 3])
            for number in range(count)
        ]

    async def __aenter__(self) -> LocalNodes:
        self._directory.mkdir(parents=True, exist_ok=True)
        for node in self.nodes:
            node.configure(self.nodes, self._certificates)
        for node in self.nodes:
            node.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def node(self, node_id: str) -> LocalNode:
        """Return a node by its id."""
        return next(node for node in self.nodes if node.node_id == node_id)

    def check(self, *, dead: str = "") -> None:
        """Raise NodeEnded where a node other than `dead` is gone."""
        for node in self.nodes:
            if node.node_id != dead:
                node.check()

    async def stop(self) -> None:
        """Stop all nodes together; kill those who do not."""
        running = [node for node in self.nodes if node.running]
        for node in running:
            node.terminate()
        stopped = await asyncio.gather(*(node.ended(STOP_TIMEOUT_S) for node in running))
        for node, ended in zip(running, stopped, strict=True):
            if not ended:
                node.kill()
                await node.ended(STOP_TIMEOUT_S)


def free_ports(count: int) -> list[int]:
    """Return ports that nobody uses at this moment, all different."""
    with ExitStack() as sockets:
        held = [sockets.enter_context(socket.socket()) for _ in range(count)]
        for each in held:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in held]


def _quoted(path: Path) -> str:
    return str(path.absolute()).replace("\\", "\\\\").replace('"', '\\"')


def _environment() -> dict[str, str]:
    # The files say everything; QUORUMLOG_* of the caller's shell would override them.
    return {key: value for key, value in os.environ.items() if not key.startswith("QUORUMLOG_")}
