"""In place of gRPC's channel: what the client's stubs are made from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias, TypeVar

from quorumlog.embedded.call import Call, Context, Decode, Encode, StreamCall, UnaryCall
from quorumlog.embedded.server import LocalServer

_AnyCall = TypeVar("_AnyCall", bound=Call)
_Metadata: TypeAlias = "Sequence[tuple[str, str | bytes]] | None"


class LocalChannel:
    """grpc.aio.Channel to a LocalServer, as far as generated stubs use it."""

    def __init__(self, server: LocalServer) -> None:
        self._server = server
        self._calls: set[Call] = set()  # under way, whether or not anybody still looks at them

    def unary_unary(
        self,
        method: str,
        request_serializer: Encode | None = None,
        response_deserializer: Decode | None = None,
        _registered_method: bool = False,
    ) -> Callable[..., UnaryCall]:
        """Return what begins a call with one request and one answer."""
        return partial(self._unary, method, request_serializer, response_deserializer)

    def unary_stream(
        self,
        method: str,
        request_serializer: Encode | None = None,
        response_deserializer: Decode | None = None,
        _registered_method: bool = False,
    ) -> Callable[..., StreamCall]:
        """Return what begins a call with one request and a stream of answers."""
        return partial(self._stream, method, request_serializer, response_deserializer)

    def stream_stream(
        self,
        method: str,
        request_serializer: Encode | None = None,
        response_deserializer: Decode | None = None,
        _registered_method: bool = False,
    ) -> Callable[..., StreamCall]:
        """Return what begins a call of two streams."""
        return partial(self._both, method, request_serializer, response_deserializer)

    async def close(self, grace: float | None = None) -> None:
        """End what is under way."""
        for call in list(self._calls):
            call.cancel()

    def _unary(
        self,
        method: str,
        encode: Encode | None,
        decode: Decode | None,
        request: Any,
        *,
        timeout: float | None = None,
        metadata: _Metadata = None,
    ) -> UnaryCall:
        message = request if encode is None else encode(request)
        return self._kept(UnaryCall(*self._begun(method, message, timeout, metadata), decode))

    def _stream(
        self,
        method: str,
        encode: Encode | None,
        decode: Decode | None,
        request: Any,
        *,
        timeout: float | None = None,
        metadata: _Metadata = None,
    ) -> StreamCall:
        message = request if encode is None else encode(request)
        return self._kept(StreamCall(*self._begun(method, message, timeout, metadata), decode, None))

    def _both(
        self,
        method: str,
        encode: Encode | None,
        decode: Decode | None,
        *,
        timeout: float | None = None,
        metadata: _Metadata = None,
    ) -> StreamCall:
        return self._kept(StreamCall(*self._begun(method, None, timeout, metadata), decode, encode))

    def _begun(
        self, method: str, message: bytes | None, timeout_s: float | None, metadata: _Metadata
    ) -> tuple[Context, Callable[[], object]]:
        return self._server.begin(method, message, tuple(metadata or ()), timeout_s)

    def _kept(self, call: _AnyCall) -> _AnyCall:
        if not call.done():
            self._calls.add(call)
            call.add_done_callback(self._calls.discard)
        return call
