"""From the names, addresses and process ids that a page shows to those of a run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from tests.support.nodes import free_ports

_NODE = re.compile(r"^(n\d): clients (\S+), peers (\S+), pid (\d+),", re.MULTILINE)
_LEADER = re.compile(r"^leader: (n\d)", re.MULTILINE)
_NAME = re.compile(r"\bn[1-3]\b")
_ADDRESS = re.compile(r"\b(127\.0\.0\.1|localhost|host\d):96\d\d\b")
_KILL = re.compile(r"(?<=\bkill )\d+|(?<=\bkill -9 )\d+")


class Translation:
    """Makes a run's text of a page's. An address that it does not know is a node that the page adds."""

    def __init__(self, values: Mapping[str, str], names: Mapping[str, str] | None = None) -> None:
        self._values = dict(values)
        self._names = names or {}

    def __call__(self, text: str) -> str:
        """Return the run's text."""
        named = _NAME.sub(lambda match: self._names.get(match[0], match[0]), text)
        addressed = _ADDRESS.sub(lambda match: self._address(match[0]), named)
        return _KILL.sub(lambda match: self._values[match[0]], addressed)

    def _address(self, shown: str) -> str:
        local = shown.replace("localhost", "127.0.0.1")
        if local not in self._values:
            (port,) = free_ports(1)
            self._values[local] = f"127.0.0.1:{port}"
        return self._values[local]


@dataclass(frozen=True, slots=True)
class LocalCluster:
    """What `quorumlog local` prints: who leads, and of each node its addresses and process id, as text."""

    leader: str
    nodes: Mapping[str, tuple[str, str, str]]

    @classmethod
    def of(cls, printed: str) -> LocalCluster:
        """Read it from the command's output."""
        nodes = {match[1]: (match[2], match[3], match[4]) for match in _NODE.finditer(printed)}
        leader = _LEADER.search(printed)
        assert leader is not None, printed
        return cls(leader[1], nodes)


def to_nodes(servers: str) -> Translation:
    """Pages show three nodes at 9650, 9660 and 9670, or on several hosts: these are meant."""
    given = servers.split(",") if servers else []
    local = {f"127.0.0.1:{9650 + 10 * number}": address for number, address in enumerate(given)}
    hosts = {f"host{number}:9650": address for number, address in enumerate(given, 1)}
    return Translation(local | hosts)


def to_run(page: LocalCluster, run: LocalCluster) -> Translation:
    """A page shows one run of `quorumlog local`; names are swapped so that the same one leads in this run."""
    swapped = {page.leader: run.leader, run.leader: page.leader}
    values = {
        shown: real
        for name, of_page in page.nodes.items()
        for shown, real in zip(of_page, run.nodes[swapped.get(name, name)], strict=True)
    }
    return Translation(values, swapped)
