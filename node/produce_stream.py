"""ProduceStream: many requests under way on one call, answered in their order.

On the node that leads, a pipeline: requests are read while the window has room, begun at once, and
answered in turn. Elsewhere, a relay: the messages go to the leader and back as they are. In both, what
the caller may send ahead is bounded by not reading it: HTTP/2's flow control does the rest.

A stream belongs to the leader of its first moment. When that node steps down, a pipeline answers what it
has begun and ends; when another leads, a relay ends. The caller opens another, and finds the new leader.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import grpc

from quorumlog.node.call import Call, parse
from quorumlog.node.producing import Begun, Producing
from quorumlog.node.reasons import Reason, Refusal
from quorumlog.node.routing import Router, translated
from quorumlog.node.signals import Signal
from quorumlog.proto import service_pb2
from quorumlog.raft.engine import Engine, Role

StreamCallable: TypeAlias = "grpc.aio.StreamStreamMultiCallable[bytes, bytes]"

METHOD = "/quorumlog.v1.Log/ProduceStream"

# Enough to keep the disk and the network busy at any size of request; bounds what one stream may hold.
WINDOW_REQUESTS = 64
WINDOW_BYTES = 32 * 1024 * 1024
WINDOW_BATCHES = 4096  # each is a future


class ProduceStreams:
    """All streams of this node."""

    def __init__(self, engine: Engine, producing: Producing, router: Router, connect_s: float) -> None:
        """`connect_s`: how long a stream may wait for a leader before it begins."""
        self._engine = engine
        self._producing = producing
        self._router = router
        self._connect_s = connect_s
        self._pipelines: dict[_Pipeline, None] = {}  # in order of arrival
        self._relays: dict[_Relay, None] = {}
        engine.on_role.append(self._on_role)

    async def run(self, call: Call) -> None:
        """Serve one call to its end."""
        channel = await self._router.leader_channel(call, call.time_left_s(self._connect_s))
        await call.accept()
        if channel is not None:
            await self._relay(channel, call)
            return
        pipeline = _Pipeline(self._producing, call)
        self._pipelines[pipeline] = None
        try:
            await pipeline.run()
        finally:
            self._pipelines.pop(pipeline, None)

    def stop(self) -> None:
        """Read nothing more; what was read is answered, then each call ends with SHUTTING_DOWN."""
        for pipeline in self._pipelines:
            pipeline.stop(_shutting_down)
        for relay in self._relays:
            relay.finish()

    async def _relay(self, channel: grpc.aio.Channel, call: Call) -> None:
        relay = _Relay(channel, call, self._engine.leader_id, self._router)
        self._relays[relay] = None
        try:
            await relay.run()
        finally:
            self._relays.pop(relay, None)

    def _on_role(self, role: Role, term: int, leader_id: str | None) -> None:
        if role is not Role.LEADER:
            for pipeline in self._pipelines:
                pipeline.stop(self._router.not_leader)
        for relay in self._relays:
            # During an election the old leader's answers may still come; another leader ends the hope.
            if leader_id not in (None, relay.leader_id):
                relay.stop()


def _shutting_down() -> Exception:
    return Refusal(Reason.SHUTTING_DOWN, "this node is shutting down; go on at another")


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A request that was begun, and its size in bytes."""

    begun: Begun
    size: int


@dataclass(slots=True)
class _Window:
    """What one stream has under way. A request larger than the window goes alone."""

    requests: int = 0
    batches: int = 0
    size: int = 0

    def has_room(self, size: int) -> bool:
        """Whether another request of so many bytes may begin."""
        if self.requests == 0:
            return True
        is_full = self.requests >= WINDOW_REQUESTS or self.batches >= WINDOW_BATCHES
        return not is_full and self.size + size <= WINDOW_BYTES

    def add(self, waiting: _Waiting, sign: int) -> None:
        """Count a request that begins (1) or was answered (-1)."""
        self.requests += sign
        self.batches += sign * len(waiting.begun.outcomes)
        self.size += sign * waiting.size


