"""The vocabulary on wire and disk: protobuf messages, record batches and entry payloads.

The lowest layer: it imports nothing of ours, does no I/O and keeps no state.

    batch.proto    BatchHeader and the columnar BatchBody: what a producer builds and a consumer reads
    entry.proto    EntryHeader, Command, Operation: what the log replicates; StateSnapshot: what that gives
    peer.proto     what nodes say to each other
    service.proto  what clients say to nodes (gRPC)
    batch.py       records <-> batch bytes: codecs, checksums, limits
    checksum.py    crc32c and its mask

Generated modules are committed; `make proto` writes them and `make check` fails when they are stale.
"""
