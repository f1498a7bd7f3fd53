"""EmbeddedLog and AsyncEmbeddedLog: a client whose cluster is a directory."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from quorumlog.client.aio import AsyncClient
from quorumlog.client.connection import Connection, ConnectionOptions
from quorumlog.client.errors import ClientClosed, LogFailed
from quorumlog.client.loop import LoopThread
from quorumlog.client.sync import Client
from quorumlog.embedded import node
from quorumlog.embedded.channel import LocalChannel
from quorumlog.embedded.server import LocalServer
from quorumlog.node.server import Node

# There is nobody to wait for: what is not answered soon waits for a disk.
_ATTEMPT_TIMEOUT_MS = 30_000


class AsyncEmbeddedLog(AsyncClient):
    """A log within this program, for asyncio; made by open_async(). The same API as AsyncClient.

    - Use it from one event loop, which is the log's own too: what blocks the loop blocks the log.
    - After a failure of the disk every call raises LogFailed; close it and open it again.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        node_id: str | None = None,
        cluster: str | None = None,
        settings: Mapping[str, object] | None = None,
    ) -> None:
        self.path = Path(path)
        self._identity = node_id, cluster
        self._settings = dict(settings or {})
        self._node: Node | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._connecting = asyncio.Lock()
        self._server: LocalServer | None = None
        # AsyncClient's own would dial addresses.
        options = ConnectionOptions(
            str(node.ADDRESS), client_id="embedded", attempt_timeout_ms=_ATTEMPT_TIMEOUT_MS
        )
        self._connection = Connection(options, self._channel)

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def connect(self) -> None:
        """Open the directory, made when it is new.

        Raises DirectoryLocked (another process, or this one, has it open), DirectoryRefused (it is not one,
        or belongs to a larger cluster), DataDamaged, NoSpace, LogFailed (the disk), UnknownOption (settings).
        """
        async with self._connecting:
            if self._node is not None:
                return
            self._node, self._server = await node.start(self.path, *self._identity, self._settings)
            try:
                await super().connect()
            except BaseException:
                await self._stop()
                raise

    async def _end(self, error: BaseException | None) -> None:
        try:
            await super()._end(error)
        finally:
            await self._stop()

    async def _stop(self) -> None:
        """Stop the node. Whoever is cancelled meanwhile may ask again: it goes on, and ends once."""
        if self._node is None:
            return
        self._stopping = self._stopping or asyncio.ensure_future(self._stop_node(self._node))
        await asyncio.shield(self._stopping)

    async def _stop_node(self, running: Node) -> None:
        assert self._server is not None, "it was started"
        failure = self._server.failure
        was_told = failure.done()
        try:
            await running.stop()
        finally:
            self._node = self._stopping = None
        if failure.done() and not was_told:
            # The last sync: under a weak policy what was acknowledged rests on it.
            raise LogFailed(f"the log has failed while it was closed: {failure.result()[1]}")

    def _channel(self, address: str) -> LocalChannel:
        if self._server is None:
            raise ClientClosed("the log is not open: use it with `async with`, or await connect()")
        return LocalChannel(self._server)


class EmbeddedLog(Client):
    """A log within this program; made by open(). The same API as Client, from any thread.

    It works on the event loop thread that all synchronous clients of a process share.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        node_id: str | None = None,
        cluster: str | None = None,
        settings: Mapping[str, object] | None = None,
    ) -> None:
        """Opens the directory at once; raises as AsyncEmbeddedLog.connect() does."""
        self._thread = LoopThread.shared()
        self._client = self._thread.run(_made(path, node_id, cluster, settings))
        self.connect()

    def __enter__(self) -> Self:
        return self

    @property
    def path(self) -> Path:
        """Its directory."""
        assert isinstance(self._client, AsyncEmbeddedLog)
        return self._client.path


def open(
    path: str | os.PathLike[str],
    *,
    node_id: str | None = None,
    cluster: str | None = None,
    settings: Mapping[str, object] | None = None,
) -> EmbeddedLog:
    """Open a log in this process: a directory, made when it is new. Use it with `with`, or close() it.

    The guarantees are those of a cluster of one node: what is acknowledged is on the disk.
    `node_id`, `cluster`: as which node it may be served later; by default what the directory says, or n1 of
    the cluster quorumlog. `settings`: by `quorumlog serve`'s keys, such as {"log.segment_bytes": "16MiB"}.

    Raises DirectoryLocked (another process, or this one, has it open), DirectoryRefused (it is not one, or
    belongs to a larger cluster), DataDamaged, NoSpace, LogFailed (the disk), UnknownOption (settings).
    """
    return EmbeddedLog(path, node_id=node_id, cluster=cluster, settings=settings)


def open_async(
    path: str | os.PathLike[str],
    *,
    node_id: str | None = None,
    cluster: str | None = None,
    settings: Mapping[str, object] | None = None,
) -> AsyncEmbeddedLog:
    """As open(), for asyncio: `async with quorumlog.open_async(path) as log`, or await connect()."""
    return AsyncEmbeddedLog(path, node_id=node_id, cluster=cluster, settings=settings)


async def _made(
    path: str | os.PathLike[str],
    node_id: str | None,
    cluster: str | None,
    settings: Mapping[str, object] | None,
) -> AsyncEmbeddedLog:
    """Make it on the loop that it will be used on."""
    return AsyncEmbeddedLog(path, node_id=node_id, cluster=cluster, settings=settings)
