"""For the tests of programs that use quorumlog: the log itself, not a mock of it.

Installed together with pytest, its fixtures are there without an import (plugin.py):

    quorumlog_embedded    an empty log within the test's process; a new one for each test, in milliseconds
    quorumlog_cluster     three real node processes, started once a session; each test has topics of its own,
                          and may kill, pause and cut off nodes: the next test finds all of them well

    cluster.py      LocalCluster: the processes, and the network between them
    switchboard.py  that network: doors between the nodes, which can be held shut

Without pytest: `with LocalCluster(directory) as cluster`. Nothing here is loaded before a fixture is used.
"""
