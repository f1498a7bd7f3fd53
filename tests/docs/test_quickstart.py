"""The quickstart, line by line, with a wheel in an environment of its own that knows of no checkout.

The wheel's dependencies come from the package index.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.page_run import PageRun
from tests.docs.pages import DOCS, TOP
from tests.docs.shell import Shell

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

PAGE = DOCS / "quickstart.md"

# How the package index is reached from here.
_KEPT = re.compile(r"HOME|LANG|PIP_.*|SSL_CERT_.*|(https?|no)_proxy|(HTTPS?|NO)_PROXY")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """What the page asks for: a directory with `dist`, which has the wheel."""
    page = tmp_path / "page"
    source = tmp_path / "source"
    # A build leaves files in its source, and takes what an earlier one has left there.
    kept = shutil.ignore_patterns(".venv", ".git", "build", "dist", "*.egg-info", "var", ".*_cache", ".links")
    shutil.copytree(TOP, source, ignore=kept)
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", page / "dist", source],
        check=True,
    )
    shutil.rmtree(source)
    return page


@pytest.mark.skipif(importlib.util.find_spec("ensurepip") is None, reason="needs python3-venv")
def test_the_quickstart_does_what_it_says(directory: Path) -> None:
    with Shell(directory, environment(directory)) as shell:
        run = PageRun(PAGE, shell)
        run.all_blocks()
        installed = (shell.directory / "venv" / "bin" / "quorumlog").read_text()
        assert str(shell.directory) in installed.splitlines()[0], "another quorumlog was run"


def environment(directory: Path) -> dict[str, str]:
    """Return an environment in which nothing leads to the checkout or its packages.

    `python3` is the interpreter that these tests run on, without their environment.
    """
    programs = directory.parent / "programs"
    programs.mkdir()
    (programs / "python3").symlink_to(sys._base_executable)  # type: ignore[attr-defined]
    kept = {name: value for name, value in os.environ.items() if _KEPT.fullmatch(name)}
    path = [each for each in os.environ["PATH"].split(":") if not each.startswith(str(TOP))]
    own = {"PATH": ":".join([str(programs), *path]), "PIP_DISABLE_PIP_VERSION_CHECK": "1", "COLUMNS": "110"}
    return {**kept, **own}
