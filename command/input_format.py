"""What `quorumlog produce -f` makes of a line: fields with separators between them. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from quorumlog.client.outgoing import MAX_TIMESTAMP_MS, ProducerRecord
from quorumlog.command.templates import Field, Part, parse_template

LETTERS = {
    "k": "key",
    "v": "value",
    "s": "value",
    "p": "partition (empty: by key, else by turns)",
    "T": "timestamp in ms (empty: now)",
    "h": "headers as name=value,...",
}
_SAME = {"s": "v"}
_MAX_DIGITS = len(str(MAX_TIMESTAMP_MS))  # Python refuses to read thousands of them


class InputFormat:
    """A compiled template. Each field but the last ends at the next separator, the last at the line's end."""

    def __init__(self, template: str) -> None:
        """Compile. Raises ValueError, which says what is wrong."""
        parts = _of_one_line(parse_template(template, LETTERS))
        fields = [_SAME.get(part.letter, part.letter) for part in parts if isinstance(part, Field)]
        if not fields:
            raise ValueError(f"{template!r} has no field, such as %v")
        for letter in fields:
            if fields.count(letter) > 1:
                raise ValueError(f"{template!r} has %{letter} twice")
        for before, after in pairwise(parts):
            if isinstance(before, Field) and isinstance(after, Field):
                raise ValueError(f"%{before.letter}%{after.letter}: a separator is needed between them")
        self._template = template
        self._before = parts[0] if isinstance(parts[0], bytes) else b""
        separators = [part for part in parts[1:] if isinstance(part, bytes)]
        separators += [b""] * (len(fields) - len(separators))  # the last one: nothing stands behind it
        self._fields = list(zip(fields, separators, strict=True))

    def parse(self, line: bytes) -> ProducerRecord:
        """Return the record; what the template does not have is None. Raises ValueError."""
        found = self._split(line)
        return ProducerRecord(
            value=found.get("v"),
            key=found.get("k"),
            headers=_headers(found.get("h", b"")),
            partition=_number("p", found.get("p", b"")),
            timestamp_ms=_number("T", found.get("T", b"")),
        )

    def _split(self, line: bytes) -> dict[str, bytes]:
        """Return the fields. No regular expression: its time would depend on who wrote the line."""
        letter, after = self._fields[-1]
        fits = line.startswith(self._before) and line.endswith(after)
        rest = line[len(self._before) : len(line) - len(after)]
        found = {}
        for name, separator in self._fields[:-1]:
            found[name], separated, rest = rest.partition(separator)
            fits = fits and bool(separated)
        if not fits or len(line) < len(self._before) + len(after):
            raise ValueError(f"does not look like {self._template!r}")
        return {**found, letter: rest}


def _of_one_line(parts: Sequence[Part]) -> list[Part]:
    """Return the parts without the newline at the end: every record is a line."""
    kept = list(parts)
    if kept and isinstance(kept[-1], bytes):
        kept[-1] = kept[-1].removesuffix(b"\n")
        kept = kept if kept[-1] else kept[:-1]
    if any(b"\n" in part for part in kept if isinstance(part, bytes)):
        raise ValueError(r"a record is a line: \n may stand at the end only")
    return kept


def _number(letter: str, text: bytes) -> int | None:
    if not text:
        return None
    if not text.isdigit():
        raise ValueError(f"%{letter}: expected a whole number, got {text.decode(errors='replace')!r}")
    text = text.lstrip(b"0") or b"0"
    if len(text) > _MAX_DIGITS or int(text) > MAX_TIMESTAMP_MS:
        raise ValueError(f"%{letter}: expected at most {MAX_TIMESTAMP_MS}, got {text[:40].decode()}")
    return int(text)


def _headers(text: bytes) -> tuple[tuple[str, bytes], ...]:
    return tuple(_header(each) for each in text.split(b",")) if text else ()


def _header(text: bytes) -> tuple[str, bytes]:
    name, equals, value = text.partition(b"=")
    try:
        if not equals or not name:
            raise ValueError
        return name.decode(), value
    except ValueError:
        raise ValueError(f"%h: expected name=value,..., got {text.decode(errors='replace')!r}") from None
