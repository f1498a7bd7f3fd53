"""The producer without I/O, against a log that checks sequences: nothing lost, nothing twice, in order."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field

from hypothesis import event, given, settings
from hypothesis import strategies as st

from quorumlog.client import errors
from quorumlog.client.batches import PendingBatch
from quorumlog.client.core import MAX_REQUESTS, ProducerCore, ProducerOptions
from quorumlog.client.stream import WINDOW
from quorumlog.proto import service_pb2
from quorumlog.proto.batch import decode_batch
from tests.support.fake_node import FakeCluster, Refused

TOPIC = "t"
TIMEOUT_S = 100.0


@dataclass
class World:
    """A core, a log, and the requests between them; a transcript instead of a network."""

    core: ProducerCore = field(default_factory=lambda: new_core())
    log: FakeCluster = field(default_factory=FakeCluster)
    now_s: float = 0.0
    network: deque[bytes] = field(default_factory=deque)  # sent, not yet at the log
    ghosts: list[bytes] = field(default_factory=list)  # sent over connections that broke: may arrive late
    batches: dict[bytes, tuple[PendingBatch, int]] = field(default_factory=dict)  # by value
    values: dict[int, list[bytes]] = field(default_factory=dict)  # by partition, in the order of sending

    def __post_init__(self) -> None:
        self.log.create(TOPIC, partitions=3)

    def add(self, value: bytes, partition: int = 0) -> PendingBatch:
        batch, position = self.core.add(TOPIC, partition, value, None, (), 0, self.now_s)
        self.batches[value] = batch, position
        self.values.setdefault(partition, []).append(value)
        return batch

    def send(self) -> int:
        """Send all that may be sent; return how many requests that is."""
        sent = 0
        self.now_s = max(self.now_s, self.core.not_before_s)
        while not self.core.idle:
            if self.core.needs_identity:
                self.log.producers[len(self.log.producers) + 1] = 0
                self.core.on_identity(len(self.log.producers), 0)
            request = self.core.next_request(self.now_s)
            if request is None:
                break
            self.network.append(request)
            sent += 1
        return sent

    def answer(self, refuse: str = "", batch_number: int = 0, *, apply: bool = False) -> None:
        """Let the log take the oldest request; `refuse` one of its batches, after applying it or not."""
        request = service_pb2.ProduceRequest.FromString(self.network.popleft())
        response = service_pb2.ProduceResponse(correlation=request.correlation)
        for number, batch in enumerate(request.batches):
            refused = refuse if number == batch_number % len(request.batches) else ""
            response.results.append(self._result(batch, refused, apply=apply))
        self.core.on_response(response, self.now_s, "node:1")

    def _result(
        self, batch: service_pb2.TopicBatch, refuse: str, *, apply: bool
    ) -> service_pb2.ProduceResult:
        failure = service_pb2.Failure(reason=refuse, message=refuse)
        try:
            if refuse and not apply:
                return service_pb2.ProduceResult(failure=failure)
            result = self.log.append(batch)
        except Refused as refused:
            return service_pb2.ProduceResult(failure=refused.failure())
        return service_pb2.ProduceResult(failure=failure) if refuse else result

    def break_connection(self, applied: int = 0) -> None:
        """Lose all answers, though the log has taken the first `applied` requests."""
        lost, self.network = self.network, deque()
        for request in list(lost)[:applied]:
            self.arrive(request)
        self.ghosts.extend(list(lost)[applied:])
        self.core.on_lost(errors.Unavailable("connection lost"), self.now_s)

    def arrive(self, request: bytes) -> None:
        """Let the log take a request whose answer nobody hears."""
        for batch in service_pb2.ProduceRequest.FromString(request).batches:
            try:
                self.log.append(batch)
            except Refused:
                continue

    def run(self) -> None:
        """Send and answer until everything has ended."""
        for _ in range(1000):
            self.send()
            if self.core.idle:
                return
            if self.network:
                self.answer()
        raise AssertionError("it does not come to an end")

    def stored(self, partition: int = 0) -> list[bytes]:
        """The values in the log."""
        stored = self.log.topics[TOPIC][partition].batches
        return [
            bytes(value or b"") for each in stored for value in decode_batch(each.header, each.body).values
        ]

    def check(self) -> None:
        """Check what is promised of every record."""
        for partition, sent in self.values.items():
            stored = self.stored(partition)
            assert len(set(stored)) == len(stored), "a record is there twice"
            acknowledged = [value for value in sent if self.batches[value][0].result is not None]
            for value in acknowledged:
                batch, position = self.batches[value]
                assert batch.result is not None
                assert stored[batch.result.offset + position] == value
            places = [stored.index(value) for value in acknowledged]
            assert places == sorted(places), "acknowledged records are out of order"
            for value in sent:
                error = self.batches[value][0].error
                if error is not None and not error.outcome_unknown:
                    assert value not in stored, f"{value!r} failed for sure, and is there"


def new_core(**options: object) -> ProducerCore:
    """A core with small batches: three records of one byte fill one."""
    settings = {"max_batch_size": 200, "delivery_timeout_ms": int(TIMEOUT_S * 1000), **options}
    return ProducerCore(ProducerOptions(**settings), random.Random(1).random)


def test_a_record_is_sent_at_once_when_nothing_is_under_way() -> None:
    world = World()
    world.add(b"1")
    assert world.send() == 1
    world.answer()
    assert world.core.idle
    assert world.stored() == [b"1"]


def test_what_gathers_while_a_request_is_in_flight_goes_together() -> None:
    world = World()
    world.add(b"1")
    world.send()
    assert world.add(b"2") is world.add(b"3")
    assert world.send() == 0
    world.answer()
    assert world.send() == 1
    world.answer()
    assert world.stored() == [b"1", b"2", b"3"]


def test_full_batches_do_not_wait_but_at_most_a_window_is_under_way() -> None:
    world = World()
    for number in range(100):
        world.add(b"%d" % number)
    assert world.send() == WINDOW <= MAX_REQUESTS
    world.answer()
    assert world.send() == 1
    world.run()
    world.check()


def test_partitions_share_requests() -> None:
    world = World()
    for partition in range(3):
        world.add(b"%d" % partition, partition)
    assert world.send() == 1
    world.answer()
    assert world.core.idle


def test_after_a_lost_connection_the_same_batches_go_again_with_the_same_sequences() -> None:
    world = World()
    for number in range(15):
        world.add(b"%d" % number)
    world.send()
    before = [sequences(request) for request in world.network]
    world.break_connection(applied=2)
    world.send()
    assert [sequences(request) for request in world.network] == before
    world.run()
    assert world.stored() == [b"%d" % number for number in range(15)]
    assert world.batches[b"0"][0].result is not None
    assert world.batches[b"0"][0].result.duplicate
    world.check()


def test_a_refusal_in_the_middle_holds_back_what_follows_until_all_is_back() -> None:
    world = World()
    for number in range(10):
        world.add(b"%d" % number)
    world.send()
    assert len(world.network) == 3
    world.answer(refuse="BUSY")
    assert world.send() == 0
    world.answer()  # out of sequence, as the first was refused
    assert world.send() == 0
    world.answer()
    world.run()
    assert world.stored() == [b"%d" % number for number in range(10)]


def test_what_is_refused_for_good_fails_alone() -> None:
    world = World()
    for number in range(10):
        world.add(b"%d" % number)
    world.send()
    world.answer(refuse="BAD_BATCH")
    world.run()
    assert world.stored() == [b"%d" % number for number in range(3, 10)]
    assert isinstance(world.batches[b"0"][0].error, errors.InvalidBatch)
    assert len(world.log.producers) == 1, "nothing was ambiguous: the producer id is kept"
    world.check()


def test_a_hole_behind_an_ambiguous_attempt_takes_a_new_producer_id() -> None:
    world = World()
    for number in range(10):
        world.add(b"%d" % number)
    world.send()
    world.break_connection()
    world.send()
    world.answer(refuse="BAD_BATCH")
    world.run()
    assert len(world.log.producers) == 2
    for ghost in world.ghosts:
        world.arrive(ghost)
    world.check()


def test_a_hole_behind_an_unknown_outcome_is_repaired_once_that_is_known() -> None:
    world = World()
    world.add(b"0")
    world.send()
    for number in range(1, 8):
        world.add(b"%d" % number)
    world.send()
    world.answer(refuse="OUTCOME_UNKNOWN", apply=True)
    world.answer(refuse="BAD_BATCH")
    world.run()
    assert world.stored() == [b"0", b"4", b"5", b"6", b"7"]
    assert world.batches[b"0"][0].result is not None
    world.check()


def test_a_forgotten_producer_goes_on_under_a_new_id() -> None:
    world = World()
    world.add(b"1")
    world.run()
    world.log.producers.clear()
    world.log.producers[99] = 0
    world.add(b"2")
    world.run()
    assert world.stored() == [b"1", b"2"]


def test_a_forgotten_producer_does_not_repeat_what_may_be_in() -> None:
    world = World()
    world.add(b"1")
    world.send()
    world.break_connection(applied=1)
    world.log.producers.clear()
    world.log.producers[99] = 0
    world.run()
    error = world.batches[b"1"][0].error
    assert isinstance(error, errors.DeliveryTimeout)
    assert error.outcome_unknown
    assert world.stored() == [b"1"]


def test_a_fenced_producer_stops() -> None:
    world = World()
    world.add(b"1")
    world.send()
    world.log.producers[1] = 7
    world.answer()
    assert isinstance(world.core.fatal, errors.ProducerFenced)
    assert world.core.idle


def test_the_delivery_timeout_says_that_an_unsent_record_is_surely_not_in() -> None:
    world = World()
    batch = world.add(b"1")
    world.now_s = TIMEOUT_S
    world.core.expire(world.now_s)
    assert isinstance(batch.error, errors.DeliveryTimeout)
    assert not batch.error.outcome_unknown
    assert world.core.idle
    assert world.core.buffered_bytes == 0


def test_the_delivery_timeout_says_that_the_outcome_of_a_sent_record_is_unknown() -> None:
    world = World()
    batch = world.add(b"1")
    world.send()
    world.now_s = TIMEOUT_S
    world.core.expire(world.now_s)
    assert batch.error is not None
    assert batch.error.outcome_unknown
    world.answer()  # too late, and taken without harm
    world.add(b"2")
    world.run()
    assert world.stored() == [b"1", b"2"]
    world.check()


def test_a_pause_that_is_over_wakes_nobody_while_an_answer_is_awaited() -> None:
    world = World()
    batch = world.add(b"a")
    world.send()
    world.core.on_lost(errors.Unavailable("gone"), world.now_s)
    assert world.core.next_event_s(world.now_s) == world.core.not_before_s > world.now_s
    world.send()
    assert world.core.next_event_s(world.now_s) == batch.deadline_s


def test_an_expired_batch_tells_why_attempts_failed() -> None:
    world = World()
    batch = world.add(b"1")
    attempt = errors.Attempt("node:1", "connection refused")
    world.core.on_failure(errors.ConnectionFailed("refused", attempts=[attempt]), world.now_s)
    world.now_s = TIMEOUT_S
    world.core.expire(world.now_s)
    assert batch.error is not None
    assert batch.error.attempts == (attempt,)


def test_a_stream_that_is_denied_fails_what_was_on_it_and_not_as_unknown() -> None:
    """Row 60: nothing on it was done, and asking again would not help."""
    world = World(core=new_core(enable_idempotence=False))
    world.add(b"0")
    world.send()
    world.core.on_lost(errors.PermissionDenied("no"), world.now_s)
    error = world.batches[b"0"][0].error
    assert isinstance(error, errors.PermissionDenied)
    assert not error.outcome_unknown


def test_without_idempotence_nothing_ambiguous_is_sent_again() -> None:
    world = World(core=new_core(enable_idempotence=False))
    for number in range(6):
        world.add(b"%d" % number)
    assert world.send() == 1, "one batch at a time, or a retry would change the order"
    world.break_connection(applied=1)
    error = world.batches[b"0"][0].error
    assert isinstance(error, errors.OutcomeUnknown)
    world.run()
    assert world.stored() == [b"%d" % number for number in range(6)]
    assert not world.log.producers


def test_undelivered_records_that_nobody_awaits_are_remembered_for_flush() -> None:
    world = World()
    batch = world.add(b"1")
    world.add(b"2")
    world.send()
    world.answer(refuse="BAD_BATCH")
    batch.told = 1
    count, reasons = world.core.take_undelivered()
    assert count == 1
    assert isinstance(reasons[0], errors.InvalidBatch)
    assert world.core.take_undelivered() == (0, [])


def test_an_identity_is_renewed_before_its_sequences_run_out() -> None:
    world = World()
    world.add(b"1")
    world.run()
    stream = next(iter(world.core._streams.values()))
    stream.next_sequence = 2**32 - 2
    world.log.topics[TOPIC][0].sequences[1].expected = 2**32 - 2
    world.add(b"2")
    world.add(b"3")
    world.run()
    assert world.stored() == [b"1", b"2", b"3"]
    assert len(world.log.producers) == 2


ACTIONS = st.one_of(
    st.tuples(st.just("add"), st.integers(0, 2), st.integers(1, 7)),
    st.tuples(st.just("send"), st.just(0), st.just(0)),
    st.tuples(st.just("answer"), st.just(0), st.just(0)),
    st.tuples(
        st.sampled_from(["BUSY", "NO_LEADER", "DROPPED", "BAD_BATCH", "OUTCOME_UNKNOWN", "APPLIED_UNKNOWN"]),
        st.integers(0, 3),
        st.just(0),
    ),
    st.tuples(st.just("break"), st.integers(0, 4), st.just(0)),
    st.tuples(st.just("ghost"), st.integers(0, 100), st.just(0)),
    st.tuples(st.just("wait"), st.sampled_from([1, 30, 60]), st.just(0)),
)


@settings(max_examples=1000)
@given(st.lists(ACTIONS, min_size=5, max_size=80))
def test_whatever_fails_records_are_appended_at_most_once_and_told_the_truth(
    actions: list[tuple[str, int, int]],
) -> None:
    world = World()
    added = 0
    for action, number, count in actions:
        if action == "add":
            for _ in range(count):
                world.add(b"%d" % added, number)
                added += 1
        else:
            act(world, action, number)
    world.run()
    for ghost in world.ghosts:
        world.arrive(ghost)
    world.check()
    assert world.core.buffered_bytes == 0
    event(f"unknown: {any(b.error and b.error.outcome_unknown for b, _ in world.batches.values())}")


def act(world: World, action: str, number: int) -> None:
    """Do one step of a random run."""
    if action == "send":
        world.send()
    elif action == "wait":
        world.now_s += number
        world.core.expire(world.now_s)
    elif action == "ghost" and world.ghosts:
        world.arrive(world.ghosts[number % len(world.ghosts)])
    elif action == "break":
        world.break_connection(number)
    elif world.network and action == "answer":
        world.answer()
    elif world.network and action == "APPLIED_UNKNOWN":
        world.answer("OUTCOME_UNKNOWN", number, apply=True)
    elif world.network and action != "ghost":
        world.answer(action, number)


def sequences(request: bytes) -> list[tuple[int, int]]:
    """Producer id and sequence of each batch."""
    batches = service_pb2.ProduceRequest.FromString(request).batches
    return [(batch.header.producer_id, batch.header.sequence) for batch in batches]
