"""What is kept of a case, and how it is shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.limits import Limits
from bench.measure import Sample, Series
from bench.result import Kept, Limit, Result
from bench.table import number, table

FIELDS = {"case", "value", "unit", "p50_ms", "p99_ms", "peer", "peer_value", "ratio", "limit", "limit_ratio"}


def series(*values: float, times_s: tuple[float, ...] = ()) -> Series:
    made = Series()
    for value in values:
        made.add(Sample(value, times_s))
    return made


def throughput() -> Result:
    peers = {"slow": series(10.0), "fast": series(50.0)}
    ours = series(100.0, 300.0, 200.0, times_s=(0.001,))
    return Result("write", "records/s", "higher", ours, "100 B", peers, Limit(400.0, "the wire"))


def test_an_object_says_all_that_is_known_of_a_case() -> None:
    kept = throughput().as_json()
    assert set(kept) > {*FIELDS, "conditions"}
    assert (kept["value"], kept["min"], kept["max"]) == (200.0, 100.0, 300.0)
    assert (kept["peer"], kept["peer_value"], kept["ratio"]) == ("fast", 50.0, 4.0)
    assert (kept["limit"], kept["limit_ratio"], kept["limit_is"]) == (400.0, 0.5, "the wire")
    assert kept["p50_ms"] == 1.0
    assert json.loads(json.dumps(kept)) == kept


def test_where_less_is_better_the_best_peer_is_the_least_and_ratios_turn_round() -> None:
    peers = {"slow": series(8.0), "fast": series(1.0)}
    kept = Result("write", "ms", "lower", series(2.0), "100 B", peers, Limit(0.5, "a sync")).as_json()
    assert (kept["peer"], kept["ratio"], kept["limit_ratio"]) == ("fast", 0.5, 0.25)


def test_without_peer_and_limit_there_are_no_ratios() -> None:
    kept = Result("write", "ms", "lower", series(2.0), "etcd left out: not installed").as_json()
    assert [kept[name] for name in ("peer", "peer_value", "ratio", "limit", "limit_ratio", "p50_ms")] == [
        None
    ] * 6
    assert "left out" in kept["conditions"]


def test_a_change_of_leader_takes_a_vote_and_a_write_at_least() -> None:
    limits = Limits(
        fdatasync_ms=9.0,
        round_trip_ms=0.1,
        memcpy_mb_per_s=1.0,
        grpc_unary_ms=1.0,
        grpc_unary_per_s=1.0,
        grpc_stream_ms=1.0,
        grpc_stream_mb_per_s=1.0,
        interpreter_ms=90.0,
        interpreter_mb=14.0,
    )
    assert limits.changeover(2.0).value == 2 * limits.awaited(2.0).value == pytest.approx(4.4)
    assert (limits.started().value, limits.memory().value) == (90.0, 14.0)


def test_a_part_of_the_cases_replaces_its_own_results_only(tmp_path: Path) -> None:
    def result(case: str, value: float) -> Result:
        return Result(case, "ms", "lower", series(value), "")

    path = tmp_path / "results" / "latest.json"
    Kept(path, {}).add([result("a", 1.0), result("b", 1.0)])
    again = Kept(path, {"fdatasync_ms": 2.0})
    again.add([result("c", 2.0)])
    again.add([result("a", 2.0)])
    kept = json.loads(path.read_text())
    assert [(case["case"], case["value"]) for case in kept["cases"]] == [("a", 2.0), ("b", 1.0), ("c", 2.0)]
    assert kept["limits"]["fdatasync_ms"] == 2.0
    assert [case["case"] for case in again.new] == ["c", "a"]


def test_a_table_has_a_row_for_each_case_in_aligned_columns() -> None:
    _, row, alone = table(
        [throughput().as_json(), Result("x", "ms", "lower", series(2.0), "").as_json()]
    ).split("\n")
    assert " ".join(row.split()) == "write 200 100 .. 300 records/s 1 / 1 / 1 fast 50 4 0.5"
    assert row.index("records/s") == alone.index("ms")
    assert alone.split()[-3:] == ["-", "-", "-"]


def test_numbers_have_as_many_digits_as_they_are_worth() -> None:
    assert [number(value) for value in (None, 0.0123, 2.5, 99.94, 123456.7)] == [
        "-",
        "0.0123",
        "2.5",
        "99.9",
        "123,457",
    ]
