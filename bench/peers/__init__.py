"""Three nodes of a peer on loopback, from Debian's packages, for the same work in the same run.

processes.py   a cluster's processes: start, kill, stop
etcd.py        etcd-server; etcd_client.py: its KV API over gRPC
nats.py        nats-server with a replicated stream; nats_client.py: nats-py
"""
