"""The judge of the cluster tests catches what it is there for: lost, repeated and swapped records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import pytest

from tests.cluster.load import Acknowledged, check_replica
from tests.support.replica import Replica

PROMISED = [Acknowledged(b"a-%d" % number, number, number + 10) for number in range(4)]


class Holding:
    """Stands for a replica that holds `values`, and notes which raft index it was asked for."""

    def __init__(self, values: Sequence[bytes]) -> None:
        self._values = list(values)
        self.asked_index = 0

    def values(self, topic: str, partition: int = 0, *, at_least_index: int = 0) -> list[bytes]:
        self.asked_index = at_least_index
        return self._values


def judge(values: Sequence[bytes]) -> Holding:
    replica = Holding(values)
    check_replica(cast(Replica, replica), "events", PROMISED)
    return replica


def test_a_replica_with_every_promised_record_passes() -> None:
    # What came behind may have been appended without its acknowledgement being seen.
    assert judge([b"a-0", b"a-1", b"a-2", b"a-3", b"a-4"]).asked_index == 13


@pytest.mark.parametrize(
    ("fault", "values"),
    [
        ("is there", [b"a-0", b"a-1", b"a-2"]),
        ("is there", [b"a-0", b"a-2", b"a-1", b"a-3"]),
        ("is there", [b"a-0", b"a-1", b"x-0", b"a-2", b"a-3"]),
        ("more than once", [b"a-0", b"a-1", b"a-2", b"a-3", b"a-3"]),
        ("out of order", [b"a-0", b"a-1", b"a-2", b"a-3", b"a-9", b"a-8"]),
    ],
    ids=["lost", "swapped", "moved", "repeated", "late"],
)
def test_a_replica_that_breaks_a_promise_is_caught(fault: str, values: list[bytes]) -> None:
    with pytest.raises(AssertionError, match=fault):
        judge(values)
