"""What users see, as it was last agreed upon: the help of every command, and a session with the main ones.

To renew them see tests/support/snapshots.py.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterator

import pytest

from quorumlog.command.main import build_parser
from tests.command.test_main import run
from tests.support.fake_node import FakeCluster
from tests.support.snapshots import RENEW, check_snapshot, kept_snapshots

COLUMNS = "80"
WITHOUT_EXAMPLE = {"quorumlog serve"}  # it is another program

SESSION = """\
topic ls
topic create orders --partitions 2
topic create payments
topic create orders
produce orders -f '%p %k=%v' -H source:shell < 0 table-7=one espresso|1 table-9=two teas|0 table-7=
produce payments -o json -Z < |4.20
produce payments -f '%k %v' < nothing
consume orders -p 0 -e
consume orders -p 0 -e -J
consume orders -p 0 -f '%t/%p@%o %k: %v (%V) %h{%k is %v}\\n' -r -o :end
consume payments -n 1 --meta-only
tail payments -n 1 -e
consume none -e
topic ls
topic ls -o wide
topic ls -o json
topic describe orders payments
topic describe payments -o yaml
cluster members
cluster check-stop n1
topic delete payments
topic delete payments --force
consume orders -o 7:5
consume orders -f %x
consum orders
topic describe orders --outptu json
profile ls
profile show
"""


def commands(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Yield a parser and all those below it, each once."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in dict.fromkeys(action.choices.values()):
                yield from commands(below)


COMMANDS = {parser.prog: parser for parser in commands(build_parser())}


def name_of(program: str) -> str:
    return program.replace("quorumlog", "help", 1).replace(" ", "-")


@pytest.mark.parametrize("program", COMMANDS)
def test_help(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", COLUMNS)
    text = COMMANDS[program].format_help()
    assert max(map(len, text.splitlines())) <= int(COLUMNS)
    check_snapshot(name_of(program), text)


@pytest.mark.parametrize("program", COMMANDS)
def test_every_command_has_an_example(program: str) -> None:
    parser = COMMANDS[program]
    is_group = any(isinstance(action, argparse._SubParsersAction) for action in parser._actions)
    if not is_group and program not in WITHOUT_EXAMPLE:
        assert f"\n  {program}" in (parser.epilog or "") or f"| {program}" in (parser.epilog or "")


@pytest.mark.skipif(RENEW in os.environ, reason="they are being written")
def test_no_snapshot_is_left_of_what_is_gone() -> None:
    assert kept_snapshots() == {"session", *map(name_of, COMMANDS)}


async def test_a_session(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", COLUMNS)
    monkeypatch.setenv("TZ", "UTC")
    cluster.topics.clear()
    said = []
    for line in SESSION.splitlines():
        command, _, stdin = line.partition(" < ")
        arguments = [quoted or plain for quoted, plain in re.findall(r"'([^']*)'|(\S+)", command)]
        done = await run(
            cluster, *arguments, stdin="".join(f"{each}\n" for each in stdin.split("|")).encode()
        )
        typed = f"$ quorumlog {command}" + (f"    (from stdin: {stdin})" if stdin else "")
        said.append("\n".join((typed, done.out + done.err + f"[{done.code}]\n")))
    check_snapshot("session", _without_what_varies("\n".join(said), cluster))


def _without_what_varies(text: str, cluster: FakeCluster) -> str:
    for name, node in cluster.nodes.items():
        text = text.replace(node.address, f"{name}.example:9650")
    text = re.sub(r"in \d+\.\d\d s \([\d,]+ records/s\)", "in 0.01 s (100 records/s)", text)
    text = re.sub(r'("raft_index": )\d+', r"\g<1>9", text)
    return re.sub(r'(_ms"?: )\d+', r"\g<1>1700000000000", text)
