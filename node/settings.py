"""The table of settings: every key that a node knows, its default, how it is read and what it is for.

One table serves the file, the environment, the flags, `--print-config` and the check of unknown keys;
docs/configuration.md lists the same keys, which a test compares.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass

from quorumlog.node.values import (
    parse_address,
    parse_count,
    parse_duration,
    parse_members,
    parse_name,
    parse_size,
    parse_text,
)

ENVIRONMENT_PREFIX = "QUORUMLOG_"


@dataclass(frozen=True, slots=True)
class Setting:
    """One key. `default` is text as a user would write it; None: there is none."""

    key: str  # "section.name", or a plain name at the top of the file
    parse: Callable[[object], object]
    default: str | None
    help: str

    @property
    def variable(self) -> str:
        """Its environment variable: QUORUMLOG_SECTION__NAME."""
        return ENVIRONMENT_PREFIX + self.key.upper().replace(".", "__")

    @property
    def flag(self) -> str:
        """Its command line flag: --section-name."""
        return "--" + self.key.replace(".", "-").replace("_", "-")


_TABLE = (
    Setting("cluster", parse_name, "quorumlog", "name of the cluster; its nodes refuse all others"),
    Setting("node_id", parse_name, None, "this node's name, unique in the cluster"),
    Setting("data", parse_text, None, "directory that holds everything this node keeps"),
    Setting("peers", parse_members, None, "all members with their peer addresses, this node included"),
    Setting("client.listen", parse_address, "127.0.0.1:9650", "where clients are heard (gRPC)"),
    Setting("client.advertised", parse_address, None, "where clients reach this node (default: listen)"),
    Setting("peer.listen", parse_address, "127.0.0.1:9651", "where peers are heard"),
    Setting(
        "peer.advertised", parse_address, None, "where peers reach this node (default: its entry in peers)"
    ),
    Setting(
        "http.listen",
        parse_address,
        None,
        "where probes, metrics and the status page are served over HTTP (default: nowhere)",
    ),
    Setting("http.advertised", parse_address, None, "where people and tools outside reach that"),
    Setting("raft.election_timeout_min", parse_duration, "400ms", "shortest silence before an election"),
    Setting("raft.election_timeout_max", parse_duration, "800ms", "longest silence before an election"),
    Setting("raft.heartbeat", parse_duration, "100ms", "how often a leader is heard at least"),
    Setting("log.segment_bytes", parse_size, "64MiB", "a leader begins a new segment at this size"),
    Setting("log.segment_entries", parse_count, "100000", "or at this many entries"),
    Setting(
        "log.retention_bytes", parse_size, None, "keep at least so much of the newest (default: everything)"
    ),
    Setting("log.retention_age", parse_duration, None, "keep records at least so long (default: for ever)"),
    Setting("log.scrub_mb_per_s", parse_count, "4", "how fast sealed segments are checked, MB/s; 0: never"),
    Setting("log.scrub_period", parse_duration, "24h", "how often all of them are checked at most"),
    Setting("limits.record_bytes", parse_size, "1MiB", "largest record"),
    Setting("limits.batch_bytes", parse_size, "8MiB", "largest batch body"),
    Setting("limits.concurrent_calls", parse_count, "4096", "calls under way at once, streams included"),
    Setting("limits.connections", parse_count, "2048", "connections of clients at once"),
    Setting(
        "limits.write_timeout", parse_duration, "30s", "a reader that takes nothing for so long is dropped"
    ),
    Setting("limits.produce_timeout", parse_duration, "10s", "for a write that names no deadline"),
    Setting("limits.shutdown_grace", parse_duration, "5s", "how long calls may finish after SIGTERM"),
    Setting("tls.certificate", parse_text, None, "PEM file: this node's certificate, for both ports"),
    Setting("tls.key", parse_text, None, "PEM file: its private key"),
    Setting(
        "tls.authority",
        parse_text,
        None,
        "PEM file: the authority that signed the certificates of all nodes and clients",
    ),
    Setting("authorization.grants", parse_text, None, "TOML file: which clients may do what (needs tls)"),
    Setting("logging.level", parse_text, "info", "debug, info, warning or error; goes to stderr"),
)

SETTINGS = {setting.key: setting for setting in _TABLE}


def nearest(key: str, choices: list[str] | None = None) -> str:
    """Return the valid key that `key` was most likely meant to be."""
    valid = choices if choices is not None else list(SETTINGS)
    by_name = [each for each in valid if each.rpartition(".")[2] == key]
    if by_name:
        return by_name[0]  # the section was forgotten
    # A cutoff of 0 always finds one.
    return difflib.get_close_matches(key, valid, n=1, cutoff=0.0)[0]
