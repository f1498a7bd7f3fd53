"""`quorumlog cluster add | remove | transfer | check-stop | members`: who takes part, and who leads."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from quorumlog.command.cluster_notes import NO_ANSWER, ROLE_STYLES, notes_on
from quorumlog.command.confirming import add_confirmation, declined
from quorumlog.command.connecting import add_connection, add_output, client_of, run
from quorumlog.command.numbers import MAX_SECONDS, real
from quorumlog.command.output import Styled, counted, lasting, note, print_structured, print_table
from quorumlog.command.parser import completed_with, examples

if TYPE_CHECKING:
    from quorumlog.client.aio import AsyncClient
    from quorumlog.client.describe import ClusterStatus, Member

_TITLES = ("NODE", "KIND", "PEER ADDRESS", "STATE", "LAG")
_WIDE_TITLES = (*_TITLES, "CLIENT ADDRESS", "TERM", "APPLIED", "VERSION", "UPTIME", "DATA DIRECTORY")
_ADD_TIMEOUT_S = 300.0  # a log of some GiB, copied over a slow network
_LOOK_AGAIN_S = 1.0

_ADD = """\
Add a node and wait until it is a full member. Start it first, with a configuration whose `peers` names the
members and itself. It is a learner, which counts for nothing, until it has caught up. Where this command ends
before, the node is made a full member all the same as soon as it has; run it again to wait on.
"""
_REMOVE = """\
Remove a node: its votes and copies count no longer. A leader hands over first. Refused where the nodes that
are left and answer would be no majority. The node itself goes on running, alone; stop it, and delete its data
directory before it is added again under the same name.
"""
_TRANSFER = """\
Let another node lead, without the pause that an election takes: writes wait for some tens of milliseconds.
Refused, with the leader as it is, where the node is no voter, is not connected, or does not reach the end of
the log within two seconds.
"""
_MEMBERS = """\
Show who takes part, as the leader has it: voters count in majorities, learners do not until they have caught
up. What is wrong with a node stands below.
"""
_CHECK_STOP = """\
Ask the leader whether the cluster would go on if this node was stopped now. Exit code 0: yes, 1: no.
"""


def add_verbs(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands to the group `cluster`."""
    add = _verb(verbs, "add", "add a node", _ADD, "quorumlog cluster add n4 10.0.0.4:9651")
    add.add_argument("node", metavar="NODE", help="its node_id")
    add.add_argument("address", metavar="PEER_ADDRESS", help="host:port where the other nodes reach it")
    add.add_argument(
        "--timeout",
        type=real(MAX_SECONDS),
        default=_ADD_TIMEOUT_S,
        metavar="SECONDS",
        help="to wait (default: %(default)g)",
    )
    add.set_defaults(run=lambda options: run(_add(options)))

    remove = _verb(verbs, "remove", "remove a node", _REMOVE, "quorumlog cluster remove n4", aliases=["rm"])
    completed_with("nodes", remove.add_argument("node", metavar="NODE", help="its node_id"))
    add_confirmation(remove)
    remove.set_defaults(run=_remove_if_sure)

    transfer = _verb(
        verbs,
        "transfer",
        "let another node lead",
        _TRANSFER,
        "quorumlog cluster transfer n2",
        aliases=["transfer-leader"],
    )
    target = transfer.add_argument(
        "node", metavar="NODE", nargs="?", default="", help="default: the follower that is furthest"
    )
    completed_with("nodes", target)
    transfer.set_defaults(run=lambda options: run(_transfer(options)))

    check = _verb(
        verbs,
        "check-stop",
        "is it safe to stop this node now?",
        _CHECK_STOP,
        "quorumlog cluster check-stop n1 && systemctl stop quorumlog",
    )
    completed_with("nodes", check.add_argument("node", metavar="NODE", help="its node_id"))
    check.set_defaults(run=lambda options: run(_check_stop(options)))

    members = _verb(verbs, "members", "show who takes part", _MEMBERS, "quorumlog cluster members -o wide")
    members.set_defaults(run=lambda options: run(_members(options)))


def _verb(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    text: str,
    description: str,
    example: str,
    aliases: list[str] | None = None,
) -> argparse.ArgumentParser:
    parser = verbs.add_parser(
        name, help=text, description=description, epilog=examples(example), aliases=aliases or []
    )
    add_connection(parser)
    add_output(parser)
    return parser


