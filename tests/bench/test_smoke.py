"""One small case from end to end: real nodes, limits, the table, the file. Peers are left out."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.cluster
def test_a_case_gives_a_row_and_an_object(tmp_path: Path) -> None:
    path = tmp_path / "latest.json"
    places = ["--directory", str(tmp_path / "var"), "--results", str(path)]
    run = bench("--only", "produce-awaited", "--peers", "", "--repeats", "1", *places)
    assert run.returncode == 0, run.stderr
    title, row = run.stdout.splitlines()
    assert (title.split()[0], row.split()[0]) == ("case", "produce-awaited")
    kept = json.loads(path.read_text())
    (case,) = kept["cases"]
    assert case["value"] > 0
    assert (case["min"], case["unit"], case["peer"], case["ratio"]) == (case["value"], "ms", None, None)
    assert case["p50_ms"] <= case["p99_ms"] <= case["p999_ms"]
    assert "replication 3, sync always" in case["conditions"]
    assert "etcd left out" in case["conditions"]
    assert all(
        kept["limits"][name] > 0
        for name in ("fdatasync_ms", "grpc_unary_ms", "interpreter_ms", "interpreter_mb")
    )
    assert list((tmp_path / "var").iterdir()) == []


def test_an_unknown_case_is_refused_with_those_that_there_are() -> None:
    run = bench("--only", "produce-awaitd")
    assert run.returncode == 2
    assert "produce-awaited" in run.stderr
