"""Replication: one log on several nodes, by Raft. The only package that imports pysyncobj; knows no gRPC.

What it guarantees, given a majority of nodes and their disks:

- an entry that was acknowledged under the policy `always` is on the disks of a majority, this leader's
  included, and is never lost, moved or replaced;
- every node applies the same entries in the same order, and none that could still be taken back;
- a command has one honest outcome: committed, surely not applied, or unknown.

How the parts fit, from the outside in:

    engine      the asyncio shell: loop, timer, threads, sockets
    transport   sessions between members; wire: the frame around their messages
    replica     one node's part without a loop: time, network, disk and threads are arguments
    leader      what is sent to whom and what of the answers counts; progress: what is known of one peer
    follower    what is claimed about durability; admission: what of a leader's message may reach the engine
    proposals   commands on their way: group commit, bounds, outcomes
    election    asking before a term is raised; reads, transfer, membership, changes: what their names say
    snapshots   the state for a follower that lacks what is gone; retention: what goes, and when
    syncing     what makes entries durable; sealing: views and states of finished segments
    journal     the log as the engine sees it; hardstate: term and vote on disk
    core        pysyncobj, tamed; the one file that touches its internals
    machine     what is asked of the state machine

The words leader, follower, candidate, term, commit and apply are Raft's. A session is one connection between
two members; a claim is a follower's "my log is yours up to here"; durable means that fdatasync has returned.

docs/raft.md goes through the hazards of the engine one by one.
"""
