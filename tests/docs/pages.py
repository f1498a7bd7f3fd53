"""The pages and their code blocks, as Markdown has them.

A block is fenced and has a language. A comment on the line above says more, where that is needed:

    <!-- not run: why -->     it needs what a test cannot have; test_pages.py keeps these few
    <!-- follows -->          it ends with Ctrl-C only: in Python it reads to what is there; a command is
                              stopped when all that the page shows has been printed
    <!-- background -->       a command that stays until the page ends
    <!-- file: name -->       the content of a file that later blocks use
    <!-- prints -->           what the Python block before prints
    <!-- shows -->            what the newest command in the background has printed by then, or soon after
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
DOCS = TOP / "docs"

_FENCE = re.compile(r"(?P<fence>`{3,})(?P<language>[\w{}-]*)( .*)?$")
_MARKER = re.compile(
    r"<!-- (?P<kind>not run|follows|background|file|prints|shows)(?:: (?P<argument>.+))? -->$"
)


@dataclass(frozen=True, slots=True)
class Block:
    """One code block; `line` is where its text begins, from 1."""

    page: Path
    line: int
    language: str
    text: str
    kind: str = ""  # of its marker
    argument: str = ""

    @property
    def where(self) -> str:
        """Page and line, as editors jump to them."""
        return f"{self.page.relative_to(TOP)}:{self.line}"


def pages() -> list[Path]:
    """Return every page, README.md first."""
    built = DOCS / "_build"
    return [TOP / "README.md", *sorted(page for page in DOCS.rglob("*.md") if built not in page.parents)]


def name_of(page: Path) -> str:
    """Return a page's name, for people."""
    return page.relative_to(TOP).as_posix()


def blocks(page: Path) -> list[Block]:
    """Return the blocks of a page in their order; directives of Sphinx are none."""
    found = []
    lines = page.read_text().splitlines()
    number = 0
    while number < len(lines):
        opening = _FENCE.match(lines[number])
        number += 1
        if opening is None:
            continue
        end = lines.index(opening["fence"], number)
        if not opening["language"].startswith("{"):
            kind, argument = _marker(lines[number - 2] if number > 1 else "")
            text = "\n".join(lines[number:end]) + "\n"
            found.append(Block(page, number + 1, opening["language"], text, kind, argument))
        number = end + 1
    return found


def _marker(line: str) -> tuple[str, str]:
    match = _MARKER.match(line)
    return (match["kind"], match["argument"] or "") if match else ("", "")


def indented_blocks(page: Path) -> list[int]:
    """Return the lines where a block without a fence begins: it has no language, so nothing can run it."""
    found = []
    inside = in_list = False
    before = ""
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if line.startswith("```"):
            inside = not inside
        elif re.match(r"(- |\d+\. )", line):
            in_list = True
        elif line and not line.startswith(" "):
            in_list = False
        if not inside and not in_list and line.startswith("    ") and not before:
            found.append(number)
        before = line
    return found
