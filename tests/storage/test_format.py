"""The format in code, in its drawings and in the documentation is one."""

from __future__ import annotations

import re
from pathlib import Path

from quorumlog.storage import format as layout

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "version-1" / "group-0"
DOCUMENT = (ROOT / "docs" / "storage-format.md").read_text()
DUMPED = re.compile(r"^([0-9a-f]{8})  ((?:[0-9a-f]{2} ?)+)\s*\|", re.MULTILINE)


def test_the_documentation_has_the_drawings_of_the_code() -> None:
    assert layout.__doc__ is not None
    drawings = layout.__doc__[layout.__doc__.index("Directory of a group:") :].rstrip()
    assert f"```text\n{drawings}\n```" in DOCUMENT


def test_the_sizes_are_those_of_the_drawings() -> None:
    assert layout.FRAME_HEADER_BYTES == 48
    assert layout.SEGMENT_HEADER.size == 76
    assert layout.SYNCED_SLOT.size + layout.SUM.size == 24
    assert (layout.INDEX_HEADER_BYTES, layout.INDEX_SLOT.size) == (48, 16)
    assert (layout.VIEW_HEADER_BYTES, layout.VIEW_DIRECTORY.size, layout.VIEW_ROW.size) == (72, 48, 80)
    assert (layout.STATE_HEADER_BYTES, layout.MANIFEST_BYTES) == (40, 68)


def test_the_dumps_in_the_documentation_are_of_the_golden_files() -> None:
    files = [GOLDEN / "log" / f"{base:020}.{suffix}" for base, suffix in ((13, "log"), (13, "index"))]
    files += [GOLDEN / "log" / f"{13:020}.state", GOLDEN / "log" / f"{9:020}.view", GOLDEN / "manifest"]
    contents = [path.read_bytes() for path in files]
    dumped = DUMPED.findall(DOCUMENT)
    assert len(dumped) > 60
    number = 0
    for position, text in dumped:
        at, row = int(position, 16), bytes.fromhex(text)
        if at == 0 and row != contents[number][:16]:
            number += 1
        assert contents[number][at : at + 16] == row, f"{files[number].name} at {position}"
    assert number == len(files) - 1
