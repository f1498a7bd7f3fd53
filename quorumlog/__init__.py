"""quorumlog: a replicated commit log for people who work in Python.

    quorumlog.client            Client and AsyncClient: a cluster, seen from a program
    quorumlog.open(path)        a log within this program, without a server; open_async() for asyncio

This package is the import root; it imports nothing until open is used. Its layers, from the ground up:

    quorumlog.proto     the vocabulary on wire and disk: protobuf messages, record batches, entry payloads
    quorumlog.storage   one segmented, memory-mapped log on one disk; knows no Raft, gRPC or asyncio
    quorumlog.raft      replicates that log; the only package that imports pysyncobj; knows no gRPC
    quorumlog.node      one server process: gRPC services, routing, the state machine, health
    quorumlog.client    what users import; sees proto alone
    quorumlog.command   the `quorumlog` command, on top of the client
    quorumlog.embedded  a node and its client in one process; behind quorumlog.open
    quorumlog.testing   fixtures for pytest: an embedded log, a real cluster to break

Words, each with one meaning everywhere:

    record      key, value, headers and timestamp, as a producer sent it
    batch       records of one partition, built by a producer, opaque to servers
    command     what one caller asked for; atomic; has one result
    entry       a list of commands under one raft index; what is replicated
    frame       an entry as bytes in a segment file or on the peer wire
    offset      a record's number in its partition
    raft index  an entry's number in the log
    position    a byte position in a file; slot: an entry's number in an index file
    size, count bytes; items
    node, peer, member   a process; another node as seen from one; a node that counts in majorities
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from quorumlog.embedded import open, open_async

__all__ = ["open", "open_async"]


if not TYPE_CHECKING:  # or every misspelt name would pass

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        import quorumlog.embedded

        return getattr(quorumlog.embedded, name)
