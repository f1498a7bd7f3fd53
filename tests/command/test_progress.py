"""How far producing a file is, where nobody sees a bar."""

from __future__ import annotations

import pytest

from quorumlog.command.progress import LINE_EVERY_S, Progress, progress_line


def test_a_line_says_how_much_how_fast_and_how_long_still() -> None:
    line = progress_line(records=1000, position=1 << 20, total=4 << 20, seconds=10.0)
    assert line == "1,000 records acknowledged, 1.0 MiB of 4.0 MiB (25 %), 100 records/s, 30 s left"


def test_there_is_a_line_every_few_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(total=100, start_s=0.0) as progress:
        for second in range(1, 21):
            progress.update(second, 5 * second, float(second))
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(" ")[0] for line in lines] == [f"{n * int(LINE_EVERY_S)}" for n in range(1, 5)]
