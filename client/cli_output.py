"""What the command prints: results to stdout as text, JSON or YAML, everything else to stderr."""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quorumlog.client.errors import QuorumlogError

# Wide enough for every column: what is not a terminal has no width, and a cut-off value helps nobody.
_PIPE_COLUMNS = 1000

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
    """Print a value, dataclasses included, as one YAML document."""
    import yaml

    plain = json.loads(json.dumps(value, default=_plain))
    text = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, default_flow_style=False)
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


def print_table(titles: Sequence[str], rows: Iterable[Sequence[object]], *, whole: bool = False) -> None:
    """Print rows under titles, numbers to the right; bold and colours only on a terminal without NO_COLOR.

    A cell may be Styled. `whole`: what is wider than the terminal goes on in its next line, uncut.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    rows = list(rows)
    cells = [[_text(cell) for cell in row] for row in rows]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column, title in enumerate(titles):
        numeric = bool(cells) and all(_is_numeric(row[column]) for row in cells)
        table.add_column(title, justify="right" if numeric else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(_text(cell), cell.style if isinstance(cell, Styled) else "") for cell in row))
    width = None if sys.stdout.isatty() and not whole else _PIPE_COLUMNS
    Console(width=width, highlight=False, markup=False, emoji=False).print(table)


def note(text: str) -> None:
    """Print progress or a summary to stderr."""
    print(text, file=sys.stderr, flush=True)


def print_error(error: QuorumlogError) -> None:
    """Print what went wrong, who was asked, and what to do next."""
    note(f"error: {error.message}")
    if len(error.attempts) > 1 or not error.answered:
        for attempt in error.attempts:
            note(f"  tried {attempt}")
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
