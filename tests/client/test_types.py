"""The types that users get, as mypy --strict sees them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("proto", "client")


def test_consumers_and_producers_are_typed_by_their_serializers(tmp_path: Path) -> None:
    # As in the Makefile: the map of packages to folders hides them from mypy.
    (tmp_path / "quorumlog").mkdir()
    for package in PACKAGES:
        (tmp_path / "quorumlog" / package).symlink_to(ROOT / package)
    for file in ("__init__.py", "py.typed"):
        (tmp_path / "quorumlog" / file).symlink_to(ROOT / "quorumlog" / file)
    program = Path(__file__).with_name("typed_program.py")
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", str(program)]
    command += ["--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(tmp_path / "cache")]
    environment = {**os.environ, "MYPYPATH": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
