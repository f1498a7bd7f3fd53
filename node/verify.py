"""python -m quorumlog.node.verify DIRECTORY: check the data directory of a node that does not run.

Nothing is changed. What is checked: whose the directory is; the term and the vote; the manifest; every sealed
segment, frame by frame, with the chain from each to the next; the last segment as far as it is durable; every
index against its log; and every view and state against a replay of the log from the oldest state.

Exit codes: 0 nothing is damaged, 1 something is or it cannot be checked, 2 called wrongly.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path

from quorumlog.node.config import CLUSTER_ID_BYTES
from quorumlog.node.directory import DirectoryRefused, identity_of
from quorumlog.node.machine import LogMachine, UnknownEntry
from quorumlog.raft.errors import DamagedHardState
from quorumlog.raft.hardstate import HardState
from quorumlog.storage.check import LogCheck, Place, Source, Steps, check_index, check_state, check_view
from quorumlog.storage.directory import Listing, SegmentDirectory
from quorumlog.storage.errors import CannotOpen, Damaged
from quorumlog.storage.files import OsFiles, read_file
from quorumlog.storage.format import FRAME_HEADER_BYTES, SEGMENT_HEADER_BYTES
from quorumlog.storage.frame import BadFrame, Frame, parse_frame, parse_header
from quorumlog.storage.header import SegmentHeader
from quorumlog.storage.manifest import NAME as MANIFEST_NAME
from quorumlog.storage.manifest import LogIdentity, Manifest
from quorumlog.storage.opening import LOCK_NAME
from quorumlog.storage.scan import Window, count_nonzero_tail, scan
from quorumlog.storage.segment import file_name
from quorumlog.storage.state import decode_state, encode_state
from quorumlog.storage.view import SealedView
from quorumlog.storage.views import Views
from quorumlog.storage.watermark import ReadSlots

FAILED = 1


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be."""

    file: str
    position: int
    entry: int | None
    reason: str


@dataclass(slots=True)
class Report:
    """What was looked at, and what was found."""

    directory: str
    node: str = ""
    cluster: str = ""
    term: int = 0
    first_index: int = 0
    last_index: int = 0
    segments: int = 0
    bytes: int = 0
    views_replayed: int = 0  # compared with a replay, byte for byte
    states_replayed: int = 0
    findings: list[Finding] = field(default_factory=list)  # damage
    notes: list[str] = field(default_factory=list)  # normal after a crash, or mended by the next start

    def damage(self, error: Damaged) -> None:
        """Add a finding."""
        self.findings.append(Finding(error.file, error.position, error.entry, error.reason))


class Unusable(Exception):
    """The directory cannot be checked at all."""


class _Nothing:
    """views.ViewSource: the replay looks at no view."""

    bases = ()

    def open_view(self, base: int) -> SealedView:
        raise AssertionError("a replay reads no view")


