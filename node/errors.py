"""The one table from what went wrong to what a caller is told: gRPC status and google.rpc.ErrorInfo.

    exception of any layer  ->  Refused (reason, message, metadata)  ->  gRPC status with details
    result of a command     ->  Refused                              ->  Failure in a ProduceResponse

Codes follow gRPC's own advice: UNAVAILABLE where the same call may succeed soon, FAILED_PRECONDITION where
the caller must change something first, DEADLINE_EXCEEDED where the outcome is unknown.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TypeAlias

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from quorumlog.node.reasons import Reason, Refusal, Refused
from quorumlog.proto import batch, service_pb2
from quorumlog.raft import errors as raft_errors
from quorumlog.storage import errors as storage_errors
from quorumlog.storage.fences import SealedFile

logger = logging.getLogger(__name__)

DOMAIN = "quorumlog"
DETAILS_KEY = "grpc-status-details-bin"

# HTTP/2 carries the message in a trailer, and the details again: some proxies stop at 8 KiB of headers.
_MESSAGE_LENGTH_MAX = 1024

Metadata: TypeAlias = tuple[tuple[str, str | bytes], ...]

_Code = grpc.StatusCode
CODES: dict[Reason, grpc.StatusCode] = {
    Reason.NOT_LEADER: _Code.FAILED_PRECONDITION,
    Reason.NO_LEADER: _Code.UNAVAILABLE,
    Reason.OUTCOME_UNKNOWN: _Code.DEADLINE_EXCEEDED,
    Reason.DROPPED: _Code.UNAVAILABLE,
    Reason.BUSY: _Code.RESOURCE_EXHAUSTED,
    Reason.NO_SPACE: _Code.RESOURCE_EXHAUSTED,
    Reason.SLOW_READER: _Code.RESOURCE_EXHAUSTED,
    Reason.SHUTTING_DOWN: _Code.UNAVAILABLE,
    Reason.NOT_CAUGHT_UP: _Code.UNAVAILABLE,
    Reason.NOT_CONFIRMED: _Code.UNAVAILABLE,
    Reason.MEMBERSHIP_REFUSED: _Code.FAILED_PRECONDITION,
    Reason.TRANSFER_FAILED: _Code.FAILED_PRECONDITION,
    Reason.UNKNOWN_NODE: _Code.NOT_FOUND,
    Reason.DATA_DAMAGED: _Code.DATA_LOSS,
    Reason.LOG_FAILED: _Code.ABORTED,
    Reason.UNKNOWN_TOPIC: _Code.NOT_FOUND,
    Reason.UNKNOWN_PARTITION: _Code.NOT_FOUND,
    Reason.TOPIC_EXISTS: _Code.ALREADY_EXISTS,
    Reason.BAD_NAME: _Code.INVALID_ARGUMENT,
    Reason.BAD_REQUEST: _Code.INVALID_ARGUMENT,
    Reason.BAD_BATCH: _Code.INVALID_ARGUMENT,
    Reason.BAD_CHECKSUM: _Code.INVALID_ARGUMENT,
    Reason.BATCH_TOO_LARGE: _Code.INVALID_ARGUMENT,
    Reason.OFFSET_OUT_OF_RANGE: _Code.OUT_OF_RANGE,
    Reason.FENCED_PRODUCER: _Code.FAILED_PRECONDITION,
    Reason.OUT_OF_SEQUENCE: _Code.FAILED_PRECONDITION,
    Reason.UNKNOWN_PRODUCER: _Code.FAILED_PRECONDITION,
    Reason.PERMISSION_DENIED: _Code.PERMISSION_DENIED,
    Reason.UNAUTHENTICATED: _Code.UNAUTHENTICATED,
    Reason.UNSUPPORTED: _Code.UNIMPLEMENTED,
    Reason.INTERNAL: _Code.INTERNAL,
}

# Surely not applied, and another attempt, perhaps at another node, may well succeed within the deadline.
TRY_AGAIN = frozenset((Reason.NOT_LEADER, Reason.NO_LEADER, Reason.DROPPED, Reason.SHUTTING_DOWN))

_EXCEPTIONS: tuple[tuple[type[Exception], Reason], ...] = (
    (raft_errors.Dropped, Reason.DROPPED),
    (raft_errors.Busy, Reason.BUSY),
    (raft_errors.NoSpace, Reason.NO_SPACE),
    (raft_errors.Stopping, Reason.SHUTTING_DOWN),
    (raft_errors.NotConfirmed, Reason.NOT_CONFIRMED),
    (raft_errors.MembershipRefused, Reason.MEMBERSHIP_REFUSED),
    (raft_errors.TransferFailed, Reason.TRANSFER_FAILED),
    (raft_errors.OutcomeUnknown, Reason.OUTCOME_UNKNOWN),
    (storage_errors.NoSpace, Reason.NO_SPACE),
    (storage_errors.OutOfLog, Reason.OFFSET_OUT_OF_RANGE),  # retention was faster than the reader
    (batch.BadChecksum, Reason.BAD_CHECKSUM),
    (batch.BatchTooLarge, Reason.BATCH_TOO_LARGE),
    (batch.BadBatch, Reason.BAD_BATCH),
)


class Relayed(Exception):
    """What another node answered to a forwarded call: handed on as it came."""

    def __init__(self, code: grpc.StatusCode, message: str, metadata: Metadata, reason: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.metadata = metadata
        self.reason = reason


def refused_for(error: Exception) -> Refused:
    """Return what a caller is told of `error`. What the table does not know is a bug: logged, INTERNAL."""
    if isinstance(error, Refusal):
        return error.refused
    if isinstance(error, raft_errors.NotLeader):
        return _not_leader(error)
    if isinstance(error, storage_errors.Damaged):
        return _damaged(error)
    for kind, reason in _EXCEPTIONS:
        if isinstance(error, kind):
            return Refused(reason, str(error))
    logger.error("unexpected error in a call", exc_info=error)
    return Refused(Reason.INTERNAL, f"{type(error).__name__} in the server; its log says more")


def status_for(refused: Refused) -> tuple[grpc.StatusCode, str, Metadata]:
    """Return code, message and trailing metadata for a call that fails."""
    code = CODES[refused.reason]
    message = refused.message[:_MESSAGE_LENGTH_MAX]
    info = error_details_pb2.ErrorInfo(
        reason=refused.reason.value, domain=DOMAIN, metadata=dict(refused.metadata)
    )
    packed = any_pb2.Any()
    packed.Pack(info)
    status = status_pb2.Status(code=code.value[0], message=message, details=[packed])
    return code, message, tuple(rpc_status.to_status(status).trailing_metadata)


def failure_for(refused: Refused) -> service_pb2.Failure:
    """Return what stands in the result of one batch, beside others that may have succeeded."""
    return service_pb2.Failure(
        code=CODES[refused.reason].value[0],
        reason=refused.reason.value,
        message=refused.message[:_MESSAGE_LENGTH_MAX],
        metadata=dict(refused.metadata),
    )


def relayed(error: grpc.aio.AioRpcError) -> Relayed | None:
    """Return what the other node's server said, or None where the answer did not come from its services."""
    metadata: Sequence[tuple[str, str | bytes]] = tuple(error.trailing_metadata() or ())
    for key, value in metadata:
        if key != DETAILS_KEY or not isinstance(value, bytes):
            continue
        reason = _reason_in(value)
        if reason:
            return Relayed(error.code(), error.details() or "", ((key, value),), reason)
    return None


def _reason_in(details: bytes) -> str:
    info = error_details_pb2.ErrorInfo()
    try:
        for detail in status_pb2.Status.FromString(details).details:
            if detail.Unpack(info) and info.domain == DOMAIN:
                return str(info.reason)
    except DecodeError:
        return ""
    return ""


def _damaged(error: storage_errors.Damaged) -> Refused:
    where: dict[str, object] = {"file": error.file, "position": error.position, "entry": error.entry}
    file = SealedFile.named(error.file)
    if file is not None:
        where["segment"] = file.base
    metadata = tuple((name, str(value)) for name, value in where.items() if value is not None)
    return Refused(Reason.DATA_DAMAGED, str(error), metadata)


def _not_leader(error: raft_errors.NotLeader) -> Refused:
    known = {"leader_id": error.leader_id, "leader_address": error.leader_address}
    metadata = [(name, value) for name, value in known.items() if value]
    metadata.append(("term", str(error.term)))
    if error.leader_id is None:
        return Refused(Reason.NO_LEADER, f"no leader is known in term {error.term}", tuple(metadata))
    return Refused(Reason.NOT_LEADER, str(error), tuple(metadata))
