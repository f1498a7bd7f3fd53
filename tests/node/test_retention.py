"""The start of the log moves: what the state machine makes of it, and what readers are told (rows 47, 48)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from quorumlog.client import AsyncClient
from quorumlog.client.consumer import AsyncConsumer
from quorumlog.client.errors import OffsetOutOfRange
from quorumlog.node.reasons import Reason, Refused
from quorumlog.node.results import LogStartMoved
from quorumlog.proto import entry_pb2, service_pb2
from quorumlog.raft.proposal import Proposal
from quorumlog.storage.errors import OutOfLog
from tests.node.conftest import StartNode
from tests.support.commands import (
    MachineOnLog,
    Operations,
    append,
    create,
    delete,
    machine_on_log,
    open_producer,
)
from tests.support.local_node import TIMEOUT_S, LocalNode, batch_of, error_info, until


@pytest.fixture
def node(tmp_path: Path) -> Iterator[MachineOnLog]:
    with machine_on_log(tmp_path / "log", segment_entries=4) as made:
        yield made


def move_to(base: int, *starts: tuple[int, list[int]]) -> Operations:
    topics = [entry_pb2.TopicStart(topic_id=topic_id, start_offsets=offsets) for topic_id, offsets in starts]
    move = entry_pb2.MoveLogStart(raft_index=base, topics=topics)
    return (entry_pb2.Operation(move_log_start=move),), ()


def move(node: MachineOnLog, base: int) -> Operations:
    """As a leader proposes it."""
    fragment = node.machine.move_log_start(base)
    header = entry_pb2.EntryHeader.FromString(fragment)
    (command,) = header.commands
    return tuple(command.operations), ()


def offsets(node: MachineOnLog) -> dict[str, list[tuple[int, int]]]:
    return {
        topic.name: [(each.start_offset, each.next_offset) for each in topic.partitions]
        for topic in node.machine.topics
    }


def filled(node: MachineOnLog, entries: int = 14) -> None:
    """Segments 1, 5, 9, 13: topic 1 with two partitions, topic 2 that begins in segment 5."""
    node.one(create("orders", 2))
    for number in range(3):
        node.one(append(1, [b"%d" % number], partition=number % 2))
    node.one(create("late"))
    while node.log.last_index < entries:
        node.one(append(1, [b"a", b"b"]))
        node.one(append(5, [b"late"]))


def test_what_can_be_read_is_what_was_there_at_that_base(node: MachineOnLog) -> None:
    filled(node)
    assert node.log.bases == (1, 5, 9, 13)
    before = offsets(node)
    assert node.one(move(node, 5)) == (LogStartMoved(5),)
    assert offsets(node) == {"orders": [(2, before["orders"][0][1]), (1, 1)], "late": before["late"]}
    assert node.machine.log_start == 5
    assert node.one(move(node, 13)) == (LogStartMoved(13),)
    orders, late = offsets(node)["orders"], offsets(node)["late"]
    assert orders == [(10, before["orders"][0][1]), (1, 1)]
    assert late[0][0] == 3


def test_a_start_never_goes_back_nor_into_what_is_not_sealed(node: MachineOnLog) -> None:
    filled(node)
    node.one(move(node, 9))
    after = offsets(node)
    for base in (0, 5, 9, 10**6):
        refused = node.one(move_to(base, (1, [1, 0])))
        assert isinstance(refused, Refused)
        assert refused.reason is Reason.BAD_REQUEST
    assert offsets(node) == after
    node.one(move_to(13, (1, [1, 0]), (99, [7])))  # lower offsets change nothing, nor do unknown topics
    assert offsets(node) == after


def test_a_deleted_topic_is_left_out(node: MachineOnLog) -> None:
    filled(node)
    node.one(delete(1))
    assert node.one(move(node, 13)) == (LogStartMoved(13),)
    assert [topic.name for topic in node.machine.topics] == ["late"]


def test_states_are_equal_wherever_replay_began(node: MachineOnLog, tmp_path: Path) -> None:
    """I7: live, after a restart that replays the move, and on a node that installed that base's state."""
    filled(node, entries=20)
    node.one(open_producer())
    node.one(move(node, 9))
    node.one(append(1, [b"x"]))
    header, state = node.log.header_of(9), node.log.open_state(9)
    with machine_on_log(tmp_path / "other", segment_entries=4) as other:
        other.log.install(header, state.read(0, state.size))
        base, loaded = other.log.load_state()
        other.machine.restore(base, loaded)
        for index in range(base, node.log.last_index + 1):
            other.take(node.log.read(index))
        assert other.machine.snapshot() == node.machine.snapshot()
        assert other.log.bases == node.log.bases[2:]
    node.log.drop_before(9)
    expected = node.machine.snapshot()
    node.log.close()
    with machine_on_log(tmp_path / "log", segment_entries=4) as again:
        assert again.machine.snapshot() == expected
        assert again.machine.log_start == again.log.first_index == 9


