"""The term and the vote: what a node must never forget, in a small file of its own.

    0   8  magic "QLTERM\\0\\0"
    8   2  u16 format version, 1
    10  2  u16 size of the vote in bytes (0: no vote)
    12  8  u64 term
    20  n  the node voted for in that term, UTF-8
    ..  4  u32 masked crc32c of all before

Replaced whole: temporary file, fsync, rename, directory fsync; done in place on the loop, since it is rare
(about 0.8 ms per election) and nothing may be said before it. A file that cannot be read is no reason to
start at term 0: the node refuses to start, because it could vote twice.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Final

from quorumlog.proto.checksum import crc32c, masked
from quorumlog.raft.errors import DamagedHardState
from quorumlog.storage.errors import NoSpace, SyncFailed
from quorumlog.storage.files import NO_SPACE_ERRORS, FileSystem, read_file, replace_file

MAGIC: Final = b"QLTERM\0\0"
FORMAT_VERSION: Final = 1
_HEAD: Final = struct.Struct("<8sHHQ")
_CRC: Final = struct.Struct("<I")
MAX_VOTE_BYTES: Final = 255  # a node id is a short name


class HardState:
    """Term and vote on disk.

    - The term never falls; within a term the vote is set once.
    - What the attributes say is durable.
    """

    def __init__(self, files: FileSystem, path: Path, *, log_is_empty: bool) -> None:
        """Read `path`. Raises DamagedHardState where it is unreadable, or missing beside a log."""
        self._files = files
        self._path = path
        self.term = 0
        self.vote: str | None = None
        content = read_file(files, path)
        if content is not None:
            self.term, self.vote = _decode(path, content)
        elif not log_is_empty:
            raise DamagedHardState(f"{path} is missing, but the log has entries: this node could vote twice")

    def save(self, term: int, vote: str | None) -> None:
        """Make them durable, then remember them. Raises NoSpace, SyncFailed."""
        assert term >= self.term, f"the term would fall from {self.term} to {term}"
        assert term > self.term or self.vote in (None, vote), f"second vote in term {term}"
        if (term, vote) == (self.term, self.vote):
            return
        try:
            replace_file(self._files, self._path, _encode(term, vote))
        except OSError as error:
            if error.errno in NO_SPACE_ERRORS:
                raise NoSpace(f"{self._path}: {error}") from error
            raise SyncFailed(f"{self._path}: {error}") from error
        self.term, self.vote = term, vote


def _encode(term: int, vote: str | None) -> bytes:
    name = (vote or "").encode()
    assert len(name) <= MAX_VOTE_BYTES
    body = _HEAD.pack(MAGIC, FORMAT_VERSION, len(name), term) + name
    return body + _CRC.pack(masked(crc32c(body)))


def _decode(path: Path, content: bytes) -> tuple[int, str | None]:
    if len(content) < _HEAD.size + _CRC.size:
        raise DamagedHardState(f"{path}: {len(content)} bytes, at least {_HEAD.size + _CRC.size} expected")
    body, crc = content[: -_CRC.size], _CRC.unpack(content[-_CRC.size :])[0]
    if crc != masked(crc32c(body)):
        raise DamagedHardState(f"{path}: checksum is {masked(crc32c(body)):08x}, the file says {crc:08x}")
    magic, version, size, term = _HEAD.unpack_from(body)
    if magic != MAGIC or version != FORMAT_VERSION:
        raise DamagedHardState(
            f"{path}: magic {magic!r} version {version}; {MAGIC!r} {FORMAT_VERSION} expected"
        )
    if len(body) != _HEAD.size + size:
        raise DamagedHardState(f"{path}: vote of {size} bytes announced, {len(body) - _HEAD.size} found")
    return term, body[_HEAD.size :].decode() or None
