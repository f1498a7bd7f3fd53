"""Clusters by name: the file, who goes before whom, and the commands."""

from __future__ import annotations

import stat
from argparse import Namespace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorumlog.client.errors import UnknownOption
from quorumlog.command.connecting import servers_of, settings_of
from quorumlog.command.main import main
from quorumlog.command.profile_file import load_profiles, profile_path, save_profiles
from quorumlog.command.profiles import Profile, Profiles, parse_profiles, profiles_text

texts = st.text(st.characters(exclude_categories=["Cs"]))
profiles = st.builds(Profile, *[st.none() | texts] * 4)
PROD = Profile("a:9650,b:9650", "/ca.pem", "/me.pem", "/me.key")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration directory that is not there yet, and no variables."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("SERVERS", "CA", "CERT", "CERT_KEY", "PROFILE"):
        monkeypatch.delenv(f"QUORUMLOG_{name}", raising=False)
    return tmp_path


@given(st.dictionaries(texts, profiles, max_size=3), texts)
def test_what_is_written_is_read(by_name: dict[str, Profile], in_use: str) -> None:
    written = Profiles(by_name, in_use)
    assert parse_profiles(profiles_text(written)) == written


def test_the_file_reads_as_documented() -> None:
    text = profiles_text(Profiles({"prod": PROD}, "prod"))
    assert text == (
        "# Kept by `quorumlog profile`; comments and order are not.\n"
        'use = "prod"\n\n[profile.prod]\nservers = "a:9650,b:9650"\n'
        'ca = "/ca.pem"\ncert = "/me.pem"\ncert_key = "/me.key"\n'
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", "got 'x'"),
        ("use = 1", "expected `use` to be a name"),
        ("profile = 1", "`profile` to hold tables"),
        ("profile.p = 1", "profile.p: expected a table"),
        ('profile.p.server = "a"', "profile.p: expected servers, ca, cert, cert_key; got 'server'"),
        ("profile.p.servers = 9650", "profile.p.servers: expected a text, got 9650"),
        ("[", "."),
    ],
)
def test_what_is_wrong_with_a_file_is_named(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_profiles(text)


def test_a_file_that_is_wrong_is_named_itself() -> None:
    profile_path().parent.mkdir(parents=True)
    profile_path().write_text("use = 1")
    with pytest.raises(UnknownOption, match=r"profiles\.toml: expected `use`"):
        load_profiles()


def test_the_file_is_its_owner_s_alone_and_replaced_whole() -> None:
    assert load_profiles() == Profiles()
    for name in ("one", "two"):
        save_profiles(load_profiles().with_one(name, PROD))
    assert load_profiles() == Profiles({"one": PROD, "two": PROD}, "one")
    assert stat.S_IMODE(profile_path().stat().st_mode) == 0o600
    assert [file.name for file in profile_path().parent.iterdir()] == ["profiles.toml"]


def test_flag_then_environment_then_profile_then_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert servers_of(Namespace()) == "localhost:9650"
    save_profiles(Profiles({"prod": PROD, "dev": Profile("dev:9650")}, "prod"))
    assert servers_of(Namespace()) == "a:9650,b:9650"
    assert servers_of(Namespace(profile="")) == "localhost:9650"
    assert servers_of(Namespace(profile="dev")) == "dev:9650"
    monkeypatch.setenv("QUORUMLOG_PROFILE", "dev")
    assert servers_of(Namespace()) == "dev:9650"
    assert servers_of(Namespace(profile="prod")) == "a:9650,b:9650"
    monkeypatch.setenv("QUORUMLOG_SERVERS", "env:9650")
    assert servers_of(Namespace()) == "env:9650"
    assert servers_of(Namespace(servers="flag:9650")) == "flag:9650"


def test_each_setting_says_where_it_comes_from(monkeypatch: pytest.MonkeyPatch) -> None:
    save_profiles(Profiles({"prod": PROD}, "prod"))
    monkeypatch.setenv("QUORUMLOG_CERT_KEY", "/other.key")
    settings = settings_of(Namespace(ca="/mine.pem"))
    sources = {option: setting.source for option, setting in settings.items() if setting is not None}
    assert sources == {
        "servers": "profile prod",
        "ca": "--ca",
        "cert": "profile prod",
        "cert-key": "QUORUMLOG_CERT_KEY",
    }


def test_a_profile_that_does_not_exist_names_the_nearest() -> None:
    save_profiles(Profiles({"prod": PROD}))
    with pytest.raises(UnknownOption, match=r"there is no profile 'pord'; did you mean prod\?"):
        servers_of(Namespace(profile="pord"))
    save_profiles(Profiles({"prod": PROD}, "gone"))
    with pytest.raises(UnknownOption, match="there is no profile 'gone'"):
        servers_of(Namespace())


def test_the_commands(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    assert main(["profile", "ls"]) == 0
    assert "there are no profiles" in capsys.readouterr().err
    assert main(["profile", "create", "prod", "-s", "a:1", "--ca", "ca.pem"]) == 0
    assert "prod: kept in" in capsys.readouterr().err
    assert load_profiles() == Profiles({"prod": Profile("a:1", str(home / "ca.pem"))}, "prod")
    assert main(["profile", "create", "dev", "-s", "b:1"]) == 0
    assert "use it: quorumlog profile use dev" in capsys.readouterr().err
    assert main(["profile", "use", "dev"]) == 0
    assert main(["profile", "show"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ["servers", "b:1", "profile", "dev"]
    assert main(["profile", "show", "prod"]) == 0
    assert "a:1" in capsys.readouterr().out
    assert main(["profile", "use", "--none"]) == 0
    assert load_profiles().in_use == ""
    assert main(["profile", "delete", "prod", "-y"]) == 0
    assert list(load_profiles().by_name) == ["dev"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("create", "x"),
        ("create", "x y", "-s", "a:1"),
        ("create", "x", "-s", "a:b:c"),
        ("create", "prod", "-s", "other:1"),
        ("use",),
        ("use", "prod", "--none"),
        ("use", "pord"),
        ("show", "pord"),
        ("delete", "pord", "-y"),
    ],
)
def test_a_wrong_call_changes_nothing(arguments: tuple[str, ...]) -> None:
    kept = Profiles({"prod": PROD}, "prod")
    save_profiles(kept)
    assert main(["profile", *arguments]) == 2
    assert load_profiles() == kept
