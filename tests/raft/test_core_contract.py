"""Every internal of pysyncobj that raft/core.py leans on is there, in the shape that it leans on."""

from __future__ import annotations

import ast
import inspect
import textwrap
from pathlib import Path

import pysyncobj
import pysyncobj.syncobj
import pytest
from pysyncobj import SyncObj, SyncObjConf
from pysyncobj.version import VERSION

from quorumlog.raft import core

SOURCE = inspect.getsource(SyncObj)
TREE = ast.parse(textwrap.dedent(SOURCE))


def method(name: str) -> ast.FunctionDef:
    """The engine's method, by its unmangled name."""
    for node in ast.walk(TREE):
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return node
    raise AssertionError(f"pysyncobj has no {name}")


def source(name: str) -> str:
    return ast.unparse(method(name))


def test_the_version_is_the_one_that_was_read() -> None:
    assert VERSION == core.VERSION


@pytest.mark.parametrize("name", core.CONTRACT["attributes"])
def test_attribute_exists(name: str) -> None:
    assert f"self.__{name} =" in SOURCE


@pytest.mark.parametrize("name", core.CONTRACT["overridden"])
def test_overridden_method_exists_and_is_overridden(name: str) -> None:
    ours = vars(core.Core)[f"_SyncObj__{name}"]
    theirs = method(f"__{name}")
    assert list(inspect.signature(ours).parameters) == [argument.arg for argument in theirs.args.args]


@pytest.mark.parametrize("name", core.CONTRACT["called"])
def test_called_method_exists(name: str) -> None:
    assert callable(vars(SyncObj)[f"_SyncObj__{name}"])


@pytest.mark.parametrize("name", core.CONTRACT["module"])
def test_module_level_name_exists(name: str) -> None:
    assert hasattr(pysyncobj.syncobj, name)
    assert name in Path(str(pysyncobj.syncobj.__file__)).read_text()


def test_core_touches_no_internal_that_the_contract_does_not_list() -> None:
    text = Path(core.__file__).read_text()
    listed = {
        f"_SyncObj__{name}"
        for group in ("attributes", "overridden", "called")
        for name in core.CONTRACT[group]
    }
    used = {
        node.attr if isinstance(node, ast.Attribute) else node.name
        for node in ast.walk(ast.parse(text))
        if isinstance(node, (ast.Attribute, ast.FunctionDef))
        and (node.attr if isinstance(node, ast.Attribute) else node.name).startswith("_SyncObj__")
    }
    assert used - listed == {"_SyncObj__conf"}


def test_only_core_imports_pysyncobj() -> None:
    root = Path(core.__file__).parent
    importers = [path.name for path in root.glob("*.py") if "import pysyncobj" in path.read_text()]
    assert importers == ["core.py"]


class TestWhatTheOverridesRestOn:
    """The control flow around an override: if it changes, the override may no longer suffice."""

    def test_the_commit_loop_takes_an_empty_answer_for_not_yet(self) -> None:
        tick = source("_onTick")
        assert "entries = self.__getEntries(commitIdx, 1)\n" in tick
        assert "if not entries:\n" in tick
        assert "commitTerm != self.__raftCurrentTerm" in tick

    def test_only_two_callers_of_get_entries_are_left(self) -> None:
        overridden = {f"__{name}" for name in core.CONTRACT["overridden"]}
        callers = {
            node.name
            for node in ast.walk(TREE)
            if isinstance(node, ast.FunctionDef) and "self.__getEntries(" in ast.unparse(node)
        }
        assert callers - overridden - {"__getPrevLogIndexTerm"} == {"_onTick", "__onMessageReceived"}
        users = [
            n
            for n in ast.walk(TREE)
            if isinstance(n, ast.FunctionDef) and "__getPrevLogIndexTerm(" in ast.unparse(n)
        ]
        assert {node.name for node in users} == {"__getPrevLogIndexTerm", "__sendAppendEntries"}

    def test_truncation_happens_only_when_more_than_the_previous_entry_comes_back(self) -> None:
        assert "if len(prevEntries) > 1:" in source("__onMessageReceived")

    def test_a_message_without_previous_entry_touches_no_log(self) -> None:
        text = source("__onMessageReceived")
        assert "if 'prevLogIdx' in message:" in text
        assert "elif serialized is not None:" in text
        assert "if leaderCommitIndex > self.__raftCommitIndex:" in text

    def test_a_vote_request_with_a_higher_term_raises_the_term_before_it_is_refused(self) -> None:
        text = source("__onMessageReceived")
        assert text.index("self.__setCurrentTerm(message['term'], None)") < text.index("lastLogTerm < ")

    def test_a_proposal_is_appended_in_the_call_that_empties_the_queue(self) -> None:
        text = source("_checkCommandsToApply")
        assert "self.__raftLog.add(command, idx, term)" in text
        assert "self.__commandsWaitingCommit[idx].append((term, callback))" in text

    def test_the_leader_appends_its_no_op_through_the_journal(self) -> None:
        assert "self.__raftLog.add(_bchr(_COMMAND_TYPE.NO_OP), idx, term)" in source("__onBecomeLeader")
        assert pysyncobj.syncobj._bchr(pysyncobj.syncobj._COMMAND_TYPE.NO_OP) == core.ENGINE_NO_OP

    def test_term_and_vote_are_saved_through_the_journal_before_the_vote_is_sent(self) -> None:
        assert "self.__raftLog.setCurrentTerm(term, votedForNodeId)" in source("__setCurrentTerm")
        text = source("__onMessageReceived")
        assert text.index("self.__setCurrentTerm(self.__raftCurrentTerm, node.id)") < text.index(
            "'response_vote'"
        )

    def test_the_settings_that_keep_its_own_machinery_off_exist(self) -> None:
        settings = vars(SyncObjConf())
        for name in (
            "autoTick",
            "appendEntriesUseBatch",
            "dynamicMembershipChange",
            "logCompactionMinEntries",
        ):
            assert name in settings
