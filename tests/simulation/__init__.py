"""Deterministic simulation: whole clusters in one process, on one simulated clock, from one seed.

    seed -> Run        draws a mix of faults, rates, sizes and delays, and lets it go for some simulated time
              Cluster    events.py (time), network.py (TCP), node.py (processes, disks), api.py (calls)
              clients    producers that retry and change nodes, consumers           clients.py
              Nemesis    what goes wrong, and when                                  nemesis.py
              History    what was sent, answered, applied and read, judged at once  history.py

What is real: engine, replica and pysyncobj, transport and wire, journal and log, state machine and views, the
node's produce streams and reads, the client's core, routing table and cursor; all of the asyncio code runs on
a loop whose time is simulated (loop.py). What is simulated: clock, threads, disk (tests/support), TCP, gRPC.

A kill -9 ends a process between two steps or within an operation of its disk; a power loss also takes what
was not synced, page by page and sector by sector. TCP loses nothing within a connection: what a partition
holds back arrives when it heals, unless the connection has been given up by then. Threads are pieces of work
that take effect at one moment between hand-over and answer.

`make simulate` runs many seeds (__main__.py), test_runs.py some hundred. corrections.py takes the corrections
of the engine away, one at a time, and test_corrections.py asks that each be missed.
"""
