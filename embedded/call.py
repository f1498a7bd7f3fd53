"""One call within the process: Context is what its handler sees of it, the others what its caller sees.

They follow grpc.aio's ServicerContext and calls as far as the node's services and the client use them: a
cancelled call is a CancelledError for who waits for it, a failed one an AioRpcError with trailing metadata.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Generator
from typing import Any, NoReturn, TypeAlias

import grpc
import grpc.aio

from quorumlog.embedded.pipe import Pipe, PipeClosed
from quorumlog.node.errors import Metadata

Encode: TypeAlias = Callable[[Any], bytes]
Decode: TypeAlias = Callable[[bytes], Any]

_OK = grpc.StatusCode.OK


class Context:
    """A call under way, from the handler's side."""

    def __init__(self, number: int, metadata: Metadata, timeout_s: float | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._metadata = metadata
        self._deadline_s = None if timeout_s is None else self._loop.time() + timeout_s
        self._peer = f"in-process:{number}"
        self._done: list[Callable[[Context], None]] = []
        self.requests = Pipe()
        self.answers = Pipe()
        self.code: grpc.StatusCode | None = None  # None: it goes on
        self.details = ""
        self.trailing: Metadata = ()
        self.accepted = asyncio.Event()  # or ended
        self.initial: Metadata = ()
        self.ended = asyncio.Event()

    def invocation_metadata(self) -> Metadata:
        """What the caller sent beside the request."""
        return self._metadata

    def time_remaining(self) -> float | None:
        """Seconds until the caller's deadline."""
        return None if self._deadline_s is None else max(0.0, self._deadline_s - self._loop.time())

    def peer(self) -> str:
        """Names the call, since there is no connection."""
        return self._peer

    def set_trailing_metadata(self, metadata: Metadata) -> None:
        """What goes with the status."""
        self.trailing = metadata

    def add_done_callback(self, callback: Callable[[Context], None]) -> None:
        """Call back when the call has ended."""
        self._done.append(callback)

    async def send_initial_metadata(self, metadata: Metadata) -> None:
        """Tell the caller that it is let in."""
        self.initial = metadata
        self.accepted.set()

    async def read(self) -> object:
        """Return the caller's next message, or grpc.aio.EOF."""
        message = await self.requests.read()
        return grpc.aio.EOF if message is None else message

    async def write(self, message: bytes) -> None:
        """Give an answer; returns when the one before was taken."""
        try:
            await self.answers.write(message)
        except PipeClosed:
            raise grpc.aio.InternalError("the call has ended") from None

    async def abort(self, code: grpc.StatusCode, details: str = "", metadata: Metadata = ()) -> NoReturn:
        """End the call with a status."""
        self.end(code, details, metadata)
        raise grpc.aio.AbortError(details)

    def end(self, code: grpc.StatusCode, details: str = "", metadata: Metadata | None = None) -> None:
        """End the call; the first one to say so decides how."""
        if self.code is not None:
            return
        self.code, self.details = code, details
        if metadata is not None:
            self.trailing = metadata
        self.requests.close()
        self.answers.close()
        self.accepted.set()
        self.ended.set()
        for callback in self._done:
            callback(self)


class Call:
    """A call under way, from the caller's side; common to all kinds."""

    def __init__(self, context: Context, stop: Callable[[], object], decode: Decode | None) -> None:
        """`stop` ends the handler's work."""
        self._context = context
        self._stop = stop
        self._decode = decode

    def cancel(self) -> bool:
        """End the call; False: it has ended already."""
        if self._context.code is not None:
            return False
        self._context.end(grpc.StatusCode.CANCELLED, "cancelled by the caller")
        self._stop()
        return True

    def add_done_callback(self, callback: Callable[[Call], None]) -> None:
        """Call back when it has ended."""
        self._context.add_done_callback(lambda _: callback(self))

    def done(self) -> bool:
        """Whether it has ended."""
        return self._context.code is not None

    async def initial_metadata(self) -> grpc.aio.Metadata:
        """Return what the handler said first, or nothing when it has ended the call."""
        await self._context.accepted.wait()
        return grpc.aio.Metadata(*self._context.initial)

    async def code(self) -> grpc.StatusCode:
        """Return the status, once the call has ended."""
        await self._context.ended.wait()
        assert self._context.code is not None, "it has ended"
        return self._context.code

    async def trailing_metadata(self) -> grpc.aio.Metadata:
        """What came with the status, once the call has ended."""
        await self._context.ended.wait()
        return grpc.aio.Metadata(*self._context.trailing)

    def _decoded(self, message: bytes) -> Any:
        return message if self._decode is None else self._decode(message)

    def _check(self) -> None:
        """Raise what became of a call that has ended otherwise than well."""
        context = self._context
        assert context.code is not None, "it has ended"
        if context.code is grpc.StatusCode.CANCELLED:
            raise asyncio.CancelledError
        if context.code is not _OK:
            raise grpc.aio.AioRpcError(
                context.code, grpc.aio.Metadata(), grpc.aio.Metadata(*context.trailing), context.details
            )


class UnaryCall(Call):
    """Awaited for its one answer."""

    def __await__(self) -> Generator[Any, None, Any]:
        return self._answer().__await__()

    async def _answer(self) -> Any:
        try:
            message = await self._context.answers.read()
            await self._context.ended.wait()
        except asyncio.CancelledError:
            self.cancel()
            raise
        self._check()
        assert message is not None, "a call that ended well has an answer"
        return self._decoded(message)


class StreamCall(Call):
    """A stream of answers, and of requests where the method has one."""

    def __init__(
        self, context: Context, stop: Callable[[], object], decode: Decode | None, encode: Encode | None
    ) -> None:
        super().__init__(context, stop, decode)
        self._encode = encode

    async def read(self) -> Any:
        """Return the next answer, or grpc.aio.EOF behind the last one."""
        try:
            message = await self._context.answers.read()
        except asyncio.CancelledError:
            self.cancel()
            raise
        if message is not None:
            return self._decoded(message)
        await self._context.ended.wait()
        self._check()
        return grpc.aio.EOF

    async def write(self, request: Any) -> None:
        """Give a request; returns when the one before was taken."""
        try:
            await self._context.requests.write(request if self._encode is None else self._encode(request))
        except PipeClosed:
            raise asyncio.InvalidStateError("the call has ended") from None

    async def done_writing(self) -> None:
        """No more requests come."""
        self._context.requests.close()

    async def __aiter__(self) -> AsyncIterator[Any]:
        while (answer := await self.read()) is not grpc.aio.EOF:
            yield answer
