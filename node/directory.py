"""The data directory of a node: whose it is, and where the parts stand.

    <data>/node-id     text: format, node, cluster, directory; written once, never changed
    <data>/group-0/    the log of Raft group 0 (storage.Log)

The directory has an id of its own, drawn at random when it is made. A node that lost its disk comes back
under its old name with another directory id, so that its peers can tell that it forgot what it voted for.
"""

from __future__ import annotations

import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

FORMAT = 1
DIRECTORY_ID_BYTES = 16
_FILE = "node-id"
_TEXT = re.compile(r"quorumlog node directory (\d+)\nnode (\S+)\ncluster (\S+)\ndirectory ([0-9a-f]{32})\n")


class DirectoryRefused(Exception):
    """The directory belongs to another node or cluster, or its identity cannot be read."""


@dataclass(frozen=True, slots=True)
class NodeDirectory:
    """An opened data directory."""

    path: Path
    directory_id: bytes  # 16 bytes

    @property
    def group(self) -> Path:
        """Where the log of group 0 lives."""
        return self.path / "group-0"


def open_directory(path: Path, node_id: str, cluster: str) -> NodeDirectory:
    """Return the directory of this node, made when it is new.

    Raises DirectoryRefused where it belongs to another, OSError where the disk refuses.
    """
    path.mkdir(parents=True, exist_ok=True)
    file = path / _FILE
    try:
        text = file.read_text("utf-8")
    except FileNotFoundError:
        return _create(path, node_id, cluster)
    except UnicodeDecodeError as error:
        raise DirectoryRefused(f"{file}: not text: {error}") from error
    return NodeDirectory(path, _check(file, text, node_id, cluster))


def identity_of(path: Path) -> tuple[str, str]:
    """Return node and cluster of an existing directory. Raises DirectoryRefused, OSError."""
    file = path / _FILE
    match = _TEXT.fullmatch(file.read_text("utf-8", errors="replace"))
    if match is None:
        raise DirectoryRefused(f"{file}: not the identity of a node")
    return match[2], match[3]


def _check(file: Path, text: str, node_id: str, cluster: str) -> bytes:
    match = _TEXT.fullmatch(text)
    if match is None:
        raise DirectoryRefused(f"{file}: expected the identity of a node, got {text[:80]!r}")
    version, node, owner, directory = match.groups()
    if int(version) != FORMAT:
        raise DirectoryRefused(f"{file}: format: expected {FORMAT}, got {version}")
    if node != node_id:
        raise DirectoryRefused(f"{file}: node: this is {node_id}, the directory belongs to {node}")
    if owner != cluster:
        raise DirectoryRefused(f"{file}: cluster: this is {cluster}, the directory belongs to {owner}")
    return bytes.fromhex(directory)


def _create(path: Path, node_id: str, cluster: str) -> NodeDirectory:
    if (path / "group-0").exists():
        # Drawing a new id here would let a node forget which data it stands for.
        raise DirectoryRefused(f"{path / _FILE}: missing, though the directory holds data; restore the file")
    directory_id = secrets.token_bytes(DIRECTORY_ID_BYTES)
    lines = (
        f"quorumlog node directory {FORMAT}",
        f"node {node_id}",
        f"cluster {cluster}",
        f"directory {directory_id.hex()}",
    )
    temporary = path / (_FILE + ".tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path / _FILE)
    _sync_directory(path)
    return NodeDirectory(path, directory_id)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
