"""What an operator should know of a node, in words: its part, and what is wrong with it. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from quorumlog.client.describe import ClusterStatus, NodeStatus

NO_ANSWER = "no answer"
# Styles of rich's.
ROLE_STYLES = {"leader": "bold green", "candidate": "yellow", "learner": "cyan", NO_ANSWER: "red"}


def role_of(status: ClusterStatus, node: NodeStatus) -> str:
    """Return leader, follower, candidate, learner, or that it does not answer."""
    if not node.reachable:
        return NO_ANSWER
    learns = any(member.learner for member in status.members if member.node_id == node.node_id)
    return "learner" if learns else node.role


def notes_on(status: ClusterStatus, node_id: str) -> list[str]:
    """Return what an operator should know of a node: from itself, and from the leader."""
    node = next((each for each in status.nodes if each.node_id == node_id), None)
    peer = status.peer(node_id)
    said = list(node.alarms) if node is not None else []
    if node is not None and not node.reachable:
        said.append(f"no answer: {node.error}")
    if node is not None and node.not_voting:
        said.append(f"does not vote: {node.not_voting}")
    if peer is not None and peer.refused:
        said.append(f"the leader refuses it: {peer.refused}")
    return said
