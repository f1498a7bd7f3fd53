"""Generates the Python code of every .proto file in this folder; `--check` says whether it is fresh."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
SERVICES = {"service.proto"}


def generate(target: Path) -> None:
    """Write the generated modules of all .proto files below `target`."""
    names = sorted(path.name for path in HERE.glob("*.proto"))
    sources = [f"quorumlog/proto/{name}" for name in names]
    base = [sys.executable, "-m", "grpc_tools.protoc", f"-Iquorumlog/proto={HERE}"]
    outputs = [f"--python_out={target}", f"--pyi_out={target}"]
    subprocess.run([*base, *outputs, *sources], check=True)
    services = [f"quorumlog/proto/{name}" for name in names if name in SERVICES]
    subprocess.run([*base, f"--grpc_python_out={target}", *services], check=True)


def main() -> int:
    """Return 0 when the generated code is (now) fresh."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing, fail if anything is stale")
    arguments = parser.parse_args()
    stale = []
    with tempfile.TemporaryDirectory() as directory:
        generate(Path(directory))
        for path in sorted((Path(directory) / "quorumlog" / "proto").iterdir()):
            committed = HERE / path.name
            if committed.exists() and committed.read_bytes() == path.read_bytes():
                continue
            stale.append(path.name)
            if not arguments.check:
                committed.write_bytes(path.read_bytes())
    if stale and arguments.check:
        print(f"stale generated code: {', '.join(stale)}; run `make proto`", file=sys.stderr)
        return 1
    print(f"generated code: {', '.join(stale) + ' written' if stale else 'fresh'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
