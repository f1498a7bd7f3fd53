"""LocalCluster: node processes on this machine that a test can kill, pause and cut off from each other."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from quorumlog.client import AsyncClient, Client, NodeStatus, QuorumlogError, Unavailable, UnknownTopic
from quorumlog.client.loop import LoopThread
from quorumlog.command.local_nodes import START_TIMEOUT_S, STOP_TIMEOUT_S, LocalNode, free_ports
from quorumlog.testing.switchboard import Switchboard

_PORTS: Final = 4  # of a node: clients, peers, HTTP, door
_LOOK_AGAIN_S: Final = 0.02
_LOOK_MS: Final = 1_000  # a node that is paused is not waited for
_SETTLED_S: Final = 30.0  # an election takes less than a second where the machine is not busy

_Result = TypeVar("_Result")


class LocalCluster:
    """Node processes, and doors between them. Used with `with`, which leaves no process behind.

        def test_goes_on(quorumlog_cluster):
            topic = quorumlog_cluster.topic("orders")
            with quorumlog_cluster.client() as client, client.producer() as producer:
                producer.send(topic, b"before")
                quorumlog_cluster.kill(quorumlog_cluster.wait_leader())
                producer.send(topic, b"after")

    - A node keeps its ports and its data over any number of starts.
    - Clients reach every node that runs; what can be cut is what nodes say to each other.
    - Methods that wait are there twice: to be awaited, and as wait_* for plain tests. All may be called from
      any thread. They raise TimeoutError, with what was seen last.
    """

    def __init__(self, directory: Path | str, count: int = 3) -> None:
        self._directory = Path(directory)
        addresses = [f"127.0.0.1:{port}" for port in free_ports(_PORTS * count)]
        self._nodes = {
            f"n{number + 1}": LocalNode(
                f"n{number + 1}", self._directory, *addresses[_PORTS * number : _PORTS * (number + 1)]
            )
            for number in range(count)
        }
        self._thread = LoopThread()  # its own: a test that blocks its loop must not stop the network
        self._switchboard: Switchboard | None = None
        self._paused: set[str] = set()
        self._observer: AsyncClient | None = None
        self._clients: list[Client] = []
        self._topics: list[str] = []
        self._numbers = itertools.count(1)

    # Life.

    def __enter__(self) -> Self:
        self._directory.mkdir(parents=True, exist_ok=True)
        nodes = list(self._nodes.values())
        try:
            self._thread.run(self._open_doors())
            for node in nodes:
                node.configure(nodes, None)
            self._thread.run(self._start(nodes))
            self.wait_leader()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def reset(self) -> None:
        """Mend everything, close the clients made here, delete the topics: what the fixture does."""
        self.heal()
        for node_id in list(self._paused):
            self.resume(node_id)
        clients, self._clients = self._clients, []
        for client in clients:
            with suppress(QuorumlogError):  # what was not delivered is the test's to look at
                client.close()
        self.start(*(name for name, node in self._nodes.items() if not node.running))
        self.wait_leader()
        topics, self._topics = self._topics, []
        self._thread.run(self._delete(topics))

    # For clients.

    @property
    def node_ids(self) -> Sequence[str]:
        """All nodes, whether they run or not."""
        return tuple(self._nodes)

    @property
    def servers(self) -> str:
        """The client addresses of all nodes, as `bootstrap_servers` takes them."""
        return ",".join(node.client_address for node in self._nodes.values())

    def address(self, node_id: str) -> str:
        """Return one node's client address."""
        return self._nodes[node_id].client_address

    def client(self) -> Client:
        """Return a connected client; it is closed after the test where the test does not."""
        client = Client(self.servers)
        client.connect()
        self._clients.append(client)
        return client

    def async_client(self) -> AsyncClient:
        """Return a client for `async with`, or connect()."""
        return AsyncClient(self.servers)

    def topic(self, name: str = "topic", partitions: int = 1) -> str:
        """Create a topic that no other test has, and return its name, which begins with `name`."""
        unique = f"{name}-{next(self._numbers)}-{random.getrandbits(32):08x}"
        self._thread.run(self._watching().create_topic(unique, partitions))
        self._topics.append(unique)
        return unique

    # What can be waited for.

    async def leader(self, timeout_s: float = _SETTLED_S) -> str:
        """Return who leads, once a majority follows it."""
        return await self._elsewhere(self._leader(timeout_s))

    def wait_leader(self, timeout_s: float = _SETTLED_S) -> str:
        """As leader()."""
        return self._thread.run(self._leader(timeout_s))

    async def caught_up(self, timeout_s: float = _SETTLED_S) -> None:
        """Return when every node that runs, and is not paused, has applied what is committed now."""
        await self._elsewhere(self._caught_up(timeout_s))

    def wait_caught_up(self, timeout_s: float = _SETTLED_S) -> None:
        """As caught_up()."""
        self._thread.run(self._caught_up(timeout_s))

    # What can be broken.

    def kill(self, node_id: str) -> None:
        """SIGKILL; returns when the process is gone."""
        node = self._nodes[node_id]
        node.kill()
        self._paused.discard(node_id)
        self._thread.run(node.ended(STOP_TIMEOUT_S))

    def stop(self, node_id: str) -> None:
        """SIGTERM: it hands over, and ends."""
        node = self._nodes[node_id]
        node.terminate()
        if not self._thread.run(node.ended(STOP_TIMEOUT_S)):
            raise TimeoutError(f"{node_id} does not stop; its log: {node.log}")

    def start(self, *node_ids: str) -> None:
        """Start nodes that were killed or stopped; returns when each serves."""
        nodes = [self._nodes[node_id] for node_id in node_ids]
        self._thread.run(self._start(nodes))
        self._thread.run(self._until_serving(nodes))

    def pause(self, node_id: str) -> None:
        """SIGSTOP: it keeps its connections, and answers nobody."""
        self._nodes[node_id].pause()
        self._paused.add(node_id)

    def resume(self, node_id: str) -> None:
        """SIGCONT."""
        self._nodes[node_id].resume()
        self._paused.discard(node_id)

    def partition(self, *groups: Iterable[str]) -> None:
        """Let nothing through between nodes of different groups, as if packets were dropped, until heal().

        Nodes that are in no group are one group of their own.
        """
        sides = [set(group) for group in groups]
        named = set().union(*sides)
        unknown = named - set(self._nodes)
        if unknown:
            raise ValueError(f"no nodes: {', '.join(sorted(unknown))}; there are {', '.join(self._nodes)}")
        sides.append(set(self._nodes) - named)
        links = [(one, other) for side in sides for one in side for other in self._nodes if other not in side]
        self._obey({"heal": True, "links": links, "shape": {"hold": True}})

    def heal(self) -> None:
        """Let everything through again between the nodes."""
        self._obey({"heal": True})

    # Inside; coroutines run on the cluster's own thread.

    def _obey(self, command: dict[str, Any]) -> None:
        assert self._switchboard is not None, "the cluster is running"
        self._thread.run(self._switchboard.obey(command))

    async def _elsewhere(self, coroutine: Coroutine[Any, Any, _Result]) -> _Result:
        return await asyncio.wrap_future(self._thread.begin(coroutine))

    async def _start(self, nodes: Sequence[LocalNode]) -> None:
        # Here, since the kernel ends a node with the thread that started it, and this one stays.
        for node in nodes:
            if not node.running:
                node.start()

    async def _open_doors(self) -> None:
        self._switchboard = Switchboard(random.Random())
        for node in self._nodes.values():
            await self._switchboard.serve(node.node_id, node.door, node.peer_address)

    def _watching(self) -> AsyncClient:
        self._observer = self._observer or AsyncClient(
            self.servers, client_id="observer", attempt_timeout_ms=_LOOK_MS, require_leader=False
        )
        return self._observer

    async def _look(self) -> dict[str, NodeStatus]:
        """Return what each node that answers says of itself."""
        running = [name for name, node in self._nodes.items() if node.running and name not in self._paused]
        seen = await asyncio.gather(*(self._look_at(name) for name in running))
        return {status.node_id: status for status in seen if status is not None}

    async def _look_at(self, node_id: str) -> NodeStatus | None:
        with suppress(QuorumlogError, TimeoutError):
            async with asyncio.timeout(_LOOK_MS / 1000):
                status = await self._watching().status(local=True, node=self.address(node_id))
                return status.node(node_id)
        return None

    async def _leader(self, timeout_s: float) -> str:
        def led(seen: dict[str, NodeStatus]) -> str | None:
            for name, status in seen.items():
                followers = [
                    each for each in seen.values() if (each.leader_id, each.term) == (name, status.term)
                ]
                if status.role == "leader" and 2 * len(followers) > len(self._nodes):
                    return name
            return None

        return await self._until(led, "a majority follows a leader", timeout_s)

    async def _caught_up(self, timeout_s: float) -> None:
        await self._leader(timeout_s)
        committed = max((each.commit_index for each in (await self._look()).values()), default=0)

        def level(seen: dict[str, NodeStatus]) -> bool | None:
            running = {name for name, node in self._nodes.items() if node.running} - self._paused
            behind = [each for each in seen.values() if each.applied_index < committed]
            return True if running <= set(seen) and not behind else None

        await self._until(level, f"every node has applied entry {committed}", timeout_s)

    async def _until_serving(self, nodes: Sequence[LocalNode]) -> None:
        wanted = {node.node_id for node in nodes}

        def serving(seen: dict[str, NodeStatus]) -> bool | None:
            for node in nodes:
                node.check()
            return True if wanted <= set(seen) else None

        await self._until(serving, f"{', '.join(sorted(wanted))} serve", START_TIMEOUT_S)

    async def _until(
        self, condition: Callable[[dict[str, NodeStatus]], _Result | None], what: str, timeout_s: float
    ) -> _Result:
        """Look again and again. Raises TimeoutError; NodeEnded where a node that was started has ended."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            seen = await self._look()
            found = condition(seen)
            if found is not None:
                return found
            if time.monotonic() > deadline_s:
                last = ", ".join(
                    f"{name}: {each.role} of term {each.term}, leader {each.leader_id or 'unknown'}, "
                    f"applied {each.applied_index}"
                    for name, each in seen.items()
                )
                raise TimeoutError(
                    f"{what}: not within {timeout_s:g} s; seen last: {last or 'no node answers'}"
                )
            await asyncio.sleep(_LOOK_AGAIN_S)

    async def _delete(self, topics: Sequence[str]) -> None:
        for topic in topics:
            with suppress(UnknownTopic, Unavailable):  # the test did; or it is of no matter
                await self._watching().delete_topic(topic)

    def _end(self) -> None:
        for client in self._clients:
            with suppress(QuorumlogError):
                client.close()
        for node in self._nodes.values():
            if node.running:
                node.kill()
        self._thread.run(self._close())
        self._thread.stop()

    async def _close(self) -> None:
        for node in self._nodes.values():
            if node.started:
                await node.ended(STOP_TIMEOUT_S)
        if self._observer is not None:
            await self._observer.close()
        if self._switchboard is not None:
            await self._switchboard.close()
