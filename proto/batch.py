"""Records to batch bytes and back: columns, codecs, checksums, limits.

A batch is a BatchHeader, which servers read, and a body, which they never do: what a producer built is
what stands on disk, travels between peers and reaches the consumer. The body is a BatchBody (columns)
under a codec; the header's crc32c is of the body as it stands, so that whoever holds the bytes can
verify them without unpacking.

    BatchError          the batch cannot be taken as it is
      BadChecksum         the body is not what its producer built: damaged on the way; sending again may help
      BadBatch            header and body contradict each other, or nobody here knows the encoding
      BatchTooLarge       a record or a body is above a limit: split it, or raise the limit
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeAlias

import lz4.frame
import zstandard
from google.protobuf.message import DecodeError

from quorumlog.proto import batch_pb2
from quorumlog.proto.checksum import Buffer, crc32c

ENCODING_COLUMNS = 1  # the only BatchHeader.encoding so far: BatchBody

MIB = 1024 * 1024
MAX_RECORD_BYTES = MIB  # key, value and headers of one record; what Kafka and NATS users expect
MAX_BATCH_BYTES = 8 * MIB  # of a body, packed and unpacked: bounds what a consumer must hold at once
MAX_ENTRY_BYTES = 16 * MIB  # of an entry's payload: one whole batch and its neighbours in a group commit

# Each record takes this much of a body as it stands, packed or not. An empty value costs as much unpacked,
# and without a floor a body of a few bytes could claim (and make every replica's view hold) 2**32 records.
MIN_RECORD_BYTES = 2

_CODECS = frozenset(batch_pb2.Codec.values())  # which would be put together anew each time
# Below this size a compressor's frame costs more than it saves.
_MIN_COMPRESSED_BYTES = 128

Header: TypeAlias = tuple[str, bytes]


class BatchError(ValueError):
    """The batch cannot be taken as it is."""


class BadChecksum(BatchError):
    """The body does not have the checksum that its header states."""


class BadBatch(BatchError):
    """The header contradicts itself or the body, or the encoding is unknown."""


class BatchTooLarge(BatchError):
    """A record or a body exceeds a limit."""


@dataclass(frozen=True, slots=True)
class Record:
    """What a producer sends. `None` is not `b""`: a null value is a tombstone, a null key no key."""

    value: bytes | None
    key: bytes | None = None
    headers: tuple[Header, ...] = ()  # order is kept, names may repeat
    timestamp_ms: int = 0  # since 1970, UTC

    @property
    def size(self) -> int:
        """Bytes that count against the limit of a record."""
        size = len(self.value or b"") + len(self.key or b"")
        return size + sum(len(name.encode()) + len(value) for name, value in self.headers)


@dataclass(frozen=True, slots=True)
class BatchColumns:
    """A decoded batch, column by column: a consumer's fast path, without an object per record."""

    values: Sequence[bytes | None]
    keys: Sequence[bytes | None] | None  # None: no record has a key
    first_timestamp_ms: int
    timestamp_deltas: Sequence[int]  # empty: all equal first_timestamp_ms
    offset_deltas: Sequence[int]  # of each record, less the batch's base offset
    headers: dict[int, tuple[Header, ...]] = field(
        default_factory=dict
    )  # by position, only where there are any

    def __len__(self) -> int:
        return len(self.values)

    def record(self, position: int) -> Record:
        """Return the record at `position`, which counts from 0 in this batch."""
        delta = self.timestamp_deltas[position] if self.timestamp_deltas else 0
        key = self.keys[position] if self.keys is not None else None
        headers = self.headers.get(position, ())
        return Record(self.values[position], key, headers, self.first_timestamp_ms + delta)

    def records(self) -> list[Record]:
        """Return all records, in the order of their offsets."""
        return [self.record(position) for position in range(len(self))]


def encode_batch(
    records: Sequence[Record],
    codec: batch_pb2.Codec = batch_pb2.CODEC_NONE,
    *,
    max_record_bytes: int = MAX_RECORD_BYTES,
    max_batch_bytes: int = MAX_BATCH_BYTES,
) -> tuple[batch_pb2.BatchHeader, bytes]:
    """Return header and body of a batch of at least one record; producer fields are left for the caller."""
    if not records:
        raise BadBatch("a batch holds at least one record")
    _check_record_sizes((record.size for record in records), max_record_bytes)
    first = records[0].timestamp_ms
    body = batch_pb2.BatchBody(
        values=[record.value or b"" for record in records],
        null_values=[position for position, record in enumerate(records) if record.value is None],
    )
    if any(record.key is not None for record in records):
        body.keys.extend(record.key or b"" for record in records)
        body.null_keys.extend(position for position, record in enumerate(records) if record.key is None)
    if any(record.timestamp_ms != first for record in records):
        body.timestamp_deltas.extend(record.timestamp_ms - first for record in records)
    for position, record in enumerate(records):
        if record.headers:
            names, values = zip(*record.headers, strict=True)
            body.headers.add(position=position, names=names, values=values)
    return _seal(body, len(records), first, records[-1].timestamp_ms, codec, max_batch_bytes)


