"""Where profiles are kept: $XDG_CONFIG_HOME/quorumlog/profiles.toml, readable by its owner alone.

What reading and writing them takes is loaded where it is done: every command asks whether there are any.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from quorumlog.command.profiles import Profiles


def profile_path() -> Path | None:
    """Return where the file is, or would be; None where there is no home directory."""
    home = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    try:
        return Path(home).expanduser() / "quorumlog" / "profiles.toml"
    except RuntimeError:  # no HOME, and no such user
        return None


def load_profiles() -> Profiles:
    """Return what is in the file; none where it is missing. Raises UnknownOption, OSError."""
    from quorumlog.client.errors import UnknownOption
    from quorumlog.command.profiles import Profiles, parse_profiles

    path = profile_path()
    if path is None:
        return Profiles()
    try:
        return parse_profiles(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return Profiles()
    except ValueError as error:  # TOML that is none, too
        raise UnknownOption(f"{path}: {error}", hint="correct the file, or delete it") from None


def save_profiles(profiles: Profiles) -> None:
    """Replace the file: a reader sees the old one or the new one, whole. Raises UnknownOption, OSError."""
    import tempfile

    from quorumlog.client.errors import UnknownOption
    from quorumlog.command.profiles import profiles_text

    path = profile_path()
    if path is None:
        raise UnknownOption("there is no home directory to keep profiles in: set XDG_CONFIG_HOME")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".profiles-")  # with mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(profiles_text(profiles).encode())
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
