"""`quorumlog local --once`, which `make run ONCE=1` calls: real input, the leader killed half-way."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.waiting import UNIT_S

LINES = 5000


@pytest.mark.parametrize("options", [[], ["--tls"]])
def test_all_lines_of_the_input_are_read_back_in_order_though_the_leader_dies(
    tmp_path: Path, options: list[str]
) -> None:
    source = tmp_path / "input"
    source.write_text("".join(f"line {number} of the input\n" for number in range(LINES)))
    command = [str(Path(sys.executable).with_name("quorumlog")), "local", "--once"]
    command += ["--directory", str(tmp_path / "var"), "--input", str(source), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120 * UNIT_S, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary["records"] == summary["acknowledged"] == summary["read_back"] == LINES
    assert summary["identical"] is True
    assert summary["leader_before"] != summary["leader_after"]
    assert summary["failover_ms"] > 0
    assert nodes_below(tmp_path) == []


def nodes_below(directory: Path) -> list[str]:
    """Command lines of running processes that name `directory`: nodes that were left behind."""
    lines = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it ended meanwhile
            continue
        if str(directory) in line:
            lines.append(line)
    return lines
