"""The machine under a node, as far as it tells: its clock, the room on its disk, its process' descriptors."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path
from typing import Final

from quorumlog.node.tls import Certificates
from quorumlog.proto import service_pb2

_DESCRIPTORS: Final = Path("/proc/self/fd")
_COUNT_AGAIN_S: Final = 5.0  # counting takes a microsecond for each, and the status is asked for often


class Host:
    """See the module."""

    def __init__(self, data: str | os.PathLike[str], certificates: Certificates | None) -> None:
        """`data`: a path on the disk that the log is on."""
        self._data = data
        self._certificates = certificates
        self._open_files = 0
        self._counted_s = float("-inf")

    def describe(self, message: service_pb2.NodeStatus) -> None:
        """Fill in what the machine says now."""
        message.clock_ms = time.time_ns() // 1_000_000
        message.open_files = self._count_open_files()
        message.open_files_max = _limit()
        if self._certificates is not None:
            message.certificate_expires_ms = round(self._certificates.current().expires_s * 1000)
        try:
            disk = os.statvfs(self._data)
        except OSError:
            return  # it has no disk any more: the log tells of that
        message.disk_free_bytes = disk.f_bavail * disk.f_frsize
        message.disk_total_bytes = disk.f_blocks * disk.f_frsize

    def _count_open_files(self) -> int:
        now_s = time.monotonic()
        if now_s - self._counted_s >= _COUNT_AGAIN_S:
            self._open_files = len(list(_DESCRIPTORS.iterdir())) if _DESCRIPTORS.exists() else 0
            self._counted_s = now_s
        return self._open_files


def _limit() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 0 if soft == resource.RLIM_INFINITY else min(soft, 2**32 - 1)
