"""Numbers beyond what is possible, and readers that leave: told at once, no traceback, nothing hangs."""

from __future__ import annotations

import asyncio

import pytest

from quorumlog.client.aio import AsyncClient
from quorumlog.client.errors import InvalidRequest
from quorumlog.command.input_format import InputFormat
from tests.command.test_main import run, start, told
from tests.support.fake_node import FakeCluster
from tests.support.waiting import UNIT_S

HUGE = 10**23


async def test_a_line_whose_time_is_too_large_is_named_and_the_others_sent(cluster: FakeCluster) -> None:
    lines = f"{HUGE} a\n17 b\n".encode()
    produced = await run(cluster, "produce", "one", "-f", "%T %v", stdin=lines)
    assert produced.code == 1
    assert f"line 1: skipped: %T: expected at most 4611686018427387903, got {HUGE}" in produced.err
    assert "1 record acknowledged" in produced.err


def test_a_number_of_thousands_of_digits_is_no_number() -> None:
    with pytest.raises(ValueError, match="%T: expected at most"):
        InputFormat("%T %v").parse(b"9" * 10_000 + b" v")
    assert InputFormat("%T %v").parse(b"0017 v").timestamp_ms == 17


async def test_the_library_refuses_a_time_that_no_batch_can_hold(cluster: FakeCluster) -> None:
    servers = ",".join(node.address for node in cluster.nodes.values())
    async with AsyncClient(servers) as client, client.producer() as producer:
        for stamp in (HUGE, -HUGE, 1 << 62):
            with pytest.raises(InvalidRequest, match="timestamp_ms: expected "):
                await producer.send("one", b"v", timestamp_ms=stamp)
            with pytest.raises(InvalidRequest, match="timestamp_ms: expected "):
                await producer.send_many("one", [b"v"], timestamp_ms=stamp)
        first = producer.submit("one", b"v", timestamp_ms=-(1 << 62))
        second = producer.submit("one", b"v", timestamp_ms=(1 << 62) - 1)
        for delivery in (await first, await second):
            await delivery


async def test_a_reader_of_acknowledgements_that_leaves_ends_it(cluster: FakeCluster) -> None:
    process = await start(cluster, "produce", "one", "-k", "x", "-o", "wide")
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"line\n" * 50_000)
    process.stdin.close()
    async with asyncio.timeout(30 * UNIT_S):
        await process.stdout.readline()
        process.stdout._transport.close()  # type: ignore[attr-defined]
        assert await process.wait() == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("produce", "b", "-T", str(HUGE)),
        ("produce", "b", "--delivery-timeout", "nan"),
        ("produce", "b", "--delivery-timeout", "inf"),
        ("produce", "b", "--delivery-timeout=-1"),
    ],
)
def test_a_number_out_of_range_is_a_usage_error(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert "expected " in told(arguments, capsys)
