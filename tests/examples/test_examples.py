"""The examples, run as their README says, against a real log and a real cluster."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from quorumlog.client import Client
from quorumlog.testing.cluster import LocalCluster
from tests.support.waiting import UNIT_S, eventually

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    with LocalCluster(tmp_path_factory.mktemp("cluster")) as made:
        yield made


def command(name: str, *arguments: str | Path) -> list[str]:
    return [sys.executable, str(EXAMPLES / f"{name}.py"), *map(str, arguments)]


def environment(cluster: LocalCluster | None) -> dict[str, str]:
    return {**os.environ, "QUORUMLOG_SERVERS": cluster.servers if cluster is not None else ""}


def run(name: str, *arguments: str | Path, cluster: LocalCluster | None = None) -> str:
    done = subprocess.run(
        command(name, *arguments),
        env=environment(cluster),
        capture_output=True,
        text=True,
        timeout=60 * UNIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def values(client: Client, topic: str) -> list[bytes | None]:
    return [record.value for record in client.consumer(topic, end="latest", consistency="linearizable")]


def test_an_account_is_its_events(tmp_path: Path) -> None:
    log = ("--log", tmp_path / "account")
    assert run("account", *log, "deposit", "50") == "balance: 50.00\n"
    assert run("account", *log, "withdraw", "20.5") == "balance: 29.50\n"
    refused = subprocess.run(
        command("account", *log, "withdraw", "30"), capture_output=True, text=True, check=False
    )
    assert (refused.returncode, refused.stderr) == (1, "there are only 29.50\n")
    *history, balance = run("account", *log, "history").splitlines()
    assert [line.split()[2:] for line in history] == [["deposited", "50.00"], ["withdrawn", "20.50"]]
    assert balance == "balance: 29.50"


@pytest.mark.cluster
def test_a_file_is_shipped_line_by_line_and_once(cluster: LocalCluster, tmp_path: Path) -> None:
    topic, file = cluster.topic("logs"), tmp_path / "app.log"
    file.write_bytes(b"one\ntwo\nhalf a li")
    assert run("ship_log", file, topic, "--once", cluster=cluster) == "2 lines shipped\n"
    with file.open("ab") as more:
        more.write(b"ne\nfour\n")
    shipping = subprocess.Popen(command("ship_log", file, topic), env=environment(cluster))
    try:
        with cluster.client() as client:
            eventually(lambda: len(values(client, topic)) == 4, "what came meanwhile is shipped")
            file.rename(tmp_path / "app.log.1")
            file.write_bytes(b"five\n")
            eventually(lambda: len(values(client, topic)) == 5, "the file after the rotation is shipped")
            shipping.send_signal(signal.SIGINT)
            assert shipping.wait(20 * UNIT_S) == 130
            assert run("ship_log", file, topic, "--once", cluster=cluster) == "0 lines shipped\n"
            assert values(client, topic) == [b"one", b"two", b"half a line", b"four", b"five"]
    finally:
        shipping.kill()
        shipping.wait()


@pytest.mark.cluster
def test_a_change_feed_is_applied_exactly_once_though_it_is_killed(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    topic, database = cluster.topic("drinks", partitions=2), tmp_path / "drinks.db"
    drinks = 3_000
    with cluster.client() as client, client.producer() as producer:
        for number in range(drinks):
            producer.submit(topic, b'{"number": %d}' % number, key=b"%d" % (number % 100))
        producer.submit(topic, None, key=b"7")
        producer.flush()
        ends = client.end_offsets(topic)

    feeding = subprocess.Popen(command("to_sqlite", topic, database), env=environment(cluster))
    try:
        eventually(lambda: _applied(database, topic) > 0, "some changes are applied")
    finally:
        feeding.kill()  # in the midst of it, or behind it
        feeding.wait()
    run("to_sqlite", topic, database, "--once", cluster=cluster)

    with sqlite3.connect(database) as rows:
        offsets = dict(rows.execute("SELECT partition, next FROM offsets WHERE topic = ?", (topic,)))
        found = dict(rows.execute("SELECT id, content FROM rows"))
    rows.close()
    assert offsets == ends
    expected = {str(key): drinks - 100 + key for key in range(100) if key != 7}
    assert found == {key: f'{{"number": {number}}}' for key, number in expected.items()}
    assert run("to_sqlite", topic, database, "--once", cluster=cluster) == "0 changes applied\n"


def _applied(database: Path, topic: str) -> int:
    if not database.exists():
        return 0
    connection = sqlite3.connect(database)
    try:
        (total,) = connection.execute("SELECT sum(next) FROM offsets WHERE topic = ?", (topic,)).fetchone()
    except sqlite3.OperationalError:  # there is no table yet
        return 0
    finally:
        connection.close()
    return total or 0


@pytest.mark.cluster
def test_the_dashboard_shows_who_leads_and_what_comes(cluster: LocalCluster) -> None:
    topic = cluster.topic("orders")
    with cluster.client() as client, client.producer() as producer:
        producer.send_many(topic, [b"order"] * 1234)
        shown = run("dashboard", "--looks", "2", "--interval", "0.05", cluster=cluster)
    assert f"local: {cluster.wait_leader()} leads" in shown
    assert "3 of 3 nodes answer" in shown
    (row,) = [line for line in shown.splitlines() if line.startswith(topic)]
    assert row.split()[1:3] == ["1", "1,234"]
