"""Every byte that storage puts on disk, drawn; docs/storage-format.md has the same drawings and an example.

All numbers are little-endian. `crc` is crc32c; `masked` is checksum.masked of it, so that zeros are never
valid. Every file but a log's frames begins with eight bytes of magic and a u16 version. Positions count
from the start of the file. Limits and sizes stand here and nowhere else, each with its reason.

Directory of a group:

    group-0/lock                 held while open
    group-0/manifest             identity, where the log starts
    group-0/log/<base>.log       header page, frames         <base>: raft index of the first entry, 20 digits
    group-0/log/<base>.index     entry -> position
    group-0/log/<base>.view      offset -> batch, for all partitions; once the segment is sealed
    group-0/log/<base>.state     the state machine as of base - 1
    group-0/log/*.tmp            unfinished; removed when the log is opened, or finished (INSTALLING)

Frame: header (48 bytes), payload. Frames follow each other without gaps.

     0        4     6     8               16              24      28      32
    +--------+-----+-----+---------------+---------------+-------+-------+-- -
    | length | kind|flags| raft index    | raft term     | key id| crc of|
    |        |     |     |               |               |       | pay-  |
    |        |     |     |               |               |       | load  |
    +--------+-----+-----+---------------+---------------+-------+-------+-- -
     32              40      44      48
    +---------------+-------+-------+-- - - -
    | chain         | 0     |masked | payload, length bytes
    |               |       |0..44  |
    +---------------+-------+-------+-- - - -
      length u32, kind u16, flags u16, raft index u64, raft term u64, key id u32, crc u32, chain u64

    chain   blake2b-8 over (u64 chain of the entry before, u32 crc, u64 index, u64 term);
            before entry 1 stands blake2b-8 over (cluster id, u32 group)

<base>.log: a page of 4096 bytes, then frames from position 4096 on. Zeros follow the last frame while the
segment is active; a sealed one ends with its last frame.

     0        8     10    12      16              32      36      40              48              56
    +--------+-----+-----+-------+---------------+-------+-------+---------------+---------------+-- -
    | magic  | ver | 0   | 4096  | cluster id    | group |genera-| base          | previous      |
    | QLOGSEG|  1  |     |       |               |       |tion   |               | term          |
    +--------+-----+-----+-------+---------------+-------+-------+---------------+---------------+-- -
     56              64              72      76
    +---------------+---------------+-------+-------+
    | previous      | previous      |ordinal|masked |   previous base: of the segment before, 0: none
    | chain         | base          |       |0..76  |   ordinal: 1 for the log's first segment, +1 for each
    +---------------+---------------+-------+-------+

    at 1024 and at 2048, each in a sector of its own, a synced slot; of the valid ones the newer counts:

     0               8               16      20      24
    +---------------+---------------+-------+-------+   all below position is durable;
    | sequence      | position      | clean |masked |   clean 1: the log was closed there;
    +---------------+---------------+-------+-------+   the sum is over (u64 base, bytes 0..20)

    The slots are the only part of the file in which replicas may differ.

<base>.index: header (48 bytes), then a slot of 16 bytes for every entry.

     0        8     10    12      16              24              32      36      40      44      48
    +--------+-----+-----+-------+---------------+---------------+-------+-------+-------+-------+
    | magic  | ver | 0   | 48    | base          | chain after   | count | crc of| 0     |masked |
    | QLOGIDX|  1  |     |       |               | the last entry|       | slots |       |0..44  |
    +--------+-----+-----+-------+---------------+---------------+-------+-------+-------+-------+
    slot of entry base + n, at 48 + 16 n:  u32 position | u32 frame size | u64 term

    Believed only if it is sealed (count is right, sums match, chain is what the next segment's header says).

<base>.view: header (72 bytes), directory, then each partition's tables.

     0        8     10    12      16              24              32
    +--------+-----+-----+-------+---------------+---------------+-- -
    | magic  | ver | 0   | 72    | base          | next base     |
    | QLOGVIE|  1  |     |       |               |               |
    +--------+-----+-----+-------+---------------+---------------+-- -
     32              40              48              56      60      64      68      72
    +---------------+---------------+---------------+-------+-------+-------+-------+
    | first append  | last append   | file size     | parti-| crc of| 0     |masked |   times: i64, ms;
    | time          | time          |               | tions |direct.|       |0..68  |   0 without batches
    +---------------+---------------+---------------+-------+-------+-------+-------+

    directory, ascending by (topic id, partition), 48 bytes for every partition that exists:
     0               8       12      16              24              32              40      44      48
    +---------------+-------+-------+---------------+---------------+---------------+-------+-------+
    | topic id      | parti-| rows  | first offset  | next offset   | position of   | crc of| 0     |
    |               | tion  |       |               |               | the tables    | tables|       |
    +---------------+-------+-------+---------------+---------------+---------------+-------+-------+
    tables: rows of 80 bytes, then for every offset from first to next - 1 the number of its row (u32)

    row:
     0          8            16              24                 32                40            48
    +----------+------------+---------------+------------------+-----------------+-------------+-- -
    |raft index|base offset |append time ms |first timestamp ms|last timestamp ms| producer id |
    +----------+------------+---------------+------------------+-----------------+-------------+-- -
     48         52          56         60      64     68               72         76    77    78     80
    +----------+-----------+----------+-------+------+----------------+----------+-----+-----+------+
    | position | body size | body crc | count | span | producer epoch | sequence |encod|codec| flags|
    +----------+-----------+----------+-------+------+----------------+----------+-----+-----+------+

<base>.state: header (40 bytes), then the state, whose bytes are the state machine's business.

     0        8     10    12      16              24              32      36      40
    +--------+-----+-----+-------+---------------+---------------+-------+-------+
    | magic  | ver | 0   | 40    | base          | size          | crc of| masked|
    | QLOGSTA|  1  |     |       |               |               | state | 0..36 |
    +--------+-----+-----+-------+---------------+---------------+-------+-------+

manifest (68 bytes): where the log starts, and the entry before that.

     0        8     10    12      16              32      36      40
    +--------+-----+-----+-------+---------------+-------+-------+-- -
    | magic  | ver |flags| 68    | cluster id    | group |ordinal|   flags 1: INSTALLING, all that is here
    | QLOGMAN|  1  |     |       |               |       |       |   gives way to a new beginning
    +--------+-----+-----+-------+---------------+-------+-------+-- -
     40              48              56              64      68
    +---------------+---------------+---------------+-------+
    | first base    | previous term | previous chain| masked|
    |               |               |               | 0..64 |
    +---------------+---------------+---------------+-------+
"""

