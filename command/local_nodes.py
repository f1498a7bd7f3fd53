"""Node processes on this machine: started with a configuration file each, watched, killed, stopped."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from quorumlog.client.errors import QuorumlogError
from quorumlog.client.tls import Tls
from quorumlog.command.local_certs import LocalCertificates

CLUSTER = "local"
FIRST_PORT = 9650
PORTS_BETWEEN_NODES = 10
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 15.0
_LOG_LINES_SHOWN = 15
_PORT_MIN = 10_000
_PORTS_MIN = 2_000  # to choose from
_USUALLY_EPHEMERAL_FROM = 32_768

# Runs in the child before the node does: the kernel shall kill it when this process dies, however it dies.
# (A preexec_fn could do it too, but makes Python fork, which the gRPC threads of this process do not stand.)
LAUNCHER = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the process that started it died first")
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""

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
        self,
        node_id: str,
        directory: Path,
        client_address: str,
        peer_address: str,
        http_address: str,
        door: str = "",
    ) -> None:
        """`door`: where its peers dial instead of its peer address; testing/switchboard.py stands there."""
        self.node_id = node_id
        self.client_address = client_address
        self.peer_address = peer_address
        self.http_address = http_address
        self.door = door or peer_address
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
    def started(self) -> bool:
        """True once there was a process."""
        return self._process is not None

    @property
    def running(self) -> bool:
        """True while the process exists."""
        return self._process is not None and self._process.poll() is None

    def configure(self, peers: list[LocalNode], certificates: LocalCertificates | None) -> None:
        """Write the configuration file."""
        members = ", ".join(f'"{peer.node_id}={peer.door}"' for peer in peers)
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
        command = [sys.executable, "-I", "-S", "-c", LAUNCHER, str(os.getpid())]
        with ExitStack() as files:
            log: IO[bytes] = files.enter_context(self.log.open("ab"))
            self._process = subprocess.Popen(
                [*command, "-m", "quorumlog.node", "--config", str(self.config)],
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

    def pause(self) -> None:
        """SIGSTOP: it keeps its connections and answers nobody."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

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

    def __init__(
        self, directory: Path, count: int, *, tls: bool = False, ports: Sequence[int] | None = None
    ) -> None:
        """`ports`: three of each node, for clients, peers and HTTP; default: any that are free."""
        self._directory = directory
        self._certificates = LocalCertificates(directory / "certs", CLUSTER) if tls else None
        self.tls: Tls | None = self._certificates.client() if self._certificates is not None else None
        addresses = [f"127.0.0.1:{port}" for port in ports or free_ports(3 * count)]
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


def usual_ports(nodes: int) -> list[int]:
    """Return the ports that people know: 9650 to 9652 for n1, 9660 to 9662 for n2, and so on.

    Clients look at localhost:9650 by default, and deploy/compose.yaml publishes the same. Where one of them
    is in use, others are returned.
    """
    usual = [FIRST_PORT + PORTS_BETWEEN_NODES * node + number for node in range(nodes) for number in range(3)]
    return usual if all(map(_is_free, usual)) else free_ports(3 * nodes)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # A port that was left a moment ago can be taken again.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on, below the range that the kernel gives to outgoing connections.

    Any connection could take a port of that range while its node is down, and the node could not come back.
    """
    lowest = _ephemeral_from()
    chosen: list[int] = []
    while len(chosen) < count:
        port = random.randrange(_PORT_MIN, lowest)
        if port not in chosen and _is_free(port):
            chosen.append(port)
    return chosen


def _ephemeral_from() -> int:
    try:
        lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        lowest = _USUALLY_EPHEMERAL_FROM
    return lowest if lowest > _PORT_MIN + _PORTS_MIN else _USUALLY_EPHEMERAL_FROM


def _quoted(path: Path) -> str:
    return str(path.absolute()).replace("\\", "\\\\").replace('"', '\\"')


def _environment() -> dict[str, str]:
    # The files say everything; QUORUMLOG_* of the caller's shell would override them.
    return {key: value for key, value in os.environ.items() if not key.startswith("QUORUMLOG_")}
