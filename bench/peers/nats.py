"""Some nats-servers, by default three, with streams of as many replicas in files.

By default they sync every two minutes, so that what they acknowledge is in memory; with `sync_interval:
always`, which not every version has, they promise what we do.
"""

from __future__ import annotations

import asyncio
import itertools
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType

from nats.errors import Error as NatsError
from nats.js import api
from nats.js.errors import Error as JetStreamError

from bench.peers.nats_client import connected, publish_async
from bench.peers.processes import Missing, PeerProcess, found, output_of, stop_all
from quorumlog.command.local_nodes import free_ports

_START_S = 30.0
_LOOK_AGAIN_S = 0.05
_CALL_S = 5.0
_numbers = itertools.count(1)

_CONFIG = """\
server_name: {name}
listen: "{client}"
jetstream {{ store_dir: "{data}", max_memory_store: 256MB, max_file_store: 8GB {sync} }}
"""
# A server that is alone would wait for others.
_CLUSTER = """\
cluster {{ name: bench, listen: "{peer}", routes: [{routes}] }}
"""
_ALWAYS = ", sync_interval: always"


class NatsCluster:
    """A side: see sides.py. `sync`: before each answer. Raises Missing where that cannot be had."""

    kind = "nats"

    def __init__(self, directory: Path, count: int = 3, *, sync: bool = False) -> None:
        self.name = "nats-sync" if sync else "nats"
        program = found("nats-server", "nats-server")
        version = output_of(program, "--version").strip().rpartition("v")[2]
        policy = "sync_interval always" if sync else "default sync (every 2 min: acknowledged from memory)"
        self.conditions = (
            f"nats-server {version}, nodes: {count}, stream of as many replicas in files, {policy}"
        )
        directory.mkdir()
        self._count = count
        ports = free_ports(2 * count)
        names = [f"s{number + 1}" for number in range(count)]
        self._addresses = {name: f"127.0.0.1:{port}" for name, port in zip(names, ports, strict=False)}
        routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in ports[count:])
        self._processes: dict[str, PeerProcess] = {}
        for name, peer in zip(names, ports[count:], strict=True):
            config = directory / f"{name}.conf"
            config.write_text(
                (_CONFIG + _CLUSTER if count > 1 else _CONFIG).format(
                    name=name,
                    client=self._addresses[name],
                    peer=f"127.0.0.1:{peer}",
                    data=directory / name,
                    sync=_ALWAYS if sync else "",
                    routes=routes,
                )
            )
            self._processes[name] = PeerProcess(name, [program, "-c", str(config)], directory)
        if sync and "unknown field" in output_of(program, "-t", "-c", str(directory / "s1.conf")):
            raise Missing(f"nats-server {version} has no sync_interval")
        self._closing = AsyncExitStack()
        self._stream = ""

    async def __aenter__(self) -> NatsCluster:
        for process in self._processes.values():
            process.start()
        try:
            await self._connect()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()

    async def _stop(self) -> None:
        await self._closing.aclose()
        await stop_all(list(self._processes.values()))

    async def _connect(self) -> None:
        """Wait until the servers have a leader among themselves."""
        async with asyncio.timeout(_START_S):
            while True:
                try:
                    addresses = list(self._addresses.values())
                    self.streams = await self._closing.enter_async_context(connected(addresses))
                    await self.target()
                except (NatsError, OSError, TimeoutError):
                    for process in self._processes.values():
                        process.check()
                    await asyncio.sleep(_LOOK_AGAIN_S)
                else:
                    return

    @property
    def pids(self) -> list[int]:
        """Of all processes."""
        return [process.pid for process in self._processes.values()]

    @property
    def stream(self) -> str:
        """The newest one's name, which is its subject, too."""
        return self._stream

    async def addresses(self) -> list[str]:
        """Where clients connect, the newest stream's leader first."""
        leader = await self.leader()
        return [self._addresses[name] for name in sorted(self._addresses, key=lambda name: name != leader)]

    async def target(self) -> str:
        """Make a stream, and wait for its leader. Return its subject. Every replica may be read from."""
        name = f"bench-{next(_numbers)}"
        config = api.StreamConfig(
            name=name,
            subjects=[name],
            num_replicas=self._count,
            storage=api.StorageType.FILE,
            allow_direct=True,
        )
        async with asyncio.timeout(_CALL_S):
            await self.streams.add_stream(config)
        self._stream = name
        await self.settled()
        return name

    async def fill(self, payload: bytes, count: int) -> None:
        """Publish so often to the newest stream; return when all is acknowledged."""
        async with connected(await self.addresses()) as stream:
            futures = [await publish_async(stream, self._stream, payload) for _ in range(count)]
            await asyncio.gather(*futures)

    async def leader(self) -> str:
        """Return the server that leads the newest stream."""
        if self._count == 1:
            return next(iter(self._processes))
        async with asyncio.timeout(_START_S):
            while True:
                info = await self._info()
                if info is not None and info.cluster is not None and info.cluster.leader:
                    return info.cluster.leader
                await asyncio.sleep(_LOOK_AGAIN_S)

    async def settled(self) -> None:
        """Wait until the newest stream has a leader and followers that have what it has."""
        async with asyncio.timeout(_START_S):
            while True:
                if is_settled(await self._info(), self._count):
                    return
                await asyncio.sleep(_LOOK_AGAIN_S)

    async def transfer(self) -> None:
        """Have the newest stream's leader step down."""
        await self.streams._nc.request(f"$JS.API.STREAM.LEADER.STEPDOWN.{self._stream}", b"", timeout=_CALL_S)

    async def kill(self, name: str) -> None:
        """SIGKILL; returns when it is gone."""
        await self._processes[name].kill()

    def start(self, name: str) -> None:
        """Start a server that was killed."""
        self._processes[name].start()

    async def _info(self) -> api.StreamInfo | None:
        try:
            async with asyncio.timeout(1):
                return await self.streams.stream_info(self._stream)
        except (NatsError, JetStreamError, TimeoutError):
            return None


def is_settled(info: api.StreamInfo | None, count: int) -> bool:
    """Whether a stream has a leader and `count` - 1 followers that have what it has."""
    if count == 1:  # a server that is alone tells of no cluster
        return info is not None
    if info is None or info.cluster is None or not info.cluster.leader:
        return False
    replicas = info.cluster.replicas or []
    return len(replicas) == count - 1 and all(each.current and not each.offline for each in replicas)
