"""The fixtures, in a run of pytest like a user's."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]

PLAIN = ("-W", "error", "-p", "no:cacheprovider", "-p", "no:asyncio")  # no settings, other than ours here

_EMBEDDED = """
def test_one(quorumlog_embedded):
    quorumlog_embedded.create_topic("orders")
    with quorumlog_embedded.producer() as producer:
        assert producer.send("orders", b"value").offset == 0

def test_another_finds_nothing_of_it(quorumlog_embedded):
    assert quorumlog_embedded.list_topics() == []
"""

_CLUSTER = """
import pytest

names = []

@pytest.mark.parametrize("number", [1, 2])
def test_a_cluster(quorumlog_cluster, number):
    topic = quorumlog_cluster.topic("orders")
    names.append(topic)
    with quorumlog_cluster.client() as client, client.producer() as producer:
        assert producer.send(topic, b"value").offset == 0
    quorumlog_cluster.kill(quorumlog_cluster.wait_leader())

def test_the_next_one_finds_it_well(quorumlog_cluster):
    quorumlog_cluster.wait_caught_up()
    assert len(set(names)) == 2
"""


def test_an_embedded_log_of_its_own_for_each_test(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(_EMBEDDED)
    pytester.runpytest_subprocess(*PLAIN).assert_outcomes(passed=2)


@pytest.mark.cluster
def test_one_cluster_for_all_and_topics_for_each(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(_CLUSTER)
    pytester.runpytest_subprocess(*PLAIN).assert_outcomes(passed=3)


def test_they_are_listed_with_what_they_are_for(pytester: pytest.Pytester) -> None:
    listed = pytester.runpytest_subprocess(*PLAIN, "--fixtures")
    listed.stdout.fnmatch_lines(["quorumlog_embedded -- *", "quorumlog_cluster -- *"])


def test_the_plugin_costs_a_run_that_does_not_use_it_next_to_nothing(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_nothing_is_loaded():
            loaded = {"grpc", "quorumlog.client", "quorumlog.node", "quorumlog.testing.cluster"}
            assert not loaded & set(sys.modules)
        """
    )
    pytester.runpytest_subprocess(*PLAIN).assert_outcomes(passed=1)
