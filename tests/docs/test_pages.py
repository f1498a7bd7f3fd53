"""Every code block of README.md and docs/: run, against three real nodes, or read by what reads it.

A page's blocks run in their order, in a directory of the page's own: Python in this process, with names that
later blocks see; commands as typed in a shell, their output compared where the page shows it. pages.py says
what may stand above a block, printed.py what may differ from run to run. The quickstart has its own test.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from quorumlog.client import AsyncClient, Client, UnknownOption
from quorumlog.command import profiles
from quorumlog.node import grants
from tests.conftest import SHOWN_ON_FAILURE
from tests.docs.page_run import SHELL, PageRun
from tests.docs.pages import DOCS, Block, blocks, indented_blocks, name_of, pages
from tests.docs.shell import Shell
from tests.support.compose import compose_command
from tests.support.nodes import NodeCluster

READ = ("toml", "yaml", "json")
SHOWN = ("text",)  # drawings, bytes, protocols: there is nothing to run
LANGUAGES = ("python", *SHELL, *READ, *SHOWN)

QUICKSTART = DOCS / "quickstart.md"

# Blocks that are not run, by page; each says why. Keep them few.
NOT_RUN: Mapping[str, int] = {
    "README.md": 3,
    "docs/cli.md": 2,
    "docs/how-to/compose.md": 2,
    "docs/how-to/upgrade.md": 1,
    "docs/operations.md": 8,
    "docs/performance.md": 1,
    "docs/security.md": 3,
    "docs/testing.md": 1,
}

CLIENT_PAGE = DOCS / "client.md"
_CREATED = {CLIENT_PAGE: ("orders", "drinks"), DOCS / "cli.md": ("orders",)}


def pages_with(*languages: str) -> list[Any]:
    """Return the pages that have blocks in these languages to run, as parameters of a test."""
    return [
        pytest.param(page, id=name_of(page))
        for page in pages()
        if page != QUICKSTART
        and any(block.language in languages and block.kind != "not run" for block in blocks(page))
    ]


# What all pages keep to.


@pytest.mark.parametrize("page", [pytest.param(page, id=name_of(page)) for page in pages()])
def test_every_block_says_what_it_is(page: Path) -> None:
    assert not indented_blocks(page), "fence these blocks, so that they have a language"
    for block in blocks(page):
        assert block.language in LANGUAGES, f"{block.where}: one of {LANGUAGES}, please"


def test_what_is_not_run_stays_few_and_says_why() -> None:
    left: dict[str, int] = {}
    for page in pages():
        for block in blocks(page):
            if block.kind == "not run":
                assert len(block.argument) > 10, f"{block.where}: say why"
                left[name_of(page)] = left.get(name_of(page), 0) + 1
    assert left == NOT_RUN


# What is run.


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeCluster]:
    """Three nodes for all pages."""
    with NodeCluster(tmp_path_factory.mktemp("nodes")) as cluster:
        cluster.start()
        cluster.wait_for_leader()
        yield cluster


@pytest.fixture
def servers(shared: NodeCluster, request: pytest.FixtureRequest) -> str:
    """Their addresses; no topic is left of the page before."""
    request.node.stash[SHOWN_ON_FAILURE] = [shared]
    shared.wait_for_leader()
    addresses = ",".join(shared.bootstrap_servers)
    with Client(addresses, connect_timeout_ms=60_000) as client:
        for topic in client.list_topics(consistency="linearizable"):
            client.delete_topic(topic.name)
    return addresses


@pytest.mark.cluster
@pytest.mark.parametrize("page", pages_with("python", *SHELL))
def test_a_page_does_what_it_says(page: Path, servers: str, tmp_path: Path) -> None:
    run_page(page, servers, tmp_path)


@pytest.mark.cluster
def test_the_client_page_is_right_without_async_and_await(servers: str, tmp_path: Path) -> None:
    run_page(CLIENT_PAGE, servers, tmp_path, plain=True)


def run_page(page: Path, servers: str, directory: Path, *, plain: bool = False) -> None:
    with Client(servers) as client:
        for topic in _CREATED.get(page, ()):
            client.create_topic(topic, partitions=2)
    own = any(block.kind == "background" and "quorumlog local" in block.text for block in blocks(page))
    with Shell(directory / "page", shell_environment("" if own else servers, directory)) as shell:
        PageRun(page, shell, servers, plain=plain).all_blocks()


def shell_environment(servers: str, home: Path) -> dict[str, str]:
    """Return our environment with `quorumlog` and `python` of this checkout, and nodes to ask."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("QUORUMLOG_")}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    nodes = {"QUORUMLOG_SERVERS": servers} if servers else {}
    # pytest-asyncio, which readers may not have, warns where this is not set.
    options = {"PYTEST_ADDOPTS": "-o asyncio_default_fixture_loop_scope=function"}
    settings = {"XDG_CONFIG_HOME": str(home), "HOME": str(home)}  # profiles, of the page alone
    return {**kept, **nodes, **options, **settings, "PATH": path, "COLUMNS": "110", "NO_COLOR": "1"}


# What is read.


@pytest.mark.parametrize("page", pages_with("toml", "yaml", "json"))
def test_a_page_shows_files_that_can_be_read(page: Path, tmp_path: Path) -> None:
    for block in blocks(page):
        if block.kind != "not run" and block.language in READ:
            file = tmp_path / f"{block.line}.{block.language}"
            file.write_text(block.text)
            READERS[block.language](block, file)


def read_toml(block: Block, file: Path) -> None:
    if "[[grant]]" in block.text:
        assert grants.load(file), block.where
        return
    for name in re.findall(r"/etc/quorumlog/([\w.-]+)", block.text):  # such files have to exist
        (file.parent / name).touch()
    file.write_text(block.text.replace("/etc/quorumlog", str(file.parent)))
    if "[profile." in block.text:
        assert profiles.parse_profiles(block.text).by_name, block.where
        return
    done = subprocess.run(
        [sys.executable, "-m", "quorumlog.node", "--config", str(file), "--print-config"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{block.where}: {done.stderr}"


def read_yaml(block: Block, file: Path) -> None:
    content = yaml.safe_load(block.text)
    command = compose_command()
    if "services" in content and command is not None:
        done = subprocess.run(
            [*command, "-f", str(file), "config", "--quiet"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{block.where}: {done.stderr}"


def read_json(block: Block, _: Path) -> None:
    assert json.loads(block.text.replace(", ...", "")), block.where


READERS = {"toml": read_toml, "yaml": read_yaml, "json": read_json}


# What the pages say in words.


@pytest.mark.cluster
async def test_what_the_client_page_says_of_health_holds(servers: str) -> None:
    async with AsyncClient(servers) as client:
        leader = (await client.status()).leader_id
        assert await client.check_health("leader", node=leader)
        with pytest.raises(UnknownOption, match="knows no 'nonsense'"):
            await client.check_health("nonsense")
        compared = await client.compare_replicas()
        assert compared.equal
        assert compared.nodes == ("n1", "n2", "n3")
