"""One test, both flavours of the client: Client behind the names and the awaits of AsyncClient."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from types import TracebackType
from typing import Any

from quorumlog.client import Client, Consumer, PendingRecord, PendingRecords, Producer

_PLAIN = ("producer", "consumer", "batches")  # calls that AsyncClient answers without an await, too
_WRAPPED = (Client, Producer, Consumer, PendingRecord, PendingRecords)
_END = object()


class Awaitable:
    """A synchronous client, producer or consumer; its calls run in a thread, so that they may block."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if not callable(found):
            return found
        if name in _PLAIN:
            return lambda *args, **named: _wrapped(found(*args, **named))

        async def call(*args: Any, **named: Any) -> Any:
            return _wrapped(await asyncio.to_thread(found, *args, **named))

        return call

    def __await__(self) -> Generator[Any, None, Any]:
        return asyncio.to_thread(self._inner.result).__await__()

    async def __aenter__(self) -> Any:
        await asyncio.to_thread(self._inner.__enter__)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self._inner.__exit__, kind, error, trace)

    def __aiter__(self) -> Awaitable:
        self._iterator = iter(self._inner)
        return self

    async def __anext__(self) -> Any:
        item = await asyncio.to_thread(next, self._iterator, _END)
        if item is _END:
            raise StopAsyncIteration
        return item


def _wrapped(result: Any) -> Any:
    if isinstance(result, list):
        return [_wrapped(each) for each in result]
    if isinstance(result, _WRAPPED) or (hasattr(result, "__next__") and not isinstance(result, tuple)):
        return Awaitable(result)
    return result


Connect = Callable[..., Any]  # as AsyncClient(...)


def synchronous(*args: Any, **options: Any) -> Any:
    """Return what looks like AsyncClient(...) and is Client(...)."""
    return Awaitable(Client(*args, **options))
