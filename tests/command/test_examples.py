"""Every example of the command's help, of its page and of the README can be typed."""

from __future__ import annotations

import re
import shlex
from textwrap import indent

import pytest

from quorumlog.command.consume import parse_offset
from quorumlog.command.input_format import InputFormat
from quorumlog.command.main import build_parser
from quorumlog.command.record_format import RecordFormat
from tests.command.test_snapshots import COMMANDS
from tests.docs.pages import TOP, blocks

PAGES = ("README.md", "docs/cli.md")


def calls(text: str) -> list[str]:
    """Return the calls of quorumlog in the indented lines of a text, without what stands around them."""
    found = []
    for line in re.findall(r"^  +(.*\bquorumlog .*)$", text, re.MULTILINE):
        call = re.search(r"\bquorumlog ((?:'[^']*'|[^'|>&)#])*)", line)
        if call is not None:
            found.append(re.split(r"\s{3,}|\s*\\$", call[1])[0].strip())
    return found


EXAMPLES = {
    *(call for parser in COMMANDS.values() for call in calls(parser.epilog or "")),
    *(call for page in PAGES for block in blocks(TOP / page) for call in calls(indent(block.text, "  "))),
}


@pytest.mark.parametrize("call", sorted(EXAMPLES))
def test_an_example_is_understood(call: str) -> None:
    options = build_parser().parse_args(shlex.split(call))
    if hasattr(options, "offset"):
        parse_offset(options.offset)
    form = getattr(options, "format", None)
    if form not in (None, "text", "json"):
        (InputFormat if hasattr(options, "acks") else RecordFormat)(form)


def test_there_are_examples() -> None:
    assert len(EXAMPLES) > 40
    assert "consume orders -e -f '%T %p/%o %k %v\\n'" in EXAMPLES
