"""A small file system of its own for a data directory, which a test can fill: a tmpfs, mounted as root.

What is in it lives as long as it is mounted, whatever happens to the node.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from functools import cache
from pathlib import Path

BALLOON = "balloon"  # takes the room; beside the node's files, which it does not mind


class SmallDisk:
    """A tmpfs of `size` bytes at `directory`, mounted within the block."""

    def __init__(self, directory: Path, size: int, *, owner: int = 0) -> None:
        self.directory = directory
        self._size = size
        self._owner = owner

    @staticmethod
    @cache
    def works() -> bool:
        """Whether this process may mount one."""
        with tempfile.TemporaryDirectory() as directory:
            try:
                with SmallDisk(Path(directory) / "disk", 1 << 20):
                    return True
            except (OSError, subprocess.CalledProcessError):
                return False

    def __enter__(self) -> SmallDisk:
        self.directory.mkdir(parents=True, exist_ok=True)
        options = f"size={self._size},mode=0750,uid={self._owner},gid={self._owner}"
        command = ["mount", "-t", "tmpfs", "-o", options, "quorumlog-test", str(self.directory)]
        subprocess.run(command, check=True, capture_output=True)
        return self

    def __exit__(self, *error: object) -> None:
        subprocess.run(["umount", "--lazy", str(self.directory)], check=True, capture_output=True)

    def resize(self, size: int) -> None:
        """Give it another size."""
        command = ["mount", "-o", f"remount,size={size}", str(self.directory)]
        subprocess.run(command, check=True, capture_output=True)

    @property
    def free_bytes(self) -> int:
        """How much room there is."""
        state = os.statvfs(self.directory)
        return state.f_bavail * state.f_frsize

    def fill(self, leave_bytes: int = 0) -> None:
        """Take all the room but `leave_bytes`; what others free meanwhile is taken by the next call."""
        with open(self.directory / BALLOON, "ab") as balloon:
            while (more := self.free_bytes - leave_bytes) > 0:
                # The node takes room too: then less is left than was seen, and it is tried again.
                with contextlib.suppress(OSError):
                    os.posix_fallocate(balloon.fileno(), balloon.seek(0, os.SEEK_END), more)

    def free(self) -> None:
        """Give it back."""
        (self.directory / BALLOON).unlink(missing_ok=True)
