"""Cluster.SumSegments: this node's sealed segments, read from the disk, verified and summed up.

Two replicas whose sums are equal hold the same frames: `quorumlog verify` compares them. Only what is applied
is summed, since the rest may still be replaced. One caller at a time is served, at a bounded rate, and the
reading is done away from the loop.
"""

from __future__ import annotations

import asyncio

from quorumlog.node.call import Call, parse
from quorumlog.proto import service_pb2
from quorumlog.raft.engine import Engine
from quorumlog.storage.errors import Damaged, OutOfLog
from quorumlog.storage.fences import SealedFile
from quorumlog.storage.format import SEGMENT_HEADER_BYTES
from quorumlog.storage.log import Log

_BYTES_PER_S = 64 * 10**6  # where the caller names no rate: a fraction of what a disk gives
_BYTES_PER_S_MAX = 10**9
_BYTES_PER_S_MIN = 64 * 1024
_STEP_COST = 512 * 1024


class Sums:
    """Serves the method."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._turn = asyncio.Lock()

    async def sum_segments(self, raw: bytes, call: Call) -> None:
        """Write a SegmentSum for every sealed and applied segment, oldest first."""
        request = parse(service_pb2.SumSegmentsRequest, raw)
        asked = request.bytes_per_second or _BYTES_PER_S
        rate = min(max(asked, _BYTES_PER_S_MIN), _BYTES_PER_S_MAX)
        log = self._engine.log
        async with self._turn:
            for segment in log.segments:
                sealed = not segment.is_active and segment.last_index <= self._engine.applied_index
                if sealed and segment.base >= request.first_base:
                    answer = await _sum(log, segment.base, segment.last_index, rate)
                    if answer is not None:
                        await call.write(answer.SerializeToString())


async def _sum(log: Log, base: int, last_index: int, rate: int) -> service_pb2.SegmentSum | None:
    """Return the sum of a segment, with what is damaged in it; None where it was dropped meanwhile."""
    answer = service_pb2.SegmentSum(base=base, last_index=last_index)
    for suffix in ("log", "view", "state"):
        file = SealedFile(base, suffix)
        if not log.has_file(file):
            continue
        try:
            check = await asyncio.to_thread(log.begin_check, file)
            while not check.is_done:
                cost = await asyncio.to_thread(check.step, _STEP_COST)
                await asyncio.sleep(cost / rate)
        except OutOfLog:
            return None
        except Damaged as damage:
            log.report(damage)
            answer.error = str(damage)
            return answer
        if check.log is not None:
            answer.bytes = check.size - SEGMENT_HEADER_BYTES
            answer.crc32c, answer.chain = check.log.crc, check.log.chain
    return answer
