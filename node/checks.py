"""Named checks of this node's health, as Kubernetes and etcd have them: what /livez and /readyz answer.

    livez    ping         the process answers
    readyz   serving      it has started, and is not stopping
             leader       it knows who leads
             caught_up    it has applied what is committed, but for a bounded rest
             member       its votes and copies count
             disk_space   its disk is not full
             data_intact  nothing that it stores is damaged

Being alive depends on nobody else: a node that restarts because its peers are away helps nobody. Ready means
that reads here are fresh and writes find their way.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final

from quorumlog.raft.alarms import DAMAGE, DISK_FULL
from quorumlog.raft.engine import Engine

# Entries that a follower may lack and still be caught up: under full load it is always some behind, and so
# many are applied in well under a second.
BEHIND_MAX: Final = 1_000

Check = Callable[[], str]  # why not; empty: it is well


@dataclass(frozen=True, slots=True)
class Report:
    """What some checks said: by name why not, or nothing. Those in `excluded` do not count."""

    path: str
    results: Mapping[str, str]
    excluded: frozenset[str]
    unknown: frozenset[str]  # asked to be excluded, and there is no such check

    @property
    def passed(self) -> bool:
        """Whether all that count are well."""
        return not any(why for name, why in self.results.items() if name not in self.excluded)

    def lines(self) -> list[str]:
        """Return a line for each check, in the words of Kubernetes."""
        lines = [self._line(name, why) for name, why in self.results.items()]
        if self.unknown:
            lines.append(f"warn: there is no such check to exclude: {', '.join(sorted(self.unknown))}")
        return [*lines, f"{self.path} check {'passed' if self.passed else 'failed'}"]

    def _line(self, name: str, why: str) -> str:
        if name in self.excluded:
            return f"[+]{name} excluded: ok"
        return f"[-]{name} failed: {why}" if why else f"[+]{name} ok"


class Checks:
    """The checks of one node."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.unready = "the node is starting"  # set by whoever starts and stops it; empty: it serves
        self._live: dict[str, Check] = {"ping": lambda: ""}
        self._ready: dict[str, Check] = {
            "serving": lambda: self.unready,
            "leader": self._leader,
            "caught_up": self._caught_up,
            "member": self._member,
            "disk_space": self._disk_space,
            "data_intact": self._data_intact,
        }

    def live(self, excluded: Collection[str] = ()) -> Report:
        """Is the process alive?"""
        return _run("livez", self._live, excluded)

    def ready(self, excluded: Collection[str] = ()) -> Report:
        """Should this node be sent requests?"""
        return _run("readyz", self._ready, excluded)

    def _leader(self) -> str:
        return "" if self._engine.leader_id else f"no leader is known in term {self._engine.term}"

    def _caught_up(self) -> str:
        applied, committed = self._engine.applied_index, self._engine.known_commit_index
        if committed - applied <= BEHIND_MAX:
            return ""
        return f"entries up to {committed} are committed, {applied} is applied here"

    def _member(self) -> str:
        return self._engine.why_not_voting or ""

    def _disk_space(self) -> str:
        return "the disk is full" if DISK_FULL in self._engine.alarms else ""

    def _data_intact(self) -> str:
        return ", ".join(sorted(alarm for alarm in self._engine.alarms if alarm.startswith(DAMAGE)))


def _run(path: str, checks: Mapping[str, Check], excluded: Collection[str]) -> Report:
    asked = frozenset(excluded)
    return Report(
        path, {name: check() for name, check in checks.items()}, asked & set(checks), asked - set(checks)
    )
