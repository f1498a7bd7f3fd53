"""What `quorumlog local` says of its nodes, on a page and in a run.

A page's later commands name the nodes, addresses and processes of the run that it shows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tests.support.nodes import free_ports

_NODE = re.compile(r"^(n\d): clients (\S+), peers (\S+), pid (\d+),", re.MULTILINE)
_LEADER = re.compile(r"^leader: (n\d)", re.MULTILINE)
_ADDRESS = r"\b127\.0\.0\.1:96\d\d\b"
_NAME = re.compile(r"\bn[1-3]\b")


@dataclass(frozen=True, slots=True)
class LocalCluster:
    """Who leads, and of each node its addresses and process id, as text."""

    leader: str
    nodes: Mapping[str, tuple[str, str, str]]

    @classmethod
    def of(cls, printed: str) -> LocalCluster:
        """Read it from the command's output."""
        nodes = {match[1]: (match[2], match[3], match[4]) for match in _NODE.finditer(printed)}
        leader = _LEADER.search(printed)
        assert leader is not None, printed
        return cls(leader[1], nodes)


def translation(page: LocalCluster, run: LocalCluster) -> Callable[[str], str]:
    """Return what makes a run's text of a page's: its leader is the one that leads, with its addresses."""
    swapped = {page.leader: run.leader, run.leader: page.leader}
    values = {
        shown: real
        for name, of_page in page.nodes.items()
        for shown, real in zip(of_page, run.nodes[swapped.get(name, name)], strict=True)
    }
    pids = [of_page[-1] for of_page in page.nodes.values()]
    pattern = re.compile("|".join((_ADDRESS, *(rf"\b{pid}\b" for pid in pids))))

    def value(match: re.Match[str]) -> str:
        if match[0] not in values:  # of a node that the page adds
            (port,) = free_ports(1)
            values[match[0]] = f"127.0.0.1:{port}"
        return values[match[0]]

    def translate(text: str) -> str:
        named = _NAME.sub(lambda match: swapped.get(match[0], match[0]), text)
        return pattern.sub(value, named)

    return translate
