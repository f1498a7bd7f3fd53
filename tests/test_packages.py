"""Wherever the packages are listed by hand, all of them are."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-dir"].values()


@pytest.mark.parametrize("file", ["Makefile", ".dockerignore", "deploy/build_image.sh"])
def test_every_package_is_named(file: str) -> None:
    words = set(re.findall(r"[a-z]+", (ROOT / file).read_text()))
    assert words >= set(FOLDERS)


def test_every_package_is_installed_and_told_of() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert settings["packages"] == list(settings["package-dir"])
    told = (ROOT / "quorumlog" / "__init__.py").read_text() + (ROOT / "docs" / "tour.md").read_text()
    for name in settings["packages"][1:]:
        assert name in told, name