from __future__ import annotations

import struct
import sys
from hashlib import blake2b

from quorumlog.proto.batch import MAX_ENTRY_BYTES

# Row numbers are read from the map as they stand, without a conversion.
assert sys.byteorder == "little", "the formats are little-endian"

VERSION = 1

# Bounds a length field before it allocates anything: no entry is larger.
MAX_PAYLOAD_BYTES = MAX_ENTRY_BYTES

# A frame's kinds: what the engine makes is below 0x10, ours from there on.
KIND_NO_OP = 1  # a leader's first entry in its term
KIND_COMMANDS = 0x10  # payload: proto/entry.py
KIND_MEMBERSHIP = 0x11  # payload: entry.proto's Membership

STARTS_SEGMENT = 1  # flag: the entry is the first of a segment, on every node
CLEANED = 2  # flag: the payload was rewritten; crc is of the new one, chain of the original

FRAME = struct.Struct("<IHHQQIIQI")  # what the header's own sum covers
FRAME_START = struct.Struct("<IH")  # its length and kind
FRAME_SUM = struct.Struct("<I")
FRAME_SUMMED_BYTES = FRAME.size
FRAME_HEADER_BYTES = FRAME.size + FRAME_SUM.size
CHAIN_LINK = struct.Struct("<QIQQ")
CHAIN_START = struct.Struct("<16sI")

# One page: the header never shares a page with a frame, so rewriting a slot cannot tear data.
SEGMENT_HEADER_BYTES = 4096
SEGMENT_HEADER = struct.Struct("<8sHHI16sIIQQQQI")
SEGMENT_MAGIC = b"QLOGSEG\0"
# Apart by more than a sector of 512 bytes: a torn write spoils one of them at most.
SYNCED_SLOT_POSITIONS = (1024, 2048)
SYNCED_SLOT = struct.Struct("<QQI")

INDEX_HEADER = struct.Struct("<8sHHIQQIII")
INDEX_MAGIC = b"QLOGIDX\0"
INDEX_HEADER_BYTES = INDEX_HEADER.size + 4
INDEX_SLOT = struct.Struct("<IIQ")

VIEW_HEADER = struct.Struct("<8sHHIQQqqQIII")
VIEW_MAGIC = b"QLOGVIE\0"
VIEW_HEADER_BYTES = VIEW_HEADER.size + 4
VIEW_DIRECTORY = struct.Struct("<QIIQQQII")
VIEW_ROW = struct.Struct("<QQqqqQIIIIIIIBBH")
VIEW_ROW_NUMBER = struct.Struct("<I")

STATE_HEADER = struct.Struct("<8sHHIQQI")
STATE_MAGIC = b"QLOGSTA\0"
STATE_HEADER_BYTES = STATE_HEADER.size + 4

MANIFEST = struct.Struct("<8sHHI16sIIQQQ")
MANIFEST_MAGIC = b"QLOGMAN\0"
INSTALLING = 1  # flag: install.py was at work
MANIFEST_BYTES = MANIFEST.size + 4

SUM = struct.Struct("<I")  # every other sum

# Positions in an index are u32; this leaves room for the entry that overflows a segment.
MAX_SEGMENT_BYTES = 2 * 1024 * 1024 * 1024


def first_chain(cluster_id: bytes, group: int) -> int:
    """Return the chain before entry 1: logs of different clusters never agree."""
    return int.from_bytes(blake2b(CHAIN_START.pack(cluster_id, group), digest_size=8).digest(), "little")


def next_chain(previous: int, payload_crc: int, index: int, term: int) -> int:
    """Return the chain of an entry, from that of the one before and the crc of the original payload."""
    link = CHAIN_LINK.pack(previous, payload_crc, index, term)
    return int.from_bytes(blake2b(link, digest_size=8).digest(), "little")
