"""Values that stand in a configuration: durations, sizes, addresses, names. Text in, typed value out.

Each parser takes what TOML or the environment gives (text, or a number where TOML has one) and either
returns the value or raises BadValue, which says what was expected.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from ipaddress import ip_address

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(us|ms|s|m|h|d)")
_DURATION_UNITS_S = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

_SIZE = re.compile(r"(\d+)(B|KiB|MiB|GiB|KB|MB|GB|)")
_SIZE_UNITS = {
    "": 1,
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
}

# A node's name appears in file names, addresses of metrics and on the peer wire: keep it plain and short.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

_WILDCARD_HOSTS = frozenset(("", "0.0.0.0", "::", "*"))


class BadValue(ValueError):
    """The text is not such a value. `expected` says what would be."""

    def __init__(self, expected: str) -> None:
        super().__init__(f"expected {expected}")
        self.expected = expected


@dataclass(frozen=True, slots=True)
class Address:
    """Host and TCP port. As text `host:port`, an IPv6 host in brackets; port 0 means 'choose a free one'."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def is_wildcard(self) -> bool:
        """Whether it names every interface: good to listen on, useless to connect to."""
        return self.host in _WILDCARD_HOSTS

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches it."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def with_port(self, port: int) -> Address:
        """Return the same host with another port."""
        return replace(self, port=port)


def parse_duration(value: object) -> float:
    """Return seconds from text such as `400ms`, `10s`, `1.5m`. A bare number has no unit: refused."""
    match = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise BadValue("a duration such as 400ms, 10s or 1m")
    return float(match[1]) * _DURATION_UNITS_S[match[2]]


def parse_size(value: object) -> int:
    """Return bytes from text such as `64MiB`, or from a whole number of bytes."""
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is not None:
        return int(match[1]) * _SIZE_UNITS[match[2]]
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise BadValue("a size such as 64MiB, or a number of bytes")


def parse_count(value: object) -> int:
    """Return a whole number, 0 or above."""
    if isinstance(value, str) and value.strip().isascii() and value.strip().isdigit():
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise BadValue("a whole number")


def parse_text(value: object) -> str:
    """Return text that is not empty and holds no control characters."""
    if isinstance(value, str) and value and value.isprintable():
        return value
    raise BadValue("text")


def parse_name(value: object) -> str:
    """Return the name of a node or cluster: 1 to 64 of [A-Za-z0-9._-], a letter or digit first."""
    if isinstance(value, str) and _NAME.fullmatch(value):
        return value
    raise BadValue("1 to 64 letters, digits, '.', '_' or '-', beginning with a letter or digit")


def parse_address(value: object) -> Address:
    """Return an address from `host:port` or `[ipv6]:port`."""
    expected = "an address such as 127.0.0.1:9650 or [::1]:9650"
    if not isinstance(value, str) or not value.isprintable() or " " in value:
        raise BadValue(expected)
    host, colon, port = value.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise BadValue("an IPv6 address in brackets, such as [::1]:9650")
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise BadValue(expected)
    return Address(host, int(port))


def parse_members(value: object) -> dict[str, Address]:
    """Return peer addresses by node id from `["n1=host:port", ...]`, or the same with commas in one text."""
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, list):
        raise BadValue('a list such as ["n1=10.0.0.1:9651", "n2=10.0.0.2:9651"]')
    members: dict[str, Address] = {}
    for item in items:
        name, equals, address = item.strip().partition("=") if isinstance(item, str) else ("", "", "")
        if not equals:
            raise BadValue(f"node=host:port for each member, got {item!r}")
        node_id = parse_name(name)
        if node_id in members:
            raise BadValue(f"each member once, got {node_id} twice")
        members[node_id] = parse_address(address)
    return members
