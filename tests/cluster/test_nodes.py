"""No node outlives the tests, however they end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support.waiting import UNIT_S, eventually

# Starts a node, says which, and waits to be killed.
TEST_PROCESS = """
import sys, pathlib
from tests.support.nodes import NodeCluster
cluster = NodeCluster(pathlib.Path(sys.argv[1]), 1)
cluster.start()
print(cluster["n1"].pid, flush=True)
sys.stdin.read()
"""


def test_a_node_ends_when_its_test_process_is_killed(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", TEST_PROCESS, str(tmp_path)],
        cwd=root,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as tests:
        assert tests.stdout is not None
        node = int(tests.stdout.readline())
        assert runs(node)
        tests.kill()
        tests.wait(10 * UNIT_S)
    eventually(lambda: not runs(node), "the node ends with its test process")


def runs(pid: int) -> bool:
    """Whether a process with this id exists, and is more than an entry that nobody has collected."""
    try:
        os.kill(pid, 0)
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (ProcessLookupError, FileNotFoundError):
        return False
