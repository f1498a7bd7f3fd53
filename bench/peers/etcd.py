"""Some members of etcd, by default three. It syncs before it acknowledges, as we do under `always`."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType

import grpc.aio

from bench.peers.etcd_client import EtcdClient, Status
from bench.peers.processes import PeerProcess, found, output_of, stop_all
from quorumlog.command.local_nodes import free_ports

_START_S = 30.0
_LOOK_AGAIN_S = 0.02
_CLOSE_ENTRIES = 20
_prefixes = itertools.count(1)


class EtcdCluster:
    """A side: see sides.py. Raises Missing where there is no etcd."""

    name = kind = "etcd"

    def __init__(self, directory: Path, count: int = 3) -> None:
        program = found("etcd", "etcd-server")
        version = output_of(program, "--version").splitlines()[0].rpartition(" ")[2]
        self.conditions = (
            f"etcd {version}, {count} members, put over gRPC to the leader, fsync before each answer"
        )
        directory.mkdir()
        ports = free_ports(2 * count)
        self._urls = {f"e{number + 1}": f"127.0.0.1:{ports[number]}" for number in range(count)}
        peers = {
            name: f"http://127.0.0.1:{port}" for name, port in zip(self._urls, ports[count:], strict=True)
        }
        cluster = ",".join(f"{name}={url}" for name, url in peers.items())
        self._processes = {
            name: PeerProcess(
                name,
                [
                    program,
                    f"--name={name}",
                    f"--data-dir={directory / name}",
                    f"--listen-client-urls=http://{address}",
                    f"--advertise-client-urls=http://{address}",
                    f"--listen-peer-urls={peers[name]}",
                    f"--initial-advertise-peer-urls={peers[name]}",
                    f"--initial-cluster={cluster}",
                    "--initial-cluster-state=new",
                    "--log-level=warn",
                    "--logger=zap",
                    "--log-outputs=stderr",
                ],
                directory,
            )
            for name, address in self._urls.items()
        }
        self._clients: dict[str, EtcdClient] = {}
        self._closing = AsyncExitStack()

    async def __aenter__(self) -> EtcdCluster:
        for process in self._processes.values():
            process.start()
        try:
            for name, address in self._urls.items():
                self._clients[name] = await self._closing.enter_async_context(EtcdClient(address))
            await self.settled()
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

    @property
    def pids(self) -> list[int]:
        """Of all processes."""
        return [process.pid for process in self._processes.values()]

    async def addresses(self) -> list[str]:
        """Where clients connect, the leader first."""
        leader = await self.leader()
        return [self._urls[name] for name in sorted(self._urls, key=lambda name: name != leader)]

    async def target(self) -> str:
        """Return what keys begin with."""
        return f"bench-{next(_prefixes)}"

    async def leader(self) -> str:
        """Return the member that leads."""
        while True:
            for name, status in (await self._statuses()).items():
                if status.leader and status.leader == status.member_id:
                    return name
            await asyncio.sleep(_LOOK_AGAIN_S)

    async def settled(self) -> None:
        """Wait until all members answer, follow one leader, and are close to it."""
        async with asyncio.timeout(_START_S):
            while not is_settled(await self._statuses(), len(self._urls)):
                for process in self._processes.values():
                    process.check()
                await asyncio.sleep(_LOOK_AGAIN_S)

    async def transfer(self) -> None:
        """Hand leadership to another member."""
        statuses = await self._statuses()
        leader = await self.leader()
        target = next(status.member_id for name, status in statuses.items() if name != leader)
        await self._clients[leader].move_leader(target)

    async def kill(self, name: str) -> None:
        """SIGKILL; returns when it is gone."""
        await self._processes[name].kill()

    def start(self, name: str) -> None:
        """Start a member that was killed."""
        self._processes[name].start()

    async def _statuses(self) -> dict[str, Status]:
        async def ask(name: str) -> tuple[str, Status | None]:
            try:
                return name, await self._clients[name].status()
            except grpc.aio.AioRpcError:
                return name, None

        answers = await asyncio.gather(*(ask(name) for name in self._urls))
        return {name: status for name, status in answers if status is not None}


def is_settled(statuses: dict[str, Status], count: int) -> bool:
    """Whether `count` members answer, follow one leader, and are close to it."""
    leaders = {status.leader for status in statuses.values()}
    indexes = [status.raft_index for status in statuses.values()]
    return (
        len(statuses) == count
        and len(leaders) == 1
        and 0 not in leaders
        and max(indexes) - min(indexes) < _CLOSE_ENTRIES
    )
