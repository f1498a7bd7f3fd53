"""Idempotent producing: what is next, what is a repeat, what is refused, what is forgotten."""

from __future__ import annotations

import pytest

from quorumlog.node import producers as producers_module
from quorumlog.node.producers import MAX_EPOCH, MAX_SEQUENCE, Producers, Sequenced
from quorumlog.node.reasons import Reason, Refused
from quorumlog.node.results import Appended
from quorumlog.proto import entry_pb2

KEY = (7, 0)


class Side:
    """A partition's side of it: gives offsets, and remembers what was appended."""

    def __init__(self) -> None:
        self.producers = Producers()
        self.next_offset = 0

    def append(
        self,
        producer_id: int,
        sequence: int,
        count: int = 1,
        epoch: int = 0,
        key: tuple[int, int] = KEY,
    ) -> Appended | Refused:
        append = Sequenced(producer_id, epoch, sequence, count, key)
        checked = self.producers.check_append(append, {})
        if checked is not None:
            return checked
        appended = Appended(self.next_offset, 1_000 + self.next_offset, 10 + self.next_offset)
        self.next_offset += count
        self.producers.record_append(append, appended)
        self.producers.forget_least_used()
        return appended

    def offset(self, *arguments: int, **named: int) -> int:
        appended = self.append(*arguments, **named)
        assert isinstance(appended, Appended)
        return appended.base_offset

    def reason(self, *arguments: int, **named: int) -> Reason:
        refused = self.append(*arguments, **named)
        assert isinstance(refused, Refused)
        return refused.reason


@pytest.fixture
def side() -> Side:
    made = Side()
    made.producers.open(0)
    return made


def test_sequences_go_on_where_the_last_batch_ended(side: Side) -> None:
    assert [side.offset(1, 0, 3), side.offset(1, 3, 2), side.offset(1, 5)] == [0, 3, 5]


def test_a_repeat_gets_the_first_result(side: Side) -> None:
    first = side.append(1, 0, 3)
    side.append(1, 3)
    repeated = side.append(1, 0, 3)
    assert isinstance(first, Appended)
    assert repeated == Appended(first.base_offset, first.time_ms, first.raft_index, duplicate=True)
    assert side.next_offset == 4


def test_a_repeat_of_another_length_is_none(side: Side) -> None:
    side.append(1, 0, 3)
    assert side.reason(1, 0, 2) is Reason.OUT_OF_SEQUENCE


def test_only_the_last_five_batches_are_remembered(side: Side) -> None:
    for sequence in range(7):
        side.append(1, sequence)
    assert side.reason(1, 1) is Reason.OUT_OF_SEQUENCE
    assert side.offset(1, 2) == 2
    assert side.offset(1, 6) == 6


def test_a_gap_is_refused_and_says_what_was_expected(side: Side) -> None:
    side.append(1, 0, 3)
    refused = side.append(1, 4)
    assert isinstance(refused, Refused)
    assert refused.reason is Reason.OUT_OF_SEQUENCE
    assert refused.metadata == (("expected", "3"),)


def test_each_partition_has_a_sequence_of_its_own(side: Side) -> None:
    assert isinstance(side.append(1, 0, key=(7, 0)), Appended)
    assert isinstance(side.append(1, 0, key=(7, 1)), Appended)


def test_a_new_epoch_fences_the_old_one_and_begins_at_zero(side: Side) -> None:
    side.append(1, 0, 3)
    assert side.producers.open(1).epoch == 1
    assert side.reason(1, 3, epoch=0) is Reason.FENCED_PRODUCER
    assert side.reason(1, 0, 3, epoch=0) is Reason.FENCED_PRODUCER
    assert side.reason(1, 3, epoch=1) is Reason.OUT_OF_SEQUENCE
    assert side.offset(1, 0, 3, epoch=1) == 3
    repeated = side.append(1, 0, 3, epoch=1)
    assert isinstance(repeated, Appended)
    assert (repeated.base_offset, repeated.duplicate) == (3, True)


