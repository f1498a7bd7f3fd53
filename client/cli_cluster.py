"""`quorumlog cluster status`: every node at a glance. The other commands of the group: cli_members.py."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from quorumlog.client.cli_connect import add_connection, add_output, client_of, run
from quorumlog.client.cli_members import add_verbs, notes_on
from quorumlog.client.cli_output import lasting, note, print_structured, print_table, sized

if TYPE_CHECKING:
    from quorumlog.client.describe import ClusterStatus, NodeStatus

_TITLES = (
    "NODE",
    "ROLE",
    "ADDRESS",
    "TERM",
    "COMMIT",
    "APPLIED",
    "LAG",
    "LOG",
    "SIZE",
    "SEGMENTS",
    "UPTIME",
    "NOTES",
)


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the group."""
    group = commands.add_parser(
        "cluster", help="the state of the nodes, who takes part and who leads", allow_abbrev=False
    )
    verbs = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    status = verbs.add_parser(
        "status",
        aliases=["st"],
        help="show every node",
        description="Show every node at a glance.",
        allow_abbrev=False,
    )
    add_connection(status)
    add_output(status)
    status.set_defaults(run=lambda options: run(_status(options)))
    add_verbs(verbs)


async def _status(options: argparse.Namespace) -> int:
    async with client_of(options) as client:
        status = await client.status()
    if print_structured(status, options):
        return 0
    lags = _lags(status)
    print_table(_TITLES, [_row(status, node, lags.get(node.node_id)) for node in status.nodes])
    reachable = sum(node.reachable for node in status.nodes)
    leader = status.leader_id or "none"
    print(
        f"\ncluster {status.cluster}: leader {leader}, term {status.term}, sync {status.sync_policy}, "
        f"{reachable} of {len(status.nodes)} nodes answer"
    )
    if not status.leader_id:
        note("hint: no leader: nothing can be written until a majority of the nodes reach each other")
    return 0


def _lags(status: ClusterStatus) -> dict[str, int]:
    """Return how many entries each node lacks of the leader's log, as the leader sees it."""
    leader = next((node for node in status.nodes if node.node_id == status.leader_id), None)
    return {} if leader is None else {peer.node_id: peer.lag for peer in leader.peers}


def _row(status: ClusterStatus, node: NodeStatus, lag: int | None) -> tuple[object, ...]:
    notes = "; ".join(notes_on(status, node.node_id))
    if not node.reachable:
        return (node.node_id, "-", node.client_address, *[None] * 8, notes)
    learns = any(member.learner for member in status.members if member.node_id == node.node_id)
    return (
        node.node_id,
        "learner" if learns else node.role,
        node.client_address,
        node.term,
        node.commit_index,
        node.applied_index,
        lag,
        f"{node.log_start}..{node.log_end}",
        sized(node.log_bytes),
        node.segments,
        lasting(node.uptime_ms),
        notes,
    )
