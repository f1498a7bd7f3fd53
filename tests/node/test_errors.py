"""The one table of errors: complete, documented, and honest about what it does not know."""

from __future__ import annotations

import inspect
import logging
from pathlib import Path

import grpc
import pytest

from quorumlog.node.errors import CODES, failure_for, refused_for, status_for
from quorumlog.node.reasons import Reason, Refusal, Refused
from quorumlog.proto import batch
from quorumlog.raft import errors as raft_errors
from quorumlog.storage.errors import Damaged


def test_every_reason_has_a_code_and_is_documented() -> None:
    assert set(CODES) == set(Reason)
    rows = [line for line in Path("docs/grpc.md").read_text().splitlines() if line.startswith("| `")]
    documented = {line.split("|")[1].strip(" `"): line.split("|")[2].strip() for line in rows}
    assert {reason.value: CODES[reason].name for reason in Reason}.items() <= documented.items()


def test_every_error_of_replication_that_a_caller_may_meet_is_in_the_table() -> None:
    leaves = [
        kind
        for _, kind in inspect.getmembers(raft_errors, inspect.isclass)
        if issubclass(kind, raft_errors.RaftError) and not kind.__subclasses__()
    ]
    for kind in leaves:
        if kind is raft_errors.DamagedHardState:
            continue  # a node with it does not start
        error = kind("n2", "n2:1", 3) if kind is raft_errors.NotLeader else kind("why")
        assert refused_for(error).reason is not Reason.INTERNAL, kind


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (batch.BadChecksum("x"), Reason.BAD_CHECKSUM),
        (batch.BatchTooLarge("x"), Reason.BATCH_TOO_LARGE),
        (batch.BadBatch("x"), Reason.BAD_BATCH),
        (Damaged("a.log", 1, 2, "x"), Reason.DATA_DAMAGED),
        (raft_errors.NotLeader(None, None, 3), Reason.NO_LEADER),
        (raft_errors.NotLeader("n2", None, 3), Reason.NOT_LEADER),
        (Refusal(Reason.BUSY, "x"), Reason.BUSY),
    ],
)
def test_exceptions_become_reasons(error: Exception, reason: Reason) -> None:
    assert refused_for(error).reason is reason


def test_what_nobody_thought_of_is_internal_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        refused = refused_for(KeyError("secret"))
    assert refused.reason is Reason.INTERNAL
    assert "secret" not in refused.message
    assert "unexpected error in a call" in caplog.text


def test_a_status_carries_the_details_and_a_bounded_message() -> None:
    refused = Refused(Reason.OFFSET_OUT_OF_RANGE, "m" * 5_000, (("earliest", "1"),))
    code, message, metadata = status_for(refused)
    assert code is grpc.StatusCode.OUT_OF_RANGE
    assert len(message) == 1_024
    assert [key for key, _ in metadata] == ["grpc-status-details-bin"]
    failure = failure_for(refused)
    assert (failure.code, failure.reason) == (code.value[0], "OFFSET_OUT_OF_RANGE")
    assert failure.metadata == {"earliest": "1"}


def test_damage_names_file_segment_position_and_entry() -> None:
    refused = refused_for(Damaged("00000000000000000013.log", 4096, 14, "payload crc"))
    assert dict(refused.metadata) == {
        "file": "00000000000000000013.log",
        "segment": "13",
        "position": "4096",
        "entry": "14",
    }
    assert dict(refused_for(Damaged("manifest", 0, None, "x")).metadata) == {
        "file": "manifest",
        "position": "0",
    }