def test_an_epoch_that_was_never_given_is_refused(side: Side) -> None:
    assert side.reason(1, 0, epoch=1) is Reason.UNKNOWN_PRODUCER


def test_an_unknown_producer_is_refused(side: Side) -> None:
    assert side.reason(2, 0) is Reason.UNKNOWN_PRODUCER
    refused = side.producers.check_opening(2)
    assert refused is not None
    assert refused.reason is Reason.UNKNOWN_PRODUCER


def test_a_sequence_does_not_wrap(side: Side) -> None:
    stream = producers_module.Stream(0, next_sequence=MAX_SEQUENCE - 1)
    side.producers.open(1).streams[KEY] = stream
    stream.epoch = 1
    assert side.reason(1, MAX_SEQUENCE - 1, 2, epoch=1) is Reason.BAD_BATCH
    assert isinstance(side.append(1, MAX_SEQUENCE - 1, 1, epoch=1), Appended)


def test_epochs_do_not_wrap(side: Side) -> None:
    side.producers.open(1).epoch = MAX_EPOCH
    refused = side.producers.check_opening(1)
    assert refused is not None
    assert refused.reason is Reason.BAD_REQUEST


def test_appends_of_one_command_follow_each_other() -> None:
    producers = Producers()
    producers.open(0)
    staged: producers_module.Staged = {}
    assert producers.check_append(Sequenced(1, 0, 0, 2, KEY), staged) is None
    assert producers.check_append(Sequenced(1, 0, 2, 1, KEY), staged) is None
    refused = producers.check_append(Sequenced(1, 0, 0, 2, KEY), staged)
    assert isinstance(refused, Refused)


def test_the_least_recently_used_producer_is_forgotten(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(producers_module, "MAX_PRODUCERS", 3)
    for _ in range(2):
        side.producers.open(0)
    side.append(1, 0)  # 2 is now the least recently used
    side.producers.open(0)
    side.producers.forget_least_used()
    assert side.reason(2, 0) is Reason.UNKNOWN_PRODUCER
    assert side.offset(1, 1) == 1


def test_streams_are_bounded_in_all_and_per_producer(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(producers_module, "MAX_STREAMS", 3)
    monkeypatch.setattr(producers_module, "MAX_STREAMS_PER_PRODUCER", 2)
    side.producers.open(0)
    for partition in range(2):
        side.append(1, 0, key=(7, partition))
    refused = side.append(1, 0, key=(7, 2))
    assert isinstance(refused, Refused)
    assert refused.reason is Reason.BAD_REQUEST
    for partition in range(2):
        side.append(2, 0, key=(7, partition))
    assert side.reason(1, 1) is Reason.UNKNOWN_PRODUCER
    assert isinstance(side.append(2, 1, key=(7, 0)), Appended)


def test_a_deleted_topic_s_streams_are_forgotten(side: Side) -> None:
    side.append(1, 0, key=(7, 0))
    side.append(1, 0, key=(8, 0))
    side.producers.fragments()
    side.producers.delete_topic(7)
    snapshot = entry_pb2.StateSnapshot.FromString(b"".join(side.producers.fragments()))
    assert [stream.topic_id for stream in snapshot.producers[0].streams] == [8]


def test_a_snapshot_restores_everything_order_of_use_included(side: Side) -> None:
    side.producers.open(0)
    side.append(2, 0, 5)
    side.append(1, 0, 1, key=(9, 3))
    data = b"".join(side.producers.fragments())
    restored = Producers()
    snapshot = entry_pb2.StateSnapshot.FromString(data)
    restored.load(snapshot.producers, side.producers.next_producer_id)
    assert b"".join(restored.fragments()) == data
    assert [each.producer_id for each in snapshot.producers] == [2, 1]
    repeated = restored.check_append(Sequenced(2, 0, 0, 5, KEY), {})
    assert isinstance(repeated, Appended)
    assert repeated.duplicate
