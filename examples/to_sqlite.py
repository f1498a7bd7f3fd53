"""A change feed into a SQLite table, each record exactly once, whenever this program is killed.

    echo 'espresso={"price": 2.2}' | quorumlog produce drinks -K =
    python to_sqlite.py drinks drinks.db

A record's key is the row's id; its value is JSON, or null, which deletes the row. The offset of the next
record stands in the same database and is written in the same transaction as the rows: after a crash either
both are there or neither, and reading goes on at that offset. No acknowledgement, no duplicate.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from quorumlog.client import Client, JsonDeserializer, QuorumlogError, Record

SCHEMA = """
CREATE TABLE IF NOT EXISTS rows (id TEXT PRIMARY KEY, content TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS offsets (
    topic TEXT, partition INTEGER, next INTEGER NOT NULL, PRIMARY KEY (topic, partition)
) STRICT;
"""
AT_ONCE = 1000  # records in a transaction
WAIT_MS = 500

Change = Record[bytes, Any]


class Table:
    """The table, and where in the feed it is."""

    def __init__(self, path: str) -> None:
        self._database = sqlite3.connect(path)
        self._database.executescript(SCHEMA)

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()

    def next_offset(self, topic: str, partition: int) -> int:
        """Return where reading goes on; 0 at first."""
        found = self._database.execute(
            "SELECT next FROM offsets WHERE topic = ? AND partition = ?", (topic, partition)
        ).fetchone()
        return found[0] if found else 0

    def apply(self, changes: Iterable[Change]) -> None:
        """Apply changes and move on behind them: all of it or nothing."""
        with self._database as transaction:
            for change in changes:
                key = (change.key or b"").decode()
                if change.value is None:
                    transaction.execute("DELETE FROM rows WHERE id = ?", (key,))
                else:
                    content = json.dumps(change.value)
                    transaction.execute("INSERT OR REPLACE INTO rows VALUES (?, ?)", (key, content))
                transaction.execute(
                    "INSERT OR REPLACE INTO offsets VALUES (?, ?, ?)",
                    (change.topic, change.partition, change.offset + 1),
                )


def feed(topic: str, table: Table, *, follow: bool) -> int:
    """Apply what there is, and with `follow` what comes; return how many changes."""
    count = 0
    with Client(os.environ.get("QUORUMLOG_SERVERS", "localhost:9650")) as client:
        partitions = client.describe_topic(topic).partitions
        end = None if follow else "latest"
        with client.consumer(topic, end=end, value_deserializer=JsonDeserializer()) as consumer:
            for each in partitions:
                # Where retention was faster than we were, the feed goes on at what is left.
                at = max(table.next_offset(topic, each.partition), each.start_offset)
                consumer.seek(topic, each.partition, at)
            while not consumer.finished:
                changes = consumer.getmany(timeout_ms=WAIT_MS, max_records=AT_ONCE)
                table.apply(changes)
                count += len(changes)
    return count


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit code."""
    parser = argparse.ArgumentParser(description="A change feed into a SQLite table.")
    parser.add_argument("topic")
    parser.add_argument("database")
    parser.add_argument("--once", action="store_true", help="stop when all that is there was applied")
    options = parser.parse_args(arguments)
    table = Table(options.database)
    try:
        print(f"{feed(options.topic, table, follow=not options.once)} changes applied")
    except QuorumlogError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        table.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
