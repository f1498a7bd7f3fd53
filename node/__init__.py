"""quorumlog.node."""
