"""Configuration: where a value comes from, what is refused, and what the message says."""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from quorumlog.node.config import Config, ConfigError, add_flags, build, effective, gather
from quorumlog.node.settings import SETTINGS, nearest
from quorumlog.node.values import Address

MINIMAL = 'node_id = "n1"\ndata = "var/n1"\n'


def load(
    tmp_path: Path,
    text: str = MINIMAL,
    *flags: str,
    environment: Mapping[str, str] | None = None,
) -> Config:
    file = tmp_path / "node.toml"
    file.write_text(text)
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_flags(parser)
    return build(gather(parser.parse_args(["--config", str(file), *flags]), environment or {}))


def test_a_node_id_and_a_directory_are_enough_for_a_cluster_of_one(tmp_path: Path) -> None:
    config = load(tmp_path)
    assert config.members == {"n1": Address("127.0.0.1", 9651)}
    assert config.client.listen == config.client.advertised == Address("127.0.0.1", 9650)
    assert (config.raft.election_timeout_s_min, config.raft.heartbeat_s) == (0.4, 0.1)
    assert config.log.segment_bytes == 64 * 2**20
    assert config.tls is None


def test_the_cluster_id_is_made_of_the_cluster_s_name(tmp_path: Path) -> None:
    config = load(tmp_path, MINIMAL + 'cluster = "orders"\n')
    assert config.cluster_id == hashlib.blake2b(b"orders", digest_size=16).digest()


def test_sections_and_dotted_keys_mean_the_same(tmp_path: Path) -> None:
    in_section = load(tmp_path, MINIMAL + '[client]\nlisten = "127.0.0.1:1"\n[log]\nsegment_entries = 7\n')
    dotted = load(tmp_path, MINIMAL + 'client.listen = "127.0.0.1:1"\nlog.segment_entries = 7\n')
    assert in_section == dotted


def test_a_flag_overrides_the_environment_which_overrides_the_file(tmp_path: Path) -> None:
    text = MINIMAL + 'raft.heartbeat = "50ms"\ncluster = "file"\nlog.segment_bytes = "1MiB"\n'
    environment = {"QUORUMLOG_CLUSTER": "environment", "QUORUMLOG_LOG__SEGMENT_BYTES": "2MiB"}
    config = load(tmp_path, text, "--log-segment-bytes", "3MiB", environment=environment)
    assert config.raft.heartbeat_s == 0.05
    assert config.cluster == "environment"
    assert config.log.segment_bytes == 3 * 2**20


def test_set_takes_any_key(tmp_path: Path) -> None:
    assert load(tmp_path, MINIMAL, "--set", "limits.batch_bytes=2MiB").limits.batch_bytes == 2 * 2**20


def test_members_come_as_a_list_or_with_commas(tmp_path: Path) -> None:
    text = MINIMAL + 'peers = ["n1=10.0.0.1:9651", "n2=[::1]:9651"]\n'
    environment = {"QUORUMLOG_PEERS": "n1=10.0.0.1:9651, n2=[::1]:9651"}
    config = load(tmp_path, text)
    assert config == load(tmp_path, environment=environment)
    assert config.members["n2"] == Address("::1", 9651)
    assert config.peer.advertised == Address("10.0.0.1", 9651)


@pytest.mark.parametrize(
    ("line", "nearest_key"),
    [
        ('client.lisen = "127.0.0.1:1"', "client.listen"),
        ('raft.hartbeat = "1s"', "raft.heartbeat"),
        ('listen = "127.0.0.1:1"', "client.listen"),
        ('nodeid = "n1"', "node_id"),
    ],
)
def test_an_unknown_key_is_refused_and_the_nearest_named(tmp_path: Path, line: str, nearest_key: str) -> None:
    with pytest.raises(ConfigError, match=f"unknown key; the nearest is {nearest_key}$") as caught:
        load(tmp_path, line + "\n" + MINIMAL)
    assert caught.value.source == str(tmp_path / "node.toml")


def test_an_unknown_section_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"rfat.heartbeat: unknown key; the nearest is raft.heartbeat"):
        load(tmp_path, MINIMAL + '[rfat]\nheartbeat = "1s"\n')
    with pytest.raises(ConfigError, match=r"rfat: unknown key"):
        load(tmp_path, MINIMAL + "[rfat]\n")


@pytest.mark.parametrize(
    "variable", ["QUORUMLOG_CLIENT__LISTN", "QUORUMLOG_NODEID", "QUORUMLOG_RAFT__X", "QUORUMLOG_CLUSTR"]
)
def test_a_misspelt_variable_is_refused(tmp_path: Path, variable: str) -> None:
    with pytest.raises(ConfigError, match=f"environment: {variable}: unknown variable; the nearest is"):
        load(tmp_path, environment={variable: "x"})


