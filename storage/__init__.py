"""quorumlog.storage."""