def test_a_machine_that_begins_anew_keeps_the_topics_that_readers_hold(
    node: MachineOnLog, tmp_path: Path
) -> None:
    filled(node)
    with machine_on_log(tmp_path / "other") as other:
        other.one(create("orders", 2))
        other.one(append(1, [b"0"]))
        held = other.machine.topics.named("orders")
        assert held is not None
        other.machine.take_changed()
        state = node.log.open_state(13)
        other.log.install(node.log.header_of(13), state.read(0, state.size))
        other.machine.restore(*other.log.load_state())
        assert other.machine.topics.named("orders") is held
        assert held.partitions[0].next_offset == offsets(node)["orders"][0][1] - 2
        assert other.machine.take_changed() == {(1, 0), (1, 1), (5, 0)}
        assert other.machine.views.earliest_offset(1, 0) == held.partitions[0].next_offset


# Over the wire


async def started(start_node: StartNode, count: int = 30) -> LocalNode:
    """A node whose log has some segments; each batch has one record."""
    node = await start_node(log__segment_entries="4")
    await node.create("orders")
    for number in range(count):
        await node.produce(batch_of("orders", [b"%d" % number * 50]))
    return node


async def move_start(node: LocalNode, *, drop: bool = True) -> int:
    """Move the start into the middle, and drop what stands before; return the first offset that is left."""
    engine = node.engine
    base = engine.log.bases[len(engine.log.bases) // 2]
    await engine.propose(Proposal(engine.machine.move_log_start(base)), TIMEOUT_S)
    if drop:
        engine.log.drop_before(base)
    (topic,) = engine.machine.topics  # type: ignore[attr-defined]
    start: int = topic.partitions[0].start_offset
    assert start > 5
    return start


def range_in(error: grpc.aio.AioRpcError) -> dict[str, str]:
    assert error.code() is grpc.StatusCode.OUT_OF_RANGE, error
    info = error_info(error)
    assert info.reason == "OFFSET_OUT_OF_RANGE"
    return dict(info.metadata)


def consume(node: LocalNode, offset: int) -> grpc.aio.UnaryStreamCall[object, service_pb2.FetchResponse]:
    request = service_pb2.ConsumeRequest(topic="orders", offset=offset, max_bytes=1)
    return node.log.Consume(request, timeout=TIMEOUT_S)


@pytest.mark.parametrize("drop", [False, True])
async def test_below_the_start_everybody_is_told_the_range(start_node: StartNode, *, drop: bool) -> None:
    """Row 47: whether the files are gone yet or not."""
    node = await started(start_node)
    start = await move_start(node, drop=drop)
    expected = {"earliest": str(start), "latest": "30"}
    for offset in (0, start - 1):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await node.fetch("orders", offset)
        assert range_in(caught.value) == expected
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await consume(node, offset).read()
        assert range_in(caught.value) == expected
    response = await node.fetch("orders", start)
    assert (response.batches[0].base_offset, response.start_offset) == (start, start)


@pytest.mark.parametrize("drop", [False, True])
async def test_offsets_that_are_looked_up_can_be_read(start_node: StartNode, *, drop: bool) -> None:
    node = await started(start_node)
    start = await move_start(node, drop=drop)
    queries = [
        service_pb2.OffsetQuery(earliest=True),
        service_pb2.OffsetQuery(latest=True),
        service_pb2.OffsetQuery(append_time_ms=1),
    ]
    request = service_pb2.ListOffsetsRequest(topic="orders", queries=queries)
    answers = (await node.log.ListOffsets(request, timeout=TIMEOUT_S)).answers
    assert [answer.offset for answer in answers] == [start, 30, start]
    (batch, *_) = (await node.fetch("orders", start)).batches
    assert answers[2].append_time_ms == batch.append_time_ms


async def test_a_consumer_that_is_overtaken_is_told_and_one_that_is_ahead_goes_on(
    start_node: StartNode,
) -> None:
    """Row 47: while running."""
    node = await started(start_node)
    behind, ahead = consume(node, 0), consume(node, 29)
    assert (await behind.read()).batches[0].base_offset == 0
    assert (await ahead.read()).batches[0].base_offset == 29
    start = await move_start(node)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await _read_on(behind)
    assert range_in(caught.value) == {"earliest": str(start), "latest": "30"}
    await node.produce(batch_of("orders", [b"new"]))
    assert (await ahead.read()).batches[0].base_offset == 30
    behind.cancel()
    ahead.cancel()


async def _read_on(call: grpc.aio.UnaryStreamCall[object, service_pb2.FetchResponse]) -> None:
    while await call.read():
        pass


async def test_files_that_go_while_they_are_read_are_out_of_range(
    start_node: StartNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 47: between looking and reading, in another thread."""
    node = await started(start_node)
    log = node.engine.log
    read_body, dropped = log.read_body, []

    def read_late(base: int, position: int, size: int) -> bytes:
        if not dropped:
            dropped.append(base)
            raise OutOfLog(base, 99, 99)
        return read_body(base, position, size)

    monkeypatch.setattr(log, "read_body", read_late)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await node.fetch("orders", 0)
    assert range_in(caught.value)["latest"] == "30"
    assert dropped == [1]


async def test_readers_under_way_while_segments_go(start_node: StartNode) -> None:
    """Row 47: no crash, no wrong byte: records in order, then out of range."""
    node = await started(start_node, 120)
    readers = [asyncio.ensure_future(_read_all(node, offset)) for offset in (0, 10, 40, 80, 119)]
    engine = node.engine
    for base in engine.log.bases[1:-2:3]:
        await engine.propose(Proposal(engine.machine.move_log_start(base)), TIMEOUT_S)
        engine.log.drop_before(base)
        await node.fetch("orders", 119)
    assert engine.log.first_index > 90
    ends = await asyncio.gather(*readers)
    assert ends[-1] == 120
    assert not engine.log.damage


async def _read_all(node: LocalNode, offset: int) -> int:
    """Read on to the end, or until it is out of range; return where."""
    call = node.log.Consume(
        service_pb2.ConsumeRequest(topic="orders", offset=offset, max_bytes=1, until_end=True),
        timeout=TIMEOUT_S,
    )
    found: grpc.aio.AioRpcError | None = None
    try:
        async for message in call:
            for batch in message.batches:
                assert batch.base_offset == offset
                offset += 1
    except grpc.aio.AioRpcError as error:
        found = error
    assert offset == 120 if found is None else offset < int(range_in(found)["earliest"])
    return offset


async def test_who_waits_at_the_tail_of_a_log_that_begins_anew_is_told(start_node: StartNode) -> None:
    """A state is installed beneath two readers: one topic is still there, further on; the other is gone."""
    leader, node = await started(start_node), await start_node("n2", leads=False, log__segment_entries="4")
    follower = node.engine
    for frame in leader.engine.entries[:10]:
        follower.receive(frame)
    waiting = asyncio.ensure_future(node.fetch("orders", 8, max_wait_ms=20_000))
    streaming = consume(node, 8)
    streamed = asyncio.ensure_future(streaming.read())
    await node.fetch("orders", 0)
    base = leader.engine.log.bases[-2]
    state = leader.engine.log.open_state(base)
    follower.log.install(leader.engine.log.header_of(base), state.read(0, state.size))
    follower.machine.restore(*follower.log.load_state())
    follower.applied_index = base - 1
    for listener in follower.on_applied:
        listener()
    for read in (waiting, streamed):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await read
        assert int(range_in(caught.value)["earliest"]) > 8
    for frame in leader.engine.entries[base - 1 :]:
        follower.receive(frame)
    assert (await node.fetch("orders", 29)).high_watermark == 30
    await until(lambda: follower.applied_index == leader.engine.applied_index)


@pytest.mark.parametrize(("start", "begins"), [("earliest", True), (-25, True), (0, False)])
async def test_a_client_begins_where_the_log_does_unless_it_asked_for_an_offset(
    start_node: StartNode, monkeypatch: pytest.MonkeyPatch, start: int | str, *, begins: bool
) -> None:
    """Row 47: the start moves between looking it up and reading; what was asked for is never skipped."""
    node = await started(start_node)
    earliest = await move_start(node)

    async def offsets_before(self: AsyncConsumer, topic: str, queries: list[object]) -> tuple[list[int], int]:
        return [0, 25][: len(queries)], 0

    monkeypatch.setattr(AsyncConsumer, "_offsets", offsets_before)
    async with AsyncClient([node.address]) as client:
        consumer = client.consumer("orders", start=start, end={("orders", 0): 30})
        if begins:
            assert [record.offset async for record in consumer] == list(range(earliest, 30))
        else:
            with pytest.raises(OffsetOutOfRange) as caught:
                await consumer.getone()
            assert caught.value.earliest == earliest
        await consumer.close()


async def test_a_client_that_is_overtaken_is_told_and_goes_on_where_it_says(start_node: StartNode) -> None:
    """Row 47: nothing is skipped silently."""
    node = await started(start_node)
    async with (
        AsyncClient([node.address]) as client,
        client.consumer("orders", max_fetch_bytes=1, max_buffered_bytes=1) as consumer,
    ):
        assert (await consumer.getone()).offset == 0
        earliest = await move_start(node)
        with pytest.raises(OffsetOutOfRange) as caught:
            await _read_on_with(consumer)
        assert caught.value.earliest == earliest
        await consumer.seek("orders", 0, earliest)
        assert (await consumer.getone()).offset == earliest


async def _read_on_with(consumer: AsyncConsumer) -> None:
    while True:
        await consumer.getone()