async def _add(options: argparse.Namespace) -> int:
    import asyncio

    async with client_of(options) as client:
        watching = asyncio.ensure_future(_tell_progress(client, options.node))
        try:
            members = await client.add_member(
                options.node, options.address, timeout_ms=int(options.timeout * 1000)
            )
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
    if not print_structured(members, options):
        print(f"{options.node}: full member; {_who(members)}")
    return 0


async def _tell_progress(client: AsyncClient, node_id: str) -> None:
    """Say how far the learner is, each time that is another."""
    import asyncio

    from quorumlog.client.errors import QuorumlogError

    said = ""
    while True:
        try:
            line = _progress(await client.status(), node_id)
        except QuorumlogError:
            line = ""  # whoever waits for the change hears of it
        if line and line != said:
            note(line)
            said = line
        await asyncio.sleep(_LOOK_AGAIN_S)


def _progress(status: ClusterStatus, node_id: str) -> str:
    member = next((each for each in status.members if each.node_id == node_id), None)
    if member is None or not member.learner:
        return ""
    peer = status.peer(node_id)
    if peer is None or not peer.connected:
        refused = peer.refused if peer is not None else ""
        why = f"the leader refuses it: {refused}" if refused else "does it run?"
        return f"{node_id}: learner, not reached by the leader at {member.peer_address}: {why}"
    return f"{node_id}: learner, {counted(peer.lag, 'entry', 'entries')} behind"


def _remove_if_sure(options: argparse.Namespace) -> int:
    code = declined(options, f"removing {options.node}", f"remove {options.node} from the cluster")
    return run(_remove(options)) if code is None else code


async def _remove(options: argparse.Namespace) -> int:
    async with client_of(options) as client:
        members = await client.remove_member(options.node)
    if not print_structured(members, options):
        print(f"{options.node}: removed; {_who(members)}")
    note(f"hint: stop {options.node}; delete its data directory before it is added again")
    return 0


async def _transfer(options: argparse.Namespace) -> int:
    async with client_of(options) as client:
        leader_id = await client.transfer_leadership(options.node)
    if not print_structured({"leader_id": leader_id}, options):
        print(f"{leader_id} leads")
    return 0


async def _check_stop(options: argparse.Namespace) -> int:
    async with client_of(options) as client:
        check = await client.check_stop(options.node)
    if not print_structured(check, options):
        print(f"{check.node_id}: {'safe' if check.safe else 'not safe'} to stop: {check.reason}")
    return 0 if check.safe else 1


async def _members(options: argparse.Namespace) -> int:
    async with client_of(options) as client:
        status = await client.status()
    if print_structured(status.members, options):
        return 0
    if options.output == "wide":
        print_table(_WIDE_TITLES, [_wide_row(status, member) for member in status.members])
    else:
        print_table(_TITLES, [_row(status, member) for member in status.members])
    print_notes(status)
    print(f"\n{_who(status.members)}; leader {status.leader_id or 'none'}")
    return 0


def _row(status: ClusterStatus, member: Member) -> tuple[object, ...]:
    node = next((each for each in status.nodes if each.node_id == member.node_id), None)
    state = node.role if node is not None and node.reachable else NO_ANSWER
    peer = status.peer(member.node_id)
    lag = peer.lag if peer is not None and peer.connected else None
    kind = "learner" if member.learner else "voter"
    styled = Styled(state, ROLE_STYLES.get(state, ""))
    return member.node_id, kind, member.peer_address, styled, lag


def _wide_row(status: ClusterStatus, member: Member) -> tuple[object, ...]:
    node = next((each for each in status.nodes if each.node_id == member.node_id), None)
    more: tuple[object, ...] = (None if node is None else node.client_address, None, None, None, None)
    if node is not None and node.reachable:
        uptime = lasting(node.uptime_ms)
        more = node.client_address, node.term, node.applied_index, node.version, uptime
    return (*_row(status, member), *more, member.directory_id or None)


def print_notes(status: ClusterStatus) -> None:
    """Print what is wrong with nodes, a line for each thing: in a table it would be cut off."""
    for node in status.nodes:
        for text in notes_on(status, node.node_id):
            print(f"  {node.node_id}: {text}")


def _who(members: tuple[Member, ...]) -> str:
    voters = [member.node_id for member in members if not member.learner]
    learners = [member.node_id for member in members if member.learner]
    text = f"{counted(len(voters), 'voter')}: {', '.join(voters)}"
    return f"{text}; learning: {', '.join(learners)}" if learners else text
