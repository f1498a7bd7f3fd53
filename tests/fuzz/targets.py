"""What is fuzzed: every decoder of bytes that come from a network or a disk.

A target takes any bytes. It gives a value, or raises one of its documented errors; anything else is a
defect. While it runs it may allocate its bound and a small multiple of what it was given, whatever the bytes
claim.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from quorumlog.node.access import _decoded
from quorumlog.node.call import parse
from quorumlog.node.reasons import Refusal
from quorumlog.proto import batch_pb2, entry_pb2, service_pb2
from quorumlog.proto.batch import (
    MAX_BATCH_BYTES,
    BatchError,
    Record,
    check_batch_header,
    decode_batch,
    encode_batch,
    encode_values,
)
from quorumlog.proto.checksum import crc32c, masked
from quorumlog.proto.entry import BadEntry, command_fragment, entry_parts, parse_entry
from quorumlog.proto.identity import BadIdentity, identify
from quorumlog.proto.peer_pb2 import AppendEntries, Hello, PeerMessage
from quorumlog.raft.errors import DamagedHardState
from quorumlog.raft.hardstate import _decode as decode_hard_state
from quorumlog.raft.hardstate import _encode as encode_hard_state
from quorumlog.raft.wire import MAX_ATTACHMENT_BYTES, Decoder, WireError, encode
from quorumlog.storage.errors import Damaged, UnknownVersion, WrongIdentity
from quorumlog.storage.format import (
    FRAME_SUMMED_BYTES,
    INDEX_HEADER,
    INDEX_HEADER_BYTES,
    MANIFEST,
    SEGMENT_HEADER,
    SEGMENT_HEADER_BYTES,
    STATE_HEADER,
    SYNCED_SLOT,
    SYNCED_SLOT_POSITIONS,
    VIEW_DIRECTORY,
    VIEW_HEADER,
    VIEW_HEADER_BYTES,
    VIEW_ROW,
    VIEW_ROW_NUMBER,
)
from quorumlog.storage.frame import (
    BadFrame,
    Frame,
    count_frames,
    indexes_of_kind,
    iterate_frames,
    parse_frames,
)
from quorumlog.storage.header import SegmentHeader
from quorumlog.storage.index import Index
from quorumlog.storage.manifest import LogIdentity, Manifest
from quorumlog.storage.state import decode_state, encode_state
from quorumlog.storage.view import ActiveView, BatchRow, SealedView
from quorumlog.storage.watermark import ReadSlots, encode_slot

MIB = 1024 * 1024
IDENTITY = LogIdentity(b"fuzzed cluster!!", 0)
_SUM = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Target:
    """One decoder. `seal` mends the checksums of changed bytes, so that what lies behind them is reached."""

    name: str
    decode: Callable[[bytes], object]
    errors: tuple[type[Exception], ...]
    samples: Sequence[bytes]
    seal: Callable[[bytearray], None] | None = None
    allocates: int = MIB  # besides four times what it is given


# Samples: one of each shape.


def _frames() -> bytes:
    out, chain = bytearray(), 7
    for index, payload in enumerate((b"", b"payload", bytes(300)), 5):
        frame = Frame.build(index, 3, 0x10, (payload,), 0, chain)
        chain = frame.chain
        out += frame.header + b"".join(map(bytes, frame.parts))
    return bytes(out)


def _batches() -> list[bytes]:
    records = [
        Record(b"value", b"key", (("h", b"1"), ("h", b"2")), 1000),
        Record(None, b"", (), 999),
        Record(b"", None, (), 1001),
    ]
    made = [encode_batch(records), encode_values([b"x" * 40] * 50, 5)]
    made += [
        encode_batch([Record(b"a" * 400)] * 20, codec)
        for codec in (batch_pb2.CODEC_LZ4, batch_pb2.CODEC_ZSTD)
    ]
    return [_joined(header, body) for header, body in made]


def _joined(header: batch_pb2.BatchHeader, body: bytes) -> bytes:
    raw = header.SerializeToString()
    return bytes((len(raw),)) + raw + body


def _split(raw: bytes) -> tuple[batch_pb2.BatchHeader, bytes]:
    """A header that says of its body what is true, so that the body is looked at."""
    size = raw[0] if raw else 0
    header = batch_pb2.BatchHeader()
    try:
        header.ParseFromString(raw[1 : 1 + size])
    except Exception as error:
        raise BadEntry(str(error)) from error
    return header, raw[1 + size :]


def _true_header(raw: bytearray) -> None:
    try:
        header, body = _split(bytes(raw))
    except BadEntry:
        return
    header.body_size, header.body_crc32c = len(body), crc32c(body)
    again = header.SerializeToString()
    if len(again) < 256:
        raw[:] = bytes((len(again),)) + again + body


def _view() -> bytes:
    view = ActiveView(1)
    view.ensure(7, 0)
    view.ensure(7, 1, 40)
    header, body = encode_values([b"x"] * 3, 5)
    for number in range(4):
        view.add(7, 0, BatchRow.of(header, 2 + number, 3 * number, 10 + number, 5000 + number * len(body)))
    return view.to_bytes(9)


def _page() -> bytes:
    page = bytearray(SEGMENT_HEADER_BYTES)
    fixed = SegmentHeader(9, 2, 77, 1, 2).encode(IDENTITY)
    page[: len(fixed)] = fixed
    for sequence, at in zip((4, 5), SYNCED_SLOT_POSITIONS, strict=True):
        slot = encode_slot(9, sequence, SEGMENT_HEADER_BYTES + sequence, clean=bool(sequence % 2))
        page[at : at + len(slot)] = slot
    return bytes(page)


def _entry() -> bytes:
    append = entry_pb2.Append(topic_id=2, partition=0, batch=encode_values([b"x"], 5)[0])
    command = entry_pb2.Command(operations=[entry_pb2.Operation(append=append)])
    return b"".join(entry_parts(5, 1, [command_fragment(command)] * 3, [b"body"]))


def _messages() -> list[bytes]:
    hello = PeerMessage(hello=Hello(protocol=1, cluster_id=b"c" * 16, node_id="n1", directory_id=b"d" * 16))
    append = PeerMessage(term=3, append_entries=AppendEntries(previous_index=4, count=3))
    return [b"".join(map(bytes, encode(*each))) for each in ((hello, []), (append, [_frames()]))]


# Sums in the right places.


def _seal_at(size: int) -> Callable[[bytearray], None]:
    """Mend the masked sum that follows the first `size` bytes."""

    def seal(raw: bytearray) -> None:
        if len(raw) >= size + _SUM.size:
            _SUM.pack_into(raw, size, masked(crc32c(bytes(raw[:size]))))

    return seal


def _seal_end(raw: bytearray) -> None:
    if len(raw) >= _SUM.size:
        _SUM.pack_into(raw, len(raw) - _SUM.size, masked(crc32c(bytes(raw[: -_SUM.size]))))


def _seal_message(raw: bytearray) -> None:
    if len(raw) >= 12:
        size = int.from_bytes(raw[:4], "little")
        _SUM.pack_into(raw, 8, crc32c(bytes(raw[12 : 12 + size])))


def _seal_view(raw: bytearray) -> None:
    """Tables, directory and header: all sums there are, so that nonsense is believed."""
    if len(raw) < VIEW_HEADER_BYTES:
        return
    fields = list(VIEW_HEADER.unpack_from(raw))
    fields[8] = len(raw)
    end = min(len(raw), VIEW_HEADER_BYTES + fields[9] * VIEW_DIRECTORY.size)
    for at in range(VIEW_HEADER_BYTES, end - VIEW_DIRECTORY.size + 1, VIEW_DIRECTORY.size):
        entry = list(VIEW_DIRECTORY.unpack_from(raw, at))
        size = entry[2] * VIEW_ROW.size + (entry[4] - entry[3]) * VIEW_ROW_NUMBER.size
        entry[6] = crc32c(bytes(raw[entry[5] : entry[5] + size]))
        VIEW_DIRECTORY.pack_into(raw, at, *entry)
    fields[10] = crc32c(bytes(raw[VIEW_HEADER_BYTES:end]))
    VIEW_HEADER.pack_into(raw, 0, *fields)
    _seal_at(VIEW_HEADER.size)(raw)


def _seal_index(raw: bytearray) -> None:
    if len(raw) >= INDEX_HEADER_BYTES:
        fields = list(INDEX_HEADER.unpack_from(raw))
        fields[7] = crc32c(bytes(raw[INDEX_HEADER_BYTES:]))
        INDEX_HEADER.pack_into(raw, 0, *fields)
        _seal_at(INDEX_HEADER.size)(raw)


# Decoders.


def _decode_wire(raw: bytes) -> object:
    decoder, position, messages = Decoder(), 0, []
    while position < len(raw):
        buffer = decoder.buffer()
        count = min(len(buffer), len(raw) - position)
        buffer[:count] = raw[position : position + count]
        messages += decoder.received(count)
        position += count
    for message, attachment in messages:
        if attachment is not None and message.WhichOneof("message") == "append_entries":
            list(iterate_frames(bytes(attachment), message.append_entries.previous_index + 1))
    return messages


def _decode_stranger(raw: bytes) -> object:
    decoder = Decoder(0)
    count = min(len(decoder.buffer()), len(raw))
    decoder.buffer()[:count] = raw[:count]
    return decoder.received(count)


def _decode_batch(raw: bytes) -> object:
    header, body = _split(raw)
    columns = decode_batch(header, body)
    return columns.records()


def _check_sent_batch(raw: bytes) -> object:
    header, body = _split(raw)
    check_batch_header(header, body)
    return header


def _decode_view(raw: bytes) -> object:
    view = SealedView(memoryview(raw), "fuzzed.view")
    found: list[object] = []
    for (topic_id, partition), next_offset in list(view.partitions())[:50]:
        first = view.first_offset(topic_id, partition)
        found.append(view.next_offset(topic_id, partition))
        if first is not None and first < next_offset:
            found.append(view.rows(topic_id, partition, first, MIB, 10))
            found.append(view.row_at_time(topic_id, partition, 11))
    return found


class _Bytes:
    """storage.files.File, as far as an index reads it."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    def size(self) -> int:
        return len(self._raw)

    def map(self, size: int, *, writable: bool = False) -> memoryview:
        return memoryview(self._raw)[:size]


