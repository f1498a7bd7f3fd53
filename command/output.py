"""What the command prints: results to stdout as text, JSON or YAML, everything else to stderr."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import re
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quorumlog.client.errors import QuorumlogError

_quiet = False  # --quiet: set once, before a command runs

_NUMBER = re.compile(r"\d[\d.,]*( \w+)?")  # with a unit, or a range


def print_structured(value: Any, options: argparse.Namespace) -> bool:
    """Print a value where -o json or -o yaml was given; False: text is wanted, and nothing was printed."""
    if options.output == "json":
        print_json(value)
    elif options.output == "yaml":
        print_yaml(value)
    else:
        return False
    return True


def print_yaml(value: Any) -> None:
    """Print a value, dataclasses included, as one YAML document; several are a stream."""
    import yaml

    plain = json.loads(json.dumps(value, default=_plain))
    text = yaml.safe_dump(
        plain, sort_keys=False, allow_unicode=True, default_flow_style=False, explicit_start=True
    )
    print(text, end="", flush=True)


def print_json(value: Any) -> None:
    """Print a value, dataclasses included, as one line of JSON."""
    print(json.dumps(value, default=_plain, ensure_ascii=False), flush=True)


@dataclasses.dataclass(frozen=True, slots=True)
class Styled:
    """A cell of a table with a style of rich's, which counts on a terminal alone."""

    text: str
    style: str

    def __str__(self) -> str:
        return self.text


def print_table(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows under titles, numbers to the right; bold and colours only on a terminal without NO_COLOR.

    A cell may be Styled. Nothing is cut off: what is wider than the terminal goes on in its next line.
    """
    from rich.cells import cell_len

    rows = list(rows)
    cells = [[_text(cell) for cell in row] for row in rows]
    columns = list(zip(titles, *cells, strict=True))
    widths = [max(map(cell_len, column)) for column in columns]
    numeric = [bool(cells) and all(map(_is_numeric, column[1:])) for column in columns]

    def line(row: Sequence[object]) -> str:
        padded = []
        for cell, width, to_the_right in zip(row, widths, numeric, strict=True):
            space = " " * (width - cell_len(_text(cell)))
            padded.append(space + _painted(cell) if to_the_right else _painted(cell) + space)
        return "  ".join(padded).rstrip()

    print(line([Styled(title, "bold") for title in titles]), *map(line, rows), sep="\n", flush=True)


def _painted(cell: object) -> str:
    """Return the text of a cell, with the escape sequences of its style where they are wanted."""
    if not isinstance(cell, Styled) or not cell.style or not _in_colour():
        return _text(cell)

    from rich.style import Style

    return Style.parse(cell.style).render(cell.text)


def _in_colour() -> bool:
    """Say whether stdout takes escape sequences and the user wants them."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def be_quiet(quiet: bool) -> None:
    """Let note() print nothing from now on, or print again."""
    global _quiet
    _quiet = quiet


def note(text: str) -> None:
    """Print progress, a summary or a hint to stderr; nothing with --quiet."""
    if not _quiet:
        complain(text)


def complain(text: str) -> None:
    """Print to stderr what a user must know, also with --quiet."""
    print(text, file=sys.stderr, flush=True)


def print_error(error: QuorumlogError) -> None:
    """Print what went wrong, who was asked, and what to do next."""
    complain(f"error: {error.message}")
    if len(error.attempts) > 1 or not error.answered:
        for attempt in error.attempts:
            complain(f"  tried {attempt}")
    if error.hint:
        note(f"hint: {error.hint}")


def sized(size: int) -> str:
    """Return bytes as people read them: 512 B, 1.5 KiB, 20 MiB."""
    amount = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if amount >= 10 or unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def lasting(duration_ms: int) -> str:
    """Return a duration as people read it: 12 s, 3 min, 5 h, 2 d."""
    seconds = duration_ms // 1000
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def counted(count: int, noun: str, plural: str = "") -> str:
    """Return "1 record", "2,000 records"; `plural` where it is not the noun and an s."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def _text(cell: object) -> str:
    return "" if cell is None else str(cell)


def _is_numeric(cell: str) -> bool:
    return not cell or _NUMBER.fullmatch(cell) is not None


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    raise TypeError(f"cannot print {value!r} as JSON")
