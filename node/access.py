"""Who calls, and whether it may: an interceptor in front of every method when TLS is on.

The caller is whom the certificate of the connection speaks for. A member of the cluster may name somebody
else (`x-caller-bin`) when it forwards a call: the leader then judges that client, by its own table. From
anybody but a member that is an attempt to be somebody else, and denied.

What is denied has done nothing; each denial is one line of the log `quorumlog.audit`.

A service asks for what only it knows, the topics, by `Call.require`, on a stream again and again: a grant
that was taken away, or a certificate that has expired, ends the stream at its next message.
"""

from __future__ import annotations

import inspect
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, NoReturn

import grpc
from cryptography import x509

from quorumlog.node.errors import Metadata, status_for
from quorumlog.node.grants import Grants
from quorumlog.node.permissions import PERMISSIONS, Permission, Scope
from quorumlog.node.reasons import Reason, Refusal
from quorumlog.node.tls import identity_of
from quorumlog.proto.identity import BadIdentity, Identity

audit = logging.getLogger("quorumlog.audit")

CALLER = "x-caller-bin"
# Certificates that were parsed: one per client that is connected, and some that were.
_PARSED_MAX = 1024
_CALLER_BYTES_MAX = 4096

# The call under way: set in the task that gRPC makes for each call, before its handler runs in it.
_current: ContextVar[Access | None] = ContextVar("access", default=None)

Continuation = Callable[[grpc.HandlerCallDetails], Awaitable["grpc.RpcMethodHandler[Any, Any] | None"]]


def current_access() -> Access | None:
    """Return what the call of this task may do; None: everybody may do everything, since there is no TLS."""
    return _current.get()


@dataclass(frozen=True, slots=True)
class Certified:
    """Whom a certificate speaks for, and until when (seconds since 1970)."""

    identity: Identity
    expires_s: float


class Access:
    """What one call may do."""

    __slots__ = ("_certified", "_grants", "_method", "_peer", "_permission", "_via", "caller")

    def __init__(
        self, method: str, certified: Certified, peer: str, grants: Grants, forwarded: Identity | None
    ) -> None:
        self._method = method
        self._permission: Permission | None = PERMISSIONS.get(method)
        self._certified = certified
        self._grants = grants
        self._peer = peer
        self._via = certified.identity if forwarded is not None else None
        self.caller = forwarded or certified.identity

    @property
    def metadata(self) -> Metadata:
        """What tells the leader for whom a call is forwarded."""
        return ((CALLER, "\n".join((self.caller.name, *sorted(self.caller.roles))).encode()),)

    def admit(self) -> None:
        """Judge the call before anything is known of its request. Raises Refusal."""
        permission = self._permission
        self.check_fresh()
        if permission is None:
            self._deny("there is no permission for this method")
        elif self.caller.is_node:
            if not permission.nodes:
                self._deny("a node makes this call only for a client")
        elif not self._has_grant(permission):
            roles = " or ".join(sorted(permission.roles))
            where = " for all topics" if permission.scope is Scope.CLUSTER else ""
            self._deny(f"{roles} is not granted{where}")

    def require(self, topic: str) -> None:
        """Raise Refusal unless the call may touch this topic."""
        self.check_fresh()
        if not self.sees(topic):
            assert self._permission is not None, "admit comes first"
            self._deny(f"{' or '.join(sorted(self._permission.roles))} is not granted", topic)

    def sees(self, topic: str) -> bool:
        """Whether the call may touch this topic."""
        assert self._permission is not None, "admit comes first"
        roles = self._permission.roles
        return any(grant.roles & roles and grant.covers(topic) for grant in self._grants.of(self.caller))

    def check_fresh(self) -> None:
        """Raise Refusal where the connection's certificate has expired: TLS looks at it only once."""
        if time.time() >= self._certified.expires_s:
            problem = f"the certificate of {self._certified.identity} has expired"
            self._log(problem)
            raise Refusal(Reason.UNAUTHENTICATED, problem)

    def _has_grant(self, permission: Permission) -> bool:
        if permission.scope is Scope.OPEN:
            return True
        everywhere = permission.scope is Scope.CLUSTER
        return any(
            grant.roles & permission.roles and not (everywhere and grant.topics is not None)
            for grant in self._grants.of(self.caller)
        )

    def _deny(self, why: str, topic: str = "") -> NoReturn:
        self._log(why, topic)
        about = f" on topic {topic[:249]!r}" if topic else ""
        problem = f"{self.caller} may not call {self._method.rpartition('/')[2]}{about}: {why}"
        raise Refusal(Reason.PERMISSION_DENIED, problem, client=self.caller.name)

    def _log(self, why: str, topic: str = "") -> None:
        audit.warning(
            "denied: caller=%r via=%r peer=%s method=%s topic=%r: %s",
            str(self.caller), str(self._via or ""), self._peer, self._method, topic[:249], why,
        )  # fmt: skip


