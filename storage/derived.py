"""Derived files: the views and states of a log's segments, which can be made again by replaying it."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

from quorumlog.storage.directory import SegmentDirectory
from quorumlog.storage.errors import Damaged, NoSpace, SyncFailed
from quorumlog.storage.files import NO_SPACE_ERRORS
from quorumlog.storage.state import StateFile, decode_state, encode_state
from quorumlog.storage.view import SealedView


class DerivedFiles:
    """Which views and states there are, and how they come and go.

    - They hold nothing but what is committed, so no truncation ever touches one.
    - A state is written only when the views of all segments before it are durable: a start from it would
      never make them.
    """

    def __init__(self, directory: SegmentDirectory, views: set[int], states: set[int]) -> None:
        self._directory = directory
        self._views = frozenset(views)  # bases; replaced, never changed: any thread reads them
        self._states = frozenset(states)
        self._lock = Lock()  # one thread seals while another drops

    def has_view(self, base: int) -> bool:
        """Whether segment `base` has a view."""
        return base in self._views

    def has_state(self, base: int) -> bool:
        """Whether there is the state as of `base - 1`."""
        return base in self._states

    @property
    def newest_state(self) -> int:
        """Base of the newest state; 0: there is none."""
        return max(self._states, default=0)

    def write_view(self, base: int, data: bytes) -> None:
        """Write a view, durably. Raises NoSpace or SyncFailed."""
        self._replace(base, "view", data)
        with self._lock:
            self._views |= {base}

    def write_state(self, base: int, state: bytes) -> None:
        """Write the state as of `base - 1`, durably. Raises NoSpace or SyncFailed."""
        self._replace(base, "state", encode_state(base, state))
        with self._lock:
            self._states |= {base}

    def _replace(self, base: int, suffix: str, data: bytes) -> None:
        try:
            self._directory.replace(base, suffix, data)
        except OSError as error:
            if error.errno in NO_SPACE_ERRORS:
                raise NoSpace(f"{suffix} of segment {base}: {error}") from error
            raise SyncFailed(f"{suffix} of segment {base}: {error}") from error

    def open_view(self, base: int, report: Callable[[Damaged], None]) -> SealedView:
        """Map a view; damage that is met in it later is reported. Raises Damaged."""
        path = self._directory.file(base, "view")
        try:
            file = self._directory.files.open(path, writable=False)
        except FileNotFoundError as error:
            raise Damaged(path.name, 0, None, "the file is missing") from error
        size = file.size()
        return SealedView(file.map(size) if size else memoryview(b""), path.name, report)

    def usable_states(self, bases: tuple[int, ...]) -> list[int]:
        """Return the bases of the states that lack no view of the segments before them, newest first."""
        usable = []
        for base in sorted(self._states):
            if all(each in self._views for each in bases if each < base):
                usable.append(base)
        return usable[::-1]

    def read_state(self, base: int) -> bytes:
        """Return the state as of `base - 1`. Raises Damaged."""
        path = self._directory.file(base, "state")
        file = self._directory.files.open(path, writable=False)
        return decode_state(file.pread(file.size(), 0), base, path.name)

    def open_state(self, base: int) -> StateFile:
        """Open the state as of `base - 1`. Raises Damaged."""
        path = self._directory.file(base, "state")
        try:
            return StateFile(self._directory.files.open(path, writable=False), base, path.name)
        except FileNotFoundError as error:
            raise Damaged(path.name, 0, None, "the file is missing") from error

    def forget(self, base: int) -> None:
        """The files of segment `base` are gone."""
        with self._lock:
            self._views -= {base}
            self._states -= {base}
