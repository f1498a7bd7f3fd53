"""What the machine is, and what processes on it cost. Linux: read from /proc."""

from __future__ import annotations

import os
import platform
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def described() -> str:
    """One line."""
    return f"{os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}"


def cpu_s(pid: int) -> float:
    """Seconds of CPU that a process has used, its threads and its part of the kernel included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S  # utime, stime


def anonymous_mb(pid: int) -> float:
    """Resident memory (MB) that is no file's: what only this process can give back."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise AssertionError(f"no RssAnon of process {pid}")


def free_bytes(directory: Path) -> int:
    """What a user may still write there."""
    disk = os.statvfs(directory)
    return disk.f_bavail * disk.f_frsize


def drop_cached(directory: Path) -> None:
    """Have the kernel forget what it holds of the files below, so that reading them goes to the disk."""
    for path in directory.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)  # what is dirty would stay
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)
