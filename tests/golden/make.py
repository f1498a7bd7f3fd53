"""Makes the small data directory of version 1 that every later build must open: tests/golden/version-1.

    python -m tests.golden.make DIRECTORY

It was made once and is kept. Making it again with the same format gives the same bytes, which
tests/golden/test_golden.py checks, so that no change of the format goes unnoticed. A new version of the
format gets a directory of its own beside it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from quorumlog.proto import entry_pb2
from quorumlog.proto.batch import Record, encode_batch
from quorumlog.proto.entry import SIZE_BYTES, command_fragment, entry_parts
from quorumlog.storage.format import (
    FRAME_HEADER_BYTES,
    KIND_COMMANDS,
    KIND_NO_OP,
    SEGMENT_HEADER_BYTES,
    STARTS_SEGMENT,
)
from quorumlog.storage.frame import Frame
from quorumlog.storage.log import Log, LogIdentity, LogOptions
from quorumlog.storage.view import ActiveView, BatchRow

IDENTITY = LogIdentity(bytes(range(16)), 0)
OPTIONS = LogOptions(segment_bytes=16 * 1024, segment_entries=4, reserve_bytes=0)
TOPIC = 2  # raft index of the entry that creates it
TIME_MS = 1_700_000_000_000
ENTRIES = 14


def make(group: Path) -> list[Frame]:
    """Write the log: 14 entries in 4 segments, of which the first is dropped; return all entries."""
    log = Log.open(group, IDENTITY, options=OPTIONS)
    frames = []
    view = ActiveView(1)
    offset = 0
    for index in range(1, ENTRIES + 1):
        term = 1 + index // 6
        kind, parts = KIND_COMMANDS, produce(index)
        if index in (1, 6, 12):
            kind, parts = KIND_NO_OP, []
        elif index == TOPIC:
            parts = create_topic()
        flags = STARTS_SEGMENT if log.should_roll(sum(map(len, parts))) else 0
        frame = Frame.build(index, term, kind, parts, flags, log.last_chain)
        log.append([frame])
        if frame.starts_segment and index > 1:
            log.seal(view.base, view, b"state as of %d" % (index - 1))
            following = ActiveView(index)
            for key, next_offset in view.partitions():
                following.ensure(*key, next_offset)
            view = following
        if index == TOPIC:
            view.ensure(TOPIC, 0)
            view.ensure(TOPIC, 1)
        elif kind == KIND_COMMANDS:
            header, _ = batch(index)
            end = log.segments[-1].size_bytes
            row = BatchRow.of(header, index, offset, TIME_MS + index, end - header.body_size)
            view.add(TOPIC, 0, row)
            offset = row.next_offset
        frames.append(frame)
    log.drop_before(log.bases[1])
    log.close()
    return frames


def batch(index: int):  # type: ignore[no-untyped-def]
    """Return header and body of the batch in an entry: two records, with all that records can have."""
    header, body = encode_batch(
        [
            Record(b"value of entry %d" % index, b"key", (("name", b"1"), ("name", b"2")), TIME_MS),
            Record(None, None, (), TIME_MS + index),
        ]
    )
    header.producer_id, header.producer_epoch, header.sequence = 5, 1, index
    return header, body


def produce(index: int) -> list[bytes]:
    """Return the payload of an entry that appends one batch."""
    header, body = batch(index)
    append = entry_pb2.Append(topic_id=TOPIC, partition=0, batch=header)
    command = entry_pb2.Command(operations=[entry_pb2.Operation(append=append)])
    return entry_parts(TIME_MS + index, 1, [command_fragment(command)], [body])


def create_topic() -> list[bytes]:
    """Return the payload of the entry that creates the topic."""
    operation = entry_pb2.Operation(create_topic=entry_pb2.CreateTopic(name="golden", partitions=2))
    fragment = command_fragment(entry_pb2.Command(operations=[operation]))
    return entry_parts(TIME_MS, 1, [fragment], [])


def describe(frames: list[Frame]) -> str:
    """Return what must be read from the directory, as JSON."""
    entries = [
        {
            "index": frame.index,
            "term": frame.term,
            "kind": frame.kind,
            "flags": frame.flags,
            "chain": f"{frame.chain:016x}",
            "payload": bytes(frame.payload()).hex(),
        }
        for frame in frames
    ]
    return json.dumps(entries, indent=1) + "\n"


def main() -> None:
    """Make the directory and the description beside its group."""
    directory = Path(sys.argv[1])
    frames = make(directory / "group-0")
    (directory / "entries.json").write_text(describe(frames))
    (directory / "group-0" / "lock").unlink()


# What the layout of an entry adds up to; the places of bodies rest on it.
assert (FRAME_HEADER_BYTES, SEGMENT_HEADER_BYTES, SIZE_BYTES) == (48, 4096, 4)

if __name__ == "__main__":
    main()
