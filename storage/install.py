"""Install: another beginning, a state and an empty segment, in the place of everything in a log's directory.

A follower that lacks entries which are kept nowhere any more begins anew from the state of a leader. Old and
new never mix, whenever the power goes:

    prepare   state, log and index of the new segment under temporary names, synced: a crash removes them
    decide    the manifest, flagged INSTALLING, by one rename: from here on a crash finishes the install
    finish    unlink everything else, sync -> temporary names become real ones, sync -> manifest, unflagged

A temporary name is given up only after all that is old is durably gone. So in a flagged directory a file with
the new base's name is the new one exactly where its temporary name is not there.
"""

from __future__ import annotations

from quorumlog.storage.directory import SegmentDirectory
from quorumlog.storage.errors import Damaged, NoSpace, SyncFailed
from quorumlog.storage.files import NO_SPACE_ERRORS, File, replace_file, write_all
from quorumlog.storage.format import SEGMENT_HEADER_BYTES
from quorumlog.storage.header import SegmentHeader
from quorumlog.storage.manifest import NAME as MANIFEST_NAME
from quorumlog.storage.manifest import LogIdentity, Manifest
from quorumlog.storage.spare import Spare, SpareFiles
from quorumlog.storage.state import decode_state, encode_state

PREFIX = "install"  # of the temporary names
SUFFIXES = ("state", "log", "index")


def temporary_name(suffix: str) -> str:
    """Return the name that a file of the new beginning has until the old files are gone."""
    return f"{PREFIX}.{suffix}.tmp"


class Installation:
    """One install. Log.begin_install makes it; Log.switch_to and Log.end_install go with its two halves.

    - Until `prepare` returns, the directory is that of the old log; afterwards that of the new one.
    - Between the two halves nothing else writes to the directory, but for the spare's own names.
    """

    def __init__(
        self,
        directory: SegmentDirectory,
        identity: LogIdentity,
        spare: Spare,
        header: SegmentHeader,
        state: bytes,
    ) -> None:
        """`spare` makes files under the names of `temporary_name`. `state` is as of header.base - 1."""
        self.header = header
        self.manifest = Manifest(
            header.base, header.ordinal, header.previous_term, header.previous_chain, is_installing=True
        )
        self.files: SpareFiles | None = None  # of the new segment, after `prepare`
        self.is_finished = False
        self._directory = directory
        self._identity = identity
        self._spare = spare
        self._state = encode_state(header.base, state)

    def prepare(self) -> None:
        """Write everything and decide, in any thread.

        Raises NoSpace with the old log as it was, or SyncFailed.
        """
        try:
            self._spare.check_room(len(self._state), urgent=False)
            self._write_state()
            self._spare.prepare(0, urgent=False)
            files = self._spare.take(self.header, self._identity)
            self._directory.sync()
            write_manifest(self._directory, self._identity, self.manifest)
        except (OSError, NoSpace) as error:
            if isinstance(error, OSError) and error.errno not in NO_SPACE_ERRORS:
                raise SyncFailed(f"install of {self.header.base}: {error}") from error
            self._take_back()
            raise NoSpace(f"install of {self.header.base}: {error}") from error
        self.files = files
        self._state = b""

    def _write_state(self) -> None:
        file = self._directory.files.open(self._directory.path / temporary_name("state"), create=True)
        file.allocate(0, len(self._state))  # a full disk is to be found here, not by the fsync
        write_all(file, self._state, 0)
        try:
            file.fsync()
        except OSError as error:
            raise SyncFailed(f"{temporary_name('state')}: fsync: {error}") from error

    def _take_back(self) -> None:
        try:
            for suffix in SUFFIXES:
                path = self._directory.path / temporary_name(suffix)
                if self._directory.files.exists(path):
                    self._directory.files.unlink(path)
        except OSError as error:
            raise SyncFailed(f"install of {self.header.base}: {error}") from error

    def finish(self) -> None:
        """Make the old files go and give the new ones their names, in any thread.

        Raises NoSpace (call it again) or SyncFailed.
        """
        assert self.files is not None, "finish before prepare"
        try:
            finish_install(self._directory, self._identity, self.manifest)
        except OSError as error:
            if error.errno in NO_SPACE_ERRORS:
                raise NoSpace(f"install of {self.header.base}: {error}") from error
            raise SyncFailed(f"install of {self.header.base}: {error}") from error
        self.is_finished = True


def finish_install(directory: SegmentDirectory, identity: LogIdentity, manifest: Manifest) -> None:
    """Do what a flagged manifest asks for, from wherever it was left.

    Raises Damaged with nothing changed, or OSError.
    """
    base = manifest.first_base
    temporary = {suffix: directory.path / temporary_name(suffix) for suffix in SUFFIXES}
    waiting = [suffix for suffix in SUFFIXES if directory.files.exists(temporary[suffix])]
    _check_new_files(directory, identity, manifest, waiting)
    kept = {directory.file(base, suffix).name for suffix in SUFFIXES if suffix not in waiting}
    for name in directory.list().names():
        if name not in kept:
            directory.files.unlink(directory.path / name)
    directory.sync()
    for suffix in waiting:
        directory.files.rename(temporary[suffix], directory.file(base, suffix))
    directory.sync()
    write_manifest(directory, identity, manifest.installed())


def _check_new_files(
    directory: SegmentDirectory, identity: LogIdentity, manifest: Manifest, waiting: list[str]
) -> None:
    """Before anything goes, be sure of what is to take its place. Raises Damaged."""
    base = manifest.first_base

    def opened(suffix: str) -> tuple[File, str]:
        path = directory.path / temporary_name(suffix) if suffix in waiting else directory.file(base, suffix)
        try:
            return directory.files.open(path, writable=False), path.name
        except FileNotFoundError as error:
            reason = f"the file is missing, and the log is to begin anew at {base}"
            raise Damaged(path.name, 0, None, reason) from error

    state, name = opened("state")
    decode_state(state.pread(state.size(), 0), base, name)
    log, name = opened("log")
    header = SegmentHeader.decode(log.pread(SEGMENT_HEADER_BYTES, 0), identity, base, name)
    expected = (manifest.first_ordinal, manifest.previous_term, manifest.previous_chain)
    if (header.ordinal, header.previous_term, header.previous_chain) != expected:
        raise Damaged(name, 0, None, f"header: expected what the manifest says, {manifest}, got {header}")


def write_manifest(directory: SegmentDirectory, identity: LogIdentity, manifest: Manifest) -> None:
    """Replace the manifest of the directory's group. Raises OSError with it as it was, or SyncFailed."""
    replace_file(directory.files, directory.path.parent / MANIFEST_NAME, manifest.encode(identity))