class Guard(grpc.aio.ServerInterceptor):
    """In front of every method of every service."""

    def __init__(self, cluster: str, grants: Grants, is_member: Callable[[str], bool]) -> None:
        """`is_member`: whether a node takes part in the cluster now."""
        self._cluster = cluster
        self._grants = grants
        self._is_member = is_member
        self._parsed: dict[bytes, Certified] = {}
        self._guarded: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """See ServerInterceptor. A handler is wrapped once; there is one per method."""
        method = handler_call_details.method
        guarded = self._guarded.get(method)
        if guarded is None:
            handler = await continuation(handler_call_details)
            if handler is None:
                return None  # gRPC answers UNIMPLEMENTED; nothing is remembered of what strangers invent
            guarded = self._guarded[method] = self._wrap(method, handler)
        return guarded

    def access(self, method: str, context: Any) -> Access:
        """Return what the call may do, having judged it. Raises Refusal."""
        certified = self._certified(context)
        claimed = next((value for key, value in context.invocation_metadata() or () if key == CALLER), None)
        peer = context.peer()
        if claimed is None:
            forwarded = None
        elif certified.identity.is_node and self._is_member(certified.identity.name):
            forwarded = _decoded(claimed)
        else:
            Access(method, certified, peer, self._grants, None)._deny("only a member speaks for others")
        access = Access(method, certified, peer, self._grants, forwarded)
        access.admit()
        return access

    def _certified(self, context: Any) -> Certified:
        pem: bytes = next(iter(context.auth_context().get("x509_pem_cert", ())), b"")
        certified = self._parsed.get(pem)
        if certified is None:
            try:
                certified = self._parse(pem)
            except (BadIdentity, ValueError) as error:
                audit.warning("denied: peer=%s: %s", context.peer(), error)
                raise Refusal(Reason.UNAUTHENTICATED, str(error)) from error
            if len(self._parsed) >= _PARSED_MAX:
                self._parsed.clear()
            self._parsed[pem] = certified
        return certified

    def _parse(self, pem: bytes) -> Certified:
        certificate = x509.load_pem_x509_certificate(pem)
        return Certified(identity_of(self._cluster, certificate), certificate.not_valid_after_utc.timestamp())

    async def _enter(self, method: str, context: Any) -> None:
        """Let the call through, or end it; does not return then."""
        try:
            _current.set(self.access(method, context))
        except Refusal as refusal:
            await context.abort(*status_for(refusal.refused))

    def _wrap(self, method: str, handler: grpc.RpcMethodHandler[Any, Any]) -> grpc.RpcMethodHandler[Any, Any]:
        made: Any = {
            (False, False): grpc.unary_unary_rpc_method_handler,
            (False, True): grpc.unary_stream_rpc_method_handler,
            (True, False): grpc.stream_unary_rpc_method_handler,
            (True, True): grpc.stream_stream_rpc_method_handler,
        }[handler.request_streaming, handler.response_streaming]
        known: Any = handler
        behaviour = known.unary_unary or known.unary_stream or known.stream_unary or known.stream_stream

        async def call(request: Any, context: Any) -> Any:
            await self._enter(method, context)
            return await behaviour(request, context)

        async def generate(request: Any, context: Any) -> AsyncIterator[Any]:
            await self._enter(method, context)
            async for answer in behaviour(request, context):
                yield answer

        wrapped: grpc.RpcMethodHandler[Any, Any] = made(
            generate if inspect.isasyncgenfunction(behaviour) else call,
            request_deserializer=known.request_deserializer,
            response_serializer=known.response_serializer,
        )
        return wrapped


def _decoded(claimed: object) -> Identity:
    """Return the client that a member names. What it says about it was checked there."""
    if not isinstance(claimed, bytes) or not 0 < len(claimed) <= _CALLER_BYTES_MAX:
        raise Refusal(Reason.BAD_REQUEST, f"{CALLER}: expected a name and roles")
    try:
        name, *roles = claimed.decode().split("\n")
    except UnicodeDecodeError as error:
        raise Refusal(Reason.BAD_REQUEST, f"{CALLER}: {error}") from error
    return Identity(name, roles=frozenset(roles))
