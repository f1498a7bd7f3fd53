"""The term and the vote: what a node must never forget, in a small file of its own.

    0   8  magic "QLTERM\\0\\0"
    8   2  u16 format version, 2
    10  2  u16 size of the vote in bytes (0: no vote)
    12  8  u64 term
    20  n  the node voted for in that term, UTF-8
    ..  1  u8 1: this directory is a voter, 0: not yet (membership.py tells when)
    ..  4  u32 masked crc32c of all before

Version 1 had no voter byte; whoever wrote it voted.

Replaced whole: temporary file, fsync, rename, directory fsync; done in place on the loop, since it is rare
(about 0.8 ms per election) and nothing may be said before it. A file that cannot be read is no reason to
start at term 0: the node refuses to start, because it could vote twice.

So that a full disk forgets no vote and ends no process, `prepare` keeps files ready that have their space
already: `term.spare-N.tmp`. Where even they cannot be made, the replica takes no message that needs one.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Final

from quorumlog.proto.checksum import crc32c, masked
from quorumlog.raft.errors import DamagedHardState
from quorumlog.storage.errors import NoSpace, SyncFailed
from quorumlog.storage.files import NO_SPACE_ERRORS, FileSystem, read_file, replace_file, write_all

MAGIC: Final = b"QLTERM\0\0"
FORMAT_VERSION: Final = 2
_HEAD: Final = struct.Struct("<8sHHQ")
_CRC: Final = struct.Struct("<I")
MAX_VOTE_BYTES: Final = 255  # a node id is a short name
# Files with space of their own, made while there is some. A message may raise the term and get a vote: two.
SPARES: Final = 2
SPARE_BYTES: Final = 4096


class HardState:
    """Term and vote on disk.

    - The term never falls; within a term the vote is set once. A voter stays one.
    - What the attributes say is durable.
    """

    def __init__(self, files: FileSystem, path: Path, *, log_is_empty: bool) -> None:
        """Read `path`. Raises DamagedHardState where it is unreadable, or missing beside a log."""
        self._files = files
        self._path = path
        self._spares = [path.with_name(f"{path.name}.spare-{number}.tmp") for number in range(SPARES)]
        self._ready: list[Path] = []
        self.term = 0
        self.vote: str | None = None
        self.voter = False
        content = read_file(files, path)
        if content is not None:
            self.term, self.vote, self.voter = _decode(path, content)
        elif not log_is_empty:
            raise DamagedHardState(f"{path} is missing, but the log has entries: this node could vote twice")

    def save(self, term: int, vote: str | None) -> None:
        """Make them durable, then remember them. Raises NoSpace, SyncFailed."""
        assert term >= self.term, f"the term would fall from {self.term} to {term}"
        assert term > self.term or self.vote in (None, vote), f"second vote in term {term}"
        assert vote is None or self.voter, f"a vote in term {term} by a directory that may not vote yet"
        if (term, vote) != (self.term, self.vote):
            self._write(term, vote, self.voter)
            self.term, self.vote = term, vote

    def become_voter(self) -> None:
        """This directory's votes and copies count from now on. Raises NoSpace, SyncFailed."""
        if not self.voter:
            self._write(self.term, self.vote, True)
            self.voter = True

    @property
    def is_prepared(self) -> bool:
        """Can a new term and a vote in it be saved, however full the disk is?"""
        return len(self._ready) == SPARES

    def prepare(self, needed: int = SPARES) -> None:
        """Make sure of room for `needed` saves; where some has to be made, make all.

        Raises NoSpace: then nothing may be begun that needs them. Raises SyncFailed.
        """
        if len(self._ready) >= needed:
            return  # at once: this is asked in the middle of elections
        problem: NoSpace | None = None
        for path in self._spares:
            if path not in self._ready:
                try:
                    self._make_spare(path)
                    self._ready.append(path)
                except NoSpace as error:
                    problem = error
        if problem is not None and len(self._ready) < needed:
            raise problem

    def _make_spare(self, path: Path) -> None:
        try:
            # One that an earlier process left is not emptied: its space might not come back.
            file = self._files.open(path, create=not self._files.exists(path))
            file.allocate(0, SPARE_BYTES)
            file.fsync()
        except OSError as error:
            raise self._translated(error) from error

    def _write(self, term: int, vote: str | None, voter: bool) -> None:
        content = _encode(term, vote, voter)
        try:
            if self._ready:
                self._use_spare(self._ready.pop(), content)
            else:
                replace_file(self._files, self._path, content)
        except OSError as error:
            raise self._translated(error) from error

    def _use_spare(self, spare: Path, content: bytes) -> None:
        """What replace_file does, in a file that has its space."""
        file = self._files.open(spare)
        write_all(file, content, 0)
        file.truncate(len(content))
        try:
            file.fsync()
            self._files.rename(spare, self._path)
            self._files.sync_directory(self._path.parent)
        except OSError as error:
            raise SyncFailed(f"{self._path}: {error}") from error

    def _translated(self, error: OSError) -> NoSpace | SyncFailed:
        if error.errno in NO_SPACE_ERRORS:
            return NoSpace(f"{self._path}: {error}")
        return SyncFailed(f"{self._path}: {error}")


def _encode(term: int, vote: str | None, voter: bool) -> bytes:
    name = (vote or "").encode()
    assert len(name) <= MAX_VOTE_BYTES
    body = _HEAD.pack(MAGIC, FORMAT_VERSION, len(name), term) + name + bytes([voter])
    return body + _CRC.pack(masked(crc32c(body)))


def _decode(path: Path, content: bytes) -> tuple[int, str | None, bool]:
    if len(content) < _HEAD.size + _CRC.size:
        raise DamagedHardState(f"{path}: {len(content)} bytes, at least {_HEAD.size + _CRC.size} expected")
    body, crc = content[: -_CRC.size], _CRC.unpack(content[-_CRC.size :])[0]
    if crc != masked(crc32c(body)):
        raise DamagedHardState(f"{path}: checksum is {masked(crc32c(body)):08x}, the file says {crc:08x}")
    magic, version, size, term = _HEAD.unpack_from(body)
    if magic != MAGIC or version not in (1, FORMAT_VERSION):
        raise DamagedHardState(
            f"{path}: magic {magic!r} version {version}; {MAGIC!r} {FORMAT_VERSION} expected"
        )
    flags = 0 if version == 1 else 1
    if len(body) != _HEAD.size + size + flags:
        raise DamagedHardState(
            f"{path}: vote of {size} bytes announced, {len(body) - _HEAD.size - flags} found"
        )
    try:
        vote = body[_HEAD.size : _HEAD.size + size].decode() or None
    except UnicodeDecodeError as error:
        raise DamagedHardState(f"{path}: the vote is no name: {error}") from error
    return term, vote, version == 1 or body[-1] != 0