class _Pipeline:
    """One stream on the leader. What was begun and is not answered stands in `_waiting`, in order."""

    def __init__(self, producing: Producing, call: Call) -> None:
        self._producing = producing
        self._call = call
        self._waiting: asyncio.Queue[_Waiting | None] = (
            asyncio.Queue()
        )  # bounded by the window; None: no more
        self._window = _Window()
        self._answered = Signal()
        self._reader: asyncio.Task[None] | None = None
        self._why: Callable[[], Exception] = _shutting_down  # it was stopped; asked at the end

    async def run(self) -> None:
        """Answer until the caller has no more to say, or `stop`. Raises why it ended before."""
        self._reader = asyncio.create_task(self._read())
        try:
            while (waiting := await self._waiting.get()) is not None:
                await self._call.write(await self._producing.finish(waiting.begun))
                self._window.add(waiting, -1)
                self._answered.fire()
            await self._end()
        finally:
            self._reader.cancel()
            self._forget()

    def stop(self, why: Callable[[], Exception]) -> None:
        """Read nothing more; when what was begun is answered, the call ends with `why()`."""
        if self._reader is not None and not self._reader.done():
            self._why = why
            self._reader.cancel()

    async def _read(self) -> None:
        try:
            while (raw := await self._call.read()) is not None:
                while not self._window.has_room(len(raw)):
                    await self._answered.wait(self._answered.count)
                request = parse(service_pb2.ProduceRequest, raw)
                begun = self._producing.begin(request, self._producing.timeout_s(request), self._call)
                waiting = _Waiting(begun, len(raw))
                self._window.add(waiting, 1)
                self._waiting.put_nowait(waiting)
        finally:
            self._waiting.put_nowait(None)

    async def _end(self) -> None:
        """All is answered: say how the reading ended."""
        assert self._reader is not None, "run made it"
        await asyncio.wait((self._reader,))
        if self._reader.cancelled():
            raise self._why()
        self._reader.result()

    def _forget(self) -> None:
        while not self._waiting.empty():
            waiting = self._waiting.get_nowait()
            if waiting is not None:
                waiting.begun.cancel()


class _Relay:
    """One stream on a node that does not lead: bytes to the leader, bytes back."""

    def __init__(self, channel: grpc.aio.Channel, call: Call, leader_id: str | None, router: Router) -> None:
        self.leader_id = leader_id
        self._router = router
        self._is_stopped = False
        self._is_finishing = False
        self._call = call
        timeout = call.context.time_remaining()
        method: StreamCallable = channel.stream_stream(METHOD)
        self._leader = method(timeout=timeout, metadata=call.forwarding)
        self._sent = 0
        self._answered = 0
        self._sender: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Pass messages until either side ends. Raises what the leader said, or what its silence means."""
        self._sender = asyncio.create_task(self._send())
        try:
            # gRPC's EOF, which ends the leader's stream, is no bytes.
            while isinstance(response := await self._leader.read(), bytes):
                await self._call.write(response)
                self._answered += 1
        except grpc.aio.AioRpcError as error:
            raise self._meaning(translated(error, "its client address")) from error
        except asyncio.CancelledError:
            if not self._is_stopped:
                raise
            unknown = Refusal(
                Reason.OUTCOME_UNKNOWN, "another node leads now; the one before may have done it"
            )
            raise self._meaning(unknown) from None
        finally:
            self._sender.cancel()
            self._leader.cancel()
        if self._is_finishing:
            raise _shutting_down()

    def finish(self) -> None:
        """This node stops: read nothing more; the call ends when the leader has answered what was sent."""
        self._is_finishing = True
        if self._sender is not None:
            self._sender.cancel()

    def stop(self) -> None:
        """Another node leads: end the call, whatever is unanswered."""
        self._is_stopped = True
        self._leader.cancel()

    async def _send(self) -> None:
        try:
            await self._pass_on()
            await self._leader.done_writing()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return  # the leader's side ended: reading from it says how

    async def _pass_on(self) -> None:
        try:
            while (raw := await self._call.read()) is not None:
                self._sent += 1
                await self._leader.write(raw)
        except asyncio.CancelledError:
            if not self._is_finishing:
                raise

    def _meaning(self, error: Exception) -> Exception:
        """Return what the caller is told: nothing is unknown where everything sent was answered."""
        is_unknown = isinstance(error, Refusal) and error.refused.reason is Reason.OUTCOME_UNKNOWN
        if not is_unknown or self._sent != self._answered:
            return error
        if self._is_stopped:
            return self._router.not_leader()
        return Refusal(Reason.NO_LEADER, "the connection to the leader ended; everything sent was answered")
