"""quorumlog.client."""
