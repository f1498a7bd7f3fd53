"""A node's configuration: file, environment and flags in, one checked and frozen value out.

A flag overrides the environment, which overrides the file, which overrides the default. Whatever is
unknown or does not fit is a ConfigError that names where it stood, the key, what was expected and what
was found; nothing is guessed and nothing is ignored.
"""

from __future__ import annotations

import argparse
import difflib
import hashlib
import logging
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, cast

from quorumlog.node.settings import ENVIRONMENT_PREFIX, SETTINGS, Setting, nearest
from quorumlog.node.values import Address, BadValue
from quorumlog.proto.batch import MAX_BATCH_BYTES

CLUSTER_ID_BYTES = 16

# A follower that misses one heartbeat must not stand for election: two must fit into the shortest timeout.
_HEARTBEATS_PER_TIMEOUT = 2
# Smaller segments would hold an entry or two, and cost four files each.
_SEGMENT_BYTES_MIN = 64 * 1024
_SEGMENT_BYTES_MAX = 2**31  # positions in a segment are u32; the last entry may reach beyond the limit
_RETENTION_AGE_S_MIN = 1.0  # it is looked at once a second
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}

_Value = TypeVar("_Value")


class ConfigError(ValueError):
    """The configuration cannot be used: `source` (file, variable, flag), `key`, what is wrong with it."""

    def __init__(self, source: str, key: str, problem: str) -> None:
        super().__init__(f"{source}: {key}: {problem}" if key else f"{source}: {problem}")
        self.source = source
        self.key = key


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a service is heard, and the address under which others reach it."""

    listen: Address
    advertised: Address


@dataclass(frozen=True, slots=True)
class RaftConfig:
    """Times of the consensus, in seconds."""

    election_timeout_s_min: float
    election_timeout_s_max: float
    heartbeat_s: float


@dataclass(frozen=True, slots=True)
class LogConfig:
    """When a leader begins a new segment, and when it gives up old ones; how they are checked."""

    segment_bytes: int
    segment_entries: int
    retention_bytes: int | None  # None: keep everything
    retention_age_s: float | None
    scrub_bytes_per_s: int  # 0: never
    scrub_period_s: float


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client may ask for."""

    record_bytes: int
    batch_bytes: int
    concurrent_calls: int
    connections: int
    write_timeout_s: float
    produce_timeout_s: float
    shutdown_grace_s: float


@dataclass(frozen=True, slots=True)
class TlsConfig:
    """PEM files for mutual TLS on both ports."""

    certificate: Path
    key: Path
    authority: Path


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that a node is told from outside."""

    cluster: str
    node_id: str
    data: Path
    members: Mapping[str, Address]  # node id -> peer address, this node included
    client: Endpoint
    peer: Endpoint
    http: Endpoint | None  # None: nothing is served over HTTP
    raft: RaftConfig
    log: LogConfig
    limits: Limits
    tls: TlsConfig | None
    grants: Path | None
    logging_level: int

    @property
    def cluster_id(self) -> bytes:
        """What stands for the cluster's name in files and handshakes: 16 bytes."""
        return hashlib.blake2b(self.cluster.encode(), digest_size=CLUSTER_ID_BYTES).digest()


