"""Faults inside one real process: its wall clock jumps, its fsyncs fail or take long, its writes fail.

A small C library (shim.c), compiled when first needed and loaded by LD_PRELOAD; a file that it maps says
what to do, and takes effect at once. Tests that need it are skipped where there is no C compiler.
"""

from __future__ import annotations

import mmap
import shutil
import struct
import subprocess
from functools import cache
from pathlib import Path

import pytest

from tests.support.nodes import NodeProcess
from tests.support.waiting import UNIT_S

_SOURCE = Path(__file__).with_name("shim.c")
_FIELDS = ("clock_ns", "failing_syncs", "failed_syncs", "sync_us", "write_errno", "failed_writes")
_VALUE = struct.Struct("<q")


@cache
def _library(directory: Path) -> Path:
    compiler = next((found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None)
    if compiler is None:
        pytest.skip("no C compiler: cc, gcc or clang")
    library = directory / "shim.so"
    command = [compiler, "-O1", "-Wall", "-shared", "-fPIC", "-o", str(library), str(_SOURCE), "-ldl"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60 * UNIT_S, check=False)
    assert done.returncode == 0, done.stderr
    return library


class Shim:
    """Faults of one node, from its next start on. All fields of shim.c's control are attributes."""

    clock_ns: int
    failing_syncs: int
    failed_syncs: int
    sync_us: int
    write_errno: int
    failed_writes: int

    def __init__(self, node: NodeProcess) -> None:
        path = node.directory / "shim-control"
        path.write_bytes(bytes(_VALUE.size * len(_FIELDS)))
        with path.open("r+b") as file:
            self.__dict__["_mapped"] = mmap.mmap(file.fileno(), 0)
        library = _library(node.directory.parent)
        node.environment |= {
            "LD_PRELOAD": str(library),
            "SHIM_CONTROL": str(path),
            "SHIM_BELOW": str(node.data),
        }

    def __getattr__(self, name: str) -> int:
        (value,) = _VALUE.unpack_from(self.__dict__["_mapped"], _position(name))
        return int(value)

    def __setattr__(self, name: str, value: int) -> None:
        _VALUE.pack_into(self.__dict__["_mapped"], _position(name), value)


def _position(name: str) -> int:
    if name not in _FIELDS:
        raise AttributeError(name)
    return _FIELDS.index(name) * _VALUE.size
