"""Clusters by name, so that nobody types addresses: what stands in profiles.toml. No I/O.

use = "prod"

[profile.prod]
servers = "a:9650,b:9650"
ca = "/etc/quorumlog/ca.pem"
cert = "/etc/quorumlog/me.pem"
cert_key = "/etc/quorumlog/me.key"
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from quorumlog.client.errors import UnknownOption

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_ESCAPED = re.compile(r'["\\\x00-\x1f\x7f]')
_HEAD = "# Kept by `quorumlog profile`; comments and order are not.\n"


@dataclass(frozen=True, slots=True)
class Profile:
    """How one cluster is reached; None: as without a profile."""

    servers: str | None = None
    ca: str | None = None
    cert: str | None = None
    cert_key: str | None = None


@dataclass(frozen=True, slots=True)
class Profiles:
    """All profiles; `in_use` is empty where none is."""

    by_name: Mapping[str, Profile] = field(default_factory=dict)
    in_use: str = ""

    def get(self, name: str) -> Profile:
        """Return one. Raises UnknownOption, with the nearest name."""
        if name in self.by_name:
            return self.by_name[name]
        near = difflib.get_close_matches(name, self.by_name, n=1)
        suggestion = f"; did you mean {near[0]}?" if near else ""
        raise UnknownOption(
            f"there is no profile {name!r}{suggestion}",
            hint="see what there is: quorumlog profile ls; make one: quorumlog profile create NAME -s ...",
        )

    def with_one(self, name: str, profile: Profile) -> Profiles:
        """Return them with one more, or another of that name; the first is in use. Raises UnknownOption."""
        if not _NAME.fullmatch(name):
            raise UnknownOption(
                f"a profile's name is 1 to 64 letters, digits, dots, hyphens and underscores; got {name!r}"
            )
        return Profiles({**self.by_name, name: profile}, self.in_use if self.by_name else name)

    def without(self, name: str) -> Profiles:
        """Return them without one; it is in use no more. Raises UnknownOption."""
        self.get(name)
        left = {each: profile for each, profile in self.by_name.items() if each != name}
        return Profiles(left, "" if self.in_use == name else self.in_use)

    def using(self, name: str) -> Profiles:
        """Return them with another one in use; an empty name: none. Raises UnknownOption."""
        if name:
            self.get(name)
        return replace(self, in_use=name)


def parse_profiles(text: str) -> Profiles:
    """Return what a file says. Raises ValueError, which says what is wrong."""
    content = tomllib.loads(text)
    in_use, tables = content.pop("use", ""), content.pop("profile", {})
    if content:
        raise ValueError(f"expected `use` and `[profile.NAME]`, got {next(iter(content))!r}")
    if not isinstance(in_use, str) or not isinstance(tables, dict):
        raise ValueError("expected `use` to be a name and `profile` to hold tables")
    return Profiles({name: _profile(name, table) for name, table in tables.items()}, in_use)


def profiles_text(profiles: Profiles) -> str:
    """Return a file that says this."""
    lines = [f"use = {_quoted(profiles.in_use)}"] if profiles.in_use else []
    for name, profile in profiles.by_name.items():
        lines += ["", f"[profile.{name if _BARE.fullmatch(name) else _quoted(name)}]"]
        given = {each.name: getattr(profile, each.name) for each in fields(profile)}
        lines += [f"{key} = {_quoted(value)}" for key, value in given.items() if value is not None]
    return _HEAD + "\n".join((*lines, ""))


def _profile(name: str, table: Any) -> Profile:
    known = [each.name for each in fields(Profile)]
    if not isinstance(table, dict):
        raise ValueError(f"profile.{name}: expected a table")
    for key, value in table.items():
        if key not in known:
            raise ValueError(f"profile.{name}: expected {', '.join(known)}; got {key!r}")
        if not isinstance(value, str):
            raise ValueError(f"profile.{name}.{key}: expected a text, got {value!r}")
    return Profile(**table)


def _quoted(text: str) -> str:
    return '"' + _ESCAPED.sub(lambda match: _escaped(match[0]), text) + '"'


def _escaped(character: str) -> str:
    return f"\\{character}" if character in '"\\' else f"\\u{ord(character):04x}"
