"""What commands print: tables, streams of documents, and what --quiet leaves out."""

from __future__ import annotations

import io
from argparse import Namespace
from collections.abc import Iterator
from contextlib import redirect_stdout

import pytest
import yaml

from quorumlog.command.output import be_quiet, complain, note, print_structured, print_table


class Terminal(io.StringIO):
    """Looks like one."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A narrow terminal, to be put in the place of stdout."""
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return Terminal()


@pytest.fixture(autouse=True)
def _loud_again() -> Iterator[None]:
    yield
    be_quiet(False)


ROWS = [("long" * 10, 5, None), ("日本", 1234, "last")]


def test_numbers_stand_to_the_right_and_nothing_behind_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("NAME", "COUNT", "NOTE"), ROWS)
    assert capsys.readouterr().out.splitlines() == [
        f"NAME{' ' * 38}COUNT  NOTE",
        f"{'long' * 10}      5",
        f"日本{' ' * 39}1234  last",  # two cells for each of these characters
    ]


def test_a_narrow_terminal_cuts_nothing_off(terminal: Terminal) -> None:
    with redirect_stdout(terminal):
        print_table(("NAME", "COUNT", "NOTE"), ROWS)
    first, row, _ = terminal.getvalue().splitlines()
    assert "long" * 10 in row
    assert first.startswith("\x1b[1m")


@pytest.mark.parametrize(("variable", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_who_wants_no_colours_gets_none(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with redirect_stdout(terminal):
        print_table(("NAME",), [("a",)])
    assert terminal.getvalue() == "NAME\na\n"


def test_answers_in_a_row_are_a_stream_of_documents(capsys: pytest.CaptureFixture[str]) -> None:
    for number in (1, 2):
        assert print_structured({"n": number}, Namespace(output="yaml"))
    assert list(yaml.safe_load_all(capsys.readouterr().out)) == [{"n": 1}, {"n": 2}]
    assert not print_structured({}, Namespace(output="wide"))


def test_quiet_leaves_hints_out_and_errors_in(capsys: pytest.CaptureFixture[str]) -> None:
    be_quiet(True)
    note("a hint")
    complain("an error")
    assert capsys.readouterr().err == "an error\n"
