"""`quorumlog bench` against nodes of this process."""

from __future__ import annotations

import asyncio
import json
import signal
from typing import Any

import pytest

from tests.command.test_main import Done, run, start
from tests.support.fake_node import FakeCluster, Fault
from tests.support.waiting import UNIT_S

JSON = ("-o", "json")


def result(done: Done) -> dict[str, Any]:
    assert done.code == 0, done.err
    found: dict[str, Any] = json.loads(done.out)
    return found


async def test_producing_is_measured_and_leaves_nothing_behind(cluster: FakeCluster) -> None:
    found = result(await run(cluster, "bench", "produce", "--records", "950", *JSON))
    assert found["produce"]["records"] == 950
    assert found["produce"]["failed"] == 0
    assert 0 < found["produce"]["p50_ms"] <= found["produce"]["p99_ms"] <= found["produce"]["max_ms"]
    assert found["topic"].startswith("quorumlog-bench-")
    assert sorted(cluster.topics) == ["one", "t"]


async def test_an_open_loop_takes_as_long_as_it_is_meant_to(cluster: FakeCluster) -> None:
    found = result(
        await run(cluster, "bench", "produce", "--records", "100", "--rate", "200", "-z", "lz4", *JSON)
    )
    assert found["produce"]["records"] == 100
    assert found["produce"]["elapsed_s"] >= 0.49


async def test_consuming_fills_a_topic_of_its_own_first(cluster: FakeCluster) -> None:
    found = result(await run(cluster, "bench", "consume", "--records", "500", "--concurrency", "2", *JSON))
    assert found["consume"]["records"] == 1_000, "each reader reads everything"
    assert found["consume"]["p50_ms"] is None
    assert sorted(cluster.topics) == ["one", "t"]


async def test_end_to_end(cluster: FakeCluster) -> None:
    found = result(await run(cluster, "bench", "both", "t", "-y", "--records", "300", "--rate", "600", *JSON))
    assert found["produce"]["records"] == found["end_to_end"]["records"] == 300
    assert found["end_to_end"]["p50_ms"] > 0
    assert sum(partition.next_offset for partition in cluster.topics["t"]) == 301, "a named topic is kept"


async def test_a_table_for_people(cluster: FakeCluster) -> None:
    done = await run(cluster, "bench", "produce", "--records", "200")
    assert done.err == "", "no progress where there is no terminal"
    head, _, titles, row = done.out.splitlines()
    assert head.endswith("values of 100 bytes, 16 x 100 records under way at most, as fast as it goes")
    assert titles.split()[:3] == ["RECORDS", "RECORDS/S", "MB/S"]
    assert row.split()[:2] == ["produce", "200"]


async def test_writing_to_somebodys_topic_is_asked_for(cluster: FakeCluster) -> None:
    done = await run(cluster, "bench", "produce", "one", "--records", "10")
    assert (done.code, done.out) == (2, "")
    assert "writing to one needs --yes" in done.err
    assert cluster.topics["one"][0].next_offset == 0


async def test_ctrl_c_prints_what_was_measured(cluster: FakeCluster) -> None:
    process = await start(cluster, "bench", "produce", "--duration", "10m", "--rate", "500", *JSON)
    async with asyncio.timeout(30 * UNIT_S):
        while not _records(cluster):
            await cluster.changed.wait()
        process.send_signal(signal.SIGINT)
        out, _ = await process.communicate()
    found = json.loads(out)
    assert process.returncode == 130
    assert found["interrupted"] is True
    assert sorted(cluster.topics) == ["one", "t"]


def _records(cluster: FakeCluster) -> int:
    made = [partitions for name, partitions in cluster.topics.items() if name.startswith("quorumlog-bench-")]
    return sum(partition.next_offset > 20 for partitions in made for partition in partitions)


async def test_a_failure_is_told_with_what_was_measured(cluster: FakeCluster) -> None:
    for node in cluster.nodes.values():
        node.faults.extend([Fault.BAD_BATCH] * 100)
    done = await run(cluster, "bench", "produce", "one", "-y", "--records", "100")
    assert done.code == 1
    assert "error: " in done.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("produce", "--size", "0"),
        ("produce", "--size", "2MiB"),
        ("produce", "--duration", "soon"),
        ("produce", "--records", "0"),
        ("produce", "--rate", "0"),
        ("produce", "--rate", "nan"),
        ("both", "--size", "15"),
        ("consume", "--rate", "10"),
        (),
    ],
)
async def test_a_wrong_call_exits_2(cluster: FakeCluster, arguments: tuple[str, ...]) -> None:
    done = await run(cluster, "bench", *arguments)
    assert (done.code, done.out) == (2, "")
    assert "error:" in done.err
