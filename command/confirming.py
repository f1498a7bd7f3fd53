"""Asking before what cannot be undone."""

from __future__ import annotations

import argparse
import sys

from quorumlog.command.output import complain, note

_USAGE = 2
_DECLINED = 1


def add_confirmation(parser: argparse.ArgumentParser) -> None:
    """Add -y, which is --force too."""
    parser.add_argument("-y", "--yes", "--force", action="store_true", help="do not ask")


def declined(options: argparse.Namespace, doing: str, question: str) -> int | None:
    """Return None where the user wants it (or gave --yes), else the exit code.

    `doing`: what it is ("deleting orders"); `question`: without its question mark ("delete orders").
    """
    if options.yes:
        return None
    if not sys.stdin.isatty():
        complain(f"error: {doing} needs --yes where nobody can be asked")
        return _USAGE
    print(f"{question}? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() in ("y", "yes"):
        return None
    note("nothing was changed")
    return _DECLINED
