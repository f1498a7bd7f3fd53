"""Templates of records: %-letters, escapes and what stands between, as kcat and rpk have them. No I/O.

%k        a field, one letter       %h{...}   a field with a template of its own
%%        a percent sign            \\n \\r \\t \\0 \\\\ \\} \\xHH   bytes
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

Letters: TypeAlias = Mapping[str, str]  # what each letter means

_ESCAPES = {"n": b"\n", "r": b"\r", "t": b"\t", "0": b"\0", "\\": b"\\", "}": b"}", "{": b"{"}
_HEX = re.compile(r"x([0-9a-fA-F]{2})")
_SPECIAL = re.compile(rb"[^\x20-\x7e]|[\\{}]")


@dataclass(frozen=True, slots=True)
class Field:
    """A %-letter; `inner` is the template in braces behind it, if there is one."""

    letter: str
    inner: tuple[Part, ...] | None = None


Part: TypeAlias = "bytes | Field"


def parse_template(text: str, letters: Letters, inner_letters: Letters | None = None) -> tuple[Part, ...]:
    """Return the parts, no two of them bytes side by side. Raises ValueError, which names what is wrong.

    `inner_letters`: those in the braces behind %h; None: no braces there.
    """
    parts, end = _Parser(text, letters, inner_letters).parse(0)
    assert end == len(text)
    return parts


def template_text(parts: Sequence[Part]) -> str:
    """Return a template that parses to these parts."""
    return "".join(_literal_text(part) if isinstance(part, bytes) else _field_text(part) for part in parts)


def describe_letters(letters: Letters) -> str:
    """Return all letters and what they mean, on one line."""
    return ", ".join(f"%{letter} {meaning}" for letter, meaning in letters.items())


@dataclass(frozen=True, slots=True)
class _Parser:
    text: str
    letters: Letters
    inner_letters: Letters | None

    def parse(self, at: int, *, inside: bool = False) -> tuple[tuple[Part, ...], int]:
        """Return the parts from a position on, and where they end: at the brace, or with the text."""
        parts: list[Part] = []
        literal = b""
        while at < len(self.text):
            character = self.text[at]
            if inside and character == "}":
                break
            if character == "\\":
                escaped, at = self._escape(at + 1)
                literal += escaped
            elif character == "%" and self.text[at + 1 : at + 2] != "%":
                field, at = self._field(at + 1)
                parts += [literal, field] if literal else [field]
                literal = b""
            else:
                literal += os.fsencode(character)
                at += 2 if character == "%" else 1
        if inside and at == len(self.text):
            raise ValueError(f"{self.text!r}: a brace is not closed")
        return (*parts, literal) if literal else tuple(parts), at

    def _field(self, at: int) -> tuple[Field, int]:
        letter = self.text[at : at + 1]
        if letter not in self.letters:
            what = f"there is no %{letter}" if letter else "a % at the end is written %%"
            raise ValueError(f"{what}; valid are {describe_letters(self.letters)}, and %% a percent sign")
        at += 1
        if letter != "h" or self.inner_letters is None or self.text[at : at + 1] != "{":
            return Field(letter), at
        parts, at = _Parser(self.text, self.inner_letters, None).parse(at + 1, inside=True)
        return Field(letter, parts), at + 1

    def _escape(self, at: int) -> tuple[bytes, int]:
        if (escaped := _ESCAPES.get(self.text[at : at + 1])) is not None:
            return escaped, at + 1
        if match := _HEX.match(self.text, at):
            return bytes.fromhex(match[1]), match.end()
        raise ValueError(rf"there is no \{self.text[at : at + 1]}; valid are \n \r \t \0 \\ \{{ \}} \xHH")


def _field_text(field: Field) -> str:
    inner = "" if field.inner is None else f"{{{template_text(field.inner)}}}"
    return f"%{field.letter}{inner}"


def _literal_text(literal: bytes) -> str:
    escaped = _SPECIAL.sub(lambda match: rb"\x%02x" % match[0][0], literal.replace(b"%", b"%%"))
    return escaped.decode("ascii")
