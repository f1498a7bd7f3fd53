"""What may come next, and that bash, zsh and fish take it."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from quorumlog.command.completing import Expected, expected
from quorumlog.command.main import build_parser
from tests.support.fake_node import FakeCluster
from tests.support.waiting import UNIT_S

PARSER = build_parser()


def words(*line: str) -> list[str]:
    return [word for word, _ in expected(PARSER, line).words]


def kind(*line: str) -> str:
    return expected(PARSER, line).kind


def test_commands_and_their_descriptions() -> None:
    assert {"topic", "consume", "profile"} <= set(words(""))
    assert words("top") == ["topic"]
    assert words("topic", "") == ["create", "ls", "describe", "delete"]
    assert dict(expected(PARSER, ["topic", "l"]).words) == {"ls": "list topics"}
    assert words("-s", "a:1", "topic", "cr") == ["create"]
    assert words("-q", "topic", "cr") == ["create"]
    assert words("--servers=a:1", "topic", "cr") == ["create"]


def test_options_and_their_values() -> None:
    assert words("consume", "t", "--cons") == ["--consistency"]
    assert words("consume", "t", "--consistency", "") == ["session", "committed", "linearizable"]
    assert words("topic", "ls", "-o", "y") == ["yaml"]
    assert words("topic", "ls", "--output=") == [f"--output={w}" for w in ("text", "wide", "json", "yaml")]
    assert "--yes" in words("topic", "rm", "-")
    assert words("topic", "rm", "--", "-") == []


def test_kinds_of_things() -> None:
    assert kind("consume", "") == "topics"
    assert kind("consume", "one", "tw") == "topics"
    assert kind("produce", "o") == "topics"
    assert kind("produce", "o", "x") == ""
    assert kind("topic", "create", "") == ""
    assert kind("cluster", "remove", "") == "nodes"
    assert kind("consume", "t", "--from", "") == "nodes"
    assert kind("profile", "use", "") == "profiles"
    assert kind("--profile", "") == "profiles"
    assert kind("produce", "t", "-i", "") == "files"
    assert kind("local", "-d", "") == "directories"
    assert expected(PARSER, ["produce", "t", "--file=x"]).prefix == "--file="


def test_what_was_given_is_known_to_whoever_looks_up() -> None:
    assert expected(PARSER, ["-s", "a:1", "consume", "--ca=x", ""]).options == argparse.Namespace(
        servers="a:1", ca="x"
    )


@pytest.mark.parametrize(
    "line", [("nonsense", ""), ("nonsense", "-"), ("topic", "nonsense", ""), ("topic", "ls", "--no-such=")]
)
def test_nothing_fits_what_makes_no_sense(line: tuple[str, ...]) -> None:
    found = expected(PARSER, line)
    assert found == Expected(options=found.options)


# The scripts, in the shells that are there.


@pytest.fixture
def command(tmp_path: Path) -> Path:
    """A directory with `quorumlog` in it, and some files."""
    script = tmp_path / "quorumlog"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m quorumlog.command.main "$@"\n')
    script.chmod(0o755)
    for name in ("lines.one", "lines.two"):
        (tmp_path / name).touch()
    return tmp_path


def shell(directory: Path, *arguments: str, servers: str = "127.0.0.1:1") -> list[str]:
    """Return what a shell prints; nothing may be complained of."""
    if shutil.which(arguments[0]) is None:
        pytest.skip(f"{arguments[0]} is not installed")
    environment = {
        **os.environ,
        "PATH": f"{directory}:{os.environ['PATH']}",
        "QUORUMLOG_SERVERS": servers,
        "XDG_CONFIG_HOME": str(directory),
        "HOME": str(directory),
    }
    done = subprocess.run(
        arguments, capture_output=True, text=True, env=environment, cwd=directory, timeout=60 * UNIT_S
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


# As bash calls it behind Tab; compopt works there only.
BASH = """
compopt() { :; }
source <(quorumlog completion bash)
COMP_LINE=$1 COMP_POINT=${#1}
shift
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
$(complete -p quorumlog | sed 's/.*-F \\([^ ]*\\).*/\\1/')
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize(
    ("line", "parts", "replies"),
    [
        ("quorumlog topic ", ["quorumlog", "topic", ""], ["create", "ls", "describe", "delete"]),
        ("quorumlog topic ls --output=y", ["quorumlog", "topic", "ls", "--output", "=", "y"], ["yaml"]),
        ("quorumlog -s a:1 'topic' cr", ["quorumlog", "-s", "a", ":", "1", "'topic'", "cr"], ["create"]),
        ("quorumlog produce t -i l", ["quorumlog", "produce", "t", "-i", "l"], ["lines.one", "lines.two"]),
        ("quorumlog produce t --file=", ["quorumlog", "produce", "t", "--file", "="], None),
        ("quorumlog consume ", ["quorumlog", "consume", ""], []),  # nobody answers there
    ],
)
def test_bash_completes(command: Path, line: str, parts: list[str], replies: list[str] | None) -> None:
    found = shell(command, "bash", "-c", BASH, "bash", line, *parts)
    assert found == replies if replies is not None else {"lines.one", "lines.two"} <= set(found)


def test_bash_completes_topics_and_nodes(command: Path, distant: FakeCluster) -> None:
    servers = distant.nodes["n1"].address
    topics = shell(
        command, "bash", "-c", BASH, "bash", "quorumlog tail ", "quorumlog", "tail", "", servers=servers
    )
    assert topics == ["one", "t"]
    line = "quorumlog cluster remove n"
    assert shell(command, "bash", "-c", BASH, "bash", line, *line.split(), servers=servers) == [
        "n1",
        "n2",
        "n3",
    ]


def test_zsh_reads_the_script(command: Path) -> None:
    shell(command, "zsh", "-fc", "quorumlog completion zsh > _quorumlog && zsh -n _quorumlog")
    loaded = "autoload -U compinit && compinit -u -d dump && source <(quorumlog completion zsh)"
    assert shell(command, "zsh", "-fc", f"{loaded} && print $_comps[quorumlog]") == ["_quorumlog"]


def test_fish_completes(command: Path) -> None:
    script = "quorumlog completion fish | source; complete -C $argv[1]"
    assert shell(command, "fish", "-c", script, "quorumlog topic ls -o w") == ["wide"]
    assert shell(command, "fish", "-c", script, "quorumlog produce t --file=l") == [
        "--file=lines.one",
        "--file=lines.two",
    ]
