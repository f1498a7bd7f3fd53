"""One server process: what clients talk to, and what the replicated entries add up to.

What it guarantees:

- Any node takes any call. A write is done by the leader, wherever it arrives, and forwarded once at most.
- A write is repeated by a node only if it was surely not applied; a timeout says 'unknown', never 'no'.
- A reader sees what is committed and applied here, and with a session token at least its own writes.
- Bytes that do not match their checksum are never served.
- Nothing a client sends changes state but through an entry in the log, and applying an entry gives the same
  state, the same results and the same snapshot on every node.
- What clients can make a node hold (calls, streams, windows, forwarded requests) is bounded.

How the parts fit:

    __main__   settings -> config      flags, environment and file: one checked value
    server     puts a node together:   directory, storage.Log, machine, raft.Engine, gRPC services
    machine    results of commands     topics, producers: the state; reasons, results: what applying gives
    call       one gRPC call           log_service, topics_service, cluster_service, health
    routing    where a write goes      channels, commands, producing, produce_stream: writes
    reading    offset -> bytes         consuming, consistency, tails: fetch, streams, waiting at the end
    access     who calls, may it?      tls, permissions, grants: when TLS is on
    status     how are the nodes?      checks, metrics, calls: what is told of it
    web        the HTTP port           http_server, http_app, viewers, live_tail, status.html: where it is set
    errors     the one table           any exception or refusal -> gRPC status and details

Words: a *refusal* is a reason with a message, the same on every replica; a *place* is a partition of a
topic that exists; a *tail* is the end of a partition, where readers wait; to *relay* a stream is to pass its
messages on.

Left out on purpose: batches are not decoded here, but for what a person looks at (live_tail).
"""
