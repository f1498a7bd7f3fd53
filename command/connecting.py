"""How commands reach the cluster: flag, then environment, then profile, then localhost:9650.

Every option has its variable: --servers is QUORUMLOG_SERVERS, --cert-key is QUORUMLOG_CERT_KEY. The profile
is that of --profile, else of QUORUMLOG_PROFILE, else the one in use (profile.py). With --ca, --cert and
--cert-key they speak TLS, else plain text.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from quorumlog.command.output import note
from quorumlog.command.parser import COMMON_OPTIONS, completed_with
from quorumlog.command.profile_file import profile_path

if TYPE_CHECKING:
    from quorumlog.client.aio import AsyncClient
    from quorumlog.client.errors import UnknownOption
    from quorumlog.client.tls import Tls
    from quorumlog.command.profiles import Profile

DEFAULT_SERVERS = "localhost:9650"
_TLS_FILES = {
    "ca": "the authority to believe; TLS is spoken with these three, else plain text",
    "cert": "the certificate to show",
    "cert-key": "its private key",
}
CONNECTION_OPTIONS = ("servers", *_TLS_FILES)

CONNECT_TIMEOUT_MS = 3_000  # somebody sits and waits
REQUEST_TIMEOUT_MS = 10_000  # an election or two


@dataclass(frozen=True, slots=True)
class Setting:
    """A connection option in force, and where it comes from: "--ca", "QUORUMLOG_CA", "profile prod"."""

    value: str
    source: str


def add_connection(parser: argparse.ArgumentParser) -> None:
    """Add the options; SUPPRESS lets them stand before and behind the command's name."""
    group = parser.add_argument_group(
        COMMON_OPTIONS, "--servers is also $QUORUMLOG_SERVERS, --cert-key $QUORUMLOG_CERT_KEY, and so on."
    )
    group.add_argument(
        "-s",
        "--servers",
        "--bootstrap-servers",
        metavar="HOST:PORT,...",
        default=argparse.SUPPRESS,
        help=f"nodes to ask first (default: the profile's, else {DEFAULT_SERVERS})",
    )
    for option, what in _TLS_FILES.items():
        group.add_argument(f"--{option}", metavar="FILE", default=argparse.SUPPRESS, help=what)
    profile = group.add_argument(
        "--profile",
        metavar="NAME",
        default=argparse.SUPPRESS,
        help="see `quorumlog profile` (default: the one in use)",
    )
    completed_with("profiles", profile)
    add_verbosity(group)


def add_verbosity(group: argparse._ActionsContainer) -> None:
    """Add -q, -v and --no-progress to a parser or a group of it."""
    group.add_argument(
        "-q",
        "--quiet",
        action="store_true",
        default=argparse.SUPPRESS,
        help="results and errors only, no hints",
    )
    group.add_argument(
        "-v",
        "--verbose",
        action="store_true",
        default=argparse.SUPPRESS,
        help="log what the client does, to stderr",
    )
    group.add_argument(
        "--no-progress",
        action="store_true",
        default=argparse.SUPPRESS,
        help="no progress bar",
    )


def add_consistency(parser: argparse.ArgumentParser) -> None:
    """Add --consistency; the words are consumer.CONSISTENCIES."""
    parser.add_argument(
        "--consistency",
        choices=("session", "committed", "linearizable"),
        default="session",
        help="linearizable: all that was acknowledged before, confirmed by a majority; committed: whatever "
        "the asked node has (default: session: this client's own writes)",
    )


def add_output(parser: argparse.ArgumentParser) -> None:
    """Add -o text|wide|json|yaml. output.print_structured() does the last two."""
    parser.add_argument(
        "-o",
        "--output",
        choices=("text", "wide", "json", "yaml"),
        default="text",
        help="wide: as text, with more columns (default: text)",
    )


def settings_of(options: argparse.Namespace) -> dict[str, Setting | None]:
    """Return each connection option and where it comes from. Raises UnknownOption."""
    name, profile = profile_of(options)
    return {option: _setting(options, option, name, profile) for option in CONNECTION_OPTIONS}