def encode_values(
    values: Sequence[bytes],
    timestamp_ms: int,
    codec: batch_pb2.Codec = batch_pb2.CODEC_NONE,
    *,
    max_record_bytes: int = MAX_RECORD_BYTES,
    max_batch_bytes: int = MAX_BATCH_BYTES,
) -> tuple[batch_pb2.BatchHeader, bytes]:
    """Return the batch of records that have nothing but a value and one common time: 36 us per 1,000."""
    if not values:
        raise BadBatch("a batch holds at least one record")
    _check_record_sizes(map(len, values), max_record_bytes)
    return _seal(
        batch_pb2.BatchBody(values=values), len(values), timestamp_ms, timestamp_ms, codec, max_batch_bytes
    )


def check_batch_header(
    header: batch_pb2.BatchHeader, body: Buffer, *, max_batch_bytes: int = MAX_BATCH_BYTES
) -> None:
    """Check what a producer sent, as a server does: everything but what only decoding could tell.

    Raises BadBatch, BatchTooLarge or BadChecksum.
    """
    if len(body) > max_batch_bytes:
        raise BatchTooLarge(f"batch body: at most {max_batch_bytes} bytes, got {len(body)}")
    _check_known(header)
    if header.span != header.count:
        raise BadBatch(f"span: a producer's batch covers its {header.count} records, got {header.span}")
    if header.offset_deltas:
        raise BadBatch("offset_deltas: only a cleaned batch has them")
    _check_body(header, body)


def check_batch(header: batch_pb2.BatchHeader, body: Buffer) -> None:
    """Check a batch that comes back from a log, cleaned or not. Raises BadBatch or BadChecksum."""
    _check_known(header)
    deltas = header.offset_deltas
    if header.span != header.count and len(deltas) != header.count:
        raise BadBatch(f"offset_deltas: expected {header.count}, got {len(deltas)}")
    if deltas:
        rises = all(low < high for low, high in pairwise(deltas))
        if len(deltas) != header.count or not rises or deltas[-1] >= header.span:
            raise BadBatch(f"offset_deltas: expected {header.count} rising numbers below {header.span}")
    _check_body(header, body)


def decode_batch(
    header: batch_pb2.BatchHeader, body: Buffer, *, max_batch_bytes: int = MAX_BATCH_BYTES
) -> BatchColumns:
    """Verify and unpack a batch. Raises BadBatch or BadChecksum; never allocates more than the limit."""
    check_batch(header, body)
    return decode_checked_batch(header, body, max_batch_bytes=max_batch_bytes)


def decode_checked_batch(
    header: batch_pb2.BatchHeader, body: Buffer, *, max_batch_bytes: int = MAX_BATCH_BYTES
) -> BatchColumns:
    """Unpack a batch that check_batch has found in order. Raises BadBatch."""
    columns = batch_pb2.BatchBody()
    try:
        columns.ParseFromString(_unpack(header.codec, bytes(body), max_batch_bytes))
    except DecodeError as error:
        raise BadBatch(f"body: not a BatchBody: {error}") from error
    count = header.count
    values, keys, deltas, headers = columns.values, columns.keys, columns.timestamp_deltas, columns.headers
    _check_column("values", len(values), count, may_be_absent=False)
    _check_column("keys", len(keys), count)
    _check_column("timestamp_deltas", len(deltas), count)
    return BatchColumns(
        values=_with_nulls(values, columns.null_values, "null_values"),
        keys=_with_nulls(keys, columns.null_keys, "null_keys") if keys else None,
        first_timestamp_ms=header.first_timestamp_ms,
        timestamp_deltas=deltas,
        offset_deltas=header.offset_deltas or range(count),
        headers=_headers(headers, count) if headers else {},
    )


def _check_record_sizes(sizes: Iterable[int], limit: int) -> None:
    largest = max(sizes)
    if largest > limit:
        raise BatchTooLarge(f"record: at most {limit} bytes, got {largest}")


def _seal(
    columns: batch_pb2.BatchBody,
    count: int,
    first_timestamp_ms: int,
    last_timestamp_ms: int,
    codec: batch_pb2.Codec,
    max_batch_bytes: int,
) -> tuple[batch_pb2.BatchHeader, bytes]:
    body = columns.SerializeToString()
    if len(body) > max_batch_bytes:
        raise BatchTooLarge(f"batch body: at most {max_batch_bytes} bytes, got {len(body)}")
    codec, body = _pack(codec, body, count * MIN_RECORD_BYTES)
    header = batch_pb2.BatchHeader(
        encoding=ENCODING_COLUMNS,
        codec=codec,
        count=count,
        span=count,
        first_timestamp_ms=first_timestamp_ms,
        last_timestamp_ms=last_timestamp_ms,
        body_crc32c=crc32c(body),
        body_size=len(body),
    )
    return header, body


