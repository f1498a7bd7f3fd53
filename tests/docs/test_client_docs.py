"""Every Python block of docs/client.md, against three real nodes; and without async and await, as it says."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from quorumlog.client import AsyncClient, Client, UnknownOption
from quorumlog.client.local_nodes import LocalNodes

pytestmark = pytest.mark.cluster

PAGE = Path(__file__).parents[2] / "docs" / "client.md"
ADDRESSES = "host1:9650,host2:9650"  # as the page has them
TOPICS = ("orders", "drinks")

# A comment above a block: `<!-- follows -->` for one that ends with Ctrl-C only.
_BLOCK = re.compile(r"(<!-- follows -->\n)?```python\n(.*?)```", re.DOTALL)


def blocks() -> list[tuple[int, str]]:
    """Return each block with the line where it begins; one that follows ends at what is there."""
    text = PAGE.read_text()
    found = []
    for match in _BLOCK.finditer(text):
        code = (
            match[2].replace('consumer("orders")', 'consumer("orders", end="latest")')
            if match[1]
            else match[2]
        )
        found.append((text.count("\n", 0, match.start(2)) + 1, code))
    return found


def without_async(code: str) -> str:
    return re.sub(r"\basync (?=with|for|def)|\bawait ", "", code).replace("AsyncClient", "Client")


@pytest.fixture
async def servers(tmp_path: Path) -> AsyncIterator[str]:
    async with LocalNodes(tmp_path, 3) as nodes:
        addresses = ",".join(node.client_address for node in nodes.nodes)
        async with AsyncClient(addresses, connect_timeout_ms=60_000) as client:
            for topic in TOPICS:
                await client.create_topic(topic, partitions=2)
        yield addresses


def compile_at(line: int, code: str) -> Any:
    return compile("\n" * (line - 1) + code, str(PAGE), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


async def test_the_examples_run(servers: str) -> None:
    names: dict[str, Any] = {"__name__": "__main__"}
    for line, block in blocks():
        code = compile_at(line, block.replace(ADDRESSES, servers))
        async with AsyncClient(servers) as client:
            names["client"] = client
            running = eval(code, names)
            if inspect.iscoroutine(running):
                await running


async def test_the_examples_run_without_async_and_await(servers: str) -> None:
    await asyncio.to_thread(run_plainly, servers)


def run_plainly(servers: str) -> None:
    names: dict[str, Any] = {"__name__": "__main__"}
    for line, block in blocks():
        code = compile_at(line, without_async(block.replace(ADDRESSES, servers)))
        with Client(servers) as client:
            names["client"] = client
            eval(code, names)


async def test_what_the_page_says_of_health_holds(servers: str) -> None:
    async with AsyncClient(servers) as client:
        leader = (await client.status()).leader_id
        assert await client.check_health("leader", node=leader)
        with pytest.raises(UnknownOption, match="knows no 'nonsense'"):
            await client.check_health("nonsense")
        compared = await client.compare_replicas()
        assert compared.equal
        assert compared.nodes == ("n1", "n2", "n3")