def profile_of(options: argparse.Namespace) -> tuple[str, Profile | None]:
    """Return the name of the profile and what is in it; "" and None without. Raises UnknownOption."""
    flag: str | None = getattr(options, "profile", None)
    name = flag if flag is not None else os.environ.get(variable("profile"), "")
    path = profile_path()
    if flag == "" or not (name or (path is not None and path.exists())):
        return "", None

    from quorumlog.command.profile_file import load_profiles

    profiles = load_profiles()
    if not name and profiles.in_use and profiles.in_use not in profiles.by_name:
        raise _in_use_is_gone(profiles.in_use)
    name = name or profiles.in_use
    return name, profiles.get(name) if name else None


def _in_use_is_gone(name: str) -> UnknownOption:
    from quorumlog.client.errors import UnknownOption

    return UnknownOption(
        f"there is no profile {name!r}, which `use` in {profile_path()} names",
        hint="use none: quorumlog profile use --none; see what there is: quorumlog profile ls",
    )


def servers_of(options: argparse.Namespace) -> str:
    """Return whom to ask: flag, environment, profile, default. Raises UnknownOption."""
    setting = settings_of(options)["servers"]
    return DEFAULT_SERVERS if setting is None else setting.value


def tls_of(options: argparse.Namespace) -> Tls | None:
    """Return what to show; None: speak plain text. Raises UnknownOption unless all or none is given."""
    settings = settings_of(options)
    given = {option: settings[option] for option in _TLS_FILES}
    if not any(given.values()):
        return None

    from quorumlog.client.errors import UnknownOption
    from quorumlog.client.tls import Tls

    files = []
    for option, setting in given.items():
        if setting is None:
            raise UnknownOption(
                f"--{option}: must be given too (or {variable(option)}): TLS needs all three files"
            )
        files.append(setting.value)
    return Tls(*files)


def client_of(options: argparse.Namespace, **settings: Any) -> AsyncClient:
    """Return a client that is not connected yet."""
    from quorumlog.client.aio import AsyncClient

    settings = {
        "request_timeout_ms": REQUEST_TIMEOUT_MS,
        "connect_timeout_ms": CONNECT_TIMEOUT_MS,
        **settings,
    }
    _tell_of_variables_before_a_profile(options)
    return AsyncClient(
        servers_of(options),
        client_id="quorumlog-cli",
        tls=tls_of(options),
        require_leader=False,  # each command says itself what it cannot do without one
        **settings,
    )


def variable(option: str) -> str:
    """Return the environment variable of an option."""
    return f"QUORUMLOG_{option.upper().replace('-', '_')}"


def run(coroutine: Coroutine[Any, Any, int]) -> int:
    """Run a command to its exit code, on uvloop where there is one."""
    import asyncio

    try:
        from uvloop import new_event_loop
    except ImportError:
        new_event_loop = asyncio.new_event_loop  # type: ignore[assignment]
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            return runner.run(coroutine)
    finally:
        coroutine.close()  # which does nothing, unless Ctrl-C came before it ran


def _setting(
    options: argparse.Namespace, option: str, profile_name: str, profile: Profile | None
) -> Setting | None:
    attribute = option.replace("-", "_")
    if flag := getattr(options, attribute, None):
        return Setting(flag, f"--{option}")
    if value := os.environ.get(variable(option)):
        return Setting(value, variable(option))
    stored = getattr(profile, attribute, None)
    return Setting(stored, f"profile {profile_name}") if stored else None


def _tell_of_variables_before_a_profile(options: argparse.Namespace) -> None:
    """Who names a profile on the command line may not know that the environment goes before it."""
    if getattr(options, "profile", None):
        before = [setting.source for setting in settings_of(options).values() if setting is not None]
        for name in (source for source in before if source.startswith("QUORUMLOG_")):
            note(f"note: {name} is set, and goes before what profile {options.profile} has")
