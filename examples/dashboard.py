"""A live picture in the terminal: who leads, and how many records a second each topic gets.

    python dashboard.py            until Ctrl-C
    python dashboard.py --looks 3  three looks, then stop

Every look asks any node; where one is gone, the next answers.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from quorumlog.client import AsyncClient, ClusterStatus, QuorumlogError, Topic

BARS = " ▁▂▃▄▅▆▇█"
KEPT = 40  # looks in a picture


@dataclass
class Rates:
    """Records a second of one topic, oldest first."""

    records: int
    seen_s: float
    kept: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT))

    def add(self, records: int, now_s: float) -> None:
        """Take in how many records the topic has had by now."""
        self.kept.append((records - self.records) / max(now_s - self.seen_s, 1e-9))
        self.records, self.seen_s = records, now_s


def bars(values: Sequence[float]) -> str:
    """Draw values as bars, the largest as a full block."""
    top = max(values, default=0.0)
    return "".join(BARS[round(value / top * (len(BARS) - 1))] if top else BARS[0] for value in values)


class Dashboard:
    """What was seen so far, and how it is drawn."""

    def __init__(self) -> None:
        self._rates: dict[str, Rates] = {}

    def picture(self, status: ClusterStatus | None, topics: Sequence[Topic], now_s: float) -> Group:
        """Draw what a look has brought; None: nobody answered."""
        table = Table("TOPIC", "PARTITIONS", "RECORDS", "PER SECOND", "", box=None, pad_edge=False)
        for topic in topics:
            written = sum(partition.high_watermark for partition in topic.partitions)
            rates = self._rates.setdefault(topic.name, Rates(written, now_s))
            rates.add(written, now_s)
            rate = rates.kept[-1] if rates.kept else 0.0
            counts = (str(len(topic.partitions)), f"{topic.records:,}", f"{rate:,.0f}")
            table.add_row(topic.name, *counts, bars(rates.kept))
        return Group(self._headline(status), Text(), table)

    @staticmethod
    def _headline(status: ClusterStatus | None) -> Text:
        if status is None:
            return Text("no node answers", style="bold red")
        up = sum(node.reachable for node in status.nodes)
        leader = f"{status.leader_id} leads" if status.leader_id else "nobody leads"
        return Text(
            f"{status.cluster}: {leader}, term {status.term}, {up} of {len(status.nodes)} nodes answer"
        )


async def watch(looks: int | None, interval_s: float, console: Console) -> None:
    """Look again and again, and draw."""
    dashboard, topics = Dashboard(), list[Topic]()
    servers = os.environ.get("QUORUMLOG_SERVERS", "localhost:9650")
    async with AsyncClient(servers, request_timeout_ms=1_000, attempt_timeout_ms=500) as client:
        with screen(console) as live:
            while looks is None or looks > 0:
                status = None
                with suppress(QuorumlogError):  # an election, perhaps: the next look may do
                    status, topics = await client.status(timeout_ms=300), await client.list_topics()
                live.update(dashboard.picture(status, topics, time.monotonic()), refresh=True)
                looks = None if looks is None else looks - 1
                if looks != 0:
                    await asyncio.sleep(interval_s)


@contextmanager
def screen(console: Console) -> Iterator[Live]:
    """The whole terminal, where there is one."""
    with Live(console=console, screen=console.is_terminal, auto_refresh=False) as live:
        yield live


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit code."""
    parser = argparse.ArgumentParser(description="A live picture of a cluster.")
    parser.add_argument("--looks", type=int, help="stop after so many (default: never)")
    parser.add_argument("--interval", type=float, default=1.0, metavar="SECONDS")
    options = parser.parse_args(arguments)
    try:
        asyncio.run(watch(options.looks, options.interval, Console()))
    except QuorumlogError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