@dataclass(frozen=True, slots=True)
class Given:
    """A value as it was written, and where."""

    value: object
    source: str


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add --config, --set, --print-config and a flag for every setting."""
    parser.add_argument("--config", metavar="FILE", help="TOML file")
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="any setting by its key; may be repeated",
    )
    parser.add_argument("--print-config", action="store_true", help="print the effective settings and stop")
    for setting in SETTINGS.values():
        default = f" (default: {setting.default})" if setting.default else ""
        parser.add_argument(setting.flag, dest=setting.key, metavar="VALUE", help=setting.help + default)


def gather(arguments: argparse.Namespace, environment: Mapping[str, str]) -> dict[str, Given]:
    """Collect what file, environment and flags say, the stronger over the weaker. Raises ConfigError."""
    given: dict[str, Given] = {}
    if arguments.config is not None:
        given.update(_from_file(Path(arguments.config)))
    given.update(_from_environment(environment))
    given.update(_from_flags(arguments))
    return given


def known(values: Mapping[str, object], source: str) -> dict[str, Given]:
    """Return values by their keys as given by `source`. Raises ConfigError for a key that does not exist."""
    return {_known(key, source).key: Given(value, source) for key, value in values.items()}


def build(given: Mapping[str, Given]) -> Config:
    """Parse and check every setting. Raises ConfigError for the first that does not fit."""
    return _Builder(given).build()


def effective(given: Mapping[str, Given]) -> str:
    """Return every setting as TOML, with where it comes from: what --print-config shows."""
    lines = []
    for setting in SETTINGS.values():
        entry = _entry(given, setting)
        if entry is None:
            lines.append(f"# {setting.key} is not set")
        else:
            lines.append(f"{setting.key} = {_toml(entry.value)}  # {entry.source}")
    return "\n".join(lines)


def _from_file(path: Path) -> dict[str, Given]:
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(str(path), "", f"cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), "", f"not a TOML file: {error}") from error
    given = {}
    for key, value in _flatten(document):
        given[_known(key, str(path)).key] = Given(value, str(path))
    return given


def _flatten(table: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in table.items():
        key = prefix + name
        if isinstance(value, dict) and value:
            yield from _flatten(value, key + ".")
        else:
            yield key, value


def _from_environment(environment: Mapping[str, str]) -> dict[str, Given]:
    by_variable = {setting.variable: setting for setting in SETTINGS.values()}
    given = {}
    for name, value in environment.items():
        if not name.startswith(ENVIRONMENT_PREFIX):
            continue
        setting = by_variable.get(name)
        if setting is not None:
            given[setting.key] = Given(value, name)
        elif _is_meant_for_a_node(name):
            hint = nearest(name, list(by_variable))
            raise ConfigError("environment", name, f"unknown variable; the nearest is {hint}")
    return given


def _is_meant_for_a_node(variable: str) -> bool:
    """Tell a misspelt setting from a variable of another of the project's programs.

    Only sections have two underscores; of the plain names, what resembles a setting is one.
    """
    plain = [key.upper() for key in SETTINGS if "." not in key]
    name = variable.removeprefix(ENVIRONMENT_PREFIX)
    return "__" in name or bool(difflib.get_close_matches(name, plain, n=1, cutoff=0.8))


def _from_flags(arguments: argparse.Namespace) -> dict[str, Given]:
    given = {}
    for item in arguments.set:
        key, equals, value = item.partition("=")
        if not equals:
            raise ConfigError("--set", item, "expected KEY=VALUE")
        given[_known(key.strip(), "--set").key] = Given(value, "--set")
    for setting in SETTINGS.values():
        value = getattr(arguments, setting.key)
        if value is not None:
            given[setting.key] = Given(value, setting.flag)
    return given


def _known(key: str, source: str) -> Setting:
    setting = SETTINGS.get(key)
    if setting is None:
        raise ConfigError(source, key, f"unknown key; the nearest is {nearest(key)}")
    return setting


def _entry(given: Mapping[str, Given], setting: Setting) -> Given | None:
    entry = given.get(setting.key)
    if entry is None and setting.default is not None:
        return Given(setting.default, "default")
    return entry


def _toml(value: object) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return str(value)
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


class _Builder:
    """Parses one setting after the other and checks those that depend on each other."""

    def __init__(self, given: Mapping[str, Given]) -> None:
        self._given = given

    def build(self) -> Config:
        node_id = self._required("node_id", str)
        peer_listen = self._required("peer.listen", Address)
        members = self._members(node_id, peer_listen)
        client_listen = self._required("client.listen", Address)
        client = Endpoint(client_listen, self._advertised("client", client_listen))
        return Config(
            cluster=self._required("cluster", str),
            node_id=node_id,
            data=Path(self._required("data", str)),
            members=members,
            client=client,
            peer=Endpoint(peer_listen, members[node_id]),
            http=self._http(client.advertised),
            raft=self._raft(),
            log=self._log(),
            limits=self._limits(),
            tls=self._tls(),
            grants=self._grants(),
            logging_level=self._level(),
        )

    def _optional(self, key: str, kind: type[_Value]) -> _Value | None:
        entry = _entry(self._given, SETTINGS[key])
        if entry is None:
            return None
        try:
            value = SETTINGS[key].parse(entry.value)
        except BadValue as error:
            raise ConfigError(entry.source, key, f"{error}, got {entry.value!r}") from error
        assert isinstance(value, kind), f"{key}: its parser gives {type(value)}, not {kind}"
        return value

    def _required(self, key: str, kind: type[_Value]) -> _Value:
        value = self._optional(key, kind)
        if value is None:
            setting = SETTINGS[key]
            raise ConfigError(
                "configuration", key, f"must be set (file, {setting.variable} or {setting.flag})"
            )
        return value

    def _wrong(self, key: str, expected: str) -> ConfigError:
        entry = _entry(self._given, SETTINGS[key])
        assert entry is not None, f"{key} has a value"
        return ConfigError(entry.source, key, f"expected {expected}, got {entry.value!r}")

    def _advertised(self, section: str, listen: Address) -> Address:
        key = f"{section}.advertised"
        address = self._optional(key, Address)
        if address is None:
            if listen.is_wildcard:
                problem = f"must be set, because {section}.listen ({listen}) is not an address to connect to"
                raise ConfigError("configuration", key, problem)
            return listen
        if address.is_wildcard:
            raise self._wrong(key, "an address that others can connect to")
        return address

    def _http(self, client_advertised: Address) -> Endpoint | None:
        listen = self._optional("http.listen", Address)
        if listen is None:
            if self._optional("http.advertised", Address) is not None:
                raise self._wrong("http.advertised", "http.listen beside it")
            return None
        if listen.is_wildcard and self._optional("http.advertised", Address) is None:
            # Who reaches the one port reaches the other, most likely; nothing but a link rests on it.
            return Endpoint(listen, Address(client_advertised.host, listen.port))
        return Endpoint(listen, self._advertised("http", listen))

    def _members(self, node_id: str, peer_listen: Address) -> dict[str, Address]:
        members = cast("dict[str, Address] | None", self._optional("peers", dict))
        if members is None:
            return {node_id: self._advertised("peer", peer_listen)}  # a cluster of one
        if node_id not in members:
            raise self._wrong("peers", f"this node ({node_id}) among the members")
        for member, address in members.items():
            if address.is_wildcard:
                raise self._wrong("peers", f"an address for {member} that others can connect to")
        advertised = self._optional("peer.advertised", Address)
        if advertised is not None and advertised != members[node_id]:
            raise self._wrong("peer.advertised", f"what peers says of this node ({members[node_id]})")
        if len(set(members.values())) < len(members) and len(members) > 1:
            raise self._wrong("peers", "a different address for each member")
        return members

    def _raft(self) -> RaftConfig:
        low = self._required("raft.election_timeout_min", float)
        high = self._required("raft.election_timeout_max", float)
        heartbeat = self._required("raft.heartbeat", float)
        if heartbeat <= 0:
            raise self._wrong("raft.heartbeat", "more than zero")
        if heartbeat * _HEARTBEATS_PER_TIMEOUT > low:
            raise self._wrong("raft.election_timeout_min", f"at least {_HEARTBEATS_PER_TIMEOUT} heartbeats")
        if high <= low:
            raise self._wrong("raft.election_timeout_max", "more than raft.election_timeout_min")
        return RaftConfig(low, high, heartbeat)

    def _log(self) -> LogConfig:
        size = self._required("log.segment_bytes", int)
        entries = self._required("log.segment_entries", int)
        if not _SEGMENT_BYTES_MIN <= size <= _SEGMENT_BYTES_MAX:
            raise self._wrong("log.segment_bytes", "64KiB to 2GiB")
        if not 2 <= entries <= 10_000_000:
            raise self._wrong("log.segment_entries", "2 to 10000000")
        retention_bytes = self._optional("log.retention_bytes", int)
        retention_age_s = self._optional("log.retention_age", float)
        if retention_bytes is not None and retention_bytes < size:
            raise self._wrong("log.retention_bytes", "at least log.segment_bytes")
        if retention_age_s is not None and retention_age_s < _RETENTION_AGE_S_MIN:
            raise self._wrong("log.retention_age", "at least 1s")
        scrub_bytes_per_s = 10**6 * self._required("log.scrub_mb_per_s", int)
        scrub_period_s = self._required("log.scrub_period", float)
        return LogConfig(size, entries, retention_bytes, retention_age_s, scrub_bytes_per_s, scrub_period_s)

    def _limits(self) -> Limits:
        batch = self._required("limits.batch_bytes", int)
        record = self._required("limits.record_bytes", int)
        calls = self._required("limits.concurrent_calls", int)
        connections = self._required("limits.connections", int)
        write_timeout = self._required("limits.write_timeout", float)
        timeout = self._required("limits.produce_timeout", float)
        if not 1 <= batch <= MAX_BATCH_BYTES:
            raise self._wrong("limits.batch_bytes", f"1 to {MAX_BATCH_BYTES}")
        if not 1 <= record <= batch:
            raise self._wrong("limits.record_bytes", "1 to limits.batch_bytes")
        if calls < 1:
            raise self._wrong("limits.concurrent_calls", "1 or more")
        if not 1 <= connections < 2**31:
            raise self._wrong("limits.connections", "1 or more")
        if write_timeout <= 0:
            raise self._wrong("limits.write_timeout", "more than zero")
        if timeout <= 0:
            raise self._wrong("limits.produce_timeout", "more than zero")
        grace = self._required("limits.shutdown_grace", float)
        return Limits(record, batch, calls, connections, write_timeout, timeout, grace)

    def _tls(self) -> TlsConfig | None:
        files = {name: self._optional(f"tls.{name}", str) for name in ("certificate", "key", "authority")}
        if not any(files.values()):
            return None
        for name, file in files.items():
            if file is None:
                raise ConfigError(
                    "configuration", f"tls.{name}", "must be set: mutual TLS needs all three files"
                )
            if not Path(file).is_file():
                raise self._wrong(f"tls.{name}", "a file that exists")
        return TlsConfig(*(Path(file) for file in files.values() if file is not None))

    def _grants(self) -> Path | None:
        file = self._optional("authorization.grants", str)
        if file is None:
            return None
        if self._tls() is None:
            raise self._wrong("authorization.grants", "the tls keys beside it: without TLS nobody is known")
        if not Path(file).is_file():
            raise self._wrong("authorization.grants", "a file that exists")
        return Path(file)

    def _level(self) -> int:
        name = self._required("logging.level", str).lower()
        if name not in _LEVELS:
            raise self._wrong("logging.level", " or ".join(_LEVELS))
        return _LEVELS[name]
