"""Files of replicas are compared where they must be equal, and only there (I7)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.files import SEGMENT_HEADER_BYTES, differences


def write(data: Path, base: int, frames: bytes, header: bytes = b"h") -> None:
    log = data / "group-0" / "log"
    log.mkdir(parents=True, exist_ok=True)
    (log / f"{base:020}.log").write_bytes(header.ljust(SEGMENT_HEADER_BYTES, b"\0") + frames)


@pytest.fixture
def data(tmp_path: Path) -> dict[str, Path]:
    found = {node: tmp_path / node for node in ("n1", "n2", "n3")}
    for node, directory in found.items():
        write(directory, 1, b"frames", header=node.encode())
        write(directory, 10, b"more frames" + bytes(100 if node == "n2" else 0))
    return found


def test_headers_and_preallocated_zeros_may_differ(data: dict[str, Path]) -> None:
    assert differences(data) == []


def test_a_changed_byte_is_found(data: dict[str, Path]) -> None:
    write(data["n3"], 1, b"fRames")
    assert [problem for problem in differences(data) if "00001.log" in problem]


def test_a_longer_tail_is_found(data: dict[str, Path]) -> None:
    write(data["n3"], 10, b"more frames!")
    assert len(differences(data)) == 1


def test_a_missing_segment_is_found(data: dict[str, Path]) -> None:
    write(data["n2"], 20, b"new")
    assert "missing" in differences(data)[0]


def test_a_start_that_was_dropped_by_some_is_not_compared(data: dict[str, Path]) -> None:
    next(data["n1"].glob("group-0/log/*01.log")).unlink()
    assert differences(data) == []


def test_a_directory_without_segments_is_found(data: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "no segments" in differences({**data, "n4": tmp_path / "empty"})[0]
