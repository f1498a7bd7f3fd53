"""What may come next on a command line that is half typed, as its parser has it. No I/O."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from quorumlog.command.parser import Kind, kind_of

Word: TypeAlias = tuple[str, str]  # with a description, or ""


@dataclass(frozen=True, slots=True)
class Expected:
    """Words that fit, or what kind of thing is expected, for whoever can look it up.

    `prefix` goes before what is looked up: "--ca=" where a file is to stand behind it.
    """

    words: tuple[Word, ...] = ()
    kind: Kind | Literal[""] = ""
    prefix: str = ""
    options: argparse.Namespace = field(default_factory=argparse.Namespace)  # given so far, by dest


@dataclass(slots=True)
class _Walk:
    """Where a parser stands behind the words before the cursor."""

    parser: argparse.ArgumentParser
    position: int = 0  # in its positional arguments
    awaiting: argparse.Action | None = None  # an option without its value
    only_positionals: bool = False
    options: argparse.Namespace = field(default_factory=argparse.Namespace)

    def step(self, word: str) -> None:
        if self.awaiting is not None:
            setattr(self.options, self.awaiting.dest, word)
            self.awaiting = None
        elif word == "--":
            self.only_positionals = True
        elif word.startswith("-") and len(word) > 1 and not self.only_positionals:
            self._option(word)
        else:
            self._positional(word)

    def _option(self, word: str) -> None:
        name, equals, value = word.partition("=")
        action = self.parser._option_string_actions.get(name)
        if action is None or action.nargs == 0:
            return
        if equals:
            setattr(self.options, action.dest, value)
        else:
            self.awaiting = action

    def _positional(self, word: str) -> None:
        action = self.positional()
        if isinstance(action, argparse._SubParsersAction):
            self.parser = action.choices.get(word, argparse.ArgumentParser(add_help=False))
            self.position = 0
        elif action is not None and action.nargs not in ("+", "*"):
            self.position += 1

    def positional(self) -> argparse.Action | None:
        """Return the positional argument that comes next."""
        positionals = [action for action in self.parser._actions if not action.option_strings]
        return positionals[self.position] if self.position < len(positionals) else None


def expected(parser: argparse.ArgumentParser, words: Sequence[str]) -> Expected:
    """Return what the last word, which may be empty or half of one, can become."""
    *before, current = words
    walk = _Walk(parser)
    for word in before:
        walk.step(word)
    if walk.awaiting is not None:
        return _values(walk.awaiting, current, "", walk.options)
    if not current.startswith("-") or walk.only_positionals:
        action = walk.positional()
        return Expected() if action is None else _values(action, current, "", walk.options)
    name, equals, value = current.partition("=")
    if equals:
        option = walk.parser._option_string_actions.get(name)
        takes = option is not None and option.nargs != 0
        return _values(option, value, f"{name}=", walk.options) if option and takes else Expected()
    return Expected(tuple(word for word in _options(walk.parser) if word[0].startswith(current)))


def _values(action: argparse.Action, current: str, prefix: str, options: argparse.Namespace) -> Expected:
    if isinstance(action, argparse._SubParsersAction):
        known = [(each.dest, each.help or "") for each in action._choices_actions]
    else:
        known = [(str(choice), "") for choice in action.choices or ()]
    words = tuple((prefix + word, text) for word, text in known if word.startswith(current))
    return Expected(words, "" if known else kind_of(action), prefix, options)


def _options(parser: argparse.ArgumentParser) -> list[Word]:
    """Return the options, the long names of each."""
    found = []
    for action in parser._actions:
        text = (action.help or "").partition(" (")[0].replace("%%", "%")
        names = [name for name in action.option_strings if name.startswith("--")] or action.option_strings
        found += [(name, text) for name in names]
    return found
