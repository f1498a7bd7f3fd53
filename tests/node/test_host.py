"""What the machine under a node says in its status."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from quorumlog.node.host import Host
from quorumlog.proto import service_pb2


def described(data: Path) -> service_pb2.NodeStatus:
    message = service_pb2.NodeStatus()
    Host(data, None).describe(message)
    return message


def test_it_tells_its_clock_disk_and_descriptors(tmp_path: Path) -> None:
    before_ms = time.time_ns() // 1_000_000
    said = described(tmp_path)
    assert before_ms <= said.clock_ms <= time.time_ns() // 1_000_000
    assert said.disk_total_bytes == shutil.disk_usage(tmp_path).total
    assert 0 < said.disk_free_bytes <= said.disk_total_bytes
    assert said.open_files > 0
    assert said.certificate_expires_ms == 0, "plain text"


def test_a_disk_that_is_gone_is_not_known(tmp_path: Path) -> None:
    said = described(tmp_path / "gone")
    assert said.disk_total_bytes == 0
    assert said.clock_ms > 0
