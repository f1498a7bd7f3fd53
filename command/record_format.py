"""What `quorumlog consume -f` prints of a record: a template, compiled once. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from quorumlog.client.records import Record
from quorumlog.command.templates import Field, Part, parse_template

LETTERS = {
    "t": "topic",
    "p": "partition",
    "o": "offset",
    "k": "key",
    "v": "value",
    "s": "value",
    "K": "length of the key (-1: null)",
    "V": "length of the value",
    "S": "length of the value",
    "T": "timestamp in ms",
    "h": "headers as name=value,...",
    "H": "number of headers",
}
HEADER_LETTERS = {
    "k": "name",
    "v": "value",
    "s": "value",
    "K": "length of the name",
    "V": "length of the value",
    "S": "length of the value",
}

_Getter: TypeAlias = Callable[[Any], bytes]  # of a record, or of a header

_GETTERS: dict[str, _Getter] = {
    "t": lambda record: record.topic.encode(),
    "p": lambda record: b"%d" % record.partition,
    "o": lambda record: b"%d" % record.offset,
    "k": lambda record: record.key or b"",
    "v": lambda record: record.value or b"",
    "K": lambda record: _length(record.key),
    "V": lambda record: _length(record.value),
    "T": lambda record: b"%d" % record.timestamp_ms,
    "h": lambda record: b",".join(b"%b=%b" % (name.encode(), value) for name, value in record.headers),
    "H": lambda record: b"%d" % len(record.headers),
}
_HEADER_GETTERS: dict[str, _Getter] = {
    "k": lambda header: header[0].encode(),
    "v": lambda header: header[1],
    "K": lambda header: _length(header[0].encode()),
    "V": lambda header: _length(header[1]),
}
_SAME = {"s": "v", "S": "V"}


class RecordFormat:
    """A compiled template. Nothing is added: a newline is written as \\n."""

    def __init__(self, template: str) -> None:
        """Compile. Raises ValueError, which names the letter that is wrong and those that are valid."""
        self._pieces = _compile(parse_template(template, LETTERS, HEADER_LETTERS), _GETTERS)

    def render(self, record: Record) -> bytes:
        """Return what is printed of a record."""
        return b"".join([piece if isinstance(piece, bytes) else piece(record) for piece in self._pieces])


def _compile(parts: Sequence[Part], getters: dict[str, _Getter]) -> list[bytes | _Getter]:
    return [part if isinstance(part, bytes) else _getter(part, getters) for part in parts]


def _getter(field: Field, getters: dict[str, _Getter]) -> _Getter:
    if field.inner is None:
        return getters[_SAME.get(field.letter, field.letter)]
    pieces = _compile(field.inner, _HEADER_GETTERS)
    return lambda record: b"".join(
        piece if isinstance(piece, bytes) else piece(header) for header in record.headers for piece in pieces
    )


def _length(content: bytes | None) -> bytes:
    return b"-1" if content is None else b"%d" % len(content)