class Verifier:
    """One check of one directory."""

    def __init__(self, path: Path) -> None:
        self.report = Report(str(path))
        self._path = path
        self._files = OsFiles()
        self._directory = SegmentDirectory(self._files, path / "group-0" / "log")

    def run(self) -> Report:
        """Check everything. Raises Unusable."""
        report = self.report
        try:
            report.node, report.cluster = identity_of(self._path)
        except (DirectoryRefused, OSError) as error:
            raise Unusable(str(error)) from error
        cluster_id = hashlib.blake2b(report.cluster.encode(), digest_size=CLUSTER_ID_BYTES).digest()
        group = self._path / "group-0"
        if not (group / LOCK_NAME).exists():
            raise Unusable(f"{group}: there is no log")
        lock = self._files.lock(group / LOCK_NAME)
        if lock is None:
            raise Unusable(f"{group}: a node has it open; without a directory the cluster is asked")
        try:
            self._check(group, LogIdentity(cluster_id, 0))
        except CannotOpen as error:
            raise Unusable(str(error)) from error
        finally:
            lock.release()
        return report

    def _check(self, group: Path, identity: LogIdentity) -> None:
        listing = self._directory.list()
        self._check_hard_state(group, log_is_empty=not listing.logs)
        try:
            data = read_file(self._files, group / MANIFEST_NAME)
            if data is None:
                raise Damaged(MANIFEST_NAME, 0, None, "the file is missing")
            manifest = Manifest.decode(data, identity)
        except Damaged as damage:
            self.report.damage(damage)
            return
        if manifest.is_installing:
            raise Unusable(f"{group}: the log is being replaced: start the node, which finishes it")
        bases = sorted(base for base in listing.logs if base >= manifest.first_base)
        if not bases or bases[0] != manifest.first_base:
            name = file_name(manifest.first_base, "log")
            self.report.damage(Damaged(name, 0, manifest.first_base, "the log's first segment is missing"))
            return
        self.report.first_index, self.report.segments = bases[0], len(bases)
        self.report.bytes = sum(listing.logs[base] for base in bases)
        self.report.notes.extend(
            f"{name}: unfinished, removed by the next start" for name in listing.leftovers
        )
        headers = {base: self._header(base, identity) for base in bases}
        whole = set()
        for base, after in pairwise(bases):
            place = self._place(base, after, headers, manifest)
            if place is not None and self._check_sealed(place, identity, listing):
                whole.add(base)
        self._check_last(bases[-1], headers[bases[-1]])
        for base in sorted(listing.states & set(bases)):
            self._passes(check_state(self._source(base, "state"), base))
        for base, after in pairwise(bases):
            if base in listing.views:
                self._passes(check_view(self._source(base, "view"), base, after))
        _Replay(self.report, self._directory, listing, bases, whole).run()

    def _check_hard_state(self, group: Path, *, log_is_empty: bool) -> None:
        try:
            self.report.term = HardState(self._files, group / "term", log_is_empty=log_is_empty).term
        except DamagedHardState as error:
            self.report.damage(Damaged("term", 0, None, str(error)))

    def _header(self, base: int, identity: LogIdentity) -> SegmentHeader | None:
        name = file_name(base, "log")
        try:
            page = self._source(base, "log").read(0, SEGMENT_HEADER_BYTES)
            return SegmentHeader.decode(page, identity, base, name)
        except Damaged as damage:
            self.report.damage(damage)
            return None

    def _place(
        self, base: int, after: int, headers: dict[int, SegmentHeader | None], manifest: Manifest
    ) -> Place | None:
        """Return what the segments beside one say of it; None where there is nothing to check it by."""
        own, following = headers[base], headers[after]
        if following is not None and following.previous_base != base:
            missing = following.previous_base
            reason = f"the file is missing: segment {after} says that it follows it"
            self.report.damage(Damaged(file_name(missing, "log"), 0, missing, reason))
            return None
        if own is None:
            return None
        end, ordinal = None, None
        if following is not None:
            end, ordinal = (following.previous_term, following.previous_chain), following.ordinal - 1
        is_first = base == manifest.first_base
        previous = (manifest.previous_term, manifest.previous_chain) if is_first else None
        return Place(base, after, end, ordinal, previous)

    def _check_sealed(self, place: Place, identity: LogIdentity, listing: Listing) -> bool:
        """Check a log file and its index; whether the log file is whole."""
        base = place.base
        check = LogCheck(self._source(base, "log"), identity, place)
        if not self._passes(check.steps()):
            return False
        index = file_name(base, "index")
        if base not in listing.indexes:
            self.report.notes.append(f"{index}: missing; made again when it is needed")
        elif not self._passes(check_index(self._source(base, "index"), check), keep=False):
            self.report.notes.append(f"{index}: not that of its log; made again when it is needed")
        return True

    def _check_last(self, base: int, header: SegmentHeader | None) -> None:
        self.report.last_index = base - 1
        if header is None:
            return
        source = self._source(base, "log")
        size = source.file.size()
        slots = ReadSlots(source.read(0, SEGMENT_HEADER_BYTES), base)
        if slots.bad_count == 2:
            self.report.damage(Damaged(source.name, 1024, None, "both synced slots are bad"))
        found = scan(source.file, source.name, header, size, fence=slots.position)
        for damage in found.damage:
            self.report.damage(damage)
        self.report.last_index = base + len(found.slots) - 1
        torn = 0 if found.damage else count_nonzero_tail(source.file, found.end, size)
        if torn:
            self.report.notes.append(f"{source.name}: {torn} torn bytes at the end, cut by the next start")

    def _passes(self, steps: Steps, *, keep: bool = True) -> bool:
        try:
            for _ in steps:
                pass
        except Damaged as damage:
            if keep:
                self.report.damage(damage)
            return False
        return True

    def _source(self, base: int, suffix: str) -> Source:
        file = self._files.open(self._directory.file(base, suffix), writable=False)
        return Source(file, file_name(base, suffix))


