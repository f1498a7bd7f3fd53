"""From a directory to a running node whose clients are in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from quorumlog.client import errors
from quorumlog.embedded.server import LocalServer
from quorumlog.node import config as node_config
from quorumlog.node.config import Config, ConfigError
from quorumlog.node.directory import DirectoryRefused, identity_of
from quorumlog.node.listening import ClientPort
from quorumlog.node.machine import UnknownEntry
from quorumlog.node.server import Node, build, make_engine
from quorumlog.node.values import Address
from quorumlog.raft.errors import EXIT_DAMAGED, DamagedHardState
from quorumlog.storage.errors import CannotOpen, Damaged, Locked, NoSpace, StorageError

CLUSTER = "quorumlog"
NODE_ID = "n1"

# Nothing listens there; it has the form of an address because nodes and clients speak of each other by those.
ADDRESS = Address("in-process", 1)
# Of what `quorumlog serve` knows, what makes no sense within a program.
_NOT_HERE = ("client.", "http.", "tls.", "peers", "authorization.", "logging.", "cluster", "node_id", "data")


async def start(
    path: Path, node_id: str | None, cluster: str | None, settings: Mapping[str, object]
) -> tuple[Node, LocalServer]:
    """Open the directory, made when it is new, and let a node run on it; it leads when this returns.

    `node_id`, `cluster`: None: those of the directory, or n1 of quorumlog where it is new.
    Raises DirectoryLocked, DirectoryRefused, DataDamaged, NoSpace, LogFailed, UnknownOption.
    """
    server = LocalServer()
    try:
        config = _config(path, *_identity(path, node_id, cluster), settings)
        make = partial(make_engine, certificates=None, fatal=server.fail)
        node = await build(config, make, ClientPort(server, ADDRESS, server.cut))
    except Locked as error:
        raise errors.DirectoryLocked(f"{path}: another process, or this one, has it open") from error
    except (CannotOpen, DirectoryRefused, UnknownEntry) as error:
        raise errors.DirectoryRefused(str(error)) from error
    except (Damaged, DamagedHardState) as error:
        raise errors.DataDamaged(str(error)) from error
    except NoSpace as error:
        raise errors.NoSpace(str(error)) from error
    except StorageError as error:
        raise errors.LogFailed(str(error)) from error
    except ConfigError as error:
        raise errors.UnknownOption(str(error)) from error
    others = node.members - {config.node_id}
    if others:
        await node.stop()
        names = ", ".join(sorted(others))
        raise errors.DirectoryRefused(f"{path}: a cluster with {names}: start it with `quorumlog serve`")
    await node.start()
    try:
        await _until_leading(node, server)
    except BaseException:
        await node.stop()
        raise
    return node, server


async def _until_leading(node: Node, server: LocalServer) -> None:
    leading = asyncio.ensure_future(node.until_leading())
    try:
        await asyncio.wait((leading, server.failure), return_when=asyncio.FIRST_COMPLETED)
        if server.failure.done():
            exit_code, why = server.failure.result()
            raise errors.DataDamaged(why) if exit_code == EXIT_DAMAGED else errors.LogFailed(why)
        await leading
    finally:
        leading.cancel()
        await asyncio.gather(leading, return_exceptions=True)


def _identity(path: Path, node_id: str | None, cluster: str | None) -> tuple[str, str]:
    try:
        there = identity_of(path)
    except FileNotFoundError:
        there = NODE_ID, CLUSTER
    return node_id or there[0], cluster or there[1]


def _config(path: Path, node_id: str, cluster: str, settings: Mapping[str, object]) -> Config:
    source = "settings"
    for key in settings:
        if key.startswith(_NOT_HERE):
            raise ConfigError(
                source, key, "is for `quorumlog serve`: a log within a program has no such thing"
            )
    own = {"node_id": node_id, "cluster": cluster, "data": str(path)}
    return node_config.build(node_config.known({**settings, **own}, source))
