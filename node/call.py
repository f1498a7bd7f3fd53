"""One gRPC call under way: its deadline, what its metadata asks for, and how it is answered.

Handlers get the request's bytes and give the answer's. Parsing here, not in gRPC, has two uses: bytes
that are no such message get INVALID_ARGUMENT with a reason (gRPC would say INTERNAL), and a request that is
forwarded is never parsed at all.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, TypeAlias, TypeVar, cast

import grpc
from google.protobuf.message import DecodeError, Message

from quorumlog.node.access import current_access
from quorumlog.node.calls import Calls
from quorumlog.node.errors import Metadata, Relayed, refused_for, status_for
from quorumlog.node.outbound import Held, Outbound
from quorumlog.node.reasons import Reason, Refusal

NO_FORWARD = "x-no-forward"
LEADER = "x-leader"
ACCEPTED: Metadata = (("x-accepted", "1"),)
FORWARDED: Metadata = ((NO_FORWARD, "1"),)

# An answer that says why must arrive before the caller's own deadline ends the call without one.
_MARGIN_S = 0.1
_MARGIN_SHARE = 0.1

_OK = grpc.StatusCode.OK.name
_GONE = grpc.StatusCode.CANCELLED.name  # where nothing else was said: the caller hung up

Context: TypeAlias = "grpc.aio.ServicerContext[bytes, bytes]"
_Request = TypeVar("_Request", bound=Message)


class CallerGone(asyncio.CancelledError):
    """The caller hung up, or its deadline passed: gRPC could not read or write. Ends the call quietly."""


class Call:
    """See the module."""

    __slots__ = ("_access", "_held", "_outbound", "context", "no_forward")

    def __init__(self, context: Context, outbound: Outbound) -> None:
        self.context = context
        self._outbound = outbound
        self._held: Held | None = None
        self._access = current_access()
        self.no_forward = False
        for key, value in context.invocation_metadata() or ():
            if key == NO_FORWARD:
                self.no_forward = value not in ("", "0", "false")

    @property
    def forwarding(self) -> Metadata:
        """The metadata of the same call on its way to the leader: not to be forwarded again; who asked."""
        return FORWARDED if self._access is None else (*FORWARDED, *self._access.metadata)

    def require(self, topic: str) -> None:
        """Raise Refusal (PERMISSION_DENIED, UNAUTHENTICATED) unless the caller may touch the topic, now."""
        if self._access is not None:
            self._access.require(topic)

    def sees(self, topic: str) -> bool:
        """Whether the caller may know of the topic."""
        return self._access is None or self._access.sees(topic)

    def time_left_s(self, default_s: float) -> float:
        """Return how long the work may take: the caller's deadline less a margin, at most `default_s`."""
        remaining = cast("float | None", self.context.time_remaining())
        if remaining is None:
            return default_s
        left = remaining - min(_MARGIN_S, remaining * _MARGIN_SHARE)
        return max(0.0, min(left, default_s))

    async def accept(self) -> None:
        """Tell the caller of a stream that it is let in, before there is anything to answer."""
        await self.context.send_initial_metadata(ACCEPTED)

    async def read(self) -> bytes | None:
        """Return the next message of the caller's stream, or None at its end."""
        try:
            message: object = await self.context.read()
        except grpc.aio.InternalError as error:
            raise CallerGone from error
        if self._access is not None:
            self._access.check_fresh()
        return message if isinstance(message, bytes) else None  # grpc.aio.EOF

    async def reserve(self, size: int) -> None:
        """Return when this node has room for an answer of so many bytes; it is the next one to be given."""
        self.release()
        self._held = await self._outbound.reserve(size)

    def answered(self, message: bytes) -> None:
        """The one answer goes to gRPC; it counts until the call is over."""
        held, self._held = self._held or self._outbound.hold(len(message)), None
        held.give(self.context)

    def release(self) -> None:
        """Give back room that was not used."""
        if self._held is not None:
            self._held.release()
            self._held = None

    async def write(self, message: bytes) -> None:
        """Send a message; returns when HTTP/2's flow control has room for another. Raises SLOW_READER."""
        if self._access is not None:
            self._access.check_fresh()
        held, self._held = self._held or self._outbound.hold(len(message)), None
        try:
            await self._outbound.write(self.context, message, held)
        except grpc.aio.InternalError as error:
            raise CallerGone from error


