"""`quorumlog topic create | ls | describe | delete`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from quorumlog.command.confirming import add_confirmation, declined
from quorumlog.command.connecting import add_connection, add_consistency, add_output, client_of, run
from quorumlog.command.numbers import MAX_INT32, whole
from quorumlog.command.output import counted, note, print_structured, print_table
from quorumlog.command.parser import completed_with, examples

if TYPE_CHECKING:
    from quorumlog.client.describe import Topic


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the group."""
    group = commands.add_parser(
        "topic",
        help="create, list, describe and delete topics",
        description="Create, list, describe and delete topics.",
    )
    verbs = group.add_subparsers(title="commands", metavar="COMMAND", required=True)

    create = _verb(verbs, "create", "create topics", examples("quorumlog topic create orders --partitions 3"))
    create.add_argument("topics", nargs="+", metavar="NAME")
    create.add_argument(
        "-p", "--partitions", type=whole(1, MAX_INT32), default=1, metavar="N", help="default: 1"
    )
    create.add_argument("--if-not-exists", action="store_true", help="it is no error if it is there already")
    create.set_defaults(run=lambda options: run(_create(options)))

    listing = _verb(
        verbs,
        "ls",
        "list topics",
        examples("quorumlog topic ls", "quorumlog topic ls -o wide      with ids and offsets"),
        aliases=["list"],
    )
    add_consistency(listing)
    listing.set_defaults(run=lambda options: run(_list(options)))

    describe = _verb(
        verbs,
        "describe",
        "show the partitions of topics",
        examples("quorumlog topic describe orders -o json"),
    )
    completed_with("topics", describe.add_argument("topics", nargs="+", metavar="NAME"))
    add_consistency(describe)
    describe.set_defaults(run=lambda options: run(_describe(options)))

    delete = _verb(
        verbs,
        "delete",
        "delete topics and their records",
        examples("quorumlog topic delete orders"),
        aliases=["rm"],
    )
    completed_with("topics", delete.add_argument("topics", nargs="+", metavar="NAME"))
    add_confirmation(delete)
    delete.set_defaults(run=_delete_if_sure)


def _verb(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    text: str,
    epilog: str,
    aliases: list[str] | None = None,
) -> argparse.ArgumentParser:
    parser = verbs.add_parser(
        name,
        help=text,
        description=f"{text[0].upper()}{text[1:]}.",
        epilog=epilog,
        aliases=aliases or [],
    )
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
    if not topics:
        note("there are no topics; create one: quorumlog topic create NAME")
        return 0
    titles = ["TOPIC", "PARTITIONS", "RECORDS", "CREATED"]
    rows = [
        [topic.name, len(topic.partitions), topic.records, _created(topic), topic.topic_id, _offsets(topic)]
        for topic in topics
    ]
    if options.output == "wide":
        print_table([*titles, "TOPIC ID", "OFFSETS"], rows)
    else:
        print_table(titles, [row[: len(titles)] for row in rows])
    return 0


def _created(topic: Topic) -> str:
    return f"{topic.created.astimezone():%Y-%m-%d %H:%M:%S}"


def _offsets(topic: Topic) -> str:
    """Return the readable offsets of each partition, the last one not included, as `consume -o` has it."""
    return " ".join(f"{each.start_offset}:{each.high_watermark}" for each in topic.partitions)


async def _describe(options: argparse.Namespace) -> int:
    async with client_of(options) as client:
        topics = [
            await client.describe_topic(name, consistency=options.consistency) for name in options.topics
        ]
    if print_structured(topics, options):
        return 0
    titles = ["TOPIC", "PARTITION", "START", "END", "RECORDS"]
    rows: list[list[object]] = [
        [
            topic.name,
            each.partition,
            each.start_offset,
            each.high_watermark,
            each.records,
            topic.topic_id,
            _created(topic),
        ]
        for topic in topics
        for each in topic.partitions
    ]
    if options.output == "wide":
        print_table([*titles, "TOPIC ID", "CREATED"], rows)
    else:
        print_table(titles, [row[: len(titles)] for row in rows])
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
