"""Chaos: a cluster of real processes or containers, under load, while faults are drawn from a seed.

    python -m tests.chaos [--minutes N] [--seed K] [--on compose|processes] [--kills N]       (`make chaos`)

The words:

    fault      what the nemesis does to the cluster: killed nodes, cut links, a full disk, ...
    target     the cluster that it is done to: `processes.py` or `containers.py`
    worker     a process of clients that work all the time and write down what they were told
    history    those notes: writes, reads, and what became of each; `history.py`
    probe      the producer that writes one record after the other; its acknowledgements measure write gaps
    checker    judges the history and what every replica holds in the end; `checker.py`, pure

The parts, from the ground up; those without I/O take randomness and time as arguments:

    history.py    what is written down                                             no I/O
    checker.py    which promises a history breaks                                  no I/O
    gaps.py       how long nobody was acknowledged after a fault                   no I/O
    plan.py       which fault comes next                                           no I/O
    reasons.py    why an election took long, from the logs of the nodes            no I/O
    proxy.py      a process between peers that delays, holds and cuts what they say
    netns.py      the same for containers: iptables and tc in their network namespaces
    processes.py  a target of local processes; containers.py: of deploy/compose.yaml
    worker.py     a process of clients
    nemesis.py    does the faults and undoes them
    run.py        a whole run: start, load, faults, heal, read all, judge, report
    failover.py   a run of kill -9 of the leader, one after the other
"""
