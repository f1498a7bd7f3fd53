"""Replicas are compared by what their nodes sum up."""

from __future__ import annotations

from quorumlog.client.comparing import SegmentSum, compare


def whole(base: int, crc: int = 1) -> SegmentSum:
    return SegmentSum(base, base + 9, 100, crc, 7)


def verdicts(**sums: list[SegmentSum]) -> list[dict[str, str]]:
    return [dict(each.nodes) for each in compare(sums)]


def test_equal_replicas_are_equal() -> None:
    assert verdicts(n1=[whole(1)], n2=[whole(1)]) == [{"n1": "equal", "n2": "equal"}]
    assert all(each.is_good for each in compare({"n1": [whole(1)], "n2": [whole(1)]}))


def test_one_that_is_unlike_the_others_differs() -> None:
    (found,) = compare({"n1": [whole(1)], "n2": [whole(1, crc=2)], "n3": [whole(1)]})
    assert found.nodes == {"n1": "equal", "n2": "differs", "n3": "equal"}
    assert not found.is_good


def test_without_a_majority_all_differ() -> None:
    assert verdicts(n1=[whole(1)], n2=[whole(1, crc=2)]) == [{"n1": "differs", "n2": "differs"}]


def test_a_damaged_one_is_named_and_counts_for_nothing() -> None:
    damaged = SegmentSum(1, 10, 0, 0, 0, "payload crc")
    assert verdicts(n1=[damaged], n2=[whole(1)]) == [{"n1": "damaged", "n2": "equal"}]
    assert verdicts(n1=[damaged], n2=[damaged]) == [{"n1": "damaged", "n2": "damaged"}]


def test_missing_is_only_what_stands_between_others() -> None:
    found = compare(
        {"n1": [whole(1), whole(11), whole(21)], "n2": [whole(1), whole(21)], "n3": [whole(21)], "n4": []}
    )
    assert [dict(each.nodes) for each in found] == [
        {"n1": "equal", "n2": "equal", "n3": "-", "n4": "-"},
        {"n1": "equal", "n2": "missing", "n3": "-", "n4": "-"},
        {"n1": "equal", "n2": "equal", "n3": "equal", "n4": "-"},
    ]
    assert [each.is_good for each in found] == [True, False, True]
