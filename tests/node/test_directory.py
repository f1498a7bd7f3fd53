"""The data directory says whose it is, and is refused by all others."""

from __future__ import annotations

from pathlib import Path

import pytest

from quorumlog.node.directory import DirectoryRefused, open_directory


def test_a_new_directory_is_made_and_keeps_its_id(tmp_path: Path) -> None:
    made = open_directory(tmp_path / "a" / "data", "n1", "test")
    again = open_directory(tmp_path / "a" / "data", "n1", "test")
    assert made == again
    assert len(made.directory_id) == 16
    assert made.group == tmp_path / "a" / "data" / "group-0"


def test_two_directories_of_one_node_have_different_ids(tmp_path: Path) -> None:
    first = open_directory(tmp_path / "a", "n1", "test")
    second = open_directory(tmp_path / "b", "n1", "test")
    assert first.directory_id != second.directory_id


def test_a_directory_of_another_node_or_cluster_is_refused(tmp_path: Path) -> None:
    open_directory(tmp_path, "n1", "test")
    with pytest.raises(DirectoryRefused, match="node: this is n2, the directory belongs to n1"):
        open_directory(tmp_path, "n2", "test")
    with pytest.raises(DirectoryRefused, match="cluster: this is other, the directory belongs to test"):
        open_directory(tmp_path, "n1", "other")


@pytest.mark.parametrize("text", [b"", b"n1\n", b"\xff\xfe", b"quorumlog node directory 1\nnode n1\n"])
def test_an_identity_that_cannot_be_read_is_refused(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "node-id").write_bytes(text)
    with pytest.raises(DirectoryRefused, match="node-id"):
        open_directory(tmp_path, "n1", "test")


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    open_directory(tmp_path, "n1", "test")
    file = tmp_path / "node-id"
    file.write_text(file.read_text().replace("directory 1", "directory 2", 1))
    with pytest.raises(DirectoryRefused, match="format: expected 1, got 2"):
        open_directory(tmp_path, "n1", "test")


def test_data_without_an_identity_gets_no_new_one(tmp_path: Path) -> None:
    (tmp_path / "group-0").mkdir()
    with pytest.raises(DirectoryRefused, match="missing, though the directory holds data"):
        open_directory(tmp_path, "n1", "test")
