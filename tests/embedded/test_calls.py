"""What takes gRPC's place within a process: deadlines, cancelling, statuses, and one message at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
import pytest

from quorumlog.embedded.call import Context
from quorumlog.embedded.channel import LocalChannel
from quorumlog.embedded.server import LocalServer

Handle = Callable[[Any, Context], Awaitable[Any]]


class World:
    """A server with one service, and a channel to it."""

    def __init__(self) -> None:
        self.server = LocalServer()
        self.channel = LocalChannel(self.server)
        self.cancelled: list[str] = []
        self.written: list[bytes] = []
        self.done: list[Context] = []
        makes = {
            "Echo": grpc.unary_unary_rpc_method_handler(self.echo),
            "Text": grpc.unary_unary_rpc_method_handler(
                self.echo, request_deserializer=bytes.decode, response_serializer=str.encode
            ),
            "Abort": grpc.unary_unary_rpc_method_handler(self.abort),
            "Bug": grpc.unary_unary_rpc_method_handler(self.bug),
            "Sleep": grpc.unary_unary_rpc_method_handler(self.sleep),
            "Count": grpc.unary_stream_rpc_method_handler(self.count),
            "Talk": grpc.stream_stream_rpc_method_handler(self.talk),
        }
        self.server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("s", makes)])

    async def echo(self, request: Any, context: Context) -> Any:
        context.add_done_callback(self.done.append)
        context.set_trailing_metadata((("seen", str(dict(context.invocation_metadata()))),))
        return request

    async def abort(self, request: bytes, context: Context) -> bytes:
        await context.abort(grpc.StatusCode.NOT_FOUND, "no such thing", (("why", "because"),))

    async def bug(self, request: bytes, context: Context) -> bytes:
        raise ZeroDivisionError("a bug")

    async def sleep(self, request: bytes, context: Context) -> bytes:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.append(f"{(context.time_remaining() or 0) >= 0}")
            raise
        return b""

    async def count(self, request: bytes, context: Context) -> None:
        for number in range(int(request)):
            await context.write(b"%d" % number)
            self.written.append(b"%d" % number)

    async def talk(self, _: object, context: Context) -> None:
        while (message := await context.read()) is not grpc.aio.EOF:
            assert isinstance(message, bytes)
            await context.write(message.upper())

    def unary(self, name: str, request: Any = b"x", **options: Any) -> Any:
        return self.channel.unary_unary(f"/s/{name}")(request, **options)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    await made.server.start()
    yield made
    await made.server.stop(0)


async def test_an_answer_comes_with_its_metadata(world: World) -> None:
    call = world.unary("Echo", b"hello", metadata=(("a", "b"),))
    assert await call == b"hello"
    assert dict(await call.trailing_metadata())["seen"] == "{'a': 'b'}"
    assert len(world.done) == 1
    text = world.channel.unary_unary("/s/Text", str.encode, bytes.decode)
    assert await text("wörld") == "wörld"


async def test_a_refusal_carries_status_and_details(world: World) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await world.unary("Abort")
    error = refused.value
    assert (error.code(), error.details()) == (grpc.StatusCode.NOT_FOUND, "no such thing")
    assert dict(error.trailing_metadata()) == {"why": "because"}


async def test_a_method_that_is_not_there_and_one_that_fails(world: World) -> None:
    for name, code in (("Nothing", grpc.StatusCode.UNIMPLEMENTED), ("Bug", grpc.StatusCode.UNKNOWN)):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await world.unary(name)
        assert refused.value.code() is code


async def test_a_deadline_ends_the_work(world: World) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as late:
        await world.unary("Sleep", timeout=0.01)
    assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await asyncio.sleep(0)
    assert world.cancelled == ["True"]


async def test_whoever_gives_up_ends_the_work(world: World) -> None:
    waiting = asyncio.ensure_future(world.unary("Sleep")._answer())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await asyncio.sleep(0)
    assert world.cancelled == ["True"]
    call = world.unary("Echo")
    await call
    assert (call.done(), call.cancel()) == (True, False)


async def test_a_stream_waits_for_its_reader(world: World) -> None:
    call = world.channel.unary_stream("/s/Count")(b"10")
    for _ in range(20):
        await asyncio.sleep(0)
    assert world.written == [b"0"]  # and the second waits
    assert [await call.read() for _ in range(3)] == [b"0", b"1", b"2"]
    assert len(world.written) <= 5
    assert [each async for each in call] == [b"%d" % number for number in range(3, 10)]
    assert await call.read() is grpc.aio.EOF


async def test_both_sides_talk(world: World) -> None:
    call = world.channel.stream_stream("/s/Talk")()
    for word in (b"a", b"b"):
        await call.write(word)
        assert await call.read() == word.upper()
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    with pytest.raises(asyncio.InvalidStateError):
        await call.write(b"c")


async def test_closing_the_channel_ends_its_calls(world: World) -> None:
    call = world.channel.stream_stream("/s/Talk")()
    reading = asyncio.ensure_future(call.read())
    await asyncio.sleep(0)
    await world.channel.close()
    with pytest.raises(asyncio.CancelledError):
        await reading


async def test_a_server_that_stops_lets_calls_finish_and_takes_no_more(world: World) -> None:
    slow = asyncio.ensure_future(world.unary("Sleep")._answer())
    await asyncio.sleep(0)
    await world.server.stop(0.01)
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await slow
    assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await world.unary("Echo")
    assert refused.value.details() == "the log is closed"


async def test_a_reader_that_does_not_read_is_cut(world: World) -> None:
    call = world.channel.unary_stream("/s/Count")(b"10")
    await asyncio.sleep(0)
    world.server.cut("in-process:1")
    world.server.cut("in-process:999")
    assert await call.read() == b"0"  # what it was given it has
    with pytest.raises(grpc.aio.AioRpcError) as cut:
        await anext(aiter(call))
    assert cut.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_failure_reaches_those_under_way_and_those_that_come(world: World) -> None:
    slow = asyncio.ensure_future(world.unary("Sleep")._answer())
    stream = world.channel.stream_stream("/s/Talk")()
    reading = asyncio.ensure_future(stream.read())
    await asyncio.sleep(0)
    world.server.fail(74, "the disk is gone")
    for waiting in (slow, reading, world.unary("Echo")._answer()):
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await waiting
        assert failed.value.code() is grpc.StatusCode.ABORTED
        assert "the disk is gone" in (failed.value.details() or "")
