"""Makes a virtual environment with pip, also where Debian's python3 comes without ensurepip (python3-venv).

Usage: python3 make_venv.py DIRECTORY
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
import venv
from html.parser import HTMLParser
from pathlib import Path

DEFAULT_INDEX = "https://pypi.org/simple"


class Links(HTMLParser):
    """The links of an index page (PEP 503), without those to withdrawn files."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        if tag == "a" and "data-yanked" not in attributes:
            self.targets.append(attributes.get("href") or "")


def newest_pip(index: str) -> tuple[str, str]:
    """Return (url, sha256) of the newest final pip wheel on an index."""
    page = f"{index.rstrip('/')}/pip/"
    request = urllib.request.Request(page, headers={"Accept": "text/html"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        links = Links()
        links.feed(answer.read().decode())
    wheels = [target for target in links.targets if ".whl#sha256=" in target]
    if not wheels:
        raise SystemExit(f"{page}: no wheel of pip; install python3-venv instead")

    def version(target: str) -> tuple[int, ...]:
        parts = target.rsplit("/", 1)[-1].split("-")[1].split(".")
        return tuple(int(part) for part in parts) if all(part.isdigit() for part in parts) else (0,)

    url, _, digest = max(wheels, key=version).partition("#sha256=")
    return urllib.parse.urljoin(page, url), digest


def install_pip(python: Path) -> None:
    """Put pip into the environment of `python`, from its wheel, which can run itself."""
    url, digest = newest_pip(os.environ.get("PIP_INDEX_URL", DEFAULT_INDEX))
    with urllib.request.urlopen(url, timeout=60) as answer:
        wheel = answer.read()
    if hashlib.sha256(wheel).hexdigest() != digest:
        raise SystemExit(f"{url}: checksum differs from the index's")
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / url.rsplit("/", 1)[-1]
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
