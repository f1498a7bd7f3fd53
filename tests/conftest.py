"""What all tests share: their order, hypothesis' profile, clusters of real processes, the Docker engine."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import docker
import pytest
from docker.errors import DockerException
from hypothesis import settings

from tests.support.compose import build_image, compose_command
from tests.support.nodes import NodeCluster

# Speed is not asserted: a busy machine is slow at times, and bench/ measures. A failure shall be repeatable.
settings.register_profile("quorumlog", deadline=None, print_blob=True)
settings.load_profile("quorumlog")

REQUIRE_DOCKER = "QUORUMLOG_REQUIRE_DOCKER"

StartCluster = Callable[..., NodeCluster]


class HasLogs(Protocol):
    """A cluster of any kind."""

    def logs(self) -> str:
        """What its nodes said last."""


# The clusters that a test uses, kept with the test for the report of its failure.
SHOWN_ON_FAILURE = pytest.StashKey[list[HasLogs]]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run what is quick first: a broken unit explains a broken cluster, never the other way round."""
    for item in items:
        if "/cluster/" in item.path.as_posix():
            item.add_marker(pytest.mark.cluster)
    items.sort(key=lambda item: (_has(item, "docker"), _has(item, "cluster")))


def _has(item: pytest.Item, marker: str) -> bool:
    return item.get_closest_marker(marker) is not None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the logs of the nodes to a failure: the reason is rarely in the test process."""
    report = yield
    if report.failed:
        clusters: list[HasLogs] = item.stash.get(SHOWN_ON_FAILURE, [])
        for number, cluster in enumerate(clusters):
            report.sections.append((f"nodes of cluster {number}", cluster.logs()))
    return report


@pytest.fixture(autouse=True)
def _curtain() -> Iterator[None]:
    """Simulated clusters end with their test, and their clock with them."""
    yield
    simulation = sys.modules.get("tests.simulation.process")
    if simulation is not None:
        simulation.stage.clear()


@pytest.fixture
def start_cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StartCluster]:
    """A function that starts a cluster of `count` nodes with `settings`; all end with the test."""
    clusters = request.node.stash.setdefault(SHOWN_ON_FAILURE, [])
    with ExitStack() as running:

        def start(
            count: int = 3,
            settings: Mapping[str, object] | None = None,
            *,
            name: str = "test",
            serving: bool = True,
        ) -> NodeCluster:
            directory = tmp_path / f"cluster-{len(clusters)}"
            cluster = running.enter_context(NodeCluster(directory, count, settings, name=name))
            clusters.append(cluster)
            if serving:
                cluster.start()
                cluster.wait_for_leader()
            return cluster

        yield start


@pytest.fixture
def cluster(start_cluster: StartCluster) -> NodeCluster:
    """Three nodes that agree on a leader."""
    return start_cluster()


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[docker.DockerClient]:
    """A client of the Docker engine; skips where there is none, or fails where one is required."""
    try:
        engine = docker.from_env()
        engine.ping()
    except DockerException as error:
        problem = f"no Docker engine answers: {error}"
        if os.environ.get(REQUIRE_DOCKER) == "1":
            pytest.fail(f"{problem} ({REQUIRE_DOCKER}=1 asks for one)")
        pytest.skip(problem)
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def compose() -> list[str]:
    """How compose is called on this machine; skips where it is missing, or fails where it is required."""
    found = compose_command()
    if found is None:
        problem = "neither `docker compose` nor docker-compose is installed"
        if os.environ.get(REQUIRE_DOCKER) == "1":
            pytest.fail(f"{problem} ({REQUIRE_DOCKER}=1 asks for one)")
        pytest.skip(problem)
    return found


@pytest.fixture(scope="session")
def image(docker_engine: docker.DockerClient, compose: list[str]) -> Iterator[str]:
    """The project's image, built from this checkout."""
    tag = build_image()
    yield tag
    docker_engine.images.remove(tag, force=True)
