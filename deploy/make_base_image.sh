#!/usr/bin/env bash
# Makes a base image for deploy/Dockerfile from Debian's packages, where no registry can be reached.
#
# Usage: deploy/make_base_image.sh [TAG]      (default quorumlog-base:bookworm)
#
# Does nothing when the image is there already. Needs root (debootstrap unpacks as root), a Docker engine and a
# Debian mirror; takes about a minute. MIRROR names another mirror. The image holds Debian's minimal system and
# its python3 (3.11), without documentation, translations and package lists: about 120 MB.
set -euo pipefail

tag=${1:-quorumlog-base:bookworm}
suite=bookworm
mirror=${MIRROR:-http://deb.debian.org/debian}

if docker image inspect "$tag" >/dev/null 2>&1; then
    echo "$tag is there already" >&2
    exit 0
fi
if [ "$(id -u)" -ne 0 ]; then
    echo "making $tag needs root: run 'sudo $0 $tag' once" >&2
    exit 1
fi
if ! command -v debootstrap >/dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends debootstrap >/dev/null
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

echo "making $tag from $mirror" >&2
debootstrap --variant=minbase --include=python3 "$suite" "$work/root" "$mirror" >"$work/log" 2>&1 || {
    tail -n 20 "$work/log" >&2
    exit 1
}
# Nothing of this is read at run time, and it is more than half of what debootstrap leaves.
rm -rf "$work"/root/var/cache/apt/* "$work"/root/var/lib/apt/lists/* "$work"/root/var/log/* \
    "$work"/root/usr/share/{doc,info,locale,man}/*
tar --create --numeric-owner --directory "$work/root" --exclude './dev/*' . |
    docker import --change 'CMD ["python3"]' - "$tag" >/dev/null
echo "made $tag" >&2
