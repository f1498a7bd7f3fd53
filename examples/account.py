"""An account whose state is its events, kept in an embedded log: no server, and nothing is ever overwritten.

    python account.py deposit 50
    python account.py withdraw 20
    python account.py balance
    python account.py history

One process at a time opens the log, so that nobody withdraws between our look at the balance and our event.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import quorumlog
from quorumlog.client import Client, JsonDeserializer, JsonSerializer, QuorumlogError, Record

TOPIC = "account"


@dataclass(frozen=True)
class Event:
    """Something that happened to the account. Amounts are in cents: money is counted, not measured."""

    kind: str  # "deposited" or "withdrawn"
    cents: int


class Account:
    """The account as of its newest event."""

    def __init__(self, log: Client) -> None:
        self._log = log
        log.ensure_topic(TOPIC)
        self.cents = sum(signed(event) for event, _ in self.history())

    def deposit(self, cents: int) -> None:
        """Put money in."""
        self._append(Event("deposited", cents))

    def withdraw(self, cents: int) -> None:
        """Take money out. Raises ValueError where there is not so much."""
        if cents > self.cents:
            raise ValueError(f"there are only {money(self.cents)}")
        self._append(Event("withdrawn", cents))

    def history(self) -> Iterator[tuple[Event, Record[bytes, Any]]]:
        """Yield every event and its record, oldest first."""
        with self._log.consumer(TOPIC, end="latest", value_deserializer=JsonDeserializer()) as consumer:
            for record in consumer:
                yield Event(**(record.value or {})), record

    def _append(self, event: Event) -> None:
        # On the disk when this returns: only then is it so.
        with self._log.producer(value_serializer=JsonSerializer()) as producer:
            producer.send(TOPIC, asdict(event))
        self.cents += signed(event)


def signed(event: Event) -> int:
    """What an event does to the balance."""
    return event.cents if event.kind == "deposited" else -event.cents


def money(cents: int) -> str:
    """12345 is 123.45."""
    return f"{cents / 100:.2f}"


def parse_money(text: str) -> int:
    """Cents of "50" or "12.30"."""
    cents = round(float(text) * 100)
    if cents <= 0:
        raise ValueError
    return cents


def run(options: argparse.Namespace) -> None:
    """Do what was asked for, and say what came of it."""
    with quorumlog.open(options.log) as log:
        account = Account(log)
        if options.do == "history":
            for event, record in account.history():
                print(f"{record.datetime:%Y-%m-%d %H:%M:%S}  {event.kind:<9}  {money(event.cents):>10}")
        elif options.do in ("deposit", "withdraw"):
            getattr(account, options.do)(options.amount)
        print(f"balance: {money(account.cents)}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit code."""
    parser = argparse.ArgumentParser(description="An account whose state is its events.")
    parser.add_argument("--log", default="account.log", help="directory of the log (default: account.log)")
    verbs = parser.add_subparsers(dest="do", required=True)
    for verb in ("deposit", "withdraw"):
        verbs.add_parser(verb).add_argument("amount", type=parse_money)
    for verb in ("balance", "history"):
        verbs.add_parser(verb)
    try:
        run(parser.parse_args(arguments))
    except (ValueError, QuorumlogError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
