"""Makes a virtual environment with pip, also where Debian's python3 comes without ensurepip (python3-venv).

Usage: python3 make_venv.py DIRECTORY
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
import venv
from pathlib import Path

DEFAULT_INDEX = "https://pypi.org/simple"


def newest_pip(index: str) -> tuple[str, str]:
    """Return (url, sha256) of the newest final pip wheel on a PEP 691 index."""
    page = f"{index.rstrip('/')}/pip/"
    request = urllib.request.Request(page, headers={"Accept": "application/vnd.pypi.simple.v1+json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        files = json.load(answer)["files"]
    wheels = [file for file in files if file["filename"].endswith(".whl") and not file.get("yanked")]

    def version(file: dict[str, str]) -> tuple[int, ...]:
        parts = file["filename"].split("-")[1].split(".")
        return tuple(int(part) for part in parts) if all(part.isdigit() for part in parts) else (0,)

    newest = max(wheels, key=version)
    return urllib.parse.urljoin(page, newest["url"]), newest["hashes"]["sha256"]


def install_pip(python: Path) -> None:
    """Put pip into the environment of `python`, from its wheel, which can run itself."""
    url, digest = newest_pip(os.environ.get("PIP_INDEX_URL", DEFAULT_INDEX))
    with urllib.request.urlopen(url, timeout=60) as answer:
        wheel = answer.read()
    if hashlib.sha256(wheel).hexdigest() != digest:
        raise SystemExit(f"{url}: checksum differs from the index's")
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / url.rsplit("/", 1)[-1].split("#")[0]
        path.write_bytes(wheel)
        subprocess.run([str(python), f"{path}/pip", "install", "--quiet", "pip"], check=True)


def main() -> None:
    """Make it, or say what is missing."""
    directory = Path(sys.argv[1])
    has_pip = importlib.util.find_spec("ensurepip") is not None
    venv.EnvBuilder(clear=True, with_pip=has_pip, symlinks=True).create(directory)
    if not has_pip:
        install_pip(directory.resolve() / "bin" / "python")


if __name__ == "__main__":
    main()
