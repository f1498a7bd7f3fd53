"""Term and vote survive, or the node does not start."""

from __future__ import annotations

from pathlib import Path

import pytest

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
    for term, vote in ((1, None), (1, "n2"), (7, "a-node-with-ä")):
        state.save(term, vote)
        again = opened(path)
        assert (again.term, again.vote) == (term, vote)


def test_a_missing_file_beside_a_log_is_no_new_node(tmp_path: Path) -> None:
    """Row 9: a forgotten vote is a second vote."""
    with pytest.raises(DamagedHardState, match="missing"):
        opened(tmp_path / "term")


def test_every_flipped_bit_and_every_cut_refuses_to_start(tmp_path: Path) -> None:
    """Rows 8 and 9: never term 0 instead."""
    path = tmp_path / "term"
    opened(path, log_is_empty=True).save(1234567, "n3")
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
    state.save(5, "n1")
    with pytest.raises(AssertionError, match="fall"):
        state.save(4, None)
    with pytest.raises(AssertionError, match="second vote"):
        state.save(5, "n2")
    state.save(5, "n1")
