"""The gap that a continuous writer sees."""

from __future__ import annotations

import asyncio

from bench.cases.failover import Probe, probing


async def test_a_gap_is_the_longest_time_since_the_fault() -> None:
    probe = Probe(lambda _payload: asyncio.sleep(0))
    probe.acknowledged_s = [0.0, 5.0, 10.1, 10.5, 12.0, 12.1]
    assert probe.gap_s(10.0) == 1.5  # 10.5 to 12; what lies before the fault does not count
    assert probe.gap_s(5.0) == 10.1 - 5.0


async def test_a_probe_writes_one_after_the_other_until_the_block_ends() -> None:
    under_way = 0

    async def write(_payload: bytes) -> None:
        nonlocal under_way
        assert under_way == 0
        under_way += 1
        await asyncio.sleep(0)
        under_way -= 1

    async with probing(write) as probe:
        await probe.more(10)
    seen = len(probe.acknowledged_s)
    await asyncio.sleep(0)
    assert seen >= 10
    assert len(probe.acknowledged_s) == seen
