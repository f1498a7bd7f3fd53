"""The table of docs/testing.md: its tests exist, each names its rows, none that must be there is missing."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[1]
# The rows of priority 0 in the list that the table follows: all of them apply.
MUST = {
    *range(1, 10),
    *(13, 14, 17, 18, 21, 24, 25, 26, 28, 29, 30, 31, 35, 38, 41, 42, 43, 44, 45, 47),
    *(51, 56, 59, 60, 62, 63, 64, 70),
}
ROWS = 74

_LINE = re.compile(r"\| (\d+) \| ([012]) \| [^|]+ \| ([^|]*) \| ([^|]*) \|")
_NAMED = re.compile(r"\brows? ((?:\d+(?:, | and |, and )?)+)", re.IGNORECASE)


@cache
def table() -> dict[int, tuple[int, list[str], str]]:
    """By row: its priority, the files of its tests, and what is left."""
    found = {}
    for line in (TOP / "docs" / "testing.md").read_text().splitlines():
        match = _LINE.match(line.replace("| |", "|  |").replace("| |", "|  |"))
        if match is not None:
            tests = re.findall(r"`(tests/[^`]+)`", match[3])
            found[int(match[1])] = int(match[2]), tests, match[4].strip()
    return found


@cache
def rows_named_in(file: Path) -> set[int]:
    """The rows that docstrings of a file name: of the module, or of a test or a class of tests."""
    rows: set[int] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            for match in _NAMED.finditer(ast.get_docstring(node) or ""):
                rows |= {int(number) for number in re.findall(r"\d+", match[1])}
    return rows


def test_the_table_has_every_row() -> None:
    assert sorted(table()) == list(range(1, ROWS + 1))
    assert {row for row, (priority, _, _) in table().items() if priority == 0} == MUST


@pytest.mark.parametrize("row", sorted(MUST))
def test_a_row_that_must_be_there_is_named_by_a_test(row: int) -> None:
    _, tests, _ = table()[row]
    assert any(row in rows_named_in(TOP / test) for test in tests), f"none of {tests} names row {row}"


@pytest.mark.parametrize("row", range(1, ROWS + 1))
def test_what_the_table_says_is_there_or_left(row: int) -> None:
    _, tests, left = table()[row]
    assert tests or left, f"row {row}: neither a test nor what is left"
    for test in tests:
        file = TOP / test
        assert file.is_file(), f"row {row}: there is no {test}"
        assert "def test_" in file.read_text(), f"row {row}: {test} has no tests"
        named = rows_named_in(file)
        assert row in named, f"row {row}: {test} names {sorted(named)}"


def test_every_guarantee_names_tests_that_exist() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", (TOP / "docs" / "guarantees.md").read_text())
    assert len(named) > 30
    for file, test in named:
        assert (TOP / file).is_file(), file
        assert not test or re.search(rf"def {test}\(", (TOP / file).read_text()), f"{file}::{test}"
