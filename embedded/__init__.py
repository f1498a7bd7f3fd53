"""A log within a program: no server, no port, the same files and the same promises as a cluster of one.

    with quorumlog.open("orders.log") as log:                 # quorumlog.client.Client, opened at once
        log.ensure_topic("orders")
        with log.producer() as producer:
            producer.send("orders", b"one espresso")

    async with quorumlog.open_async("orders.log") as log:     # quorumlog.client.AsyncClient
        ...

It is a whole node, engine, state machine, services and all, whose one way in is a function call: the
client's gRPC channel is replaced by one that hands messages over within the process. So there is nothing
that an embedded log does differently, and `quorumlog serve --data orders.log --node-id n1` serves the same
directory later.

    call.py      one call under way: what the handler sees of it, and what the caller sees
    pipe.py      the messages between them, bounded
    server.py    in place of gRPC's server: methods by name
    channel.py   in place of gRPC's channel
    node.py      a directory into a running node
    log.py       EmbeddedLog and AsyncEmbeddedLog

A server whose disk fails ends its process. This process is not ours to end: the log stops instead, at once
and for good, and every call raises LogFailed until it is closed and opened again.

Left out: a read-only second process (one at a time opens a directory), and directories of larger clusters.
"""

from __future__ import annotations

from quorumlog.embedded.log import AsyncEmbeddedLog, EmbeddedLog, open, open_async

__all__ = ["AsyncEmbeddedLog", "EmbeddedLog", "open", "open_async"]
