"""Term and vote survive, or the node does not start."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from quorumlog.proto.checksum import crc32c, masked
from quorumlog.raft.errors import DamagedHardState
from quorumlog.raft.hardstate import HardState
from quorumlog.storage.files import OsFiles


def opened(path: Path, *, log_is_empty: bool = False) -> HardState:
    return HardState(OsFiles(), path, log_is_empty=log_is_empty)


def test_a_new_node_has_neither(tmp_path: Path) -> None:
    state = opened(tmp_path / "term", log_is_empty=True)
    assert (state.term, state.vote) == (0, None)


def test_what_was_saved_is_there_again(tmp_path: Path) -> None:
    path = tmp_path / "term"
    state = opened(path, log_is_empty=True)
    state.become_voter()
    for term, vote in ((1, None), (1, "n2"), (7, "a-node-with-ä")):
        state.save(term, vote)
        again = opened(path)
        assert (again.term, again.vote, again.voter) == (term, vote, True)


def test_a_directory_that_may_not_vote_yet_remembers_that(tmp_path: Path) -> None:
    """Hazard 10: a term that it heard of does not make a wiped node a voter."""
    path = tmp_path / "term"
    state = opened(path, log_is_empty=True)
    state.save(4, None)
    assert not opened(path).voter
    with pytest.raises(AssertionError, match="may not vote"):
        state.save(5, "n1")
    state.become_voter()
    state.become_voter()
    assert (opened(path).term, opened(path).voter) == (4, True)


def test_a_file_of_version_1_is_a_voters(tmp_path: Path) -> None:
    path = tmp_path / "term"
    body = struct.pack("<8sHHQ", b"QLTERM", 1, 2, 9) + b"n3"
    path.write_bytes(body + struct.pack("<I", masked(crc32c(body))))
    state = opened(path)
    assert (state.term, state.vote, state.voter) == (9, "n3", True)
    state.save(10, "n1")
    again = opened(path)
    assert (again.term, again.vote, again.voter) == (10, "n1", True)


def test_a_missing_file_beside_a_log_is_no_new_node(tmp_path: Path) -> None:
    """Row 9: a forgotten vote is a second vote."""
    with pytest.raises(DamagedHardState, match="missing"):
        opened(tmp_path / "term")


def test_every_flipped_bit_and_every_cut_refuses_to_start(tmp_path: Path) -> None:
    """Rows 8 and 9: never term 0 instead."""
    path = tmp_path / "term"
    state = opened(path, log_is_empty=True)
    state.become_voter()
    state.save(1234567, "n3")
    content = path.read_bytes()
    for position in range(len(content) * 8):
        flipped = bytearray(content)
        flipped[position // 8] ^= 1 << position % 8
        path.write_bytes(flipped)
        with pytest.raises(DamagedHardState):
            opened(path, log_is_empty=True)
    for size in range(len(content)):
        path.write_bytes(content[:size])
        with pytest.raises(DamagedHardState):
            opened(path, log_is_empty=True)
    path.write_bytes(content + b"\0")
    with pytest.raises(DamagedHardState):
        opened(path, log_is_empty=True)


def test_the_term_never_falls_and_a_vote_is_given_once(tmp_path: Path) -> None:
    state = opened(tmp_path / "term", log_is_empty=True)
    state.become_voter()
    state.save(5, "n1")
    with pytest.raises(AssertionError, match="fall"):
        state.save(4, None)
    with pytest.raises(AssertionError, match="second vote"):
        state.save(5, "n2")
    state.save(5, "n1")
