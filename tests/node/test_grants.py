"""The table of grants: what it says, and that a broken one is refused with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from quorumlog.node.config import ConfigError
from quorumlog.node.grants import BadTable, Grants, load
from quorumlog.proto.identity import Identity


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "grants.toml"
    file.write_text(text)
    return file


def test_grants_of_one_client_add_up(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        """
        [[grant]]
        clients = ["a", "b"]
        roles = ["produce"]
        topics = ["orders", "own-*.x"]
        [[grant]]
        clients = ["b"]
        roles = ["admin"]
        """,
    )
    grants = Grants(file)
    assert len(grants.of(Identity("a"))) == 1
    assert len(grants.of(Identity("b", roles=frozenset(("consume",))))) == 2
    assert not grants.of(Identity("c", roles=frozenset(("admin",)))), "the table alone counts"
    (grant,) = grants.of(Identity("a"))
    assert [
        topic for topic in ("orders", "orders2", "own-.x", "own-1.x", "own-1yx") if grant.covers(topic)
    ] == [
        "orders",
        "own-.x",
        "own-1.x",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("x", "not a TOML file"),
        ("grants = 1", "expected \\[\\[grant\\]\\]"),
        ("grant = 1", "expected \\[\\[grant\\]\\]"),
        ("grant = [1]", "grant 1: expected a table"),
        ('[[grant]]\nclients = ["a"]\nroles = ["root"]', "grant 1: roles: expected"),
        ('[[grant]]\nclients = ["a"]\nroles = []', "roles: expected a list"),
        ('[[grant]]\nroles = ["admin"]', "clients: expected a list"),
        ('[[grant]]\nclients = ["a"]\nroles = ["admin"]\ntopic = ["a"]', "unknown key 'topic'"),
        ('[[grant]]\nclients = ["a"]\nroles = ["admin"]\ntopics = []', "topics: expected a list"),
        ('[[grant]]\nclients = ["a"]\nroles = ["admin"]\ntopics = ["a[b]"]', "topics: expected letters"),
        ('[[grant]]\nclients = [1]\nroles = ["admin"]', "clients: expected a list of texts"),
    ],
)
def test_a_broken_table_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    file = written(tmp_path, text)
    with pytest.raises(BadTable, match=problem):
        load(file)
    with pytest.raises(ConfigError, match=r"authorization\.grants"):
        Grants(file)


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(BadTable, match="more than"):
        load(written(tmp_path, "#" * (5 << 20)))


def test_an_empty_table_grants_nothing(tmp_path: Path) -> None:
    assert not Grants(written(tmp_path, "")).of(Identity("a"))
