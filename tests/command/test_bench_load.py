"""The plan of a benchmark's load, and its figures."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from quorumlog.command.bench_load import Load, Meter, Ticket, Tickets, Values, figures, sent_s

LOAD = Load(records=250, duration_s=None, size=100, rate=None, batch=100, concurrency=4)


def test_records_are_given_out_to_the_last() -> None:
    tickets = Tickets(LOAD, 0.0)
    counts = [ticket.count if (ticket := tickets.take(1.0)) is not None else None for _ in range(4)]
    assert counts == [100, 100, 50, None]


def test_an_open_loop_has_its_moments_however_late_it_is() -> None:
    tickets = Tickets(replace(LOAD, rate=1000.0, batch=100), 10.0)
    assert tickets.take(10.0) == Ticket(100, 10.0)
    assert tickets.take(99.0) == Ticket(100, pytest.approx(10.1))
    assert tickets.take(99.0) == Ticket(50, pytest.approx(10.2))


def test_a_duration_ends_a_closed_loop_by_the_clock() -> None:
    tickets = Tickets(replace(LOAD, records=None, duration_s=2.0), 10.0)
    assert tickets.take(11.9) == Ticket(100, None)
    assert tickets.take(12.0) is None


def test_a_duration_ends_an_open_loop_by_its_plan() -> None:
    """However far behind the cluster is: what was meant to be sent is."""
    tickets = Tickets(replace(LOAD, records=None, duration_s=0.15, rate=1000.0), 10.0)
    moments = [tickets.take(50.0) for _ in range(3)]
    assert moments == [Ticket(100, 10.0), Ticket(100, pytest.approx(10.1)), None]


def test_figures() -> None:
    meter = Meter(10.0)
    meter.latencies.record(0.002, 100)
    meter.done(100, 10_000, 10.5)
    found = figures(meter)
    assert (found.records, found.elapsed_s, found.records_per_s, found.mb_per_s) == (100, 0.5, 200.0, 0.02)
    assert found.p50_ms == found.max_ms == 2.0


def test_figures_of_nothing() -> None:
    found = figures(Meter(10.0))
    assert (found.records, found.records_per_s, found.p50_ms, found.max_ms) == (0, 0.0, None, None)


@pytest.mark.parametrize("size", [1, 2, 15, 100, 4096])
def test_values_have_their_size(size: int) -> None:
    values = Values(size, Random(1)).take(700, 0.0)
    assert {len(value) for value in values} == {size}


@pytest.mark.parametrize("size", [16, 17, 100])
def test_values_tell_when_they_were_meant_to_be_sent(size: int) -> None:
    run = b"this-run"
    values = Values(size, Random(1), run).take(3, 12.345678)
    assert {len(value) for value in values} == {size}
    assert [sent_s(value, run) for value in values] == [12.345678] * 3
    assert sent_s(values[0], b"anotherx") is None
    assert sent_s(None, run) is None
    assert sent_s(run, run) is None, "too short"
