"""The parser of the command: short help with examples, and errors that name the nearest valid word.

argparse words its help otherwise from version to version of Python; what is printed here does not change.
"""

from __future__ import annotations

import argparse
import difflib
import re
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NoReturn, TypeAlias, TypeVar, cast

Kind: TypeAlias = Literal["topics", "nodes", "profiles", "files", "directories"]
_Action = TypeVar("_Action", bound=argparse.Action)

USAGE = 2
COMMON_OPTIONS = "common options"  # this group stands last: it is the same everywhere
_MOST_COLUMNS = 100  # longer lines are hard to read, however wide the terminal is

# -10:end is the value of an option, as -10 is: no option begins with a digit.
_VALUE = re.compile(r"-\d")

# What Kafka's and kcat's commands have under other names, or this one has not.
_ELSEWHERE = {
    "--bootstrap-server": "it is -s here",
    "--broker-list": "it is -s here",
    "--brokers": "it is -s here",
    "-b": "it is -s here",
    "-X": "the servers are given with -s, TLS with --ca, --cert and --cert-key",
    "--topic": "topics are given without an option",
    "-t": "topics are given without an option",
    "--group": "there are no consumer groups yet",
    "-g": "there are no consumer groups yet",
    "--isolation-level": "there are no transactions; nothing uncommitted is ever readable",
}


def examples(*lines: str) -> str:
    """Return the end of a help text: commands as one would type them."""
    return "\n".join(("examples:", *(f"  {line}" for line in lines)))


def completed_with(kind: Kind, action: _Action) -> _Action:
    """Let shells complete an argument with things of a kind. FILE and DIR need it not."""
    action.completed_with = kind  # type: ignore[attr-defined]
    return action


def kind_of(action: argparse.Action) -> Kind | Literal[""]:
    """Return what an argument is completed with; empty: nothing."""
    default = {"FILE": "files", "DIR": "directories"}.get(str(action.metavar), "")
    return cast("Kind", getattr(action, "completed_with", default))


class Parser(argparse.ArgumentParser):
    """Parses one command. Commands below it are of the same class."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **settings})
        self._negative_number_matcher = _VALUE

    def format_usage(self) -> str:
        """Return one line; the options stand below in any case."""
        positionals = [_usage(action) for action in self._actions if not action.option_strings]
        return f"usage: {' '.join((self.prog, '[options]', *positionals))}\n"

    def format_help(self) -> str:
        """Return what --help prints."""
        formatter = _Formatter(self.prog)
        formatter.add_text(self.description)
        common = [group for group in self._action_groups if group.title == COMMON_OPTIONS]
        for group in self._action_groups:
            if group not in common:
                _add_section(formatter, group.title, group._group_actions)
        formatter.add_text(self.epilog)
        for group in common:
            _add_section(formatter, group.title, group._group_actions, group.description)
        return f"{self.format_usage()}\n{formatter.format_help()}"

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the call and where to read on; exit 2."""
        text = message.removeprefix("argument ")
        if text.endswith("required: COMMAND"):  # nothing was typed behind the name
            text = f"expected a command: {', '.join(self._commands())}"
        self.exit(USAGE, f"error: {text}\nhint: see {self.prog} --help\n")

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse; what this command does not know is its error, not that of the command above it."""
        options, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(self._unknown(unknown))
        return options, unknown

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        is_command = isinstance(action, argparse._SubParsersAction)
        known = [str(choice) for choice in action.choices]
        what = f"there is no command {value!r}" if is_command else f"expected one of {', '.join(known)}"
        got = "" if is_command else f"; got {value!r}"
        raise argparse.ArgumentError(None if is_command else action, f"{what}{got}{_nearest(value, known)}")

    def _commands(self) -> list[str]:
        groups = [action for action in self._actions if isinstance(action, argparse._SubParsersAction)]
        return [action.dest for group in groups for action in group._choices_actions]

    def _unknown(self, unknown: list[str]) -> str:
        word = next((each for each in unknown if each.startswith("-")), unknown[0])
        name = word.partition("=")[0]
        if not name.startswith("-"):
            return f"one argument too many: {word!r}"
        if name in _ELSEWHERE:
            return f"there is no option {name}: {_ELSEWHERE[name]}"
        return f"there is no option {name}{_nearest(name, self._option_string_actions)}"


class RootParser(Parser):
    """The parser of the whole command: its help lists the commands by what they are for."""

    def __init__(self, *, groups: Sequence[tuple[str, Sequence[str]]], **settings: Any) -> None:
        super().__init__(**settings)
        self._groups = groups

    def format_help(self) -> str:
        """Return what --help prints."""
        (commands,) = [each for each in self._actions if isinstance(each, argparse._SubParsersAction)]
        listed = {action.dest: action for action in commands._choices_actions}
        formatter = _Formatter(self.prog)
        formatter.add_text(self.description)
        for title, names in self._groups:
            _add_section(formatter, title, [listed.pop(name) for name in names if name in listed])
        _add_section(formatter, "more", list(listed.values()))
        formatter.add_text(self.epilog)
        for group in self._action_groups:
            options = [action for action in group._group_actions if action.option_strings]
            _add_section(formatter, group.title, options, group.description)
        return f"{self.format_usage()}\n{formatter.format_help()}"


class _Formatter(argparse.HelpFormatter):
    """Options as "-o, --output WHAT"; paragraphs are filled, what is indented stays as it is."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30)
        self._width = min(self._width, _MOST_COLUMNS)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings:
            return super()._format_action_invocation(action)
        names = ", ".join(action.option_strings)
        if action.nargs == 0:
            return names
        return f"{names} {self._format_args(action, self._get_default_metavar_for_optional(action))}"

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        blocks = re.split(r"\n\s*\n", text.strip("\n"))
        return "\n\n".join(self._fill_block(block, width, indent) for block in blocks)

    def _fill_block(self, block: str, width: int, indent: str) -> str:
        filled: list[str] = []
        paragraph: list[str] = []
        for line in (*block.splitlines(), "  "):
            if not line.startswith("  "):
                paragraph.append(line)
                continue
            if paragraph:
                text = " ".join(paragraph)
                filled += textwrap.wrap(text, width, initial_indent=indent, subsequent_indent=indent)
                paragraph.clear()
            filled += [f"{indent}{line}"] if line.strip() else []
        return "\n".join(filled)


def _add_section(
    formatter: _Formatter, title: str | None, actions: Sequence[argparse.Action], text: str | None = None
) -> None:
    """Add a section, unless there is nothing to be said in it that the usage has not."""
    shown: list[argparse.Action] = []
    for action in actions:
        shown += action._choices_actions if isinstance(action, argparse._SubParsersAction) else [action]
    if any(action.help or action.option_strings for action in shown):
        formatter.start_section(title)
        formatter.add_text(text)
        formatter.add_arguments(shown)
        formatter.end_section()


def _usage(action: argparse.Action) -> str:
    name = str(action.metavar or action.dest)
    if isinstance(action, argparse._SubParsersAction):
        return name
    several = f"{name}..." if action.nargs in ("+", "*") else name
    return f"[{several}]" if action.nargs in ("?", "*") else several


def _nearest(word: str, known: Iterable[str]) -> str:
    found = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {found[0]}?" if found else ""
