"""Rows 8 and 64: any bytes give a value or the documented error, within a bound of memory.

`make fuzz SECONDS=600` goes on for longer; what it finds it leaves in corpus/, which every later run replays.
"""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import lz4.frame
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from quorumlog.proto import batch_pb2
from quorumlog.proto.batch import BadBatch, decode_batch
from quorumlog.proto.checksum import crc32c
from tests.fuzz.judge import Misbehaved, judge, made
from tests.fuzz.targets import MIB, TARGETS, Target

CORPUS = Path(__file__).parent / "corpus"


@pytest.mark.parametrize("name", TARGETS)
def test_samples_are_taken(name: str) -> None:
    """Otherwise only the first check of a decoder would ever be reached."""
    target = TARGETS[name]
    for sample in target.samples:
        if name in ("stranger",) and sample is target.samples[1]:
            continue  # it has an attachment
        target.decode(sample)


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=60)
@given(raw=st.binary(max_size=2000))
def test_noise(name: str, raw: bytes) -> None:
    judge(TARGETS[name], raw)


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=120)
@given(seed=st.integers(0, 2**32))
def test_samples_that_were_changed(name: str, seed: int) -> None:
    target = TARGETS[name]
    judge(target, made(target, random.Random(seed)))


@pytest.mark.parametrize("name", TARGETS)
def test_every_flipped_bit_and_every_cut_of_a_sample(name: str) -> None:
    """Row 8: bit by bit; and byte by byte where it ends."""
    target = TARGETS[name]
    for sample in target.samples:
        positions = range(len(sample)) if len(sample) < 1000 else range(0, len(sample), 7)
        for position in positions:
            changed = bytearray(sample)
            changed[position] ^= 1 << position % 8
            judge(target, bytes(changed), memory=False)
            judge(target, sample[:position], memory=False)


def kept() -> Iterator[tuple[Target, Path]]:
    for file in sorted(CORPUS.glob("*/*")):
        yield TARGETS[file.parent.name], file


@pytest.mark.parametrize(("target", "file"), list(kept()), ids=lambda value: getattr(value, "name", ""))
def test_what_was_once_found(target: Target, file: Path) -> None:
    judge(target, file.read_bytes())


def test_the_judge_catches_what_is_wrong() -> None:
    def decode(raw: bytes) -> object:
        if raw == b"huge":
            return bytearray(10 * MIB)
        return raw.decode()

    target = Target("wrong", decode, (), [b"x"])
    judge(target, b"fine")
    with pytest.raises(Misbehaved, match="UnicodeDecodeError"):
        judge(target, b"\xff")
    with pytest.raises(Misbehaved, match="bytes allocated"):
        judge(target, b"huge")


BOMB = """
import resource, sys
from quorumlog.proto import batch_pb2
from quorumlog.proto.batch import BadBatch, decode_batch
header, body = batch_pb2.BatchHeader.FromString(bytes.fromhex(sys.argv[1])), open(sys.argv[2], "rb").read()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    decode_batch(header, body)
    sys.exit("it was decoded")
except BadBatch:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("codec", ["lz4", "zstd", "zstd-without-size"])
def test_a_bomb_does_not_go_off(codec: str, tmp_path: Path) -> None:
    """Row 63: 512 MiB of zeros in half a MiB; looked at from outside, since C code allocates, too."""
    zeros = bytes(512 * MIB)
    if codec == "lz4":
        body = lz4.frame.compress(zeros)
    else:
        with_size = codec == "zstd"
        body = zstandard.ZstdCompressor(write_content_size=with_size).compress(zeros)
    del zeros
    header = batch_pb2.BatchHeader(
        encoding=1, codec=batch_pb2.CODEC_LZ4 if codec == "lz4" else batch_pb2.CODEC_ZSTD, count=1, span=1,
        body_size=len(body), body_crc32c=crc32c(body),
    )  # fmt: skip
    with pytest.raises(BadBatch):
        decode_batch(header, body)
    (tmp_path / "body").write_bytes(body)
    arguments = [sys.executable, "-c", BOMB, header.SerializeToString().hex(), str(tmp_path / "body")]
    grown_kib = int(subprocess.run(arguments, check=True, capture_output=True, text=True).stdout)
    assert grown_kib < 64 * 1024, f"{grown_kib} KiB for a batch of at most 8 MiB"
