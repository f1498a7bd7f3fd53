"""Offsets of partitions: the first, the next, those of a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from quorumlog.client.connection import Connection
from quorumlog.client.starts import StartAt
from quorumlog.proto import service_pb2


async def look_up(
    connection: Connection,
    topic: str,
    wanted: Sequence[tuple[int, StartAt]],
    freshness: Mapping[str, Any],
    node: str = "",
) -> tuple[list[int], int]:
    """Return the offset for each (partition, where), and the raft index that they reflect.

    `freshness`: the request's fields that say how much the replica must have applied. `node`: the address to
    ask; any where it is empty. The raft index is 0 where nobody had to be asked.
    """
    queries = [where.queries(partition) for partition, where in wanted]
    request = service_pb2.ListOffsetsRequest(topic=topic, queries=[one for each in queries for one in each])
    if not request.queries:
        return [where.resolve([]) for _, where in wanted], 0
    request.MergeFrom(service_pb2.ListOffsetsRequest(**freshness))
    answer = await connection.call(lambda stubs: stubs.log.ListOffsets, request, node=node)
    answers = iter([each.offset for each in answer.answers])
    offsets = [
        where.resolve([next(answers) for _ in asked])
        for (_, where), asked in zip(wanted, queries, strict=True)
    ]
    return offsets, answer.applied_index
