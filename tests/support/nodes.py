"""Real node processes for tests: started, killed, paused, started again on the same data and ports.

A NodeCluster is a context manager; whatever happens inside, no process is left behind: each node is killed
when the block ends, and by the kernel (PR_SET_PDEATHSIG) when the test process itself dies.
What each node printed stays in its directory; conftest.py adds the end of it (`logs()`) to a failure.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType

from quorumlog.command.local_nodes import LAUNCHER, free_ports
from quorumlog.proto import service_pb2
from tests.support.certificates import TestAuthority
from tests.support.observer import Observer
from tests.support.replica import Replica
from tests.support.waiting import UNIT_S, eventually

_LOG_TAIL_BYTES = 6000

__all__ = ["NodeCluster", "NodeFailed", "NodeProcess", "free_ports"]


class NodeFailed(AssertionError):
    """A node ended, or would not start, where the test expected it to serve."""


class NodeProcess:
    """One node: its directory and addresses stay the same over any number of starts."""

    def __init__(
        self,
        node_id: str,
        directory: Path,
        client_address: str,
        peer_address: str,
        shared: Mapping[str, object],
    ) -> None:
        self.node_id = node_id
        self.directory = directory
        self.data = directory / "data"
        self.client_address = client_address
        self.peer_address = peer_address
        self.environment: dict[str, str] = {}  # more variables for its next starts
        self._config = directory / "node.toml"
        self._output = directory / "stdout"
        self._errors = directory / "stderr"
        self._process: subprocess.Popen[bytes] | None = None
        directory.mkdir(parents=True)
        own = {
            "node_id": node_id,
            "data": str(self.data),
            "client.listen": client_address,
            "peer.listen": peer_address,
        }
        lines = [f"{key} = {json.dumps(value)}\n" for key, value in {**shared, **own}.items()]
        self._config.write_text("".join(lines))

    @property
    def pid(self) -> int:
        """Of the running process."""
        return self._running().pid

    @property
    def is_running(self) -> bool:
        """Whether the process exists; a paused one does."""
        return self._process is not None and self._process.poll() is None

    def launch(self) -> None:
        """Start the process without waiting for it to serve."""
        assert not self.is_running, f"{self.node_id} is running already"
        command = [sys.executable, "-I", "-S", "-c", LAUNCHER, str(os.getpid())]
        command += ["-m", "quorumlog.node", "--config", str(self._config)]
        with self._output.open("wb") as output, self._errors.open("ab") as errors:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                env={**_environment(), **self.environment},
                start_new_session=True,  # Ctrl-C at the tests shall not reach the nodes first
            )

    def wait_until_serving(self, units: float = 30) -> dict[str, str]:
        """Return the line that the node prints when it serves. Raises NodeFailed when it ends instead."""
        return eventually(self._ready_line, f"{self.node_id} serves", units)

    def _ready_line(self) -> dict[str, str] | None:
        line, newline, _ = self._output.read_bytes().partition(b"\n")
        if newline:
            ready: dict[str, str] = json.loads(line)
            return ready
        code = self._running().poll()
        if code is not None:
            raise NodeFailed(f"{self.node_id} ended with {code} before it served\n{self.log_tail()}")
        return None

    def kill(self) -> None:
        """SIGKILL; returns when the process is gone."""
        process = self._running()
        process.kill()
        process.wait()

    def stop(self, units: float = 20) -> None:
        """SIGTERM; the node must end with exit code 0 in time."""
        process = self._running()
        process.terminate()
        code = self.wait_for_exit(units)
        if code != 0:
            raise NodeFailed(f"{self.node_id} ended with {code} after SIGTERM\n{self.log_tail()}")

    def wait_for_exit(self, units: float = 20) -> int:
        """Return the exit code of a process that is expected to end by itself."""
        try:
            return self._running().wait(units * UNIT_S)
        except subprocess.TimeoutExpired:
            problem = f"{self.node_id} still runs after {units * UNIT_S:g} s\n{self.log_tail()}"
            raise NodeFailed(problem) from None

    def pause(self) -> None:
        """SIGSTOP: it keeps its connections and answers nobody."""
        self._running().send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self._running().send_signal(signal.SIGCONT)

    def discard(self) -> None:
        """Kill whatever is left, in any state."""
        if self.is_running:
            self.kill()  # SIGKILL ends a paused process too

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, f"{self.node_id} was never started"
        return self._process

    def wipe(self) -> None:
        """Lose the data directory, as with a disk that was replaced."""
        assert not self.is_running, f"{self.node_id} runs"
        shutil.rmtree(self.data)

    def logged(self) -> str:
        """All that the node has logged, over all its starts."""
        return self._errors.read_text(errors="replace") if self._errors.exists() else ""

    def log_tail(self) -> str:
        """The end of what the node logged, over all its starts."""
        return f"--- {self.node_id}: the end of {self._errors} ---\n{self.log_text()[-_LOG_TAIL_BYTES:]}"

    def log_text(self) -> str:
        """All that the node logged, over all its starts."""
        return self._errors.read_text(errors="replace") if self._errors.exists() else ""


def _environment() -> dict[str, str]:
    """Ours without any setting of a node: only its file configures it."""
    return {name: value for name, value in os.environ.items() if not name.startswith("QUORUMLOG_")}


class NodeCluster:
    """Some nodes of one cluster, on loopback.

    - A node's ports and data directory never change.
    - `settings` are more settings by their dotted keys, the same for every node.
    - With an `authority` nodes speak TLS; what looks at them shows a certificate that names no role.
    """

    def __init__(
        self,
        directory: Path,
        count: int = 3,
        settings: Mapping[str, object] | None = None,
        *,
        name: str = "test",
        authority: TestAuthority | None = None,
    ) -> None:
        node_ids = [f"n{number}" for number in range(1, count + 1)]
        addresses = [f"127.0.0.1:{port}" for port in free_ports(2 * count)]
        client = dict(zip(node_ids, addresses[:count], strict=True))
        peer = dict(zip(node_ids, addresses[count:], strict=True))
        self._directory = directory
        self._settings = {"cluster": name, **(settings or {})}
        shared = {**self._settings, "peers": _peers(peer)}
        self.nodes = {
            node_id: NodeProcess(
                node_id,
                directory / node_id,
                client[node_id],
                peer[node_id],
                {**shared, **_tls_settings(authority, node_id)},
            )
            for node_id in node_ids
        }
        self.tls = authority.client("observer") if authority is not None else None
        self._observer = Observer({node.node_id: node.client_address for node in self}, self.tls)

    def __enter__(self) -> NodeCluster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._observer.close()
        for node in self.nodes.values():
            node.discard()

    def __getitem__(self, node_id: str) -> NodeProcess:
        return self.nodes[node_id]

    def __iter__(self) -> Iterator[NodeProcess]:
        return iter(self.nodes.values())

    @property
    def bootstrap_servers(self) -> list[str]:
        """The client addresses of all nodes, running or not."""
        return [node.client_address for node in self]

    def start(self, *node_ids: str) -> None:
        """Start these nodes (all that do not run, when none is named) and wait until each serves."""
        nodes = [self.nodes[name] for name in node_ids] or [node for node in self if not node.is_running]
        for node in nodes:
            node.launch()
        for node in nodes:
            node.wait_until_serving()

    def another(self, node_id: str) -> NodeProcess:
        """Configure one more node, which knows the others and itself; it is not started, and no member."""
        client, peer = (f"127.0.0.1:{port}" for port in free_ports(2))
        members = {node.node_id: node.peer_address for node in self} | {node_id: peer}
        shared = {**self._settings, "peers": _peers(members)}
        self.nodes[node_id] = NodeProcess(node_id, self._directory / node_id, client, peer, shared)
        self._observer.know(node_id, client)
        return self.nodes[node_id]

    def stop(self) -> None:
        """SIGTERM to all that run, at once; each must end with 0."""
        running = [node for node in self if node.is_running]
        for node in running:
            os.kill(node.pid, signal.SIGTERM)
        for node in running:
            code = node.wait_for_exit()
            if code != 0:
                raise NodeFailed(f"{node.node_id} ended with {code} after SIGTERM\n{node.log_tail()}")

    def kill_all(self) -> None:
        """SIGKILL to all that run, before any of them is waited for."""
        running = [node for node in self if node.is_running]
        for node in running:
            os.kill(node.pid, signal.SIGKILL)
        for node in running:
            node.wait_for_exit()

    @property
    def running(self) -> list[str]:
        """The nodes whose process exists."""
        return [node.node_id for node in self if node.is_running]

    def replica(self, node_id: str) -> Replica:
        """Stubs to this node."""
        return self._observer.replica(node_id)

    def status(self, node_id: str) -> service_pb2.NodeStatus | None:
        """What the node says of itself, or None while it does not answer."""
        return self._observer.status(node_id)

    def wait_for_leader(self, among: Iterable[str] | None = None, units: float = 30) -> str:
        """Return the node that leads and that all of `among` (default: all that run) follow."""
        return self._observer.wait_for_leader(among or self.running, units)

    def followers(self) -> list[str]:
        """The running nodes that do not lead, after they agree on who does."""
        leader = self.wait_for_leader()
        return [name for name in self.running if name != leader]

    def wait_until_applied(
        self, raft_index: int, among: Iterable[str] | None = None, units: float = 30
    ) -> None:
        """Wait until each of `among` (default: all that run) has applied the entry at `raft_index`."""
        self._observer.wait_until_applied(raft_index, among or self.running, units)

    def logs(self) -> str:
        """What every node says of itself and the end of its log: what a failing test shows."""
        return "\n".join(f"{self.status(node.node_id)}\n{node.log_tail()}" for node in self)


def _peers(addresses: Mapping[str, str]) -> list[str]:
    return [f"{node_id}={address}" for node_id, address in addresses.items()]


def _tls_settings(authority: TestAuthority | None, node_id: str) -> dict[str, str]:
    if authority is None:
        return {}
    files = authority.node(node_id)
    return {
        "tls.certificate": str(files.certificate),
        "tls.key": str(files.key),
        "tls.authority": str(files.authority),
    }
