"""The input of `quorumlog local`: a real file's lines, the same ones as often as they are asked for."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Iterator
from pathlib import Path

from quorumlog.client.errors import UnknownOption
from quorumlog.command.lines import LineSplitter, SkippedLine
from quorumlog.proto.batch import MAX_RECORD_BYTES

_LOGS = Path("/var/log")
_FIRST_CHOICE = _LOGS / "dpkg.log"

_CHUNK_BYTES_MAX = 64 * 1024
_CHUNKS_MIN = 20  # also a small file goes in pieces, so that half-way is in its middle


class Input:
    """Invariant: lines() gives the same lines each time, though the file may grow meanwhile."""

    def __init__(self, path: Path, max_line_size: int = MAX_RECORD_BYTES) -> None:
        self.path = path
        self.size = path.stat().st_size  # what is appended from now on is not looked at
        self.skipped: list[SkippedLine] = []  # by the last complete run of chunks()
        self._max_line_size = max_line_size

    def chunks(self) -> Iterator[tuple[list[bytes], float]]:
        """Yield (lines, part of the input that has been read, from 0 to 1)."""
        splitter = LineSplitter(self._max_line_size)
        read = 0
        chunk_size = max(1, min(_CHUNK_BYTES_MAX, self.size // _CHUNKS_MIN))
        with self.path.open("rb") as file:
            while chunk := file.read(min(chunk_size, self.size - read)):
                read += len(chunk)
                if lines := splitter.feed(chunk):
                    yield lines, read / self.size
        if lines := splitter.finish():
            yield lines, 1.0
        self.skipped = splitter.skipped

    def lines(self) -> Iterator[bytes]:
        """Yield line by line."""
        for lines, _ in self.chunks():
            yield from lines


def choose_input(path: str | None) -> Path:
    """Return the file to read: what was asked for, a log of this machine, or this project's own text."""
    if path is not None:
        chosen = Path(path)
        if not _usable(chosen):
            raise UnknownOption(f"--input: {path}: expected a readable file that is not empty")
        return chosen
    for candidate in (_FIRST_CHOICE, *sorted(_LOGS.glob("*.log")), *_own_texts()):
        if _usable(candidate):
            return candidate
    raise UnknownOption("no log of this machine can be read: name a file with --input FILE")


def _own_texts() -> list[Path]:
    readme = Path(__file__).resolve().parent.parent / "README.md"  # beside the sources
    files = importlib.metadata.files("quorumlog") or []
    return [readme, *(Path(str(file.locate())) for file in files if file.name == "METADATA")]


def _usable(path: Path) -> bool:
    return path.is_file() and os.access(path, os.R_OK) and path.stat().st_size > 0
