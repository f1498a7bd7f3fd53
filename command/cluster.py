"""`quorumlog cluster status`: every node at a glance. The other commands of the group: members.py."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from quorumlog.command import top
from quorumlog.command.cluster_notes import ROLE_STYLES, notes_on, role_of
from quorumlog.command.connecting import add_connection, add_output, client_of, run
from quorumlog.command.members import add_verbs, print_notes
from quorumlog.command.output import Styled, lasting, note, print_structured, print_table, sized
from quorumlog.command.parser import examples

if TYPE_CHECKING:
    from quorumlog.client.describe import ClusterStatus, NodeStatus

# What fits 80 columns, with a host's whole name and a billion entries; -o wide shows the rest.
_TITLES = ("NODE", "ROLE", "ADDRESS", "TERM", "COMMIT", "LAG", "SIZE", "UPTIME")
_TITLES_WIDE = (
    "NODE",
    "ROLE",
    "ADDRESS",
    "PEER ADDRESS",
    "HTTP",
    "TERM",
    "COMMIT",
    "APPLIED",
    "LAG",
    "LOG",
    "SIZE",
    "SEGMENTS",
    "FSYNC P99",
    "DISK FREE",
    "FILES",
    "VERSION",
    "UPTIME",
    "NOTES",
)

_STATUS = """\
Show every node at a glance; what is wrong with one stands below. Exit code 0: there is a leader, 1: there is
none.
"""


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the group."""
    group = commands.add_parser(
        "cluster",
        help="the state of the nodes, who takes part and who leads",
        description="Look at the nodes, change who takes part and who leads.",
    )
    verbs = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    status = verbs.add_parser(
        "status",
        aliases=["st"],
        help="show every node",
        description=_STATUS,
        epilog=examples("quorumlog cluster status", "quorumlog cluster status -o wide"),
    )
    add_connection(status)
    add_output(status)
    status.set_defaults(run=lambda options: run(_status(options)))
    top.add_command(verbs)
    add_verbs(verbs)


async def _status(options: argparse.Namespace) -> int:
    async with client_of(options) as client:
        status = await client.status()
    code = 0 if status.leader_id else 1
    if print_structured(status, options):
        return code
    lags = _lags(status)
    if options.output == "wide":
        rows = [_wide_row(status, node, lags.get(node.node_id)) for node in status.nodes]
        print_table(_TITLES_WIDE, rows)
    else:
        print_table(_TITLES, [_row(status, node, lags.get(node.node_id)) for node in status.nodes])
        print_notes(status)
    print(f"\n{_summary(status)}")
    if not status.leader_id:
        note("hint: no leader: nothing can be written until a majority of the nodes reach each other")
    return code


def _summary(status: ClusterStatus) -> str:
    reachable = sum(node.reachable for node in status.nodes)
    leader = status.leader_id or "none"
    return (
        f"cluster {status.cluster}: leader {leader}, term {status.term}, sync {status.sync_policy}, "
        f"{reachable} of {len(status.nodes)} nodes answer"
    )


def _lags(status: ClusterStatus) -> dict[str, int]:
    """Return how many entries each node lacks of the leader's log, as the leader sees it."""
    leader = next((node for node in status.nodes if node.node_id == status.leader_id), None)
    return {} if leader is None else {peer.node_id: peer.lag for peer in leader.peers}


def _role_cell(status: ClusterStatus, node: NodeStatus) -> Styled:
    role = role_of(status, node)
    return Styled("leader *" if role == "leader" else role, ROLE_STYLES.get(role, ""))


def _row(status: ClusterStatus, node: NodeStatus, lag: int | None) -> tuple[object, ...]:
    head = (node.node_id, _role_cell(status, node), node.client_address)
    if not node.reachable:
        return (*head, *[None] * (len(_TITLES) - len(head)))
    return (*head, node.term, node.commit_index, lag, sized(node.log_bytes), lasting(node.uptime_ms))


def _wide_row(status: ClusterStatus, node: NodeStatus, lag: int | None) -> tuple[object, ...]:
    head = (node.node_id, _role_cell(status, node), node.client_address, node.peer_address)
    notes = "; ".join(notes_on(status, node.node_id))
    if not node.reachable:
        return (*head, *[None] * (len(_TITLES_WIDE) - len(head) - 1), notes)
    return (
        *head,
        node.http_address,
        node.term,
        node.commit_index,
        node.applied_index,
        lag,
        f"{node.log_start}..{node.log_end}",
        sized(node.log_bytes),
        node.segments,
        f"{node.fsync_p99_us / 1000:g} ms" if node.fsync_count else None,
        sized(node.disk_free_bytes) if node.disk_total_bytes else None,
        f"{node.open_files}/{node.open_files_max or '-'}" if node.open_files else None,
        node.version,
        lasting(node.uptime_ms),
        notes,
    )
