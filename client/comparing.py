"""Comparing replicas by the sums of their segments. No I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

Verdict: TypeAlias = Literal["equal", "differs", "damaged", "missing", "-"]


@dataclass(frozen=True, slots=True)
class SegmentSum:
    """A sealed segment as one node has it; `error` says what is damaged."""

    base: int
    last_index: int
    bytes: int
    crc32c: int
    chain: int
    error: str = ""

    @property
    def content(self) -> tuple[int, int, int, int]:
        """What is the same on every replica that is whole."""
        return self.last_index, self.bytes, self.crc32c, self.chain


@dataclass(frozen=True, slots=True)
class SegmentComparison:
    """One segment on every node. "-": the node has dropped it, or not sealed it yet."""

    base: int
    last_index: int
    bytes: int
    nodes: dict[str, Verdict]

    @property
    def is_good(self) -> bool:
        """Whether nothing is wrong anywhere."""
        return all(verdict in ("equal", "-") for verdict in self.nodes.values())


@dataclass(frozen=True, slots=True)
class Comparison:
    """What the replicas of a cluster hold, segment by segment."""

    nodes: tuple[str, ...]  # those that were compared, ascending
    segments: tuple[SegmentComparison, ...]
    damage: dict[str, dict[int, str]]  # by node id, what is damaged of which segment
    no_answer: dict[str, str]  # by node id, why

    @property
    def equal(self) -> bool:
        """Whether every node answered, and nothing is wrong anywhere."""
        return not self.no_answer and not self.damage and all(each.is_good for each in self.segments)


def comparison(sums: Mapping[str, Sequence[SegmentSum]], no_answer: Mapping[str, str]) -> Comparison:
    """Compare what the nodes have, by node id; `no_answer`: why the others are not in it."""
    damage = {node: {each.base: each.error for each in found if each.error} for node, found in sums.items()}
    damage = {node: found for node, found in damage.items() if found}
    return Comparison(tuple(sorted(sums)), tuple(compare(sums)), damage, dict(no_answer))


def compare(sums: Mapping[str, Sequence[SegmentSum]]) -> list[SegmentComparison]:
    """Compare what the nodes have, by node id. What most of them have is taken for right.

    Where as many have one thing as another, all of them differ. A segment is missing where a node has one
    before and one after it.
    """
    by_node = {node: {each.base: each for each in found} for node, found in sums.items()}
    bases = sorted({base for found in by_node.values() for base in found})
    return [_compare(base, by_node) for base in bases]


def _compare(base: int, by_node: Mapping[str, Mapping[int, SegmentSum]]) -> SegmentComparison:
    here = {node: found[base] for node, found in by_node.items() if base in found}
    contents = Counter(each.content for each in here.values() if not each.error)
    most = contents.most_common(2)
    is_tied = len(most) == 2 and most[0][1] == most[1][1]
    right = most[0][0] if most and not is_tied else None
    verdicts: dict[str, Verdict] = {}
    for node, found in by_node.items():
        if node in here:
            each = here[node]
            verdicts[node] = "damaged" if each.error else "equal" if each.content == right else "differs"
        else:
            verdicts[node] = "missing" if found and min(found) < base < max(found) else "-"
    shown = right or next(iter(here.values())).content
    return SegmentComparison(base, shown[0], shown[1], verdicts)
