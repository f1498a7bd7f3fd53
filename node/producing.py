"""Produce on the node that leads: batches become commands, outcomes become results.

Each batch of a request is a command of its own with its own outcome. Its body is the bytes object that
protobuf gave, from here to the disk and to the peers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from quorumlog.node.call import Call
from quorumlog.node.commands import only_result
from quorumlog.node.config import Limits
from quorumlog.node.errors import failure_for, refused_for
from quorumlog.node.machine import LogMachine
from quorumlog.node.reading import Reader
from quorumlog.node.reasons import Reason, Refusal
from quorumlog.node.results import Appended
from quorumlog.proto import batch_pb2, entry_pb2, service_pb2
from quorumlog.proto.batch import BatchTooLarge, check_batch_header
from quorumlog.proto.entry import command_fragment
from quorumlog.raft.engine import Engine
from quorumlog.raft.errors import RaftError
from quorumlog.raft.proposal import Committed, Proposal

# A request of more is split by its sender: each batch costs a future and a result here.
MAX_BATCHES = 4096
# All fields of a header at their largest take 90 bytes; unknown fields would be replicated as they are.
_HEADER_BYTES_MAX = 256
# What the columns of a body add to each record: tags, sizes, a timestamp delta.
_RECORD_OVERHEAD_BYTES = 64


@dataclass(frozen=True, slots=True)
class Begun:
    """A request whose commands are on their way, in the order of its batches."""

    correlation: int
    outcomes: Sequence[asyncio.Future[Committed] | Exception]

    def cancel(self) -> None:
        """Nobody waits for the outcome any more; what was proposed may still be applied."""
        for outcome in self.outcomes:
            if isinstance(outcome, asyncio.Future):
                outcome.cancel()


class Producing:
    """See the module."""

    def __init__(self, engine: Engine, machine: LogMachine, reader: Reader, limits: Limits) -> None:
        self._engine = engine
        self._machine = machine
        self._reader = reader
        self._limits = limits

    async def produce(self, request: service_pb2.ProduceRequest, left_s: float, call: Call) -> bytes:
        """Return the serialized ProduceResponse. A request of one batch fails as a whole: raises why."""
        timeout_s = min(left_s, self.timeout_s(request))
        if len(request.batches) != 1:
            return await self.finish(self.begin(request, timeout_s, call))
        committed = await self._engine.propose(self._proposal(request.batches[0], call), timeout_s)
        result = _result(committed)
        return service_pb2.ProduceResponse(
            results=[result], correlation=request.correlation, sync_policy=_policy(committed.sync_policy)
        ).SerializeToString()

    def timeout_s(self, request: service_pb2.ProduceRequest) -> float:
        """Return how long the request may take."""
        return request.timeout_ms / 1000 if request.timeout_ms else self._limits.produce_timeout_s

    def begin(self, request: service_pb2.ProduceRequest, timeout_s: float, call: Call) -> Begun:
        """Check the batches and put them on their way, in order. Raises Refusal for the whole request."""
        count = len(request.batches)
        if not 1 <= count <= MAX_BATCHES:
            raise Refusal(Reason.BAD_REQUEST, f"batches: expected 1 to {MAX_BATCHES}, got {count}")
        outcomes: list[asyncio.Future[Committed] | Exception] = []
        for batch in request.batches:
            try:
                outcomes.append(self._engine.begin(self._proposal(batch, call), timeout_s))
            except (Refusal, RaftError, ValueError) as error:  # ValueError: BatchError
                outcomes.append(error)
        return Begun(request.correlation, outcomes)

    async def finish(self, begun: Begun) -> bytes:
        """Return the serialized ProduceResponse once every batch has its outcome."""
        try:
            results = []
            policy = self._machine.sync_policy
            for outcome in begun.outcomes:
                try:
                    if isinstance(outcome, Exception):
                        raise outcome
                    committed = await outcome
                    results.append(_result(committed))
                    policy = committed.sync_policy
                except Exception as error:  # noqa: BLE001 - each batch has its own outcome; the table knows it
                    results.append(service_pb2.ProduceResult(failure=failure_for(refused_for(error))))
        finally:
            begun.cancel()
        return service_pb2.ProduceResponse(
            results=results, correlation=begun.correlation, sync_policy=_policy(policy)
        ).SerializeToString()

    def _proposal(self, batch: service_pb2.TopicBatch, call: Call) -> Proposal:
        call.require(batch.topic)
        place = self._reader.place(batch.topic, batch.partition)
        header = batch.header
        body = batch.body  # protobuf makes the bytes object here: ask once
        check_batch_header(header, body, max_batch_bytes=self._limits.batch_bytes)
        self._check_sizes(header)
        append = entry_pb2.Append(topic_id=place.topic.topic_id, partition=place.number, batch=header)
        command = entry_pb2.Command(operations=[entry_pb2.Operation(append=append)])
        return Proposal(command_fragment(command), (body,))

    def _check_sizes(self, header: batch_pb2.BatchHeader) -> None:
        size = header.ByteSize()
        if size > _HEADER_BYTES_MAX:
            raise Refusal(Reason.BAD_BATCH, f"header: at most {_HEADER_BYTES_MAX} bytes, got {size}")
        # The body is not decoded here; but where it is longer than its records may be, one is too long.
        longest = header.count * (self._limits.record_bytes + _RECORD_OVERHEAD_BYTES)
        if header.codec == batch_pb2.CODEC_NONE and header.body_size > longest:
            limit = self._limits.record_bytes
            raise BatchTooLarge(
                f"record: at most {limit} bytes, but {header.count} take {header.body_size} bytes"
            )


def _result(committed: Committed) -> service_pb2.ProduceResult:
    appended = only_result(committed.result)
    assert isinstance(appended, Appended), f"the result of an append is not {appended!r}"
    return service_pb2.ProduceResult(
        base_offset=appended.base_offset,
        append_time_ms=appended.time_ms,
        raft_index=appended.raft_index,
        raft_term=committed.term,
        duplicate=appended.duplicate,
    )


def _policy(policy: int) -> entry_pb2.SyncPolicy:
    return entry_pb2.SyncPolicy.Name(policy)  # type: ignore[return-value]  # protobuf takes the name, too
