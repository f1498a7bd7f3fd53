"""`quorumlog topic create | ls | describe | delete`."""

from __future__ import annotations

import argparse

from quorumlog.client.cli_confirm import add_confirmation, declined
from quorumlog.client.cli_connect import add_connection, add_consistency, add_output, client_of, run
from quorumlog.client.cli_output import counted, note, print_structured, print_table


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the group."""
    group = commands.add_parser("topic", help="create, list, describe and delete topics", allow_abbrev=False)
    verbs = group.add_subparsers(title="commands", metavar="COMMAND", required=True)

    create = _verb(verbs, "create", "create topics")
    create.add_argument("topics", nargs="+", metavar="NAME")
    create.add_argument("-p", "--partitions", type=int, default=1, metavar="N", help="default: 1")
    create.add_argument("--if-not-exists", action="store_true", help="it is no error if it is there already")
    create.set_defaults(run=lambda options: run(_create(options)))

    listing = _verb(verbs, "ls", "list topics", aliases=["list"])
    add_consistency(listing)
    listing.set_defaults(run=lambda options: run(_list(options)))

    describe = _verb(verbs, "describe", "show the partitions of topics")
    describe.add_argument("topics", nargs="+", metavar="NAME")
    add_consistency(describe)
    describe.set_defaults(run=lambda options: run(_describe(options)))

    delete = _verb(verbs, "delete", "delete topics and their records", aliases=["rm"])
    delete.add_argument("topics", nargs="+", metavar="NAME")
    add_confirmation(delete)
    delete.set_defaults(run=_delete_if_sure)


def _verb(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    text: str,
    aliases: list[str] | None = None,
) -> argparse.ArgumentParser:
    parser = verbs.add_parser(name, help=text, description=text, aliases=aliases or [], allow_abbrev=False)
    add_connection(parser)
    add_output(parser)
    return parser


async def _create(options: argparse.Namespace) -> int:
    created = []
    async with client_of(options) as client:
        for name in options.topics:
            if options.if_not_exists:
                created.append(await client.ensure_topic(name, options.partitions))
            else:
                created.append(await client.create_topic(name, options.partitions))
    if not print_structured(created, options):
        for topic in created:
            print(f"{topic.name}: {counted(len(topic.partitions), 'partition')}")
    return 0


async def _list(options: argparse.Namespace) -> int:
    async with client_of(options) as client:
        topics = await client.list_topics(consistency=options.consistency)
    if print_structured(topics, options):
        return 0
    if topics:
        rows = [
            (
                topic.name,
                len(topic.partitions),
                topic.records,
                f"{topic.created.astimezone():%Y-%m-%d %H:%M:%S}",
            )
            for topic in topics
        ]
        print_table(("TOPIC", "PARTITIONS", "RECORDS", "CREATED"), rows)
    else:
        note("there are no topics; create one: quorumlog topic create NAME")
    return 0


async def _describe(options: argparse.Namespace) -> int:
    async with client_of(options) as client:
        topics = [
            await client.describe_topic(name, consistency=options.consistency) for name in options.topics
        ]
    if print_structured(topics, options):
        return 0
    rows = [
        (topic.name, each.partition, each.start_offset, each.high_watermark, each.records)
        for topic in topics
        for each in topic.partitions
    ]
    print_table(("TOPIC", "PARTITION", "START", "END", "RECORDS"), rows)
    return 0


def _delete_if_sure(options: argparse.Namespace) -> int:
    names = ", ".join(options.topics)
    code = declined(options, f"deleting {names}", f"delete {names} with all records")
    return run(_delete(options)) if code is None else code


async def _delete(options: argparse.Namespace) -> int:
    async with client_of(options) as client:
        for name in options.topics:
            await client.delete_topic(name)
            if not print_structured({"deleted": name}, options):
                print(f"{name}: deleted")
    return 0