def _pack(codec: batch_pb2.Codec, body: bytes, min_bytes: int) -> tuple[batch_pb2.Codec, bytes]:
    """Compress, unless that does not pay or gives less than `min_bytes`: the header says what was done."""
    if codec == batch_pb2.CODEC_NONE or len(body) < _MIN_COMPRESSED_BYTES:
        return batch_pb2.CODEC_NONE, body
    if codec == batch_pb2.CODEC_LZ4:
        packed: bytes = lz4.frame.compress(body)
    elif codec == batch_pb2.CODEC_ZSTD:
        packed = zstandard.ZstdCompressor().compress(body)
    else:
        raise BadBatch(f"codec: unknown: {codec}")
    return (codec, packed) if min_bytes <= len(packed) < len(body) else (batch_pb2.CODEC_NONE, body)


def _unpack(codec: int, body: bytes, limit: int) -> bytes:
    """Decompress to at most `limit` bytes, whatever the frame claims: a bomb is a BadBatch."""
    if codec == batch_pb2.CODEC_NONE:
        return body
    try:
        return _unpack_lz4(body, limit) if codec == batch_pb2.CODEC_LZ4 else _unpack_zstd(body, limit)
    except (RuntimeError, zstandard.ZstdError) as error:
        raise BadBatch(f"body: cannot be decompressed: {error}") from error


def _unpack_lz4(body: bytes, limit: int) -> bytes:
    unpacker = lz4.frame.LZ4FrameDecompressor()
    unpacked: bytes = unpacker.decompress(body, max_length=limit)
    if not unpacker.eof or unpacker.unused_data:
        raise BadBatch(f"body: expected one lz4 frame of at most {limit} bytes")
    return unpacked


def _unpack_zstd(body: bytes, limit: int) -> bytes:
    # The library ignores max_output_size where the frame states a size: look at that first.
    size = zstandard.frame_content_size(body)
    if not 0 <= size <= limit:
        raise BadBatch(f"body: expected one zstd frame that states at most {limit} bytes, got {size}")
    return zstandard.ZstdDecompressor().decompress(body, max_output_size=limit, allow_extra_data=False)


def _check_known(header: batch_pb2.BatchHeader) -> None:
    if header.encoding != ENCODING_COLUMNS:
        raise BadBatch(f"encoding: expected {ENCODING_COLUMNS}, got {header.encoding}")
    if header.codec not in _CODECS:
        raise BadBatch(f"codec: unknown: {header.codec}")
    if not 1 <= header.count <= header.span:
        raise BadBatch(f"count: expected 1 to span ({header.span}), got {header.count}")


def _check_body(header: batch_pb2.BatchHeader, body: Buffer) -> None:
    if header.body_size != len(body):
        raise BadBatch(f"body_size: the header says {header.body_size}, got {len(body)}")
    if header.count * MIN_RECORD_BYTES > len(body):
        raise BadBatch(f"count: at most {len(body) // MIN_RECORD_BYTES} in such a body, got {header.count}")
    actual = crc32c(body)
    if header.body_crc32c != actual:
        raise BadChecksum(f"body_crc32c: the header says {header.body_crc32c:#010x}, got {actual:#010x}")


def _check_column(name: str, actual: int, count: int, *, may_be_absent: bool = True) -> None:
    if actual != count and not (may_be_absent and actual == 0):
        raise BadBatch(f"{name}: expected {count}, got {actual}")


def _with_nulls(column: Sequence[bytes], nulls: Sequence[int], name: str) -> Sequence[bytes | None]:
    if not nulls:
        return column
    _check_positions(nulls, len(column), name)
    restored: list[bytes | None] = list(column)
    for position in nulls:
        restored[position] = None
    return restored


def _headers(headers: Sequence[batch_pb2.RecordHeaders], count: int) -> dict[int, tuple[Header, ...]]:
    _check_positions([each.position for each in headers], count, "headers")
    for each in headers:
        if len(each.names) != len(each.values):
            raise BadBatch(
                f"headers of record {each.position}: {len(each.names)} names, {len(each.values)} values"
            )
    return {each.position: tuple(zip(each.names, each.values, strict=True)) for each in headers}


def _check_positions(positions: Sequence[int], count: int, name: str) -> None:
    rises = all(low < high for low, high in pairwise(positions))
    if not rises or (positions and positions[-1] >= count):
        raise BadBatch(f"{name}: expected rising positions below {count}")
