"""Cluster.SumSegments: what a node says of its sealed segments."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from quorumlog.node import sums
from quorumlog.proto import service_pb2
from quorumlog.storage.fences import SealedFile
from quorumlog.storage.format import SEGMENT_HEADER_BYTES
from tests.support.local_node import TIMEOUT_S, LocalNode, batch_of, config_for


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[LocalNode]:
    """A node with some sealed segments."""
    node = await LocalNode.start(config_for(tmp_path, log__segment_entries="4"))
    await node.create("t")
    for number in range(18):
        await node.produce(batch_of("t", [b"value %d" % number]))
    yield node
    await node.stop()


async def sums_of(node: LocalNode, **fields: int) -> list[service_pb2.SegmentSum]:
    request = service_pb2.SumSegmentsRequest(**fields)
    return [each async for each in node.cluster.SumSegments(request, timeout=TIMEOUT_S)]


def file_of(node: LocalNode, base: int, suffix: str) -> Path:
    return node.config.data / "group-0" / "log" / SealedFile(base, suffix).name


async def test_every_sealed_segment_is_summed(node: LocalNode) -> None:
    found = await sums_of(node)
    sealed = [each for each in node.engine.log.segments if not each.is_active]
    assert [(each.base, each.last_index) for each in found] == [
        (each.base, each.last_index) for each in sealed
    ]
    assert [each.bytes for each in found] == [each.size_bytes - SEGMENT_HEADER_BYTES for each in sealed]
    assert all(each.crc32c and each.chain and not each.error for each in found)
    assert len({each.crc32c for each in found}) == len(found) > 2
    assert await sums_of(node, first_base=found[1].base) == found[1:]


@pytest.mark.parametrize("suffix", ["log", "view", "state"])
async def test_what_is_damaged_is_said_and_fenced(node: LocalNode, suffix: str) -> None:
    base = node.engine.log.bases[1]
    file = file_of(node, base, suffix)
    data = bytearray(file.read_bytes())
    data[-3] ^= 1
    file.write_bytes(data)
    found = {each.base: each for each in await sums_of(node)}
    assert file.name in found[base].error
    assert [each.name for each in node.engine.log.fenced] == [file.name]
    assert not any(each.error for other, each in found.items() if other != base)


async def test_a_segment_that_is_dropped_meanwhile_is_left_out(
    node: LocalNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = node.engine.log
    begin = log.begin_check

    def drop_first(file: SealedFile) -> object:
        if log.bases[0] == file.base == 1:
            log.drop_before(log.bases[1])
        return begin(file)

    monkeypatch.setattr(log, "begin_check", drop_first)
    monkeypatch.setattr(sums, "_STEP_COST", 1)
    assert next(each.base for each in await sums_of(node, bytes_per_second=1 << 40)) == log.bases[0] > 1
