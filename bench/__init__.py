"""Measurements on real processes: `make bench`. Speed is looked at here and never asserted in a test.

measure.py    one figure: repeats, latencies in a histogram, closed and open loops
result.py     what a case found, as the JSON object that is kept; table.py: as a row that is read
run.py        what a case works with: a directory, sides, repeats, the machine's limits
sides.py      the cluster under test, and the peers that do the same work; peers/: their processes
writers.py    one acknowledged write, through the client that each side's users have
readers.py    the next record at the tail, the same way
workers.py    the same from processes of their own; worker.py: such a process
limits.py     what the machine itself can do; machine.py: what it is, and what processes cost
cases/        the work, one file per family; cases/__init__.py lists all of it
"""

import os

# Before gRPC is imported: uvloop forks to start a process, and gRPC would say of each that it stands aside.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