class _Replay:
    """Makes views and states again from the log, and compares. Goes on behind a damaged segment."""

    def __init__(
        self, report: Report, directory: SegmentDirectory, listing: Listing, bases: list[int], whole: set[int]
    ) -> None:
        self._report = report
        self._directory = directory
        self._listing = listing
        self._bases = bases
        self._whole = whole
        self._machine: LogMachine | None = None

    def run(self) -> None:
        try:
            for base, after in pairwise(self._bases):
                self._machine = self._machine or self._begin(base)
                if self._machine is not None and base in self._whole:
                    self._replay(self._machine, base, after)
                else:
                    self._machine = None
        except UnknownEntry as error:
            self._report.notes.append(f"views and states are not compared any further: {error}")

    def _begin(self, base: int) -> LogMachine | None:
        machine = LogMachine(Views(_Nothing()))
        if base == 1:
            machine.restore(1, None)
            return machine
        data = self._read(base, "state")
        if data is None:
            return None
        try:
            machine.restore(base, decode_state(data, base, file_name(base, "state")))
        except Damaged:
            return None  # reported already
        return machine

    def _replay(self, machine: LogMachine, base: int, after: int) -> None:
        for frame in self._frames(base, after - base):
            machine.apply(frame)
        sealable = machine.begin_segment(after)
        assert sealable is not None
        view = self._read(base, "view")
        if view is not None:
            self._report.views_replayed += 1
            self._compare(base, "view", view, sealable.view.to_bytes(after))
        state = self._read(after, "state")
        if state is not None:
            self._report.states_replayed += 1
            self._compare(after, "state", state, encode_state(after, sealable.state))
        machine.sealed(base)

    def _compare(self, base: int, suffix: str, found: bytes, expected: bytes) -> None:
        name = file_name(base, suffix)
        if found != expected and all(finding.file != name for finding in self._report.findings):
            position = next(
                (at for at, pair in enumerate(zip(found, expected, strict=False)) if pair[0] != pair[1]),
                min(len(found), len(expected)),
            )
            self._report.damage(Damaged(name, position, None, "not what a replay of the log gives"))

    def _read(self, base: int, suffix: str) -> bytes | None:
        return read_file(self._directory.files, self._directory.file(base, suffix))

    def _frames(self, base: int, count: int) -> Iterator[Frame]:
        file = self._directory.files.open(self._directory.file(base, "log"), writable=False)
        window = Window(file, file.size())
        position = SEGMENT_HEADER_BYTES
        for _ in range(count):
            data, offset = window.at(position, FRAME_HEADER_BYTES)
            size = parse_header(data, offset).size
            data, offset = window.at(position, size)
            yield parse_frame(data[offset : offset + size])
            position += size


def text_of(report: Report) -> str:
    """Return the report for people."""
    lines = [
        f"{report.directory}: node {report.node} of cluster {report.cluster}, term {report.term}",
        f"entries {report.first_index} to {report.last_index}, {report.segments} segments, {report.bytes} B",
        f"compared with a replay: {report.views_replayed} views, {report.states_replayed} states",
    ]
    lines += [f"note: {note}" for note in report.notes]
    for finding in report.findings:
        entry = "" if finding.entry is None else f", entry {finding.entry}"
        lines.append(f"DAMAGED: {finding.file}, position {finding.position}{entry}: {finding.reason}")
    lines.append(f"{len(report.findings)} damaged places" if report.findings else "nothing is damaged")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(
        prog="quorumlog verify", description=(__doc__ or "").split("\n", 1)[1], allow_abbrev=False
    )
    parser.add_argument("directory", type=Path, help="the data directory of a node that does not run")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    try:
        report = Verifier(options.directory).run()
    except (Unusable, OSError, BadFrame) as error:
        print(f"quorumlog verify: {error}", file=sys.stderr)
        return FAILED
    print(json.dumps(asdict(report)) if options.json else text_of(report))
    return FAILED if report.findings else 0


if __name__ == "__main__":
    sys.exit(main())
