"""What runs the pages: that it reads Markdown as meant, and would notice a page that is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.page_run import PageRun
from tests.docs.pages import blocks, indented_blocks
from tests.docs.printed import begins, matches
from tests.docs.shell import Command, Differs, Shell, commands
from tests.docs.translation import LocalCluster, to_nodes, to_run

LOCAL = """\
n1: clients 127.0.0.1:9650, peers 127.0.0.1:9651, pid 101, data var/n1, configuration var/n1.toml
n2: clients 127.0.0.1:9660, peers 127.0.0.1:9661, pid 102, data var/n2, configuration var/n2.toml
leader: n1 (term 1)
"""
OTHER_LOCAL = """\
n1: clients 127.0.0.1:1650, peers 127.0.0.1:1651, pid 901, data var/n1, configuration var/n1.toml
n2: clients 127.0.0.1:1660, peers 127.0.0.1:1661, pid 902, data var/n2, configuration var/n2.toml
leader: n2 (term 3)
"""


@pytest.fixture
def page(tmp_path: Path) -> Path:
    return tmp_path / "page.md"


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path / "run", {"PATH": "/usr/bin:/bin"})


# Markdown.


def test_blocks_have_a_language_a_line_and_what_stands_above(
    page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.docs.pages.TOP", page.parent)
    page.write_text(
        "# Title\n\n<!-- not run: too slow -->\n```sh\nmake\n```\n\n"
        "```{toctree}\nx\n```\n\n```text\na\n\nb\n```\n"
    )
    one, two = blocks(page)
    assert (one.language, one.text, one.kind, one.argument) == ("sh", "make\n", "not run", "too slow")
    assert one.where == "page.md:5"
    assert (two.language, two.text, two.kind) == ("text", "a\n\nb\n", "")


def test_a_block_without_a_fence_is_found_and_the_inside_of_a_list_is_none(page: Path) -> None:
    page.write_text("Text:\n\n    code\n    more\n\n- item\n\n    its text\n\n```sh\n\n    x\n```\n")
    assert indented_blocks(page) == [3]


def test_a_console_has_commands_with_their_output() -> None:
    one, two = commands("$ cat <<E\n> a\n> E\na\n$ true\n", 7, console=True)
    assert one == Command(7, "cat <<E\na\nE", "a")
    assert two == Command(11, "true", "")


# Comparing.


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("10 records in 0.04 s (74 records/s)", "10 records in 1.5 s (9,000 records/s)"),
        ("at 127.0.0.1:9650, pid 12", "at 127.0.0.1:40001, pid 34567"),
        ("made 2026-11-28 09:41:00", "made 2027-01-02 03:04:05"),
        ('{"timestamp_ms": 1764323700123}', '{"timestamp_ms": 1801234567890}'),
        ("3 voters: n1, n2, n3; leader n1", "3 voters: n3, n1, n2; leader n2"),
        ("n1  leader  127.0.0.1:1  1\nn2  follower  x", "n1 leader   127.0.0.1:2  7 \nn2  follower 9"),
        ("a\n...\nd", "a\nb\nc\nd"),
    ],
)
def test_what_differs_from_run_to_run_is_no_difference(shown: str, printed: str) -> None:
    assert matches(shown, printed)


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("10 records in 0.04 s", "11 records in 0.04 s"),
        ("one\ntwo", "two\none"),
        ("one", "one\ntwo"),
        ("one\ntwo", "one"),
        ("offset 3", "offset 4"),
        ("3 voters: n1, n2, n3", "3 voters: n1, n2, n4"),
        ("n1  leader  x", "n1  no answer  x"),
        ("a\n...\nd", "a\nb\nc"),
        ("", "something"),
    ],
)
def test_everything_else_is(shown: str, printed: str) -> None:
    assert not matches(shown, printed)


def test_a_command_that_goes_on_has_printed_what_is_shown_or_not_yet() -> None:
    assert begins("one\ntwo", "one\ntwo\nthree")
    assert not begins("one\ntwo", "one")


# Meaning.


def test_addresses_of_a_page_are_those_of_the_nodes() -> None:
    meant = to_nodes("127.0.0.1:1,127.0.0.1:2,127.0.0.1:3")
    assert meant("localhost:9650 127.0.0.1:9660 host3:9650") == "127.0.0.1:1 127.0.0.1:2 127.0.0.1:3"
    added = meant("127.0.0.1:9690")
    assert added == meant("127.0.0.1:9690") != "127.0.0.1:9690"
    assert meant("10.0.0.1:9650 n1 localhost:1") == "10.0.0.1:9650 n1 localhost:1"


def test_names_are_swapped_so_that_the_leader_of_the_page_leads() -> None:
    meant = to_run(LocalCluster.of(LOCAL), LocalCluster.of(OTHER_LOCAL))
    assert meant("kill 101 # n1") == "kill 902 # n2"
    assert meant("serve var/n2.toml at 127.0.0.1:9660") == "serve var/n1.toml at 127.0.0.1:1650"
    assert meant("102 records of n3") == "102 records of n3"


# Running.


def test_a_command_exports_for_those_after_it_and_fails_where_the_page_says_nothing(shell: Shell) -> None:
    shell.run(Command(1, "export DRINK=espresso", None), "page:1")
    shell.run(Command(2, 'echo "one $DRINK"', "one espresso"), "page:2")
    with pytest.raises(Differs, match=r"(?s)page:3.*exit code 1"):
        shell.run(Command(3, "false | cat", None), "page:3")
    with pytest.raises(Differs, match="two teas"):
        shell.run(Command(4, "echo one espresso", "two teas"), "page:4")


def test_what_stays_in_the_background_ends_with_the_shell(shell: Shell) -> None:
    with shell:
        shell.follow(Command(1, "echo ready; exec sleep 600", "ready"), "page:1", stay=True)
        process, _ = shell._background[0]
        assert process.poll() is None
    assert process.poll() is not None


def test_a_command_that_ends_too_early_is_told(shell: Shell) -> None:
    with shell, pytest.raises(Differs, match="never"):
        shell.follow(Command(1, "echo something else", "never"), "page:1", stay=True)


def test_a_page_whose_output_is_wrong_fails(
    page: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.docs.pages.TOP", page.parent)
    page.write_text(
        "<!-- file: drink.txt -->\n```text\nespresso\n```\n\n```console\n$ cat drink.txt\nespresso\n```\n"
    )
    PageRun(page, shell).all_blocks()
    page.write_text(page.read_text().replace("txt\nespresso", "txt\ntea"))
    with pytest.raises(Differs, match=r"page.md:7"):
        PageRun(page, shell).all_blocks()
