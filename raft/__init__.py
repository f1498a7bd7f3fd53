"""quorumlog.raft."""
