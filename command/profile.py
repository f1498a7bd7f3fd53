"""`quorumlog profile create | use | ls | show | delete`: clusters by name."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from quorumlog.command.confirming import add_confirmation, declined
from quorumlog.command.connecting import (
    CONNECTION_OPTIONS,
    DEFAULT_SERVERS,
    add_connection,
    add_output,
    profile_of,
    settings_of,
)
from quorumlog.command.output import note, print_structured, print_table
from quorumlog.command.parser import completed_with, examples
from quorumlog.command.profile_file import load_profiles, profile_path, save_profiles

if TYPE_CHECKING:
    from quorumlog.command.profiles import Profile

_GROUP = """\
Profiles name clusters, so that nobody has to type addresses and certificates. They are kept in
$XDG_CONFIG_HOME/quorumlog/profiles.toml (default: ~/.config). An option on the command line goes before its
environment variable, that before the profile, that before localhost:9650.
"""


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the group."""
    group = commands.add_parser("profile", help="clusters by name", description=_GROUP)
    verbs = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_create(verbs)
    _add_use(verbs)

    listing = _verb(verbs, "ls", "list profiles", aliases=["list"], example=("quorumlog profile ls",))
    add_output(listing)
    listing.set_defaults(run=_list)

    show = _verb(
        verbs,
        "show",
        "show a profile; without a name, what is in force and where it comes from",
        example=("quorumlog profile show", "quorumlog profile show prod"),
    )
    add_connection(show)
    add_output(show)
    completed_with("profiles", show.add_argument("name", metavar="NAME", nargs="?"))
    show.set_defaults(run=_show)

    delete = _verb(
        verbs, "delete", "delete a profile", aliases=["rm"], example=("quorumlog profile delete old -y",)
    )
    completed_with("profiles", delete.add_argument("name", metavar="NAME"))
    add_confirmation(delete)
    delete.set_defaults(run=_delete)


def _add_create(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    create = _verb(
        verbs,
        "create",
        "keep servers and certificates under a name; the first profile is in use at once",
        example=(
            "quorumlog profile create dev -s localhost:9650",
            "quorumlog profile create prod -s a:9650,b:9650 \\",
            "    --ca ca.pem --cert me.pem --cert-key me.key",
        ),
    )
    add_connection(create)
    create.add_argument("name", metavar="NAME")
    add_confirmation(create)
    create.set_defaults(run=_create)


def _add_use(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    use = _verb(
        verbs,
        "use",
        "use a profile from now on",
        example=("quorumlog profile use prod", "quorumlog profile use --none"),
    )
    completed_with("profiles", use.add_argument("name", metavar="NAME", nargs="?"))
    use.add_argument("--none", action="store_true", help="use none")
    use.set_defaults(run=_use)


def _verb(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    text: str,
    *,
    example: Sequence[str],
    aliases: list[str] | None = None,
) -> argparse.ArgumentParser:
    return verbs.add_parser(
        name,
        help=text,
        description=f"{text[0].upper()}{text[1:]}.",
        epilog=examples(*example),
        aliases=aliases or [],
    )


def _create(options: argparse.Namespace) -> int:
    from quorumlog.client.errors import UnknownOption

    profiles = load_profiles()
    profile = _given(options)
    if not profile.servers:
        raise UnknownOption("--servers: a profile needs to know whom to ask: -s HOST:PORT,...")
    changed = profiles.with_one(options.name, profile)
    if options.name in profiles.by_name and profiles.by_name[options.name] != profile:
        code = declined(options, f"replacing {options.name}", f"replace the profile {options.name}")
        if code is not None:
            return code
    save_profiles(changed)
    used = "in use" if changed.in_use == options.name else f"use it: quorumlog profile use {options.name}"
    note(f"{options.name}: kept in {profile_path()}; {used}")
    return 0


def _given(options: argparse.Namespace) -> Profile:
    """Return what the command line says; files by their whole path, since other directories will use it."""
    from quorumlog.client.endpoints import parse_servers
    from quorumlog.command.profiles import Profile

    found = {option: getattr(options, option.replace("-", "_"), None) for option in CONNECTION_OPTIONS}
    servers = found.pop("servers")
    if servers:
        parse_servers(servers)  # or it would be found out at the first use
    files = {
        option.replace("-", "_"): os.path.abspath(os.path.expanduser(file))
        for option, file in found.items()
        if file
    }
    return Profile(servers, **files)


def _use(options: argparse.Namespace) -> int:
    from quorumlog.client.errors import UnknownOption

    if bool(options.name) == options.none:
        raise UnknownOption("expected the name of a profile, or --none")
    profiles = load_profiles().using(options.name or "")
    save_profiles(profiles)
    note(f"{profiles.in_use}: in use" if profiles.in_use else "no profile is in use")
    return 0


def _list(options: argparse.Namespace) -> int:
    profiles = load_profiles()
    listed = [_described(name, profile, profiles.in_use) for name, profile in profiles.by_name.items()]
    if print_structured(listed, options):
        return 0
    if not listed:
        note("there are no profiles; make one: quorumlog profile create NAME -s HOST:PORT,...")
        return 0
    titles = ["", "NAME", "SERVERS", "TLS"]
    rows: list[list[object]] = [
        ["*" if each["in_use"] else "", each["name"], each["servers"], "yes" if each["ca"] else "no"]
        for each in listed
    ]
    if options.output == "wide":
        titles += ["CA", "CERT", "CERT KEY"]
        rows = [
            [*row, each["ca"], each["cert"], each["cert_key"]] for row, each in zip(rows, listed, strict=True)
        ]
    print_table(titles, rows)
    return 0


def _described(name: str, profile: Profile, in_use: str) -> dict[str, Any]:
    return {
        "name": name,
        "in_use": name == in_use,
        "servers": profile.servers,
        "ca": profile.ca,
        "cert": profile.cert,
        "cert_key": profile.cert_key,
    }


def _show(options: argparse.Namespace) -> int:
    if options.name is not None:
        profiles = load_profiles()
        described = _described(options.name, profiles.get(options.name), profiles.in_use)
        if not print_structured(described, options):
            print_table(("SETTING", "VALUE"), [(key, value) for key, value in described.items() if value])
        return 0
    settings = settings_of(options)
    found = {
        option.replace("-", "_"): {"value": setting.value, "source": setting.source}
        for option, setting in settings.items()
        if setting is not None
    }
    found.setdefault("servers", {"value": DEFAULT_SERVERS, "source": "default"})
    if not print_structured({"profile": profile_of(options)[0] or None, **found}, options):
        rows = [(key, found[key]["value"], found[key]["source"]) for key in sorted(found, key=_order)]
        print_table(("SETTING", "VALUE", "FROM"), rows)
    return 0


def _order(key: str) -> int:
    return CONNECTION_OPTIONS.index(key.replace("_", "-"))


def _delete(options: argparse.Namespace) -> int:
    profiles = load_profiles().without(options.name)
    code = declined(options, f"deleting {options.name}", f"delete the profile {options.name}")
    if code is not None:
        return code
    save_profiles(profiles)
    note(f"{options.name}: deleted")
    return 0
