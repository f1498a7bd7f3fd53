"""The parts of `quorumlog local`; tests/cluster runs the whole."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from quorumlog.client.errors import UnknownOption
from quorumlog.command.lines import SkippedLine
from quorumlog.command.local_input import Input, choose_input
from quorumlog.command.local_nodes import LocalNode, NodeEnded, free_ports, usual_ports
from quorumlog.command.trial import Report


def test_the_input_stays_the_same_though_the_file_grows(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_bytes(b"a\n\n\xff\xfe\nlast")
    source = Input(file)
    with file.open("ab") as growing:
        growing.write(b" and more\nlines\n")
    assert list(source.lines()) == list(source.lines()) == [b"a", b"", b"\xff\xfe", b"last"]


def test_half_way_is_in_the_middle_of_a_small_file(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_bytes(b"line\n" * 100)
    parts = [part for _, part in Input(file).chunks()]
    assert len(parts) == 20
    assert parts[-1] == 1.0


def test_lines_that_are_too_long_are_reported(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_bytes(b"short\nmuch too long\nshort\n")
    source = Input(file, max_line_size=5)
    assert list(source.lines()) == [b"short", b"short"]
    assert source.skipped == [SkippedLine(2, 13)]


def test_the_input_is_what_was_asked_for_or_something_that_is_there(tmp_path: Path) -> None:
    assert choose_input(None).stat().st_size > 0
    (tmp_path / "empty").touch()
    for nothing in ("empty", "none", "."):
        with pytest.raises(UnknownOption, match="--input"):
            choose_input(str(tmp_path / nothing))


def test_ports_are_all_different() -> None:
    assert len(set(free_ports(20))) == 20


def test_people_find_their_nodes_where_clients_look_unless_somebody_else_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.socket() as somebody:
        somebody.bind(("127.0.0.1", 0))
        somebody.listen()
        taken = somebody.getsockname()[1]
        monkeypatch.setattr("quorumlog.command.local_nodes.FIRST_PORT", taken - 1)
        others = usual_ports(1)
    assert len({*others, taken}) == 4
    monkeypatch.setattr("quorumlog.command.local_nodes._is_free", lambda port: True)
    assert usual_ports(2) == [taken - 1, taken, taken + 1, taken + 9, taken + 10, taken + 11]


def test_a_node_that_ended_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    node = LocalNode("n1", tmp_path, "nonsense", "nonsense", "nonsense")
    node.config.write_text("nonsense = 1\n")
    node.start()
    assert node._process is not None
    node._process.wait(30)
    with pytest.raises(NodeEnded, match=r"(?s)exit code 2.*nonsense"):
        node.check()


def test_only_a_complete_and_identical_reading_is_good() -> None:
    good = {"records": 2, "acknowledged": 2, "read_back": 2, "identical": True}
    assert Report(**good).good
    for broken in ({"read_back": 3}, {"acknowledged": 1}, {"identical": False}, {"in_order": False}):
        assert not Report(**{**good, **broken}).good
