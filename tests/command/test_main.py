"""The command as a user meets it: what stands on stdout, what on stderr, and the exit code."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
import yaml

from quorumlog.command.local_nodes import free_ports
from quorumlog.command.main import main
from quorumlog.proto.entry_pb2 import Member
from tests.support.fake_node import FakeCluster, Refused
from tests.support.waiting import UNIT_S

COMMAND = [sys.executable, "-m", "quorumlog.command.main"]


@dataclass
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> list[object]:
        """The lines of stdout, each JSON."""
        return [json.loads(line) for line in self.out.splitlines()]


async def start(cluster: FakeCluster | None, *arguments: str) -> asyncio.subprocess.Process:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("QUORUMLOG_")}
    environment["XDG_CONFIG_HOME"] = "/nonexistent"  # whose machine it is shall not matter
    if cluster is not None:
        environment["QUORUMLOG_SERVERS"] = ",".join(node.address for node in cluster.nodes.values())
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        *COMMAND, *arguments, stdin=pipe, stdout=pipe, stderr=pipe, env=environment
    )


async def run(cluster: FakeCluster | None, *arguments: str, stdin: bytes = b"") -> Done:
    process = await start(cluster, *arguments)
    async with asyncio.timeout(30 * UNIT_S):
        out, err = await process.communicate(stdin)
    assert process.returncode is not None
    return Done(process.returncode, out.decode(), err.decode())


def told(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> str:
    """Call the command wrongly, in this process: return what stands on stderr."""
    try:
        code: object = main(arguments)
    except SystemExit as ended:
        code = ended.code
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    return err


async def test_topics(cluster: FakeCluster) -> None:
    assert (await run(cluster, "topic", "create", "new", "-p", "2")).out == "new: 2 partitions\n"
    again = await run(cluster, "topic", "create", "new")
    assert (again.code, again.out) == (1, "")
    assert again.err.startswith("error: ")
    assert (await run(cluster, "topic", "create", "new", "--if-not-exists")).code == 0
    listed = (await run(cluster, "topic", "ls")).out.splitlines()
    assert [line.split()[0] for line in listed] == ["TOPIC", "new", "one", "t"]
    ((new, *_),) = (await run(cluster, "topic", "ls", "-o", "json")).json
    assert (new["name"], len(new["partitions"])) == ("new", 2)
    described = (await run(cluster, "topic", "describe", "new")).out.splitlines()
    assert described[1].split() == ["new", "0", "0", "0", "0"]
    asked = await run(cluster, "topic", "delete", "new")
    assert asked.code == 2
    assert "--yes" in asked.err
    assert (await run(cluster, "topic", "delete", "-y", "new")).code == 0
    missing = await run(cluster, "topic", "describe", "new")
    assert missing.code == 1
    assert "hint: create it: quorumlog topic create new" in missing.err


async def test_lines_go_in_and_come_out(cluster: FakeCluster) -> None:
    lines = b"first\n\n\xff\xfe\nlast"
    produced = await run(cluster, "produce", "one", stdin=lines)
    assert (produced.code, produced.out) == (0, "")
    assert "4 records acknowledged" in produced.err
    process = await start(cluster, "consume", "one", "-e")
    assert (await process.communicate())[0] == lines + b"\n"
    assert process.returncode == 0


async def test_keys_headers_and_acknowledgements(cluster: FakeCluster) -> None:
    produced = await run(
        cluster, "produce", "one", "-K", "=", "-H", "h:v", "-Z", "-o", "json", stdin=b"k=v\nplain\nk="
    )
    assert [(ack["topic"], ack["offset"]) for ack in produced.json] == [("one", 0), ("one", 1), ("one", 2)]
    records = (await run(cluster, "consume", "one", "-e", "-J")).json
    assert [(record["key"], record["value"]) for record in records] == [
        ("k", "v"),
        (None, "plain"),
        ("k", None),
    ]
    assert records[0]["headers"] == [{"name": "h", "value": "v"}]


async def test_bytes_that_are_no_text_are_base64_in_json(cluster: FakeCluster) -> None:
    await run(cluster, "produce", "one", "-k", "k", stdin=b"\xff\xfe\n")
    (record,) = (await run(cluster, "consume", "one", "-e", "-J")).json
    assert record["value_base64"] == "//4="
    assert "value" not in record


async def test_where_to_start_and_when_to_stop(cluster: FakeCluster) -> None:
    await run(cluster, "produce", "one", stdin=b"".join(b"%d\n" % number for number in range(10)))
    for arguments, expected in [
        (("-o", "7", "-e"), ["7", "8", "9"]),
        (("-o", "-2", "-e"), ["8", "9"]),
        (("-o", "start", "-n", "2"), ["0", "1"]),
        (("-o", "end", "-e"), []),
        (("-o", "@2000-01-01", "-n", "1"), ["0"]),
        (("--from", "n3", "-n", "1"), ["0"]),
        (("-o", "end", "--timeout-ms", "10"), []),
        (("-n", "0"), []),
        (("-o", "2:4"), ["2", "3"]),
        (("-o", "+8:end"), ["8", "9"]),
        (("-o", ":end", "-e", "--max-messages", "1"), ["0"]),
        (("-o", "@2000-01-01:end"), [str(number) for number in range(10)]),
        (("-r", "-n", "2"), ["9", "8"]),
        (("-r", "-o", "3:5"), ["4", "3"]),
    ]:
        assert (await run(cluster, "consume", "one", *arguments)).out.split() == expected, arguments


async def test_a_line_that_is_too_long_is_told_and_left_out(cluster: FakeCluster) -> None:
    produced = await run(cluster, "produce", "one", stdin=b"a\n" + b"x" * (1 << 21) + b"\nb\n")
    assert produced.code == 1
    assert "line 2: skipped: 2097152 bytes, more than the 1048576" in produced.err
    assert (await run(cluster, "consume", "one", "-e")).out == "a\nb\n"


async def test_following_prints_at_once_and_ctrl_c_ends_it(cluster: FakeCluster) -> None:
    consuming = await start(cluster, "consume", "one")
    producing = await start(cluster, "produce", "one")
    assert producing.stdin is not None
    assert consuming.stdout is not None
    for line in (b"one\n", b"two\n"):
        producing.stdin.write(line)
        async with asyncio.timeout(20 * UNIT_S):
            assert await consuming.stdout.readline() == line
    for process in (consuming, producing):
        process.send_signal(signal.SIGINT)
        _, err = await process.communicate()
        assert process.returncode == 130
        assert b"Traceback" not in err
    assert b"2 records acknowledged" in err


async def test_records_are_printed_as_a_template_says(cluster: FakeCluster) -> None:
    await run(cluster, "produce", "one", "-f", r"%k=%v|%T|%h\n", stdin=b"k=v|17|a=1,b=2\n=|18|\n")
    printed = await run(cluster, "consume", "one", "-e", "-f", r"%t/%p@%o %k=%v %K %V %T %h%h{<%k>}\n")
    assert printed.out == "one/0@0 k=v 1 1 17 a=1,b=2<a><b>\none/0@1 = 0 0 18 \n"
    described = (await run(cluster, "consume", "one", "-n", "1", "--meta-only")).json[0]
    assert isinstance(described, dict)
    assert described["value_size"] == 1
    assert "value" not in described


async def test_a_letter_that_does_not_exist_is_told_with_those_that_do(cluster: FakeCluster) -> None:
    done = await run(cluster, "consume", "one", "-f", "%t %x")
    assert done.err.startswith(
        "error: --format: there is no %x; valid are %t topic, %p partition, %o offset, "
    )


async def test_tail_prints_the_last_ten_and_follows(cluster: FakeCluster) -> None:
    await run(cluster, "produce", "one", stdin=b"".join(b"%d\n" % number for number in range(20)))
    assert (await run(cluster, "tail", "one", "-e")).out.split() == [str(number) for number in range(10, 20)]
    assert (await run(cluster, "tail", "one", "-e", "-n", "2")).out.split() == ["18", "19"]
    assert (await run(cluster, "tail", "one", "-e", "-n", "0")).out == ""
    tailing = await start(cluster, "tail", "one", "-n", "1")
    assert tailing.stdout is not None
    async with asyncio.timeout(20 * UNIT_S):
        assert await tailing.stdout.readline() == b"19\n"
        await run(cluster, "produce", "one", stdin=b"new\n")
        assert await tailing.stdout.readline() == b"new\n"
    tailing.send_signal(signal.SIGINT)
    assert (await tailing.communicate())[1] == b""
    assert tailing.returncode == 130


async def test_a_topic_that_does_not_exist_is_told_with_what_to_do(cluster: FakeCluster) -> None:
    for command in ("consume", "tail", "produce"):
        done = await run(cluster, command, "nope")
        assert (done.code, done.out) == (1, "")
        assert done.err.startswith("error: ")
        assert "hint: create it: quorumlog topic create nope" in done.err


async def test_lines_that_do_not_fit_are_named_and_the_others_sent(cluster: FakeCluster) -> None:
    lines = b"0 k a\nnonsense\n x b\n9 k c\n2 k d"
    produced = await run(cluster, "produce", "t", "-f", "%p %k %v", stdin=lines)
    assert produced.code == 1
    assert "line 2: skipped: does not look like '%p %k %v'" in produced.err
    assert "line 4: skipped: t has partitions 0 to 2, got 9" in produced.err
    assert "3 records acknowledged" in produced.err
    assert "2 skipped" in produced.err
    records = (await run(cluster, "consume", "t", "-e", "-f", r"%p %v\n")).out.splitlines()
    assert {"0 a", "2 d"} <= set(records)
    assert len(records) == 3


async def test_what_was_not_delivered_is_told(cluster: FakeCluster) -> None:
    process = await start(cluster, "produce", "one", "--delivery-timeout", "1", "-q", "-k", "key")
    assert process.stdin is not None
    assert process.stdout is not None
    cluster.leader = None
    async with asyncio.timeout(30 * UNIT_S):
        out, err = await process.communicate(b"a\nb\n")
    assert (process.returncode, out) == (1, b"")
    assert b"surely not appended" in err
    assert b"0 records acknowledged" in err
    assert b"2 not acknowledged" in err


async def test_after_a_failure_the_rest_of_the_input_is_left_alone(cluster: FakeCluster) -> None:
    process = await start(cluster, "produce", "one", "--delivery-timeout", "1")
    assert process.stdin is not None
    assert process.stderr is not None
    cluster.leader = None
    process.stdin.write(b"lost\nsec")
    async with asyncio.timeout(30 * UNIT_S):
        assert b"surely not appended" in await process.stderr.readline()
        cluster.leader = "n1"
        _, err = await process.communicate(b"ond\nhalf a li")
    assert process.returncode == 1
    assert b"1 not acknowledged; stopped behind line 2" in err
    assert (await run(cluster, "consume", "one", "-e")).out == "second\n"


async def test_acknowledgements_in_every_form(cluster: FakeCluster) -> None:
    as_yaml = await run(cluster, "produce", "one", "-o", "yaml", stdin=b"a\nb\n")
    assert [ack["offset"] for ack in yaml.safe_load_all(as_yaml.out)] == [0, 1]
    wide = await run(cluster, "produce", "one", "-o", "wide", stdin=b"c\n")
    assert wide.out == "one/0 offset 2\n"


async def test_quiet_says_only_what_is_wrong(cluster: FakeCluster) -> None:
    good = await run(cluster, "-q", "produce", "one", stdin=b"a\n")
    assert (good.code, good.err) == (0, "")
    bad = await run(cluster, "produce", "one", "-q", "-f", "%k=%v", stdin=b"a\nk=b\n")
    assert bad.code == 1
    assert bad.err.splitlines()[0] == "line 1: skipped: does not look like '%k=%v'"
    assert "1 record acknowledged" in bad.err
    unknown = await run(cluster, "-q", "topic", "describe", "nope")
    assert unknown.err.startswith("error: ")
    assert "hint" not in unknown.err


async def test_verbose_logs_to_stderr(cluster: FakeCluster) -> None:
    done = await run(cluster, "topic", "ls", "-v", "-o", "json")
    assert len(done.json) == 1
    assert "quorumlog.client: " in done.err
    assert "answered ListTopics" in done.err


async def test_wide_has_more_columns(cluster: FakeCluster) -> None:
    await run(cluster, "produce", "one", stdin=b"a\nb\n")
    listed = (await run(cluster, "topic", "ls", "-o", "wide")).out.splitlines()
    assert listed[0].endswith("TOPIC ID  OFFSETS")
    assert listed[1].endswith("  0:2")
    described = (await run(cluster, "topic", "describe", "one", "-o", "wide")).out.splitlines()
    assert described[0].endswith("RECORDS  TOPIC ID  CREATED")
    members = (await run(cluster, "cluster", "members", "-o", "wide")).out.splitlines()
    assert "CLIENT ADDRESS" in members[0]
    assert cluster.nodes["n1"].address in members[1]


async def test_what_is_deleted_in_a_row_is_a_stream_of_documents(cluster: FakeCluster) -> None:
    deleted = await run(cluster, "topic", "delete", "one", "t", "--force", "-o", "yaml")
    assert list(yaml.safe_load_all(deleted.out)) == [{"deleted": "one"}, {"deleted": "t"}]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("consme", "one"), "there is no command 'consme'; did you mean consume?"),
        (("topic",), "error: expected a command: create, ls, describe, delete\n"),
        (("topic", "lss"), "there is no command 'lss'; did you mean ls?"),
        (("consume", "one", "--fomat", "json"), "there is no option --fomat; did you mean --format?"),
        (
            ("topic", "ls", "-o", "jsno"),
            "expected one of text, wide, json, yaml; got 'jsno'; did you mean json?",
        ),
        (("consume", "one", "-g", "g"), "there is no option -g: there are no consumer groups yet"),
        (("consume", "one", "--bootstrap-server", "a:1"), "--bootstrap-server: it is -s here"),
        (("topic", "ls", "more"), "one argument too many: 'more'"),
        (("consume", "one", "-o", "-1h"), "--offset: -1h ago is @-1h"),
        (("tail", "-f", "one"), "(following needs no option)"),
    ],
)
def test_the_nearest_valid_word_is_named(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in told(arguments, capsys)


async def test_a_reader_that_leaves_is_no_failure(cluster: FakeCluster) -> None:
    await run(cluster, "produce", "one", stdin=b"line\n" * 100_000)
    process = await start(cluster, "consume", "one", "-e")
    assert process.stdout is not None
    await process.stdout.readline()
    process.stdout._transport.close()  # type: ignore[attr-defined]
    assert process.stderr is not None
    assert await process.stderr.read() == b""
    assert await process.wait() == 0


async def test_the_state_of_the_cluster(cluster: FakeCluster) -> None:
    table = (await run(cluster, "cluster", "status")).out
    assert [line.split()[:2] for line in table.splitlines()[1:4]] == [
        ["n1", "leader"],
        ["n2", "follower"],
        ["n3", "follower"],
    ]
    assert "leader n1, term 1, sync always, 3 of 3 nodes answer" in table
    assert "\x1b" not in table, "no colours where nobody looks"
    wide = (await run(cluster, "cluster", "status", "-o", "wide")).out
    assert len(wide.splitlines()[0].split()) > len(table.splitlines()[0].split())
    (status,) = (await run(cluster, "cluster", "status", "-o", "json")).json
    assert status["leader_id"] == "n1"


async def test_the_state_of_a_cluster_without_a_leader_is_a_failure(cluster: FakeCluster) -> None:
    await cluster.nodes["n3"].stop()
    cluster.leader = None
    done = await run(cluster, "cluster", "status")
    assert done.code == 1
    assert done.out.splitlines()[3].split() == ["n3", "no", "answer", cluster.nodes["n3"].address]
    assert "leader none, term 1" in done.out
    assert "hint: no leader" in done.err
    assert (await run(cluster, "cluster", "status", "-o", "json")).code == 1


async def test_members_and_leadership(cluster: FakeCluster) -> None:
    table = (await run(cluster, "cluster", "members")).out.splitlines()
    assert table[0].split() == ["NODE", "KIND", "PEER", "ADDRESS", "STATE", "LAG"]
    assert table[1].split() == ["n1", "voter", "n1:9651", "leader"]
    assert table[-1] == "3 voters: n1, n2, n3; leader n1"
    added = await run(cluster, "cluster", "add", "n4", "n4:9651")
    assert (added.code, added.out) == (0, "n4: full member; 4 voters: n1, n2, n3, n4\n")
    asked = await run(cluster, "cluster", "remove", "n4")
    assert (asked.code, asked.out) == (2, "")
    assert "removing n4 needs --yes" in asked.err
    removed = await run(cluster, "cluster", "remove", "n4", "--yes", "-o", "json")
    assert [[member["node_id"] for member in members] for members in removed.json] == [["n1", "n2", "n3"]]  # type: ignore[attr-defined]
    assert "delete its data directory before it is added again" in removed.err
    again = await run(cluster, "cluster", "remove", "n4", "--yes")
    assert again.code == 1
    assert "hint: see who takes part: quorumlog cluster members" in again.err
    assert (await run(cluster, "cluster", "transfer", "n3")).out == "n3 leads\n"
    assert (await run(cluster, "cluster", "transfer")).out == "n2 leads\n"


async def test_whether_a_node_can_be_stopped_is_the_exit_code(cluster: FakeCluster) -> None:
    safe = await run(cluster, "cluster", "check-stop", "n1")
    assert (safe.code, safe.out) == (0, "n1: safe to stop: 2 of 3 keep up\n")
    unsafe = await run(cluster, "cluster", "check-stop", "n3", "-o", "json")
    assert (unsafe.code, unsafe.json) == (1, [{"node_id": "n3", "safe": False, "reason": "1 keeps up"}])
    cluster.leader = None
    nobody = await run(cluster, "cluster", "check-stop", "n1")
    assert (nobody.code, nobody.out) == (1, "")


async def test_adding_shows_how_far_the_learner_is(cluster: FakeCluster) -> None:
    cluster.members["n4"] = Member(node_id="n4", peer_address="n4:9651", learner=True)
    unknown = Refused("OUTCOME_UNKNOWN", grpc.StatusCode.DEADLINE_EXCEEDED)
    cluster.nodes["n1"].change_faults.extend([unknown] * 1000)
    waiting = await run(cluster, "cluster", "add", "n4", "n4:9651", "--timeout", "2")
    assert (waiting.code, waiting.out) == (1, "")
    assert waiting.err.count("n4: learner, not reached by the leader at n4:9651: does it run?") == 1
    assert "hint: n4 is made a full member as soon as it runs and has caught up" in waiting.err


async def test_reads_may_ask_for_a_majority_s_word(cluster: FakeCluster) -> None:
    await run(cluster, "produce", "one", stdin=b"line\n")
    for node in cluster.nodes.values():
        node.replays = True
    linearizable = ("--consistency", "linearizable")
    assert (await run(cluster, "topic", "describe", "one")).code == 1
    assert (await run(cluster, "topic", "describe", "one", *linearizable)).code == 0
    assert (await run(cluster, "consume", "one", "-e", *linearizable)).out == "line\n"


async def test_nobody_there_is_told_with_the_cause_and_a_hint() -> None:
    (port,) = free_ports(1)
    done = await run(None, "-s", f"127.0.0.1:{port}", "topic", "ls")
    assert (done.code, done.out) == (1, "")
    assert f"tried 127.0.0.1:{port}: connection refused" in done.err
    assert "hint: check that the nodes run" in done.err
    health = await run(None, "health", "-s", f"127.0.0.1:{port}")
    assert health.code == 1


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("nonsense",),
        ("topic",),
        ("consume",),
        ("consume", "one", "-o", "nowhere"),
        ("produce", "one", "-H", "no-colon"),
        ("-s", "a:b:c", "topic", "ls"),
        ("cluster", "add", "n4"),
        ("cluster", "check-stop"),
        ("consume", "one", "--consistency", "strong"),
        ("local", "--input", "/no/such/file"),
        ("consume", "one", "-o", "1:3", "-e"),
        ("consume", "one", "-o", "3:1"),
        ("consume", "one", "-n", "-1"),
        ("consume", "one", "-f", "%x"),
        ("consume", "one", "-f", "%v", "--meta-only"),
        ("tail", "-f", "one"),
        ("produce", "one", "-f", "%k%v"),
        ("produce", "one", "-f", "%k %v", "-K", "="),
        ("produce", "one", "--acks", "1"),
        ("topic", "ls", "--profile", "none"),
    ],
)
def test_a_wrong_call_is_told_and_exits_2(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", "/nonexistent")
    assert told(arguments, capsys).startswith("error: ")


async def test_version_and_help() -> None:
    assert (await run(None, "version")).out.startswith("quorumlog ")
    assert set((await run(None, "version", "-o", "json")).json[0]) == {"quorumlog", "python"}
    assert (await run(None, "--version")).out == (await run(None, "version")).out
    assert (await run(None, "help", "topic", "ls")).out == (await run(None, "topic", "ls", "--help")).out
    for group in ("topic", "cluster", "produce", "consume", "local", "health", "serve"):
        assert (await run(None, group, "--help")).code == 0


async def test_health_loads_neither_asyncio_nor_the_client() -> None:
    script = (
        "import sys, quorumlog.command.main; quorumlog.command.main.build_parser(); "
        "print(*sorted({'asyncio', 'grpc', 'rich', 'google.protobuf'} & set(sys.modules)))"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE
    )
    assert (await process.communicate())[0].split() == []


async def test_the_input_may_be_a_file(cluster: FakeCluster, tmp_path: Path) -> None:
    file = tmp_path / "lines"
    file.write_bytes(b"a\nb\n")
    assert (await run(cluster, "produce", "one", "-i", str(file))).code == 0
    assert (await run(cluster, "produce", "one", "-i", str(tmp_path / "none"))).code == 1
    assert (await run(cluster, "consume", "one", "-e")).out == "a\nb\n"
