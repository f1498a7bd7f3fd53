"""Fetch, Consume and ListOffsets: reads, answered by the node that is asked."""

from __future__ import annotations

import asyncio

from quorumlog.node.call import Call, parse
from quorumlog.node.consistency import Freshness
from quorumlog.node.machine import LogMachine
from quorumlog.node.outbound import Outbound
from quorumlog.node.reading import Reader, bounded_bytes
from quorumlog.node.reasons import Reason, Refusal
from quorumlog.node.tails import Tails
from quorumlog.proto import service_pb2

MAX_WAIT_S = 60.0  # of a Fetch at the tail: a lost caller is noticed in the end
MAX_QUERIES = 10_000  # in one ListOffsets


class Consuming:
    """See the module."""

    def __init__(
        self, machine: LogMachine, reader: Reader, freshness: Freshness, tails: Tails, outbound: Outbound
    ) -> None:
        self._machine = machine
        self._reader = reader
        self._freshness = freshness
        self._tails = tails
        self._outbound = outbound
        self._stopping = False

    def stop(self) -> None:
        """End all streams and waits: the callers are told that the node is shutting down."""
        self._stopping = True
        self._tails.end()

    async def fetch(self, raw: bytes, call: Call) -> bytes:
        """Answer with what is at an offset, waiting up to max_wait_ms at the tail."""
        request = parse(service_pb2.FetchRequest, raw)
        call.require(request.topic)
        await self._freshness.reached(request.consistency, request.min_raft_index, call)
        place = self._reader.place(request.topic, request.partition)
        max_bytes = min(bounded_bytes(request.max_bytes), self._outbound.share())
        loop = asyncio.get_running_loop()
        deadline = loop.time() + call.time_left_s(min(request.max_wait_ms / 1000, MAX_WAIT_S))
        while True:
            selected = self._reader.select(place, request.offset, max_bytes)
            left = deadline - loop.time()
            if selected or left <= 0:
                await call.reserve(selected.size)
                message = await self._reader.message(selected)
                selected.count()
                return message
            self._check_running()
            await self._tails.wait(place.key, left)

    async def consume(self, raw: bytes, call: Call) -> None:
        """Write what there is from an offset on, then what comes, until the caller ends it.

        How fresh this node must be is settled once, before the first message: what follows is committed and
        in order, and may be behind what another node has acknowledged meanwhile.
        """
        request = parse(service_pb2.ConsumeRequest, raw)
        call.require(request.topic)
        await self._freshness.reached(request.consistency, request.min_raft_index, call)
        place = self._reader.place(request.topic, request.partition)
        max_bytes = bounded_bytes(request.max_bytes)
        offset = request.offset
        end = place.partition.next_offset if request.until_end else None
        self._reader.check_offset(place, offset)
        while end is None or offset < end:
            self._check_running()
            selected = self._reader.select(place, offset, min(max_bytes, self._outbound.share()))
            if not selected:
                await self._tails.wait(place.key)
                continue
            offset = selected.next_offset
            call.require(request.topic)
            await call.reserve(selected.size)
            await call.write(await self._reader.message(selected))
            selected.count()

    async def list_offsets(self, raw: bytes, call: Call) -> bytes:
        """Answer each query: the first offset, the one after the last, or the first appended since a time."""
        request = parse(service_pb2.ListOffsetsRequest, raw)
        call.require(request.topic)
        if len(request.queries) > MAX_QUERIES:
            raise Refusal(Reason.BAD_REQUEST, f"queries: at most {MAX_QUERIES}, got {len(request.queries)}")
        await self._freshness.reached(request.consistency, request.min_raft_index, call)
        self._reader.topic(request.topic)
        answers = [self._locate(request.topic, query) for query in request.queries]
        response = service_pb2.ListOffsetsResponse(answers=answers, applied_index=self._machine.applied_index)
        return response.SerializeToString()

    def _locate(self, topic: str, query: service_pb2.OffsetQuery) -> service_pb2.OffsetAnswer:
        place = self._reader.place(topic, query.partition)
        end = place.partition.next_offset
        match query.WhichOneof("at"):
            case "earliest":
                return service_pb2.OffsetAnswer(partition=place.number, offset=self._reader.earliest(place))
            case "latest":
                return service_pb2.OffsetAnswer(partition=place.number, offset=end)
            case "append_time_ms":
                found = self._machine.views.offset_at_time(*place.key, query.append_time_ms)
                if found is None:
                    return service_pb2.OffsetAnswer(partition=place.number, offset=end)
                offset, time_ms = found
                if (
                    offset < place.partition.start_offset
                ):  # its file has not gone yet, but what can be read has
                    _, first = self._reader.select(place, place.partition.start_offset, 0).located[0]
                    offset, time_ms = first.base_offset, first.append_time_ms
                return service_pb2.OffsetAnswer(partition=place.number, offset=offset, append_time_ms=time_ms)
            case _:
                raise Refusal(Reason.BAD_REQUEST, "query: expected earliest, latest or append_time_ms")

    def _check_running(self) -> None:
        if self._stopping:
            raise Refusal(Reason.SHUTTING_DOWN, "this node is shutting down; go on at another")
