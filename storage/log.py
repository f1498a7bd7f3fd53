"""Log: the segments of one group's directory as one sequence of entries."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path

from quorumlog.storage.check import Place
from quorumlog.storage.copy import Copy
from quorumlog.storage.derived import DerivedFiles
from quorumlog.storage.directory import SegmentDirectory
from quorumlog.storage.drop import Drop
from quorumlog.storage.errors import Damaged, NoSpace, OutOfLog, SyncFailed
from quorumlog.storage.fences import SealedFile
from quorumlog.storage.files import NO_SPACE_ERRORS, FileSystem, Lock, OsFiles
from quorumlog.storage.format import FRAME_HEADER_BYTES, SEGMENT_HEADER_BYTES
from quorumlog.storage.frame import Frame
from quorumlog.storage.header import SegmentHeader
from quorumlog.storage.install import PREFIX as INSTALL_PREFIX
from quorumlog.storage.install import Installation
from quorumlog.storage.manifest import LogIdentity, Manifest
from quorumlog.storage.opening import Opened, open_directory
from quorumlog.storage.options import LogOptions
from quorumlog.storage.reader import LogReader
from quorumlog.storage.recovery import make_room
from quorumlog.storage.sealed import SealedSegments
from quorumlog.storage.segment import Segment, SegmentInfo, file_name
from quorumlog.storage.spare import Spare, empty_segment
from quorumlog.storage.ticket import Ticket
from quorumlog.storage.view import ActiveView


class Log(LogReader):
    """An append-only sequence of entries, numbered from 1, of which a prefix may have been dropped.

    - Entries are `first_index` to `last_index` without gaps; each continues the chain of the one before.
    - `durable_index <= last_index`, and nothing above it has been promised to anybody.
    - Only the last segment is ever written to; all that is in the others is durable.
    - After SyncFailed nothing works any more but `close`: the process must end.

    One thread appends, truncates and finishes syncs; it begins and ends drops and installs. `read*`,
    `term_at`, `open_view`, `seal`, `prepare_next`, `Ticket.run` and the halves of Drop and Installation may
    be called from any, but `seal` and those halves one at a time.
    """

    def __init__(
        self,
        directory: SegmentDirectory,
        identity: LogIdentity,
        options: LogOptions,
        lock: Lock,
        opened: Opened,
    ) -> None:
        """Use Log.open."""
        super().__init__(directory, identity, options, opened)
        self._lock = lock
        self._spare = Spare(directory, options.segment_bytes, options.segment_entries, options.reserve_bytes)
        self._tickets: list[Ticket] = []
        self._durable = self._active.last_index
        self._failure: SyncFailed | None = None
        self._is_closed = False
        self._is_installing = False  # from switch_to to end_install

    @classmethod
    def open(
        cls,
        directory: Path | str,
        identity: LogIdentity,
        files: FileSystem | None = None,
        options: LogOptions | None = None,
    ) -> Log:
        """Open the log of a group's directory, or make a new one.

        Raises CannotOpen (Locked, WrongIdentity, UnknownVersion), Damaged where nothing can be said of
        the log's end, NoSpace or SyncFailed. What is damaged but can be fenced is in `recovery.fenced`.
        """
        files = files or OsFiles()
        options = options or LogOptions()
        group = Path(directory)
        lock, opened = open_directory(files, group, identity, options.segment_bytes, options.segment_entries)
        return cls(SegmentDirectory(files, group / "log"), identity, options, lock, opened)

    @property
    def durable_index(self) -> int:
        """All entries up to this one survive a power loss."""
        return self._durable

    # Appending

    def should_roll(self, payload_bytes: int) -> bool:
        """Whether a leader should start a new segment with an entry of that payload."""
        active = self._active
        if active.index.count == 0 or active.index.count >= self._options.segment_entries:
            return True
        return active.needs(payload_bytes, 1) > self._options.segment_bytes

    def ensure_space(self, payload_bytes: int, rolls: bool, *, count: int = 1, urgent: bool = False) -> None:
        """Make sure that an append of `count` entries, whose payloads are so large together, finds room.

        `rolls`: one of them starts a segment. `urgent`: it may use the reserve. Raises NoSpace.
        """
        self._check_usable()
        try:
            if rolls and self._active.index.count:
                self._spare.prepare(SEGMENT_HEADER_BYTES + payload_bytes + count * FRAME_HEADER_BYTES, urgent)
                if count == 1:
                    return
            needed = self._active.needs(payload_bytes, count)
            if needed > self._active.store.allocated:
                self._spare.check_room(needed - self._active.store.allocated, urgent)
                self._active.store.allocate(needed)
            self._active.index.reserve(count)
        except (OSError, SyncFailed) as error:
            raise self._fail(error) from error

    @property
    def wants_next(self) -> bool:
        """Whether it is time to call `prepare_next` in a worker thread."""
        return not self._spare.is_ready and self._active.store.end * 2 > self._options.segment_bytes

    def prepare_next(self) -> None:
        """Preallocate the next segment, in any thread. Raises NoSpace or SyncFailed."""
        try:
            self._spare.prepare(0, False)
        except SyncFailed as error:
            raise self._fail(error) from error

    def append(self, frames: Sequence[Frame]) -> None:
        """Append entries that continue the log; they are durable only after a sync.

        Raises NoSpace with the log as it was, or SyncFailed.
        """
        self._check_usable()
        first = frames[0].index
        start = 0
        try:
            for number, frame in enumerate(frames):
                if frame.starts_segment and number > start:
                    self._append_run(frames[start:number])
                    start = number
            self._append_run(frames[start:])
        except NoSpace:
            if self.last_index >= first:
                self.truncate_from(first)
            raise
        except (OSError, SyncFailed) as error:
            raise self._fail(error) from error

    def _append_run(self, frames: Sequence[Frame]) -> None:
        """Append frames of one segment, of which the first may start it."""
        if frames[0].starts_segment:
            if self._active.index.count:
                self._roll()
        elif not self._active.index.count:
            self._reopen_previous()
        self._active.check(frames)
        self._active.append(frames)

    def _roll(self) -> None:
        """Begin a new segment: each step is durable before the next, so only the last can be torn."""
        old = self._active
        base = old.last_index + 1
        header = SegmentHeader(base, old.last_term, old.last_chain, old.base, old.header.ordinal + 1)
        spare = self._spare.take(header, self._identity)
        old.finish()
        try:
            active = self._spare.install(spare, header)
        except OSError as error:
            self._make_room()
            if error.errno in NO_SPACE_ERRORS:
                raise NoSpace(f"new segment {base}: {error}") from error
            raise
        self._sealed.put(old)
        self._sizes[old.base] = old.store.end
        self._active = active
        self._bases = (*self._bases, base)
        self._durable = max(self._durable, base - 1)

    # Durability

    def begin_sync(self) -> Ticket:
        """Return a ticket whose `run` makes everything appended so far durable."""
        self._check_usable()
        active = self._active
        ticket = Ticket(active, active.last_index, active.store.end)
        self._tickets.append(ticket)
        return ticket

    def finish_sync(self, ticket: Ticket) -> int:
        """Take back a ticket that has run; return the durable index. Raises SyncFailed."""
        self._tickets.remove(ticket)
        if ticket.error is not None:
            raise self._fail(ticket.error)
        assert ticket.is_done, "finish_sync before run"
        ticket.segment.watermark.raise_to(ticket.position)
        self._durable = max(self._durable, ticket.target)
        return self._durable

    def sync(self) -> int:
        """Make everything appended so far durable, here and now. Raises SyncFailed."""
        ticket = self.begin_sync()
        try:
            ticket.run()
        except SyncFailed:
            self._tickets.remove(ticket)
            raise self._fail(ticket.error) from ticket.error
        return self.finish_sync(ticket)

    def _fail(self, error: OSError | SyncFailed | None) -> SyncFailed:
        """From now on nothing works: what is on disk is not known."""
        self._failure = error if isinstance(error, SyncFailed) else SyncFailed(str(error))
        return self._failure

    def _check_usable(self) -> None:
        assert not self._is_closed, "the log is closed"
        for ticket in self._tickets:
            if ticket.error is not None:
                self._fail(ticket.error)
        if self._failure is not None:
            raise self._failure
        if self.recovery.fenced:
            raise self.recovery.fenced[0]
        assert not self._is_installing, "the log is being replaced"

    # Truncating

    def truncate_from(self, index: int) -> None:
        """Take back the entries from `index` on, none of which is committed.

        Each step is durable before the next: the watermark is lowered, later segments go, newest first,
        then the tail. So neither is damage seen where there is none, nor do old frames ever lie behind
        new ones. Raises SyncFailed, or Damaged (the entry before cannot be read) with nothing changed.
        """
        self._check_usable()
        assert self.first_index <= index <= self.last_index, (
            f"{index}: {self.first_index} to {self.last_index}"
        )
        assert index >= self._derived.newest_state, f"entry {index} is committed: a state covers it"
        term, chain = self._end_before(index)
        self._truncations += 1
        self._durable = min(self._durable, index - 1)
        try:
            if index < self._active.base:
                self._reopen(bisect_right(self._bases, index) - 1, index - 1, term, chain)
            else:
                self._clamp_tickets(self._active, index - 1)
                self._active.cut_after(index - 1, term, chain)
            self._make_room()
        except (OSError, SyncFailed) as error:
            raise self._fail(error) from error
        self._truncations += 1

    def _end_before(self, index: int) -> tuple[int, int]:
        """Return term and chain of the entry before `index`."""
        if index == self._active.base:
            return self._active.header.previous_term, self._active.header.previous_chain
        if index == self.first_index:
            return self._manifest.previous_term, self._manifest.previous_chain
        last = self.read(index - 1)
        return last.term, last.chain

    def _clamp_tickets(self, segment: Segment, last_index: int) -> None:
        """A sync under way proves only what will be left."""
        for ticket in self._tickets:
            if ticket.segment is segment:
                ticket.position = min(ticket.position, segment.end_of(last_index))
            ticket.target = min(ticket.target, last_index)

    def _reopen_previous(self) -> None:
        """An entry that starts no segment takes the place of one that did: go back to the segment before."""
        number = len(self._bases) - 2
        assert number >= 0, f"entry {self.last_index + 1}: the first of the log starts a segment"
        assert not self._derived.has_state(self._active.base), f"entry {self._active.base} is committed"
        self._truncations += 1
        self._reopen(number, self.last_index, self.last_term, self.last_chain)
        self._make_room()
        self._truncations += 1

    def _reopen(self, number: int, last_index: int, term: int, chain: int) -> None:
        """Make a sealed segment the active one again, with `last_index` its last entry."""
        self._keep_synced_ones()
        reopened = self._sealed.reopen(self._bases, number, self._active, term, chain)
        end = reopened.end_of(last_index)
        self._clamp_tickets(reopened, last_index)
        # All of it is durable, since it was sealed: the slots may say so, and must say no more.
        reopened.watermark.set_both(end)
        reopened.sync_data()
        for base in reversed(self._bases[number + 1 :]):
            self._directory.unlink_if_there(base, "index")
            self._directory.unlink_if_there(base, "log")
            # One by one: names are lost in any order, and a hole below a segment that stays is damage.
            self._directory.sync()
            self._sealed.drop(base)
            self._sizes.pop(base, None)
            self._fences.forget(base)
        reopened.cut_after(last_index, term, chain)
        self._sizes.pop(reopened.base)
        self._fences.forget(reopened.base)
        self._active = reopened
        self._bases = self._bases[: number + 1]

    def _keep_synced_ones(self) -> None:
        """Have a segment that is being synced found as it is: two watermarks in one file would fight."""
        for ticket in self._tickets:
            if ticket.segment.base in self._bases[:-1]:
                self._sealed.put(ticket.segment)

    def _make_room(self) -> None:
        make_room(self._active, self._options.segment_bytes, self._options.segment_entries)

    # Sealing and retention

    def seal(self, base: int, view: ActiveView | bytes, state: bytes) -> None:
        """Write the view of segment `base`, and the state that the next segment begins with.

        Everything in the segment is committed and applied, and the next one has begun. In any thread, one
        call at a time. Raises NoSpace (try again) or SyncFailed.
        """
        bases = self._bases
        number = bisect_right(bases, base)
        assert bases[number - 1] == base, f"{base} is no segment's base"
        assert number < len(bases), f"segment {base} is the active one"
        next_base = bases[number]
        assert self._durable >= next_base - 1, f"seal up to {next_base}: durable is {self._durable}"
        data = view.to_bytes(next_base) if isinstance(view, ActiveView) else view
        try:
            self._derived.write_view(base, data)
        except SyncFailed as error:
            raise self._fail(error) from error
        self._fences.lift(SealedFile(base, "view"))
        self.write_state(next_base, state)

    def write_state(self, base: int, state: bytes) -> None:
        """Write the state as of `base - 1`, where `base` is a segment's. Raises NoSpace or SyncFailed."""
        assert base in self._bases, f"{base} is no segment's base"
        try:
            self._derived.write_state(base, state)
        except SyncFailed as error:
            raise self._fail(error) from error
        self._fences.lift(SealedFile(base, "state"))

    def load_state(self) -> tuple[int, bytes | None]:
        """Return the newest usable state and the base that it stands before: replay starts there.

        A state that is damaged, or that lacks the view of a segment before it, is passed over: replay
        then makes both again. (1, None) means from nothing. Raises Damaged where there is no way.
        """
        for base in self._derived.usable_states(self._bases):
            if SealedFile(base, "state") in self.fenced:
                continue
            try:
                return base, self._derived.read_state(base)
            except Damaged as damage:
                self.report(damage)
        if self.first_index != 1:
            raise Damaged(file_name(self.first_index, "state"), 0, None, "there is no state to begin with")
        return 1, None

    def drop_before(self, base: int) -> None:
        """Drop the segments before `base`, which begins a segment and has a state: all of `begin_drop`.

        Raises NoSpace with nothing changed, or SyncFailed.
        """
        if base == self.first_index:
            return
        drop = self.begin_drop(base)
        try:
            drop.record()
            self.forget(drop)
            drop.remove()
        except SyncFailed as error:
            raise self._fail(error) from error

    def begin_drop(self, base: int) -> Drop:
        """Return the drop of the segments before `base`: run `record`, call `forget`, run `remove`."""
        self._check_usable()
        assert base in self._bases, f"{base} is no segment's base"
        assert self._derived.has_state(base), f"segment {base} has no state to start from"
        header = self.header_of(base)
        manifest = Manifest(base, header.ordinal, header.previous_term, header.previous_chain)
        bases = self._bases[: self._bases.index(base)]
        assert bases, f"nothing stands before {base}"
        return Drop(self._directory, self._identity, self._derived, manifest, bases)

    def forget(self, drop: Drop) -> None:
        """Read no more of what a drop has recorded as gone."""
        self._manifest = drop.manifest
        self._bases = self._bases[len(drop.bases) :]
        assert self._bases[0] == drop.manifest.first_base
        self.views.forget_before(drop.manifest.first_base)
        for base in drop.bases:
            self._sealed.drop(base)
            self._sizes.pop(base)
            self._fences.forget(base)

    # Beginning anew

    def install(self, header: SegmentHeader, state: bytes) -> None:
        """Replace all that is here by a state and an empty segment that follows it: all of `begin_install`.

        Raises NoSpace with nothing changed, or SyncFailed.
        """
        installation = self.begin_install(header, state)
        try:
            installation.prepare()
            self.switch_to(installation)
            installation.finish()
        except SyncFailed as error:
            raise self._fail(error) from error
        self.end_install(installation)

    def begin_install(self, header: SegmentHeader, state: bytes) -> Installation:
        """Return the install of `state`, as of header.base - 1, and of an empty segment with that header.

        Run `prepare`, call `switch_to`, run `finish`, call `end_install`. From now to the end nothing is
        appended, synced, sealed or dropped, and no sync is under way.
        """
        self._check_usable()
        assert not self._tickets, "an install during a sync"
        assert header.base > max(self._derived.newest_state, 1), f"install of {header.base} goes back"
        options = self._options
        sizes = (options.segment_bytes, options.segment_entries, options.reserve_bytes)
        spare = Spare(self._directory, *sizes, INSTALL_PREFIX)
        return Installation(self._directory, self._identity, spare, header, state)

    def switch_to(self, installation: Installation) -> None:
        """Read no more of what was here, and forget its views: they begin anew with the state."""
        self._check_usable()
        assert not self._tickets, "an install during a sync"
        assert installation.files is not None, "switch_to before prepare"
        header = installation.header
        self._is_installing = True
        self._manifest = installation.manifest.installed()
        self._active = empty_segment(self._directory, header, installation.files)
        self._bases = (header.base,)
        self._sizes = {}
        self._derived = DerivedFiles(self._directory, set(), {header.base})
        self._fences.clear()
        self._sealed = SealedSegments(
            self._directory, self._identity, self._options.open_segments, self._fences
        )
        self._durable = header.base - 1
        self._truncations += 2  # whoever reads meanwhile may find bytes gone, which is no damage
        self.views.clear()

    def end_install(self, installation: Installation) -> None:
        """All names are the new ones: go on."""
        assert installation.is_finished, "end_install before finish"
        self._is_installing = False

    # Repair

    def check_room(self, size: int) -> None:
        """Raise NoSpace where `size` more bytes would touch the reserve."""
        self._spare.check_room(size, urgent=False)

    def begin_copy(self, file: SealedFile) -> Copy:
        """Return an empty copy that shall take the place of a sealed file. Raises NoSpace or SyncFailed."""
        return Copy(self._directory, file)

    def install_copy(self, copy: Copy, checked: Place | None) -> None:
        """Let a copy take the place of a sealed file, lift the fence. It has passed its check and is synced.

        `checked` is the place that a log file was checked for. Raises OutOfLog where the log is not what it
        was then, NoSpace with nothing changed, or SyncFailed.
        """
        file = copy.file
        is_busy = self._is_installing or any(ticket.segment.base == file.base for ticket in self._tickets)
        if not is_busy:
            self._check_usable()
        if is_busy or not self._is_sealed(file) or (checked and self.place_of(file.base) != checked):
            raise OutOfLog(file.base, self.first_index, self.last_index)
        try:
            copy.rename()
        except OSError as error:
            if error.errno in NO_SPACE_ERRORS:
                raise NoSpace(f"{file.name}: {error}") from error
            raise self._fail(error) from error
        except SyncFailed as error:
            raise self._fail(error) from error
        if file.suffix == "log":
            self._sizes[file.base] = copy.size
        self.lift_fence(file)

    def lift_fence(self, file: SealedFile) -> None:
        """The file has passed a check from end to end: what is open of it is opened anew."""
        self._sealed.drop(file.base)
        self.views.forget(file.base)
        self._fences.lift(file)

    def close(self) -> None:
        """Sync, say on disk that it was closed, and let go.

        After a failure, or amid an install, only let go.
        """
        if self._is_closed:
            return
        try:
            if self._failure is None and not self.recovery.fenced and not self._is_installing:
                self._close_cleanly()
        except OSError as error:
            raise self._fail(error) from error
        finally:
            self._is_closed = True
            self._lock.release()

    def abandon(self) -> None:
        """Let go of everything as it is, and say nothing on disk: as if the process had been killed."""
        self._is_closed = True
        self._lock.release()

    def _close_cleanly(self) -> None:
        self.sync()
        self._spare.discard()
        active = self._active
        active.finish()
        active.index.sync()
        active.watermark.record_clean()
        active.sync_data()


__all__ = ["Log", "LogIdentity", "LogOptions", "SegmentInfo", "Ticket"]
