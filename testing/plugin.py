"""The fixtures of pytest: see the package. Loaded by every run of pytest, so it imports little."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from quorumlog.embedded import EmbeddedLog
    from quorumlog.testing.cluster import LocalCluster


@pytest.fixture
def quorumlog_embedded(tmp_path: Path) -> Iterator[EmbeddedLog]:
    """An empty log in this process: quorumlog.open() on a directory of this test's own."""
    import quorumlog

    with quorumlog.open(tmp_path / "quorumlog") as log:
        yield log


@pytest.fixture(scope="session")
def _quorumlog_processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    from quorumlog.testing.cluster import LocalCluster

    with LocalCluster(tmp_path_factory.mktemp("quorumlog-cluster")) as cluster:
        yield cluster


@pytest.fixture
def quorumlog_cluster(_quorumlog_processes: LocalCluster) -> Iterator[LocalCluster]:
    """Three real node processes, all well: see quorumlog.testing.cluster.LocalCluster.

    They are started once a session. After each test what it broke is mended, its topics are deleted and its
    clients closed.
    """
    try:
        yield _quorumlog_processes
    finally:
        _quorumlog_processes.reset()
