"""The next segment's files, prepared ahead in one thread and taken in another."""

from __future__ import annotations

from pathlib import Path

from quorumlog.storage.directory import SegmentDirectory
from quorumlog.storage.header import SegmentHeader
from quorumlog.storage.manifest import LogIdentity
from quorumlog.storage.spare import LOG_NAME, Spare
from tests.support.simulated_disk import SimulatedDisk

IDENTITY = LogIdentity(b"c" * 16, 0)


def test_what_was_taken_is_not_prepared_again_under_its_names() -> None:
    """Else the segment that goes live would be emptied by whoever prepares the next."""
    disk = SimulatedDisk()
    path = Path("/log")
    spare = Spare(SegmentDirectory(disk, path), 1 << 20, 100, 0)
    header = SegmentHeader(1, 0, 0, 0, 1)
    taken = spare.take(header, IDENTITY)
    inode = disk.names[path / LOG_NAME]
    spare.prepare(0, False)  # as the other thread would, between the two steps of a roll
    assert disk.names[path / LOG_NAME] is inode
    assert not spare.is_ready
    spare.install(taken, header)
    spare.prepare(0, False)
    assert spare.is_ready
    assert disk.names[path / LOG_NAME] is not inode
