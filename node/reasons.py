"""Why something was refused: the words of ErrorInfo.reason and Failure.reason.

A reason is part of the protocol: clients branch on it, so a word is never renamed or given another
meaning. errors.py maps each to its gRPC status; docs/grpc.md says what a caller does about each.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """One word per thing that a caller can do something about."""

    NOT_LEADER = "NOT_LEADER"
    NO_LEADER = "NO_LEADER"
    OUTCOME_UNKNOWN = "OUTCOME_UNKNOWN"
    DROPPED = "DROPPED"
    BUSY = "BUSY"
    NO_SPACE = "NO_SPACE"
    SLOW_READER = "SLOW_READER"
    SHUTTING_DOWN = "SHUTTING_DOWN"
    NOT_CAUGHT_UP = "NOT_CAUGHT_UP"
    NOT_CONFIRMED = "NOT_CONFIRMED"
    MEMBERSHIP_REFUSED = "MEMBERSHIP_REFUSED"
    TRANSFER_FAILED = "TRANSFER_FAILED"
    UNKNOWN_NODE = "UNKNOWN_NODE"
    DATA_DAMAGED = "DATA_DAMAGED"
    LOG_FAILED = "LOG_FAILED"
    UNKNOWN_TOPIC = "UNKNOWN_TOPIC"
    UNKNOWN_PARTITION = "UNKNOWN_PARTITION"
    TOPIC_EXISTS = "TOPIC_EXISTS"
    BAD_NAME = "BAD_NAME"
    BAD_REQUEST = "BAD_REQUEST"
    BAD_BATCH = "BAD_BATCH"
    BAD_CHECKSUM = "BAD_CHECKSUM"
    BATCH_TOO_LARGE = "BATCH_TOO_LARGE"
    OFFSET_OUT_OF_RANGE = "OFFSET_OUT_OF_RANGE"
    FENCED_PRODUCER = "FENCED_PRODUCER"
    OUT_OF_SEQUENCE = "OUT_OF_SEQUENCE"
    UNKNOWN_PRODUCER = "UNKNOWN_PRODUCER"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    UNSUPPORTED = "UNSUPPORTED"
    INTERNAL = "INTERNAL"


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing was changed, and this is why. A result like any other: equal on every replica."""

    reason: Reason
    message: str
    metadata: tuple[tuple[str, str], ...] = ()


class Refusal(Exception):
    """A Refused on its way to the caller, where no command has to carry it as a result."""

    def __init__(self, reason: Reason, message: str, **metadata: object) -> None:
        super().__init__(message)
        details = tuple((name, str(value)) for name, value in metadata.items())
        self.refused = Refused(reason, message, details)

    @classmethod
    def of(cls, refused: Refused) -> Refusal:
        """Return the exception for a result."""
        return cls(refused.reason, refused.message, **dict(refused.metadata))
