"""Numbers beyond what is possible, and readers that leave: told at once, no traceback, nothing hangs."""

from __future__ import annotations

import asyncio
import os
from argparse import Namespace
from pathlib import Path

import pytest

from quorumlog.client.aio import AsyncClient
from quorumlog.client.errors import InvalidRequest, UnknownOption
from quorumlog.command import main as main_module
from quorumlog.command.connecting import profile_of
from quorumlog.command.input_format import InputFormat
from quorumlog.command.profile_file import load_profiles, save_profiles
from quorumlog.command.profiles import Profiles
from tests.command.test_main import COMMAND, run, start, told
from tests.support.fake_node import FakeCluster
from tests.support.waiting import UNIT_S

HUGE = 10**23


async def test_a_line_whose_time_is_too_large_is_named_and_the_others_sent(cluster: FakeCluster) -> None:
    lines = f"{HUGE} a\n17 b\n".encode()
    produced = await run(cluster, "produce", "one", "-f", "%T %v", stdin=lines)
    assert produced.code == 1
    assert f"line 1: skipped: %T: expected at most 4611686018427387903, got {HUGE}" in produced.err
    assert "1 record acknowledged" in produced.err


def test_a_number_of_thousands_of_digits_is_no_number() -> None:
    with pytest.raises(ValueError, match="%T: expected at most"):
        InputFormat("%T %v").parse(b"9" * 10_000 + b" v")
    assert InputFormat("%T %v").parse(b"0017 v").timestamp_ms == 17


async def test_the_library_refuses_a_time_that_no_batch_can_hold(cluster: FakeCluster) -> None:
    servers = ",".join(node.address for node in cluster.nodes.values())
    async with AsyncClient(servers) as client, client.producer() as producer:
        for stamp in (HUGE, -HUGE, 1 << 62):
            with pytest.raises(InvalidRequest, match="timestamp_ms: expected "):
                await producer.send("one", b"v", timestamp_ms=stamp)
            with pytest.raises(InvalidRequest, match="timestamp_ms: expected "):
                await producer.send_many("one", [b"v"], timestamp_ms=stamp)
        first = producer.submit("one", b"v", timestamp_ms=-(1 << 62))
        second = producer.submit("one", b"v", timestamp_ms=(1 << 62) - 1)
        for delivery in (await first, await second):
            await delivery


async def test_a_reader_of_acknowledgements_that_leaves_ends_it(cluster: FakeCluster) -> None:
    process = await start(cluster, "produce", "one", "-k", "x", "-o", "wide")
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"line\n" * 50_000)
    process.stdin.close()
    async with asyncio.timeout(30 * UNIT_S):
        await process.stdout.readline()
        process.stdout._transport.close()  # type: ignore[attr-defined]
        assert await process.wait() == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("produce", "b", "-T", str(HUGE)),
        ("produce", "b", "--delivery-timeout", "nan"),
        ("produce", "b", "--delivery-timeout", "inf"),
        ("produce", "b", "--delivery-timeout=-1"),
        ("topic", "create", "x", "-p", "-1"),
        ("topic", "create", "x", "-p", "99999999999999"),
        ("cluster", "add", "n4", "a:1", "--timeout", "nan"),
        ("verify", "--rate", "nan"),
        ("verify", "--rate", "inf"),
    ],
)
def test_a_number_out_of_range_is_a_usage_error(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert "expected " in told(arguments, capsys)


async def shell(line: str) -> tuple[int, str]:
    """Run a shell's line with $Q as the command: return the exit code and what stands on stderr."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("QUORUMLOG_")}
    environment |= {"XDG_CONFIG_HOME": "/nonexistent", "Q": " ".join(COMMAND)}
    process = await asyncio.create_subprocess_exec(
        "/bin/sh", "-c", line, stderr=asyncio.subprocess.PIPE, env=environment
    )
    async with asyncio.timeout(30 * UNIT_S):
        _, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, err.decode()


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        ("$Q topic delete zz <&-", 2, "needs --yes"),
        ("$Q version >&-", 0, ""),
        ("$Q version <&- >&- 2>&-", 0, ""),
        ("$Q -s 127.0.0.1:1 topic ls <&- >&-", 1, "error: "),
        ("$Q __complete", 0, ""),
        ("$Q __complete bash", 0, ""),
        (
            r"""$Q produce b -H "$(printf '\377'):v" -s 127.0.0.1:1 </dev/null""",
            2,
            "error: expected text in UTF-8",
        ),
        ("$Q consume b -o @2025-01-31:99999999d", 2, "is beyond the year 9999"),
    ],
)
async def test_what_a_shell_can_do_wrong_gives_no_traceback(line: str, code: int, message: str) -> None:
    ended, err = await shell(line)
    assert "Traceback" not in err
    assert ended == code, err
    assert message in err


def test_a_command_that_is_interrupted_before_it_runs_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(main_module, "build_parser", interrupted)
    assert main_module.main(["topic", "ls"]) == 130


def test_without_a_home_there_are_no_profiles(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", homeless)
    assert load_profiles() == Profiles()
    with pytest.raises(UnknownOption, match="set XDG_CONFIG_HOME"):
        save_profiles(Profiles())


def test_a_profile_in_use_that_is_gone_is_told_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("QUORUMLOG_PROFILE", raising=False)
    save_profiles(Profiles({}, "gone"))
    with pytest.raises(UnknownOption, match=r"'gone', which `use` in .* names") as told_so:
        profile_of(Namespace())
    assert "quorumlog profile use --none" in str(told_so.value.hint)
