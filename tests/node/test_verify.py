"""`quorumlog verify DIRECTORY` names what is damaged in a stopped node's directory, and changes nothing."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path

import pytest

from quorumlog.node.config import CLUSTER_ID_BYTES
from quorumlog.node.directory import open_directory
from quorumlog.node.machine import LogMachine
from quorumlog.node.verify import main
from quorumlog.raft.hardstate import HardState
from quorumlog.storage.files import OsFiles
from quorumlog.storage.log import Log, LogIdentity, LogOptions
from quorumlog.storage.state import encode_state
from tests.support.commands import MachineOnLog, append, create

OPTIONS = LogOptions(segment_bytes=1 << 20, segment_entries=5, reserve_bytes=0)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A node's directory with four sealed segments, closed cleanly."""
    identity = LogIdentity(hashlib.blake2b(b"test", digest_size=CLUSTER_ID_BYTES).digest(), 0)
    found = open_directory(tmp_path / "data", "n1", "test")
    made = MachineOnLog.__new__(MachineOnLog)
    made.log = Log.open(found.group, identity, options=OPTIONS)
    made.machine = LogMachine(made.log.views)
    made.frames = []
    made.machine.restore(1, None)
    made.one(create("t", 2))
    topic = made.machine.topics.named("t")
    assert topic is not None
    for number in range(22):
        made.one(
            append(topic.topic_id, [b"value %d" % number] * 3, partition=number % 2), time_ms=1_000 + number
        )
    state = HardState(OsFiles(), found.group / "term", log_is_empty=True)
    state.become_voter()
    state.save(3, "n1")
    made.log.close()
    return found.path


def verify(directory: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, object]]:
    before = contents(directory)
    code = main([str(directory), "--json"])
    assert contents(directory) == before, "a check changes nothing"
    out = capsys.readouterr()
    return code, json.loads(out.out) if out.out else {"error": out.err}


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()}


def log_file(directory: Path, base: int, suffix: str) -> Path:
    return directory / "group-0" / "log" / f"{base:020}.{suffix}"


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 4
    path.write_bytes(data)


def test_a_whole_directory_passes_and_is_replayed(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, report = verify(directory, capsys)
    assert code == 0
    assert report["findings"] == []
    assert (report["node"], report["cluster"], report["term"]) == ("n1", "test", 3)
    assert (report["segments"], report["last_index"]) == (5, 23)
    assert (report["views_replayed"], report["states_replayed"]) == (4, 4)
    assert main([str(directory)]) == 0
    assert "nothing is damaged" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("base", "suffix"), [(1, "log"), (6, "log"), (21, "log"), (6, "view"), (11, "state"), (6, "state")]
)
def test_every_kind_of_damage_is_named(
    directory: Path, base: int, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = log_file(directory, base, suffix)
    size = file.stat().st_size
    used = range(4096, size) if suffix == "log" else range(size)
    for position in random.Random(1).sample(used, 12):
        flip(file, position)
        code, report = verify(directory, capsys)
        assert code == 1
        assert {finding["file"] for finding in report["findings"]} == {file.name}  # type: ignore[attr-defined]
        flip(file, position)
    assert verify(directory, capsys)[0] == 0


@pytest.mark.parametrize("name", ["manifest", "term"])
def test_a_damaged_manifest_or_term_is_named(
    directory: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Row 9."""
    flip(directory / "group-0" / name, 20)
    code, report = verify(directory, capsys)
    assert code == 1
    assert [finding["file"] for finding in report["findings"]] == [name]  # type: ignore[attr-defined]
    (directory / "group-0" / name).unlink()
    assert verify(directory, capsys)[0] == 1


def test_a_state_that_is_whole_but_not_what_the_log_gives_is_found_by_the_replay(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log_file(directory, 11, "state").write_bytes(encode_state(11, b""))
    code, report = verify(directory, capsys)
    assert code == 1
    assert "replay" in report["findings"][0]["reason"]  # type: ignore[index]


def test_a_missing_segment_is_named(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Row 12."""
    for base, expected in ((6, 6), (1, 1)):
        for suffix in ("log", "index", "view", "state"):
            log_file(directory, base, suffix).unlink(missing_ok=True)
        code, report = verify(directory, capsys)
        assert code == 1
        assert report["findings"][0]["entry"] == expected  # type: ignore[index]


def test_what_the_next_start_puts_right_is_a_note(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log_file(directory, 1, "index").unlink()
    flip(log_file(directory, 6, "index"), 60)
    (directory / "group-0" / "log" / "next.log.tmp").write_bytes(b"")
    with log_file(directory, 21, "log").open("ab") as file:
        file.write(b"torn")
    code, report = verify(directory, capsys)
    assert code == 0
    assert len(report["notes"]) == 4  # type: ignore[arg-type]


def test_a_damaged_segment_does_not_hide_what_is_behind_it(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flip(log_file(directory, 6, "log"), 50)
    flip(log_file(directory, 16, "view"), 100)
    _, report = verify(directory, capsys)
    files = [finding["file"] for finding in report["findings"]]  # type: ignore[attr-defined]
    assert files == [log_file(directory, 6, "log").name, log_file(directory, 16, "view").name]
    assert report["states_replayed"] == 3
    assert main([str(directory)]) == 1
    assert "2 damaged places" in capsys.readouterr().out


def test_what_cannot_be_checked_says_why(
    directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lock = OsFiles().lock(directory / "group-0" / "lock")
    assert lock is not None
    assert "has it open" in str(verify(directory, capsys))
    lock.release()
    assert verify(tmp_path, capsys)[0] == 1
    (directory / "node-id").write_text("something else")
    assert "identity" in str(verify(directory, capsys))
    open_directory(tmp_path / "empty", "n1", "test")
    assert "no log" in str(verify(tmp_path / "empty", capsys))
