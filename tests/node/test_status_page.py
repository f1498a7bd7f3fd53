"""The status page in a real browser, at two widths; and that nothing from the log is more than text there.

Without a Chromium these are skipped; QUORUMLOG_REQUIRE_BROWSER=1 turns that into a failure. What the pages
look like is left beside the test's other files, `*.png`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from quorumlog.proto import service_pb2
from quorumlog.proto.batch import Record, encode_batch
from quorumlog.raft.alarms import DISK_FULL
from tests.node.conftest import StartNode
from tests.support.browser import Browser, Page, browser_command, start_browser
from tests.support.local_node import LocalNode

REQUIRE = "QUORUMLOG_REQUIRE_BROWSER"
SIZES = [(1280, 900), (390, 844)]
NASTY = "<img src=x onerror=\"document.title='stolen'\"><script>document.title='stolen'</script>"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    command = browser_command()
    if command is None:
        problem = "no Chromium is installed"
        if os.environ.get(REQUIRE) == "1":
            pytest.fail(f"{problem} ({REQUIRE}=1 asks for one)")
        pytest.skip(problem)
    with start_browser(command, tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.fixture
async def pair(start_node: StartNode) -> tuple[LocalNode, LocalNode]:
    """A leader and a follower, with a topic that holds all kinds of records."""
    leader = await start_node("n1", http__listen="127.0.0.1:0")
    follower = await start_node("n2", leads=False, http__listen="127.0.0.1:0")
    follower.follow(leader)
    await leader.create("orders", 2)
    await leader.create("a.topic.with.a.very.long.name-" + "x" * 200)
    records = [
        Record(NASTY.encode(), NASTY.encode(), ((NASTY, NASTY.encode()),)),
        Record(bytes(range(200)), b"binary"),
        Record(None, b"gone"),
        Record("ein Kaffee für Tisch 7 ☕".encode(), b"table-7"),
    ]
    header, body = encode_batch(records)
    await leader.produce(service_pb2.TopicBatch(topic="orders", header=header, body=body))
    return leader, follower


def fits(page: Page) -> None:
    """Nothing is wider than the screen."""
    assert page.ask("document.documentElement.scrollWidth <= innerWidth")
    wide = "[...document.querySelectorAll('main *')].filter(each => !each.closest('.scroll, select') && "
    wide += "each.getBoundingClientRect().right > innerWidth + 1).map(each => each.outerHTML.slice(0, 99))"
    assert page.ask(wide) == []


def read(browser: Browser, url: str, width: int, height: int, file: Path) -> None:
    page = browser.page(width, height, dark=width < 600)
    page.go(f"{url}#topic=orders")
    page.wait_for("all well")
    page.wait_for("ein Kaffee für Tisch 7 ☕")
    text = page.text()
    for expected in ("/ test", "n1", "leader", "orders", "Live: orders", "tombstone"):
        assert expected in text, expected
    assert NASTY in text, "shown as it is"
    assert "00 01 02 03" in text
    assert page.ask("document.querySelectorAll('main img, main script').length") == 0
    assert page.ask("document.title") == "test · quorumlog"
    fits(page)
    page.shot(file)
    assert page.problems() == []


@pytest.mark.parametrize(("width", "height"), SIZES)
async def test_the_page_shows_cluster_topics_and_records(
    browser: Browser, pair: tuple[LocalNode, LocalNode], width: int, height: int, tmp_path: Path
) -> None:
    leader, _ = pair
    url = f"http://{leader.node.http_address}/"
    await asyncio.to_thread(read, browser, url, width, height, tmp_path / f"well-{width}.png")


def follow(browser: Browser, url: str, produced: asyncio.Event, loop: asyncio.AbstractEventLoop) -> None:
    page = browser.page(*SIZES[0])
    page.go(url)
    page.wait_for("orders")
    page.ask("[...document.querySelectorAll('#topics button')].find(b => b.textContent === 'orders').click()")
    page.wait_for("following")
    loop.call_soon_threadsafe(produced.set)
    page.wait_for("what came just now")
    page.ask("document.getElementById('pause').click()")
    page.wait_for("paused")
    page.ask("document.getElementById('close').click()")
    assert "Live:" not in page.text()
    assert page.problems() == []


async def test_a_click_follows_a_topic(browser: Browser, pair: tuple[LocalNode, LocalNode]) -> None:
    leader, follower = pair
    ready = asyncio.Event()
    url = f"http://{follower.node.http_address}/"
    following = asyncio.ensure_future(
        asyncio.to_thread(follow, browser, url, ready, asyncio.get_running_loop())
    )
    waiting = asyncio.ensure_future(ready.wait())
    await asyncio.wait((following, waiting), return_when=asyncio.FIRST_COMPLETED)
    if not following.done():
        header, body = encode_batch([Record(b"what came just now")])
        await leader.produce(service_pb2.TopicBatch(topic="orders", partition=1, header=header, body=body))
    await following
    waiting.cancel()


def read_trouble(browser: Browser, url: str, file: Path) -> None:
    page = browser.page(*SIZES[1])
    page.go(url)
    page.wait_for("no leader")
    text = page.text()
    assert "Nobody is seen to lead" in text
    assert DISK_FULL in text
    assert "orders" in text, "what is applied here is still shown"
    fits(page)
    page.shot(file)


async def test_without_a_leader_the_page_says_so(
    browser: Browser, pair: tuple[LocalNode, LocalNode], tmp_path: Path
) -> None:
    _, follower = pair
    follower.engine.lose_leader()
    follower.engine.alarms.add(DISK_FULL)
    url = f"http://{follower.node.http_address}/"
    await asyncio.to_thread(read_trouble, browser, url, tmp_path / "no-leader.png")


async def test_the_page_says_when_its_node_is_gone(
    browser: Browser, pair: tuple[LocalNode, LocalNode]
) -> None:
    leader, _ = pair
    page = browser.page(*SIZES[0])
    await asyncio.to_thread(page.go, f"http://{leader.node.http_address}/")
    await asyncio.to_thread(page.wait_for, "all well")
    await leader.stop()
    await asyncio.to_thread(page.wait_for, "This node does not answer")
    assert "orders" in page.text(), "what was there before"
