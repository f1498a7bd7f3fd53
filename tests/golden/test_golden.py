"""Data that was written once is read for ever."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from quorumlog.proto.batch import decode_batch
from quorumlog.proto.entry import parse_entry
from quorumlog.storage.format import KIND_COMMANDS
from quorumlog.storage.log import Log
from quorumlog.storage.view import ActiveView
from tests.golden import make

HERE = Path(__file__).parent
VERSIONS = sorted(path for path in HERE.iterdir() if path.name.startswith("version-"))


def entries(version: Path) -> list[dict[str, object]]:
    listed: list[dict[str, object]] = json.loads((version / "entries.json").read_text())
    return listed


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
def test_every_version_opens_and_holds_what_was_written(version: Path, tmp_path: Path) -> None:
    shutil.copytree(version, tmp_path / "data")
    log = Log.open(tmp_path / "data" / "group-0", make.IDENTITY, options=make.OPTIONS)
    assert (log.first_index, log.last_index) == (5, 14)
    assert log.recovery.is_clean
    assert not log.recovery.fenced
    expected = entries(version)
    assert log.term_at(4) == expected[3]["term"]
    for index in range(log.first_index, log.last_index + 1):
        frame = log.read(index)
        assert {
            "index": frame.index,
            "term": frame.term,
            "kind": frame.kind,
            "flags": frame.flags,
            "chain": f"{frame.chain:016x}",
            "payload": bytes(frame.payload()).hex(),
        } == expected[index - 1]
        if frame.kind == KIND_COMMANDS:
            header, position = parse_entry(frame.payload())
            batch = header.commands[0].operations[0].append.batch
            columns = decode_batch(batch, bytes(frame.payload())[position:])
            assert columns.values == [b"value of entry %d" % index, None]
    base, state = log.load_state()
    assert (base, state) == (13, b"state as of 12")
    log.close()


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
def test_every_version_serves_records_by_offset_and_takes_appends(version: Path, tmp_path: Path) -> None:
    shutil.copytree(version, tmp_path / "data")
    log = Log.open(tmp_path / "data" / "group-0", make.IDENTITY, options=make.OPTIONS)
    active = ActiveView(13)
    active.ensure(make.TOPIC, 0, 16)
    log.views.begin(active)
    located = log.views.rows(make.TOPIC, 0, 5, 10_000, 100)
    assert [row.base_offset for _, row in located] == [4, 6, 8, 10, 12, 14]
    for base, row in located:
        body = log.read_body(base, row.position, row.body_size)
        assert decode_batch(row.header(), body).values[0] == b"value of entry %d" % row.raft_index
    assert log.views.offset_at_time(make.TOPIC, 0, make.TIME_MS + 9) == (10, make.TIME_MS + 9)
    frame = make.Frame.build(15, 9, KIND_COMMANDS, make.produce(15), 0, log.last_chain)
    log.append([frame])
    log.close()
    log = Log.open(tmp_path / "data" / "group-0", make.IDENTITY, options=make.OPTIONS)
    assert log.last_index == 15
    log.close()


def test_this_build_writes_version_1_to_the_byte(tmp_path: Path) -> None:
    """If this fails, the format has changed: it needs a new version number and a directory of its own."""
    make.make(tmp_path / "group-0")
    kept = HERE / "version-1" / "group-0"
    for path in sorted(kept.rglob("*")):
        if path.is_file():
            assert (tmp_path / "group-0" / path.relative_to(kept)).read_bytes() == path.read_bytes(), (
                path.name
            )
