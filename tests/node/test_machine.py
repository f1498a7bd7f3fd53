"""The state machine: what commands do, what is refused, and that equal entries give equal state."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorumlog.node import topics as topics_module
from quorumlog.node.machine import FEATURE_LEVEL, UnknownEntry
from quorumlog.node.reasons import Reason, Refused
from quorumlog.node.results import (
    Appended,
    CommandResult,
    PolicySet,
    ProducerOpened,
    TopicCreated,
    TopicDeleted,
)
from quorumlog.proto import entry_pb2
from quorumlog.proto.batch import encode_values
from tests.support.commands import (
    MachineOnLog,
    Operations,
    append,
    append_operation,
    create,
    delete,
    machine_on_log,
    open_producer,
    set_policy,
    together,
)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[MachineOnLog]:
    with machine_on_log(tmp_path / "log") as made:
        yield made


def reason(result: CommandResult) -> Reason:
    assert isinstance(result, Refused), f"not refused: {result}"
    return result.reason


def body_of(*values: bytes) -> bytes:
    return encode_values(values, 1)[1]


def test_a_topic_s_id_is_the_raft_index_of_its_entry(node: MachineOnLog) -> None:
    node.no_op()
    assert node.one(create("orders", 3)) == (TopicCreated(2),)
    topic = node.machine.topics.named("orders")
    assert topic is not None
    assert (topic.topic_id, len(topic.partitions), topic.created_ms) == (2, 3, 1_000)


def test_appends_get_consecutive_offsets_and_can_be_read(node: MachineOnLog) -> None:
    node.one(create("orders", 2))
    assert node.one(append(1, [b"a", b"b"])) == (Appended(0, 1_000, 2),)
    assert node.one(append(1, [b"c"]), time_ms=2_000) == (Appended(2, 2_000, 3),)
    assert node.one(append(1, [b"d"], partition=1), time_ms=2_000) == (Appended(0, 2_000, 4),)
    assert node.read(1, 0, 0) == [body_of(b"a", b"b"), body_of(b"c")]
    assert node.read(1, 0, 2) == [body_of(b"c")]
    assert node.read(1, 1, 0) == [body_of(b"d")]


def test_commands_of_one_entry_have_results_of_their_own(node: MachineOnLog) -> None:
    node.one(create("orders"))
    results = node.entry(
        append(1, [b"a"]), append(9, [b"lost"]), append(1, [b"b"]), append(1, [b"c"], partition=5)
    )
    assert results[0] == (Appended(0, 1_000, 2),)
    assert reason(results[1]) is Reason.UNKNOWN_TOPIC
    assert results[2] == (Appended(1, 1_000, 2),)
    assert reason(results[3]) is Reason.UNKNOWN_PARTITION
    assert node.read(1, 0, 0) == [body_of(b"a"), body_of(b"b")], "refused bodies take their place, too"


def test_a_command_appends_to_several_partitions_or_to_none(node: MachineOnLog) -> None:
    node.one(create("orders", 2))
    node.one(open_producer())
    sequenced = append(1, [b"x"], producer=(1, 0, 0))
    before = node.machine.snapshot()
    refused = node.one(together(append(1, [b"a"]), sequenced, append(1, [b"b"], partition=9)))
    assert reason(refused) is Reason.UNKNOWN_PARTITION
    assert node.read(1, 0, 0) == []
    after = entry_pb2.StateSnapshot.FromString(node.machine.snapshot())
    after.raft_index -= 1
    assert after == entry_pb2.StateSnapshot.FromString(before)
    done = node.one(together(append(1, [b"a"]), sequenced, append(1, [b"b"], partition=1)))
    assert done == (Appended(0, 1_000, 4), Appended(1, 1_000, 4), Appended(0, 1_000, 4))


def test_appends_of_one_command_are_checked_as_if_those_before_were_done(node: MachineOnLog) -> None:
    node.one(create("orders"))
    node.one(open_producer())
    both = together(append(1, [b"a", b"b"], producer=(1, 0, 0)), append(1, [b"c"], producer=(1, 0, 2)))
    assert node.one(both) == (Appended(0, 1_000, 3), Appended(2, 1_000, 3))
    assert node.one(both) == (Appended(0, 1_000, 3, True), Appended(2, 1_000, 3, True))
    assert len(node.read(1, 0, 0)) == 2


def test_a_repeat_gets_the_first_result_and_appends_nothing(node: MachineOnLog) -> None:
    node.one(create("orders"))
    assert node.one(open_producer()) == (ProducerOpened(1, 0),)
    first = node.one(append(1, [b"a"], producer=(1, 0, 0)), time_ms=5_000)
    assert node.one(append(1, [b"a"], producer=(1, 0, 0)), time_ms=6_000) == (Appended(0, 5_000, 3, True),)
    assert first == (Appended(0, 5_000, 3),)
    assert node.one(open_producer(1)) == (ProducerOpened(1, 1),)
    assert reason(node.one(append(1, [b"b"], producer=(1, 0, 1)))) is Reason.FENCED_PRODUCER


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "a\0", "ä", "a b", "x" * 250, "x" * 10_240])
def test_a_bad_name_makes_no_topic(node: MachineOnLog, name: str) -> None:
    refused = node.one(create(name))
    assert reason(refused) is Reason.BAD_NAME
    assert isinstance(refused, Refused)
    assert len(refused.message) < 300
    assert not list(node.machine.topics)


def test_what_a_topic_may_not_be(node: MachineOnLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topics_module, "MAX_PARTITIONS", 5)
    assert reason(node.one(create("none", 0))) is Reason.BAD_REQUEST
    assert reason(node.one(create("many", 1_001))) is Reason.BAD_REQUEST
    node.one(create("orders", 3))
    assert reason(node.one(create("orders", 1))) is Reason.TOPIC_EXISTS
    assert reason(node.one(create("more", 3))) is Reason.BAD_REQUEST
    assert isinstance(node.one(create("fits", 2)), tuple)


def test_an_entry_creates_one_topic(node: MachineOnLog) -> None:
    results = node.entry(create("first"), create("second"))
    assert results[0] == (TopicCreated(1),)
    assert reason(results[1]) is Reason.BAD_REQUEST


def test_a_deleted_topic_is_gone_and_its_name_free(node: MachineOnLog) -> None:
    node.one(create("orders"))
    node.one(append(1, [b"old"]))
    assert node.one(delete(1)) == (TopicDeleted(1),)
    assert reason(node.one(delete(1))) is Reason.UNKNOWN_TOPIC
    assert reason(node.one(append(1, [b"late"]))) is Reason.UNKNOWN_TOPIC
    assert node.one(create("orders")) == (TopicCreated(6),)
    assert node.one(append(6, [b"new"])) == (Appended(0, 1_000, 7),)
    assert node.read(6, 0, 0) == [body_of(b"new")]


def test_the_sync_policy_is_replicated(node: MachineOnLog) -> None:
    assert node.machine.sync_policy == entry_pb2.SYNC_ALWAYS
    assert node.one(set_policy(entry_pb2.SYNC_OS)) == (PolicySet(entry_pb2.SYNC_OS),)
    assert node.machine.sync_policy == entry_pb2.SYNC_OS


def test_time_never_falls(node: MachineOnLog) -> None:
    node.one(create("orders"), time_ms=5_000)
    assert node.one(append(1), time_ms=4_000) == (Appended(0, 5_000, 2),)
    assert node.machine.entry_prefix(4_500) == (5_000, FEATURE_LEVEL)
    assert node.machine.entry_prefix(6_000) == (6_000, FEATURE_LEVEL)


def test_what_this_build_does_not_know_stops_the_node(node: MachineOnLog) -> None:
    """Row 57."""
    with pytest.raises(UnknownEntry, match="feature level: expected at most 1, got 2"):
        node.entry(create("orders"), level=2)


def test_an_unknown_operation_stops_the_node(node: MachineOnLog) -> None:
    with pytest.raises(UnknownEntry, match="an operation that this build does not know"):
        node.one(((entry_pb2.Operation(),), ()))


def test_an_operation_beside_others_stops_the_node(node: MachineOnLog) -> None:
    with pytest.raises(UnknownEntry, match="create_topic beside other operations"):
        node.one(together(create("a"), append(1)))


def test_an_entry_whose_bodies_do_not_fill_it_is_a_bug(node: MachineOnLog) -> None:
    node.one(create("orders"))
    header, body = encode_values([b"value"], 1)
    with pytest.raises(AssertionError, match="bodies end at"):
        node.one(((append_operation(1, 0, header),), (body + b"!",)))


def test_changed_partitions_are_told_once(node: MachineOnLog) -> None:
    node.one(create("orders", 2))
    node.one(append(1, partition=1))
    node.one(append(1, partition=1))
    assert node.machine.take_changed() == {(1, 1)}
    assert node.machine.take_changed() == set()
    node.one(delete(1))
    assert node.machine.take_changed() == {(1, 0), (1, 1)}


def test_reading_goes_on_over_segments_and_a_restart(tmp_path: Path) -> None:
    with machine_on_log(tmp_path, segment_entries=4) as node:
        node.one(create("orders", 2))
        node.one(open_producer())
        for number in range(20):
            node.one(append(1, [b"%d" % number], producer=(1, 0, number)))
        expected = [body_of(b"%d" % number) for number in range(20)]
        assert len(node.log.segments) > 4
        assert read_all(node) == expected
        state = node.machine.snapshot()
    with machine_on_log(tmp_path, segment_entries=4) as again:
        assert again.machine.snapshot() == state
        assert read_all(again) == expected
        assert again.one(append(1, [b"19"], producer=(1, 0, 19))) == (Appended(19, 1_000, 22, True),)
        assert again.one(append(1, [b"20"], producer=(1, 0, 20))) == (Appended(20, 1_000, 24),)
        assert read_all(again)[-1] == body_of(b"20")


def read_all(node: MachineOnLog) -> list[bytes]:
    """All bodies of topic 1, partition 0 (one record each), a few at a time."""
    bodies: list[bytes] = []
    while found := node.read(1, 0, len(bodies), max_rows=3):
        bodies += found
    return bodies


NAMES = st.sampled_from(["a", "b", "c", "../x", ""])
IDS = st.integers(0, 12)


@st.composite
def commands(draw: st.DrawFn) -> Operations:
    """Any command, sensible or not."""
    kind = draw(
        st.sampled_from(["create", "delete", "open", "policy", "append", "append", "append", "several"])
    )
    if kind == "create":
        return create(draw(NAMES), draw(st.integers(0, 3)))
    if kind == "delete":
        return delete(draw(IDS))
    if kind == "open":
        return open_producer(draw(st.integers(0, 3)))
    if kind == "policy":
        return set_policy(draw(st.sampled_from(entry_pb2.SyncPolicy.values())))
    count = draw(st.integers(2, 3)) if kind == "several" else 1
    return together(*(draw(appends()) for _ in range(count)))


@st.composite
def appends(draw: st.DrawFn) -> Operations:
    values = draw(st.lists(st.binary(max_size=8), min_size=1, max_size=3))
    producer = draw(
        st.one_of(st.just((0, 0, 0)), st.tuples(st.integers(1, 3), st.integers(0, 2), st.integers(0, 4)))
    )
    return append(draw(IDS), values, partition=draw(st.integers(0, 2)), producer=producer)


ENTRIES = st.lists(
    st.tuples(st.integers(0, 5_000), st.lists(commands(), min_size=0, max_size=3)), min_size=1, max_size=25
)


@settings(max_examples=60)
@given(entries=ENTRIES, segment_entries=st.integers(2, 8), restarts=st.sets(st.integers(0, 24), max_size=3))
def test_equal_entries_give_equal_results_and_snapshots(
    entries: list[tuple[int, list[Operations]]], segment_entries: int, restarts: set[int]
) -> None:
    """Row 28: what cannot be applied is refused with the same result everywhere, and the next is applied."""
    with tempfile.TemporaryDirectory() as directory:
        leader_path, follower_path = Path(directory, "leader"), Path(directory, "follower")
        with machine_on_log(leader_path, segment_entries=segment_entries) as leader:
            follower = MachineOnLog(follower_path)
            for number, (time_ms, several) in enumerate(entries):
                results = leader.entry(*several, time_ms=time_ms)
                if number in restarts:
                    follower.log.close()
                    follower = MachineOnLog(follower_path)
                assert follower.take(leader.frames[-1]) == results
                assert follower.machine.snapshot() == leader.machine.snapshot()
            assert contents(follower) == contents(leader)
            follower.log.close()


def contents(node: MachineOnLog) -> dict[tuple[int, int], list[bytes]]:
    """Everything that can be read."""
    return {
        (topic.topic_id, number): node.read(topic.topic_id, number, 0)
        for topic in node.machine.topics
        for number, partition in enumerate(topic.partitions)
        if partition.next_offset
    }