def _decode_index(raw: bytes) -> object:
    index = Index.load(_Bytes(raw), 5)  # type: ignore[arg-type]
    return None if index is None else [index.slot(index.base + number) for number in range(index.count)]


def _identify(raw: bytes) -> object:
    return identify("c", raw.decode("utf-8", "surrogateescape").split("\0"), "name")


def _requests(raw: bytes) -> object:
    kind = service_pb2.ProduceRequest if len(raw) % 2 else service_pb2.ConsumeRequest
    return parse(kind, raw)


TARGETS = {
    target.name: target
    for target in (
        Target(
            "frames",
            lambda raw: (list(iterate_frames(raw, 5)), count_frames(raw, 5), indexes_of_kind(raw, 5, 0x11),
                         parse_frames(raw, expect_index=5, previous_chain=7, previous_term=3)),
            (BadFrame,), [_frames()], _seal_at(FRAME_SUMMED_BYTES),
        ),
        Target(
            "wire", _decode_wire, (WireError, BadFrame), _messages(), _seal_message,
            MAX_ATTACHMENT_BYTES + MIB,
        ),
        Target("stranger", _decode_stranger, (WireError,), _messages(), _seal_message),
        Target("batch", _decode_batch, (BatchError, BadEntry), _batches(), _true_header, 4 * MAX_BATCH_BYTES),
        Target("sent_batch", _check_sent_batch, (BatchError, BadEntry), _batches(), _true_header),
        Target("entry", parse_entry, (BadEntry,), [_entry()]),
        Target("request", _requests, (Refusal,), [service_pb2.ProduceRequest(
            batches=[service_pb2.TopicBatch(topic="t", body=b"b")]).SerializeToString()]),
        Target("caller", _decoded, (Refusal,), [b"name\nproduce\nadmin"]),
        Target("identity", _identify, (BadIdentity,), [b"quorumlog://c/client/x\0quorumlog://c/role/admin"]),
        Target(
            "manifest", lambda raw: Manifest.decode(raw, IDENTITY), (Damaged, UnknownVersion, WrongIdentity),
            [Manifest.initial(IDENTITY).encode(IDENTITY)], _seal_at(MANIFEST.size),
        ),
        Target(
            "state", lambda raw: decode_state(raw, 5, "fuzzed.state"), (Damaged, UnknownVersion),
            [encode_state(5, b"the state")], _seal_at(STATE_HEADER.size),
        ),
        Target("view", _decode_view, (Damaged, UnknownVersion), [_view()], _seal_view),
        Target(
            "index", _decode_index, (), [Index.encode(5, [(4096, 60, 1), (4156, 70, 2)], 99)],
            _seal_index,
        ),
        Target(
            "header", lambda raw: SegmentHeader.decode(raw, IDENTITY, 9, "fuzzed.log"),
            (Damaged, UnknownVersion, WrongIdentity), [_page()], _seal_at(SEGMENT_HEADER.size),
        ),
        Target("slots", lambda raw: ReadSlots(raw.ljust(SEGMENT_HEADER_BYTES, b"\0"), 9), (), [_page()]),
        Target(
            "hard_state", lambda raw: decode_hard_state(Path("fuzzed"), raw), (DamagedHardState,),
            [encode_hard_state(7, "n1", True), encode_hard_state(0, None, False)], _seal_end,
        ),
    )
}  # fmt: skip
assert SYNCED_SLOT.size < SEGMENT_HEADER_BYTES
