#!/usr/bin/env bash
# Builds the image where a container reaches no package index: wheels are made here and copied in.
#
# Usage: deploy/build_image.sh [TAG]          (default quorumlog:latest)
#
# BASE     the base image, with python3 >= 3.11 (default python:3.12-slim; deploy/make_base_image.sh makes another)
# PYTHON   an interpreter with pip, to make the wheels with (default .venv/bin/python, else python3)
set -euo pipefail

tag=${1:-quorumlog:latest}
base=${BASE:-python:3.12-slim}
top=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-$([ -x "$top/.venv/bin/python" ] && echo "$top/.venv/bin/python" || echo python3)}

stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT

# A copy, so that neither a build directory of an earlier version gets in nor one is left behind.
mkdir "$stage/source"
for name in pyproject.toml README.md quorumlog proto storage raft node client command embedded testing; do
    if [ -e "$top/$name" ]; then cp -R "$top/$name" "$stage/source/"; fi
done

pip() { "$python" -m pip --quiet --disable-pip-version-check "$@"; }

# pip itself goes in as well: see the Dockerfile. What only comes as source (pysyncobj) becomes a wheel here.
pip wheel --wheel-dir "$stage/made" "$stage/source" pip

# The wheels of compiled packages fit this interpreter; the image's may be another one.
version='import sys; print("%d.%d" % sys.version_info[:2])'
wanted=$(docker run --rm --entrypoint python3 "$base" -c "$version")
if [ "$wanted" = "$("$python" -c "$version")" ]; then
    mv "$stage/made" "$stage/wheels"
else
    machine=$(uname -m)
    pip download --dest "$stage/wheels" --find-links "$stage/made" --only-binary :all: --python-version "$wanted" \
        --platform "manylinux_2_28_$machine" --platform "manylinux_2_17_$machine" \
        --platform "manylinux2014_$machine" quorumlog pip
fi

mkdir "$stage/context"
mv "$stage/wheels" "$stage/context/wheels"
docker build --quiet --force-rm --build-arg "BASE=$base" --tag "$tag" --file "$top/deploy/Dockerfile" "$stage/context" >/dev/null
docker image prune --force --filter label=quorumlog.stage=build >/dev/null
echo "$tag"
