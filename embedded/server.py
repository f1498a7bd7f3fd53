"""In place of gRPC's server: finds methods by name, and runs each call as a task of this event loop."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import Context as Variables
from typing import Any, NamedTuple, cast

import grpc
import grpc.aio

from quorumlog.embedded.call import Context
from quorumlog.node.errors import Metadata, status_for
from quorumlog.node.reasons import Reason, Refused

logger = logging.getLogger(__name__)

_Code = grpc.StatusCode


class _Details(NamedTuple):
    """grpc.HandlerCallDetails."""

    method: str
    invocation_metadata: Metadata


class LocalServer:
    """node.listening.Server within a program. Used on one event loop.

    - Calls are let in between `start` and `stop`, until `fail`; `failure` is done from then on.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._generic: list[grpc.GenericRpcHandler] = []
        self._methods: dict[str, grpc.RpcMethodHandler[Any, Any] | None] = {}
        self._running: dict[asyncio.Task[None], Context] = {}
        self._refused: tuple[_Code, str, Metadata] | None = (_Code.UNAVAILABLE, "the log is not open yet", ())
        self._numbers = itertools.count(1)
        self.failure: asyncio.Future[tuple[int, str]] = self._loop.create_future()  # exit code, and why

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """See Server."""
        self._generic += generic_rpc_handlers

    def add_registered_method_handlers(self, service_name: str, method_handlers: Mapping[str, Any]) -> None:
        """Generated code registers everything twice; once is enough."""

    async def start(self) -> None:
        """See Server."""
        self._refused = None

    async def stop(self, grace: float | None) -> None:
        """See Server."""
        self._refused = self._refused or (_Code.UNAVAILABLE, "the log is closed", ())
        if self._running:
            await asyncio.wait(self._running, timeout=grace)
        await self._end_all()

    def fail(self, exit_code: int, why: str) -> None:
        """The engine has stopped for good: whatever is under way, or comes, is told so."""
        self.failure.set_result((exit_code, why))
        self._refused = status_for(Refused(Reason.LOG_FAILED, f"the log has failed: {why}"))
        for context in list(self._running.values()):
            context.end(*self._refused)
        for task in list(self._running):
            task.cancel()

    def cut(self, peer: str) -> None:
        """End the call of that name, whose reader does not read. From any thread."""
        self._loop.call_soon_threadsafe(self._cut, peer)

    def begin(
        self, method: str, request: bytes | None, metadata: Metadata, timeout_s: float | None
    ) -> tuple[Context, Callable[[], object]]:
        """Begin a call; return it, and what stops its handler. `request`: None where they are a stream."""
        context = Context(next(self._numbers), metadata, timeout_s)
        handler = self._handler(method)
        if self._refused is not None:
            context.end(*self._refused)
            return context, _nothing
        if handler is None:
            context.end(_Code.UNIMPLEMENTED, f"Method not found: {method}")
            return context, _nothing
        # Variables of the caller's task are not the handler's: each call has its own, as with gRPC.
        task = self._loop.create_task(_run(handler, request, context), context=Variables())
        self._running[task] = context
        task.add_done_callback(self._ended)
        if timeout_s is not None:
            alarm = self._loop.call_later(timeout_s, _expire, context, task)
            task.add_done_callback(lambda _: alarm.cancel())
        return context, task.cancel

    def _handler(self, method: str) -> grpc.RpcMethodHandler[Any, Any] | None:
        if method not in self._methods:
            details = cast("grpc.HandlerCallDetails", _Details(method, ()))
            found = (handler.service(details) for handler in self._generic)
            self._methods[method] = next((each for each in found if each is not None), None)
        return self._methods[method]

    def _ended(self, task: asyncio.Task[None]) -> None:
        context = self._running.pop(task)
        if task.cancelled():
            context.end(*(self._refused or (_Code.CANCELLED, "cancelled", ())))
        else:
            assert task.exception() is None, "_run lets nothing through"

    def _cut(self, peer: str) -> None:
        for task, context in self._running.items():
            if context.peer() == peer:
                context.end(_Code.UNAVAILABLE, "the answers were not read")
                task.cancel()
                return

    async def _end_all(self) -> None:
        tasks = list(self._running)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _run(handler: grpc.RpcMethodHandler[Any, Any], request: bytes | None, context: Context) -> None:
    """Run a handler; whatever it does, the call ends."""
    try:
        if handler.request_streaming:
            await _awaitable(handler.stream_stream, None, context)
        elif handler.response_streaming:
            await _awaitable(handler.unary_stream, request, context)
        else:
            decode, encode = handler.request_deserializer, handler.response_serializer
            message = request if decode is None else decode(cast(bytes, request))
            answer = await _awaitable(handler.unary_unary, message, context)
            await context.write(answer if encode is None else encode(answer))
    except grpc.aio.AbortError:
        assert context.code is not None, "who aborts says how"
    except Exception as error:  # the boundary: a bug of a handler must not take the log with it
        logger.exception("a call has failed")
        context.end(_Code.UNKNOWN, repr(error))
    else:
        context.end(_Code.OK)


def _awaitable(behaviour: Any, request: object, context: Context) -> Awaitable[Any]:
    made: Awaitable[Any] = behaviour(request, context)
    return made


def _nothing() -> None:
    """The call has ended already."""


def _expire(context: Context, task: asyncio.Task[None]) -> None:
    context.end(_Code.DEADLINE_EXCEEDED, "Deadline Exceeded")
    task.cancel()