def test_variables_of_other_programs_are_left_alone(tmp_path: Path) -> None:
    environment = {"QUORUMLOG_REQUIRE_DOCKER": "1", "QUORUMLOG_BOOTSTRAP_SERVERS": "x", "PATH": "/bin"}
    assert load(tmp_path, environment=environment) == load(tmp_path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("raft.heartbeat = 100", "raft.heartbeat: expected a duration such as 400ms, 10s or 1m, got 100"),
        ('raft.heartbeat = "0ms"', "raft.heartbeat: expected more than zero"),
        ('raft.heartbeat = "300ms"', "raft.election_timeout_min: expected at least 2 heartbeats"),
        ('raft.election_timeout_max = "400ms"', "expected more than raft.election_timeout_min"),
        ('log.segment_bytes = "64 miles"', "log.segment_bytes: expected a size such as 64MiB"),
        ("log.segment_bytes = true", "log.segment_bytes: expected a size such as 64MiB"),
        ('log.segment_bytes = "1KiB"', "log.segment_bytes: expected 64KiB to 2GiB"),
        ("log.segment_entries = 1", "log.segment_entries: expected 2 to 10000000"),
        ('log.segment_entries = "many"', "log.segment_entries: expected a whole number"),
        ('log.retention_bytes = "32MiB"', "log.retention_bytes: expected at least log.segment_bytes"),
        ('log.retention_age = "500ms"', "log.retention_age: expected at least 1s"),
        ("log.retention_age = 7", "log.retention_age: expected a duration"),
        ('limits.batch_bytes = "9MiB"', "limits.batch_bytes: expected 1 to 8388608"),
        ('limits.record_bytes = "9MiB"', "limits.record_bytes: expected 1 to limits.batch_bytes"),
        ("limits.concurrent_calls = 0", "limits.concurrent_calls: expected 1 or more"),
        ('limits.produce_timeout = "0s"', "limits.produce_timeout: expected more than zero"),
        ('client.listen = "localhost"', "client.listen: expected an address"),
        ('client.listen = "localhost:70000"', "client.listen: expected an address"),
        ('client.listen = "::1:9650"', "client.listen: expected an IPv6 address in brackets"),
        ('client.listen = "0.0.0.0:9650"', "client.advertised: must be set, because client.listen"),
        ('client.advertised = "0.0.0.0:1"', "expected an address that others can connect to"),
        ('peers = ["n2=10.0.0.1:1"]', r"peers: expected this node \(n1\) among the members"),
        ('peers = ["n1=10.0.0.1:1", "n1=10.0.0.2:1"]', "each member once, got n1 twice"),
        ('peers = ["n1=10.0.0.1:1", "n2=10.0.0.1:1"]', "a different address for each member"),
        ('peers = ["n1=0.0.0.0:1"]', "an address for n1 that others can connect to"),
        ('peers = ["n1"]', "node=host:port for each member, got 'n1'"),
        ("peers = 3", "peers: expected a list such as"),
        (
            'peers = ["n1=10.0.0.1:1"]\npeer.advertised = "10.0.0.2:1"',
            "expected what peers says of this node",
        ),
        ('cluster = "../x"', "cluster: expected 1 to 64 letters"),
        ('cluster = ""', "cluster: expected 1 to 64 letters"),
        ('logging.level = "loud"', "logging.level: expected debug or info or warning or error"),
        ('tls.key = "key.pem"', "tls.certificate: must be set: mutual TLS needs all three files"),
        ('tls.key = "a"\ntls.certificate = "b"\ntls.authority = "c"', "expected a file that exists"),
    ],
)
def test_what_does_not_fit_is_refused_with_expected_and_actual(
    tmp_path: Path, line: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, MINIMAL + line + "\n")


def test_everything_is_kept_unless_a_limit_is_set(tmp_path: Path) -> None:
    log = load(tmp_path).log
    assert (log.retention_bytes, log.retention_age_s) == (None, None)
    log = load(tmp_path, MINIMAL + 'log.retention_bytes = "10GiB"\nlog.retention_age = "7d"\n').log
    assert (log.retention_bytes, log.retention_age_s) == (10 * 2**30, 7 * 86_400.0)


def test_what_is_missing_is_named_with_every_way_to_set_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"node_id: must be set \(file, QUORUMLOG_NODE_ID or --node-id\)"):
        load(tmp_path, 'data = "x"\n')


def test_a_file_that_is_not_there_or_no_toml_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a TOML file"):
        load(tmp_path, "node_id = n1")
    with pytest.raises(ConfigError, match="expected KEY=VALUE"):
        load(tmp_path, MINIMAL, "--set", "cluster")
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load(tmp_path, MINIMAL, "--config", str(tmp_path / "absent.toml"))


def test_the_effective_settings_are_a_file_again_and_say_where_they_come_from(tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text(MINIMAL + 'peers = ["n1=10.0.0.1:9651"]\n')
    parser = argparse.ArgumentParser()
    add_flags(parser)
    given = gather(parser.parse_args(["--config", str(file)]), {"QUORUMLOG_RAFT__HEARTBEAT": "50ms"})
    shown = effective(given)
    assert f'node_id = "n1"  # {file}' in shown
    assert 'raft.heartbeat = "50ms"  # QUORUMLOG_RAFT__HEARTBEAT' in shown
    assert 'log.segment_bytes = "64MiB"  # default' in shown
    assert "# tls.key is not set" in shown
    assert load(tmp_path, shown) == build(given)


def test_every_setting_is_documented() -> None:
    text = Path("docs/configuration.md").read_text()
    missing = [key for key in SETTINGS if f"`{key}`" not in text]
    assert not missing


def test_the_nearest_of_a_key_without_any_likeness_is_still_a_key() -> None:
    assert nearest("zzzz") in SETTINGS


def run_node(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "quorumlog.node", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_command_prints_its_configuration_and_refuses_a_bad_one(tmp_path: Path) -> None:
    shown = run_node("--node-id", "n1", "--data", str(tmp_path / "data"), "--print-config")
    assert shown.returncode == 0
    assert f"data = {json.dumps(str(tmp_path / 'data'))}  # --data" in shown.stdout
    refused = run_node("--node-id", "n/1", "--data", str(tmp_path / "data"))
    assert refused.returncode == 2
    assert refused.stderr.startswith("quorumlog: --node-id: node_id: expected 1 to 64 letters")
    assert not (tmp_path / "data").exists()