Failure: TypeAlias = "tuple[grpc.StatusCode, str, Metadata]"
UnaryMethod: TypeAlias = Callable[[bytes, Call], Awaitable[bytes]]
ServerStreamMethod: TypeAlias = Callable[[bytes, Call], Awaitable[None]]
BidirectionalMethod: TypeAlias = Callable[[Call], Awaitable[None]]


class Gate(Protocol):
    """What a call must pass, and what each answer carries."""

    @property
    def outbound(self) -> Outbound:
        """Where answers count until they are gone."""

    @property
    def calls(self) -> Calls:
        """Where calls are counted."""

    def admit(self) -> None:
        """Raise Refusal where the node takes no calls now."""

    def trailers(self) -> Metadata:
        """Return the trailing metadata of answers: who leads."""


def parse(kind: type[_Request], raw: bytes) -> _Request:
    """Return the request, or raise Refusal where the bytes are none."""
    try:
        return kind.FromString(raw)
    except DecodeError as error:
        raise Refusal(Reason.BAD_REQUEST, f"not a {kind.DESCRIPTOR.name}: {error}") from error


def generic_handler(
    service: str,
    gate: Gate,
    *,
    unary: Mapping[str, UnaryMethod],
    server_stream: Mapping[str, ServerStreamMethod] | None = None,
    bidirectional: Mapping[str, BidirectionalMethod] | None = None,
) -> grpc.GenericRpcHandler:
    """Return gRPC's handler for a service, from its methods by name."""
    handlers = {name: _unary(name, method, gate) for name, method in unary.items()}
    for name, stream in (server_stream or {}).items():
        handlers[name] = _server_stream(name, stream, gate)
    for name, pipe in (bidirectional or {}).items():
        handlers[name] = _bidirectional(name, pipe, gate)
    return grpc.method_handlers_generic_handler(service, handlers)


def _unary(name: str, method: UnaryMethod, gate: Gate) -> grpc.RpcMethodHandler[Any, Any]:
    """Return gRPC's handler for a method of one request and one answer."""

    async def handle(request: bytes, context: Context) -> bytes:
        call = Call(context, gate.outbound)
        began, code = time.perf_counter(), _GONE
        try:
            gate.admit()
            response = await method(request, call)
            call.answered(response)
            code = _OK
        except Exception as error:  # noqa: BLE001 - the boundary: the table in errors.py knows each, or logs it
            failure = _failure(error)
            code = failure[0].name
            await _fail(context, failure, gate)
        finally:
            call.release()
            gate.calls.answered(name, code, time.perf_counter() - began)
        context.set_trailing_metadata(gate.trailers())
        return response

    return grpc.unary_unary_rpc_method_handler(handle)


def _server_stream(name: str, method: ServerStreamMethod, gate: Gate) -> grpc.RpcMethodHandler[Any, Any]:
    """Return gRPC's handler for a method of one request and a stream of answers."""

    async def handle(request: bytes, context: Context) -> None:
        call = Call(context, gate.outbound)
        try:
            await _streamed(name, lambda: method(request, call), context, gate)
        finally:
            call.release()

    return grpc.unary_stream_rpc_method_handler(handle)


def _bidirectional(name: str, method: BidirectionalMethod, gate: Gate) -> grpc.RpcMethodHandler[Any, Any]:
    """Return gRPC's handler for a method of two streams."""

    async def handle(_: object, context: Context) -> None:
        await _streamed(name, lambda: method(Call(context, gate.outbound)), context, gate)

    return grpc.stream_stream_rpc_method_handler(handle)


async def _streamed(name: str, run: Callable[[], Awaitable[None]], context: Context, gate: Gate) -> None:
    code = _GONE
    gate.calls.opened(name)
    try:
        gate.admit()
        await run()
        code = _OK
    except Exception as error:  # noqa: BLE001 - as above
        failure = _failure(error)
        code = failure[0].name
        await _fail(context, failure, gate)
    finally:
        gate.calls.ended(name, code)
    context.set_trailing_metadata(gate.trailers())


def _failure(error: Exception) -> Failure:
    """Return what the table says of an error."""
    if isinstance(error, grpc.aio.AbortError):
        raise error
    if isinstance(error, Relayed):
        return error.code, error.message, error.metadata
    return status_for(refused_for(error))


async def _fail(context: Context, failure: Failure, gate: Gate) -> None:
    """End the call; does not return."""
    code, message, metadata = failure
    await context.abort(code, message, (*metadata, *gate.trailers()))
