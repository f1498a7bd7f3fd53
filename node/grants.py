"""What each client may do: a table in a file, or what certificates say themselves where there is no table.

    [[grant]]
    clients = ["billing", "spiffe://corp/shop"]    # by the names in their certificates
    roles   = ["produce", "consume"]
    topics  = ["orders", "orders.*"]               # * stands for any characters; left out: all topics

With a table whatever it does not grant is denied, and roles in certificates are not looked at. Without one a
certificate that names roles has those, and one that names none may do everything. A table that was changed
counts a moment later, for streams under way too; one that cannot be read leaves the old one in force.
"""

from __future__ import annotations

import logging
import re
import time
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from quorumlog.node.config import ConfigError
from quorumlog.proto.identity import ROLES, Identity

logger = logging.getLogger(__name__)

_LOOK_AGAIN_S = 1.0
_FILE_BYTES_MAX = 4 * 1024 * 1024
_KEYS = ("clients", "roles", "topics")
_PATTERN = re.compile(r"[A-Za-z0-9._*-]{1,249}")


class BadTable(ValueError):
    """The file is no table of grants; the message says where and why."""


@dataclass(frozen=True, slots=True)
class Grant:
    """Some roles for some topics; `topics` None: for all, and for what concerns the whole cluster."""

    roles: frozenset[str]
    topics: re.Pattern[str] | None = None

    def covers(self, topic: str) -> bool:
        """Whether it is given for this topic."""
        return self.topics is None or self.topics.fullmatch(topic) is not None


EVERYTHING: Final = Grant(frozenset(ROLES))

Table = Mapping[str, Sequence[Grant]]


class Grants:
    """Who may do what. Called from the event loop, and asked anew by every call."""

    def __init__(self, file: Path | None) -> None:
        """Raises ConfigError where the file is no table."""
        self._file = file
        self._table: Table | None = None
        self._stamp: tuple[int, int, int] | None = None
        self._looked_s = time.monotonic()
        if file is not None:
            try:
                self._stamp, self._table = _stamp(file), load(file)
            except (OSError, BadTable) as error:
                raise ConfigError("configuration", "authorization.grants", f"{file}: {error}") from error

    def of(self, client: Identity) -> Sequence[Grant]:
        """Return what the client is granted now."""
        self._look()
        if self._table is not None:
            return self._table.get(client.name, ())
        return (Grant(client.roles),) if client.roles else (EVERYTHING,)

    def _look(self) -> None:
        now_s = time.monotonic()
        if self._file is None or now_s - self._looked_s < _LOOK_AGAIN_S:
            return
        self._looked_s = now_s
        try:
            stamp = _stamp(self._file)
            if stamp == self._stamp:
                return
            self._stamp, self._table = stamp, load(self._file)
        except (OSError, BadTable) as error:
            logger.error("%s: the grants cannot be read; the old ones stay in force: %s", self._file, error)
        else:
            logger.info("%s: the grants have changed: %d clients", self._file, len(self._table))


def load(file: Path) -> Table:
    """Return the table in a file. Raises OSError, BadTable."""
    with file.open("rb") as opened:
        raw = opened.read(_FILE_BYTES_MAX + 1)
    if len(raw) > _FILE_BYTES_MAX:
        raise BadTable(f"more than {_FILE_BYTES_MAX} bytes")
    try:
        document = tomllib.loads(raw.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadTable(f"not a TOML file: {error}") from error
    entries = document.pop("grant", [])
    if document or not isinstance(entries, list):
        raise BadTable(f"expected [[grant]] and nothing else, got {', '.join(document) or entries!r}")
    table: dict[str, list[Grant]] = {}
    for number, entry in enumerate(entries, 1):
        try:
            clients, grant = _parsed(entry)
        except BadTable as error:
            raise BadTable(f"grant {number}: {error}") from error
        for client in clients:
            table.setdefault(client, []).append(grant)
    return table


def _parsed(entry: object) -> tuple[list[str], Grant]:
    if not isinstance(entry, dict):
        raise BadTable(f"expected a table, got {entry!r}")
    for key in entry:
        if key not in _KEYS:
            raise BadTable(f"unknown key {key!r}; there are {', '.join(_KEYS)}")
    clients, roles = _texts(entry, "clients"), _texts(entry, "roles")
    for role in roles:
        if role not in ROLES:
            raise BadTable(f"roles: expected {', '.join(ROLES)}, got {role!r}")
    topics = re.compile("|".join(map(_pattern, _texts(entry, "topics")))) if "topics" in entry else None
    return clients, Grant(frozenset(roles), topics)


def _texts(entry: Mapping[str, object], key: str) -> list[str]:
    value = entry.get(key)
    if not isinstance(value, list) or not value or not all(isinstance(item, str) and item for item in value):
        raise BadTable(f"{key}: expected a list of texts, got {value!r}")
    return value


def _pattern(text: str) -> str:
    if not _PATTERN.fullmatch(text):
        raise BadTable(f"topics: expected letters, digits, '.', '_', '-' and '*', got {text!r}")
    return ".*".join(map(re.escape, re.split(r"\*+", text)))


def _stamp(file: Path) -> tuple[int, int, int]:
    stat = file.stat()
    return stat.st_ino, stat.st_size, stat.st_mtime_ns
