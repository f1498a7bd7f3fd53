"""The boundary where gRPC's errors, and the failures inside answers, become this package's."""

from __future__ import annotations

from typing import Any

import grpc
import grpc.aio
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from quorumlog.client import errors
from quorumlog.client.errors import Attempt, QuorumlogError
from quorumlog.proto import service_pb2

DOMAIN = "quorumlog"
LEADER_KEY = "x-leader"  # trailing metadata: "node-id host:port"

# What a status means that carries no ErrorInfo: it was made by gRPC itself, not by a node.
_BY_STATUS: dict[grpc.StatusCode, type[QuorumlogError]] = {
    grpc.StatusCode.UNAVAILABLE: errors.ConnectionFailed,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.OutcomeUnknown,
    grpc.StatusCode.CANCELLED: errors.Unavailable,
    grpc.StatusCode.UNKNOWN: errors.Unavailable,  # how a stream ends whose node dies
    grpc.StatusCode.INTERNAL: errors.Unavailable,
    grpc.StatusCode.UNIMPLEMENTED: errors.Unsupported,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.RecordTooLarge,  # gRPC's own limit on a message's size
    grpc.StatusCode.NOT_FOUND: errors.InvalidRequest,
    grpc.StatusCode.INVALID_ARGUMENT: errors.InvalidRequest,
    grpc.StatusCode.PERMISSION_DENIED: errors.PermissionDenied,
    grpc.StatusCode.UNAUTHENTICATED: errors.Unauthenticated,
    grpc.StatusCode.DATA_LOSS: errors.DataDamaged,
}

CLOSED_BY_IT = "connection closed by the other side"

# gRPC tells causes apart only in prose; these are the phrases that its core has used for years.
_CAUSES = (
    ("DNS resolution failed", "the name does not resolve"),
    ("errors resolving", "the name does not resolve"),
    ("Connection refused", "connection refused"),
    ("No route to host", "no route to host"),
    ("Network is unreachable", "network is unreachable"),
    ("Connection reset", "connection reset"),
    ("Broken pipe", "connection lost"),
    ("Socket closed", CLOSED_BY_IT),
    ("recvmsg:", "connection lost"),
    ("WRONG_VERSION_NUMBER", "TLS handshake failed: it speaks plain text"),
    ("CERTIFICATE_VERIFY_FAILED", "TLS handshake failed: its certificate is not of the authority given"),
    ("Handshake read failed", "connection closed during the handshake"),  # a node that starts or stops, too
    ("handshake", "TLS handshake failed"),
    ("Trying to connect an http1.x server", "not a gRPC server (it speaks HTTP/1)"),
    ("Failed parsing HTTP/2", "not a gRPC server"),
    ("before receiving SETTINGS", "it takes connections and says nothing"),
    ("Method not found", "not a quorumlog node, or of another version: it does not know the request"),
    ("Connect Failed", "cannot connect"),
    ("Timeout occurred", "connecting took too long"),
    ("Deadline Exceeded", "no answer in time"),
)


def from_rpc(error: grpc.aio.AioRpcError, address: str) -> QuorumlogError:
    """Return what a failed call to `address` means; the caller raises it `from` the gRPC error."""
    info = error_info(error)
    cause = cause_of(error.details() or error.code().name)
    if info is None:
        cls = _BY_STATUS.get(error.code(), QuorumlogError)
        return cls(cause, attempts=[Attempt(address, cause)])
    cls = errors.BY_REASON.get(info.reason, QuorumlogError)
    said = cls(error.details() or info.reason, attempts=[Attempt(address, cause)], metadata=info.metadata)
    said.answered = True
    return said


def from_failure(failure: service_pb2.Failure) -> QuorumlogError:
    """Return what the failure of one batch in an answer means."""
    cls = errors.BY_REASON.get(failure.reason, QuorumlogError)
    return cls(failure.message or failure.reason, metadata=failure.metadata)


def error_info(error: grpc.aio.AioRpcError) -> Any | None:
    """Return the node's google.rpc.ErrorInfo, or None where a node did not make this status."""
    try:
        status = rpc_status.from_call(error)
    except ValueError:  # status and details disagree: a proxy has rewritten it
        return None
    for detail in status.details if status is not None else ():
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info) and info.domain == DOMAIN:
            return info
    return None


def leader_of(metadata: Any) -> tuple[str, str] | None:
    """Return (node id, address) from trailing metadata, or None where it names no leader."""
    for key, value in metadata or ():
        if key == LEADER_KEY and " " in value:
            node_id, _, address = value.partition(" ")
            return node_id, address
    return None


def cause_of(details: str) -> str:
    """Return what gRPC's prose means, in a few words; text that says nothing known as it is."""
    return next((cause for phrase, cause in _CAUSES if phrase in details), details)
