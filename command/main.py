"""The `quorumlog` command: its parser and its exit codes. Each group of commands has a file.

Exit codes: 0 done; 1 failed; 2 called wrongly; 130 stopped by Ctrl-C.

Results go to stdout, everything else to stderr. This module and those of commands load nothing but argparse
until a command runs: `quorumlog health` runs every few seconds in every container.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from typing import NoReturn

from quorumlog.command import (
    bench,
    certs,
    cluster,
    completion,
    consume,
    doctor,
    health,
    local,
    produce,
    profile,
    topic,
    verify,
)
from quorumlog.command.connecting import add_connection, add_output
from quorumlog.command.output import be_quiet, complain, print_error, print_structured
from quorumlog.command.parser import Parser, RootParser, examples
from quorumlog.command.standard_files import open_standard_files

OK = 0
FAILED = 1
USAGE = 2
INTERRUPTED = 130  # 128 + SIGINT, as shells do

_SURROGATES = re.compile("[\ud800-\udfff]")  # what Python makes of arguments that are not UTF-8

_DESCRIPTION = """\
A replicated commit log. Each command has its own help: quorumlog COMMAND --help.
"""
_EPILOG = (
    examples(
        "quorumlog local                       three nodes on this machine, to try it",
        "quorumlog topic create orders --partitions 3",
        "tail -f app.log | quorumlog produce orders",
        "quorumlog tail orders",
    )
    + "\n\nExit codes: 0 done, 1 failed, 2 called wrongly, 130 stopped by Ctrl-C."
)
_GROUPS = (
    ("run nodes", ("local", "serve", "certs")),
    ("topics and records", ("topic", "produce", "consume", "tail")),
    ("look after a cluster", ("cluster", "health", "doctor", "verify", "bench")),
    ("this command", ("profile", "completion", "version")),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    try:
        open_standard_files()
        return _run(list(sys.argv[1:] if arguments is None else arguments))
    except KeyboardInterrupt:
        return INTERRUPTED


def _run(given: list[str]) -> int:
    # gRPC's core tells on stderr of idle connections that are closed, and more.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    if given[:1] == ["help"]:
        given = [*given[1:], "--help"]
    if given == ["--version"]:
        given = ["version"]
    if given[:1] == ["serve"]:
        _serve(given[1:])
    if given[:1] == [completion.COMPLETE]:
        return completion.complete(build_parser(), given[1:])
    options = build_parser().parse_args(given)
    be_quiet(getattr(options, "quiet", False))
    if getattr(options, "verbose", False):
        _log_to_stderr()
    try:
        code: int = options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:
        return _reader_left()
    except Exception as error:  # noqa: BLE001 - a bug goes through, see _failed
        return _failed(error)
    return code


def build_parser() -> Parser:
    """Return the parser of all commands."""
    parser = RootParser(prog="quorumlog", description=_DESCRIPTION, epilog=_EPILOG, groups=_GROUPS)
    add_connection(parser)
    class_: type[argparse.ArgumentParser] = Parser  # not RootParser, which this one is
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=class_)
    commands.add_parser("serve", help="run one node (its own options: quorumlog serve --help)")
    local.add_commands(commands)
    topic.add_commands(commands)
    produce.add_commands(commands)
    consume.add_commands(commands)
    cluster.add_commands(commands)
    doctor.add_commands(commands)
    bench.add_commands(commands)
    health.add_commands(commands)
    verify.add_commands(commands)
    certs.add_commands(commands)
    profile.add_commands(commands)
    completion.add_commands(commands)
    version = commands.add_parser(
        "version",
        help="print the version",
        description="Print the version of this command and of Python.",
        epilog=examples("quorumlog version -o json"),
    )
    add_output(version)
    version.set_defaults(run=_version)
    return parser


def _serve(arguments: list[str]) -> NoReturn:
    # A process of its own: the client imports nothing of the node.
    os.execv(sys.executable, [sys.executable, "-m", "quorumlog.node", *arguments])


def _version(options: argparse.Namespace) -> int:
    import platform
    from importlib.metadata import version

    if not print_structured(
        {"quorumlog": version("quorumlog"), "python": platform.python_version()}, options
    ):
        print(f"quorumlog {version('quorumlog')} (Python {platform.python_version()})")
    return OK


def _log_to_stderr() -> None:
    import logging

    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s: %(message)s"))
    logger = logging.getLogger("quorumlog.client")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)


def _failed(error: Exception) -> int:
    """Print an error that a user can act on; let a bug through, with its traceback."""
    from quorumlog.client.errors import QuorumlogError, UnknownOption

    if isinstance(error, OSError) and not isinstance(error, TimeoutError):
        complain(f"error: {error}")
        return FAILED
    if isinstance(error, UnicodeEncodeError) and _SURROGATES.search(error.object):
        complain(f"error: expected text in UTF-8, got {error.object[:80]!a}")
        return USAGE
    if not isinstance(error, QuorumlogError):
        raise error
    print_error(error)
    return USAGE if isinstance(error, UnknownOption) else FAILED


def _reader_left() -> int:
    """`quorumlog consume t | head` is no failure: whoever read has what it wanted."""
    # The interpreter flushes stdout at its end and would complain.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return OK


if __name__ == "__main__":
    sys.exit(main())
