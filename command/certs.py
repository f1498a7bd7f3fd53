"""`quorumlog certs`: an authority of your own, for development, and the certificates of nodes and clients."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from quorumlog.command.connecting import add_output
from quorumlog.command.output import note, print_structured
from quorumlog.command.parser import examples

if TYPE_CHECKING:
    from quorumlog.command.authority import Authority, Made

_ROLES = (
    "produce",
    "consume",
    "admin",
)  # proto/identity.py has them; nothing is loaded before a command runs


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the group."""
    group = commands.add_parser(
        "certs",
        help="make certificates for TLS",
        description="Make an authority of your own, for development, and the certificates that it signs.",
    )
    verbs = group.add_subparsers(title="commands", metavar="COMMAND", required=True)

    init = _verb(
        verbs, "init", "make an authority that signs the certificates of one cluster", 3650, "--cluster prod"
    )
    init.add_argument("--cluster", default="quorumlog", metavar="NAME", help="default: quorumlog")
    init.set_defaults(run=_init)

    node = _verb(verbs, "node", "make a node's certificate", 365, "n1 n1.example 10.0.0.1")
    _add_out(node)
    node.add_argument("node_id", metavar="NODE", help="the node's id, as in its configuration")
    node.add_argument(
        "hosts",
        metavar="HOST",
        nargs="+",
        help="names and addresses under which peers and clients reach it, without ports",
    )
    node.set_defaults(run=_node)

    client = _verb(verbs, "client", "make a client's certificate", 365, "billing --role consume")
    _add_out(client)
    client.add_argument("name", metavar="NAME", help="whom it speaks for")
    client.add_argument(
        "--role",
        dest="roles",
        action="append",
        default=[],
        choices=_ROLES,
        help="what it may do where nodes have no table of grants; may be repeated (default: everything)",
    )
    client.set_defaults(run=_client)


def _verb(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser], name: str, text: str, days: int, example: str
) -> argparse.ArgumentParser:
    parser = verbs.add_parser(
        name,
        help=text,
        description=f"{text[0].upper()}{text[1:]}. Only the owner can read the files; none is overwritten.",
        epilog=examples(f"quorumlog certs {name} {example}"),
    )
    parser.add_argument("-d", "--directory", default="certs", metavar="DIR", help="default: certs")
    parser.add_argument("--days", type=float, default=days, help=f"how long it is valid (default: {days})")
    add_output(parser)
    return parser


def _add_out(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", metavar="DIR", help="where the files go (default: beside the authority)")


def _init(options: argparse.Namespace) -> int:
    from quorumlog.command.authority import make_authority

    directory = Path(options.directory)
    made = make_authority(directory, options.cluster, days=options.days)
    _say(options, made)
    if options.output in ("text", "wide"):
        note(
            f"keep {made.key} away from the nodes: whoever has it can make certificates\n"
            f"next: quorumlog certs node n1 HOST... --directory {options.directory}"
        )
    return 0


def _node(options: argparse.Namespace) -> int:
    authority = _authority(options)
    made = authority.make_node(options.node_id, options.hosts, days=options.days)
    _say(options, made)
    if options.output in ("text", "wide"):
        note(f"\nin the configuration of node {options.node_id} of cluster {authority.cluster}:\n")
        print(
            "[tls]\n"
            f'certificate = "{made.certificate.absolute()}"\n'
            f'key = "{made.key.absolute()}"\n'
            f'authority = "{authority.certificate_file.absolute()}"'
        )
    return 0


def _client(options: argparse.Namespace) -> int:
    authority = _authority(options)
    made = authority.make_client(options.name, options.roles, days=options.days)
    _say(options, made)
    if options.output in ("text", "wide"):
        note("\nfor the command:\n")
        print(
            f"export QUORUMLOG_CA={authority.certificate_file.absolute()}\n"
            f"export QUORUMLOG_CERT={made.certificate.absolute()}\n"
            f"export QUORUMLOG_CERT_KEY={made.key.absolute()}"
        )
        note("\nfor the nodes' table of grants, where there is one:\n")
        roles = ", ".join(f'"{role}"' for role in options.roles or _ROLES)
        print(f'[[grant]]\nclients = ["{options.name}"]\nroles = [{roles}]')
    return 0


def _authority(options: argparse.Namespace) -> Authority:
    from quorumlog.command.authority import Authority

    return Authority(Path(options.directory), Path(options.out) if options.out else None)


def _say(options: argparse.Namespace, made: Made) -> None:
    value = {"certificate": str(made.certificate), "key": str(made.key), "expires": made.expires.isoformat()}
    if not print_structured(value, options):
        note(f"{made.certificate}, {made.key}: valid until {made.expires:%Y-%m-%d %H:%M} UTC")
