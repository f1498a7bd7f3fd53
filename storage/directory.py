"""Directory of segments: which files there are, by name alone."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from quorumlog.storage.files import FileSystem, replace_file
from quorumlog.storage.segment import file_name

_NAME = re.compile(r"([0-9]{20})\.(log|index|view|state)")


@dataclass(slots=True)
class Listing:
    """The files of a log, by base."""

    logs: dict[int, int] = field(default_factory=dict)  # base -> size in bytes
    indexes: set[int] = field(default_factory=set)
    views: set[int] = field(default_factory=set)
    states: set[int] = field(default_factory=set)
    leftovers: list[str] = field(default_factory=list)  # names of unfinished files

    def names(self) -> list[str]:
        """Return the names of all files but unfinished ones."""
        by_suffix = {"log": self.logs, "index": self.indexes, "view": self.views, "state": self.states}
        return [file_name(base, suffix) for suffix, bases in by_suffix.items() for base in sorted(bases)]


class SegmentDirectory:
    """`<group directory>/log` and the operations on whole files in it. Raises OSError."""

    def __init__(self, files: FileSystem, path: Path) -> None:
        self.files = files
        self.path = path

    def file(self, base: int, suffix: str) -> Path:
        """Return the path of a segment's file."""
        return self.path / file_name(base, suffix)

    def list(self) -> Listing:
        """List what is there; files of other names are nobody's business."""
        listing = Listing()
        for entry in self.files.list(self.path):
            match = _NAME.fullmatch(entry.name)
            if match is None:
                if entry.name.endswith(".tmp"):
                    listing.leftovers.append(entry.name)
                continue
            base, suffix = int(match[1]), match[2]
            if suffix == "log":
                listing.logs[base] = entry.size
            else:
                of_suffix = {"index": listing.indexes, "view": listing.views, "state": listing.states}
                of_suffix[suffix].add(base)
        return listing

    def replace(self, base: int, suffix: str, data: bytes) -> None:
        """Put a small file there, whole or not at all, and durable on return."""
        replace_file(self.files, self.file(base, suffix), data)

    def unlink_if_there(self, base: int, suffix: str) -> None:
        """Remove a segment's file."""
        path = self.file(base, suffix)
        if self.files.exists(path):
            self.files.unlink(path)

    def sync(self) -> None:
        """Make the names durable."""
        self.files.sync_directory(self.path)
