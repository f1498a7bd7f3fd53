"""Calls from clients to nodes: what gRPC carries, with the same coroutines of the services at the other end.

A call takes time each way, gets lost with the connection or the node, may be answered after its caller has
given up, and is cancelled at the node when the caller hangs up. Errors come back as the client knows them,
made by the node's own table of reasons.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final

import grpc
import grpc.aio
from google.rpc import error_details_pb2, status_pb2

from quorumlog.client import errors
from quorumlog.client.errors import Attempt, QuorumlogError
from quorumlog.client.translate import from_failure
from quorumlog.node.call import NO_FORWARD, Call
from quorumlog.node.errors import Relayed, failure_for, refused_for, status_for
from quorumlog.node.reasons import Reason, Refused
from tests.simulation.loop import SimulatedLoop

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster
    from tests.simulation.network import NodeLoop
    from tests.simulation.node import Node

SILENCE_S: Final = 3.0  # of a cut connection, until keepalive gives it up

Answer = tuple[bytes | QuorumlogError | None, tuple[str, str] | None]  # None: the stream ended; and who leads

METHODS: dict[str, Callable[[Any], Callable[..., Coroutine[Any, Any, Any]]]] = {
    "Produce": lambda process: process.log_service.produce,
    "ProduceStream": lambda process: process.streams.run,
    "OpenProducer": lambda process: process.log_service.open_producer,
    "Fetch": lambda process: process.consuming.fetch,
    "ListOffsets": lambda process: process.consuming.list_offsets,
    "AddMember": lambda process: process.cluster_service.add_member,
    "RemoveMember": lambda process: process.cluster_service.remove_member,
    "TransferLeadership": lambda process: process.cluster_service.transfer_leadership,
    "SetSyncPolicy": lambda process: process.cluster_service.set_sync_policy,
    "CreateTopic": lambda process: process.topics_service.create,
    "DeleteTopic": lambda process: process.topics_service.delete,
}


class Context:
    """The server's side of a call: what node.call.Call asks of gRPC."""

    def __init__(self, open_call: OpenCall, timeout_s: float | None, *, no_forward: bool) -> None:
        self._call = open_call
        self._deadline = None if timeout_s is None else open_call.now + timeout_s
        self._metadata = ((NO_FORWARD, "1"),) if no_forward else ()
        self.requests: asyncio.Queue[bytes] | None = None
        self._when_over: list[Callable[[object], None]] = []

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return self._metadata

    def time_remaining(self) -> float | None:
        return None if self._deadline is None else max(0.0, self._deadline - self._call.now)

    async def send_initial_metadata(self, metadata: object) -> None:
        """Nobody waits for it: clients of the simulation repeat without duplicates."""

    def peer(self) -> str:
        return "client"

    def add_done_callback(self, callback: Callable[[object], None]) -> None:
        self._when_over.append(callback)

    def over(self) -> None:
        """The call has ended, from whichever side."""
        callbacks, self._when_over = self._when_over, []
        for callback in callbacks:
            callback(self)

    async def read(self) -> bytes:
        assert self.requests is not None
        return await self.requests.get()

    async def write(self, message: bytes) -> None:
        self._call.answer(message)


class OpenCall:
    """One call under way; for a stream, many messages each way.

    - Messages of each direction arrive in order.
    - After its end, from whichever side, nothing arrives any more.
    """

    def __init__(
        self,
        calls: Calls,
        loop: SimulatedLoop,
        node: Node,
        method: str,
        raw: bytes,
        timeout_s: float | None,
        *,
        no_forward: bool,
        origin: str = "",
    ) -> None:
        self.node = node
        self.refused: Refused | None = None  # why it failed, as the node said it
        self.life = node.life
        self.ended = False
        self.arrived: asyncio.Queue[Answer] = asyncio.Queue()  # at the client
        self._calls = calls
        self._origin = origin  # a node's name; empty: a client's call
        self._loop = loop
        self._method = method
        self._context = Context(self, timeout_s, no_forward=no_forward)
        self._severed = False
        self._task: asyncio.Task[None] | None = None
        self._last_request = self._last_answer = 0.0
        self._is_stream = method == "ProduceStream"
        self._to_node(self._begin, raw)

    @property
    def now(self) -> float:
        return self._calls.cluster.events.now

    # The client's side

    def send(self, raw: bytes) -> None:
        """Another message of a stream."""
        self._to_node(self._request, raw)

    def cancel(self) -> None:
        """The client hangs up."""
        if not self.ended:
            self.ended = True
            self._to_node(self._hang_up)

    # The node's side

    def answer(self, message: bytes) -> None:
        self._to_client((message, self._calls.leader_of(self.node)))

    def _begin(self, raw: bytes) -> None:
        node = self.node
        if not node.running:
            self._to_client((_refused(node), None))
            return
        self._calls.open_at(node).append(self)
        self._context.requests = asyncio.Queue()
        self._task = node.loop.create_task(self._serve(METHODS[self._method](node.process), raw))

    async def _serve(self, method: Callable[..., Coroutine[Any, Any, Any]], raw: bytes) -> None:
        call = Call(self._context, self.node.outbound)  # type: ignore[arg-type]
        answer: bytes | QuorumlogError | None
        try:
            answer = await (method(call) if self._is_stream else method(raw, call))
            if answer is not None:
                call.answered(answer)
        except Exception as error:  # noqa: BLE001 (the table knows it, or it is a violation)
            refused = self.refused = said_by(error) if isinstance(error, Relayed) else refused_for(error)
            if refused.reason.value == "INTERNAL":
                self._calls.cluster.fail_with(self.node, error)
            answer = from_failure(failure_for(refused))
            answer.answered = True
            answer.attempts = (Attempt(_address(self.node), answer.message),)
        finally:
            call.release()
            self._context.over()
        self._calls.open_at(self.node).remove(self)
        self._to_client((answer, self._calls.leader_of(self.node)))

    def _request(self, raw: bytes) -> None:
        if self._context.requests is not None:
            self._context.requests.put_nowait(raw)

    def _hang_up(self) -> None:
        if self._task is not None and not self._task.done():
            self._task.cancel()
            open_calls = self._calls.open_at(self.node)
            if self in open_calls:
                open_calls.remove(self)

    # The way

    def _to_node(self, step: Callable[..., None], *args: Any) -> None:
        calls = self._calls
        arrival = max(self.now + calls.delay(), self._last_request)
        self._last_request = arrival
        calls.cluster.events.at(arrival, None, self._at_node, step, args)

    def _at_node(self, step: Callable[..., None], args: tuple[Any, ...]) -> None:
        """Bytes reach the machine; the process there may be another one by now, paused, or none."""
        node = self.node
        if self._is_severed():
            return
        if not node.powered:
            return
        if self.life != node.life or not node.running:
            self._to_client((_refused(node), None))
            return
        self._calls.cluster.events.at(self.now, node.loop, step, *args)

    def _to_client(self, answer: Answer) -> None:
        if self._is_severed():
            return
        arrival = max(self.now + self._calls.delay(), self._last_answer)
        self._last_answer = arrival
        self._calls.cluster.events.at(arrival, self._loop, self._at_client, answer)

    def _at_client(self, answer: Answer) -> None:
        if not self.ended:
            self.ended = not self._is_stream or not isinstance(answer[0], bytes)
            self.arrived.put_nowait(answer)

    def _is_severed(self) -> bool:
        """Is the line cut, or was it? What was lost then leaves a hole: nothing comes after it."""
        if not self._severed and self._is_cut():
            self._severed = True
            self._calls.cluster.events.after(SILENCE_S, self.broken)
        return self._severed

    def _is_cut(self) -> bool:
        if not self._origin:
            return self.node.name in self._calls.cut
        return self._calls.cluster.network.is_cut(self._origin, self.node.name)

    def broken(self) -> None:
        """The node's process is gone, and its kernel says so; or the connection broke."""
        answer = _lost(self.node), None
        if self._severed:
            self._calls.cluster.events.at(self.now, self._loop, self._at_client, answer)
        else:
            self._to_client(answer)


class Relaying:
    """A stream that a node relays to another: what grpc.aio gives for stream_stream."""

    def __init__(self, open_call: OpenCall) -> None:
        self._call = open_call

    async def write(self, raw: bytes) -> None:
        self._call.send(raw)

    async def done_writing(self) -> None:
        """The caller has no more to say. (The simulated producer never ends its stream so.)"""

    async def read(self) -> object:
        answer, _ = await self._call.arrived.get()
        if isinstance(answer, QuorumlogError):
            raise rpc_error(self._call, answer)
        return answer

    def cancel(self) -> None:
        self._call.cancel()


class Channel:
    """A connection of one node to another's services: as much of grpc.aio.Channel as routing uses."""

    def __init__(self, calls: Calls, loop: NodeLoop, address: str) -> None:
        self._calls = calls
        self._loop = loop
        self._address = address

    def unary_unary(self, method: str) -> Callable[..., Coroutine[Any, Any, bytes]]:
        async def call(raw: bytes, timeout: float, metadata: object) -> bytes:
            open_call = self._begin(method, raw, timeout)
            try:
                async with asyncio.timeout(timeout):
                    answer, _ = await open_call.arrived.get()
            except TimeoutError:
                raise rpc_error(open_call, errors.OutcomeUnknown("no answer in time")) from None
            finally:
                open_call.cancel()
            if isinstance(answer, QuorumlogError):
                raise rpc_error(open_call, answer)
            assert answer is not None
            return answer

        return call

    def stream_stream(self, method: str) -> Callable[..., Relaying]:
        def call(timeout: float | None, metadata: object) -> Relaying:
            return Relaying(self._begin(method, b"", timeout))

        return call

    def _begin(self, method: str, raw: bytes, timeout_s: float | None) -> OpenCall:
        name = method.rpartition("/")[2]
        return self._calls.begin(
            self._loop, self._address, name, raw, timeout_s, no_forward=True, origin=self._loop.node.name
        )


class Channels:
    """node.channels.Channels of one node."""

    def __init__(self, calls: Calls, loop: NodeLoop) -> None:
        self._calls = calls
        self._loop = loop

    async def ready(self, address: str, timeout_s: float) -> Channel | None:
        """See node.channels."""
        cluster = self._calls.cluster
        name = address.partition(":")[0]
        await asyncio.sleep(0.001)
        if not cluster.nodes[name].running or cluster.network.is_cut(self._loop.node.name, name):
            await asyncio.sleep(max(0.0, timeout_s))
            return None
        return Channel(self._calls, self._loop, address)


def said_by(relayed: Relayed) -> Refused:
    """What another node said to a forwarded call, out of its status' details."""
    info = error_details_pb2.ErrorInfo()
    for detail in status_pb2.Status.FromString(bytes(relayed.metadata[0][1])).details:
        detail.Unpack(info)
    return Refused(Reason(relayed.reason), relayed.message, tuple(sorted(info.metadata.items())))


def rpc_error(open_call: OpenCall, error: QuorumlogError) -> grpc.aio.AioRpcError:
    """What grpc.aio raises for a call that ended so."""
    nothing = grpc.aio.Metadata()
    refused = open_call.refused
    if refused is None:  # nobody's answer: gRPC's own
        code = grpc.StatusCode.UNAVAILABLE
        if isinstance(error, errors.OutcomeUnknown):
            code = grpc.StatusCode.DEADLINE_EXCEEDED
        return grpc.aio.AioRpcError(code, nothing, nothing, error.message)
    code, message, metadata = status_for(refused)
    return grpc.aio.AioRpcError(code, nothing, grpc.aio.Metadata(*metadata), message)


class Calls:
    """All calls between clients and nodes."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.cut: set[str] = set()  # nodes that clients do not reach
        self._open: dict[str, list[OpenCall]] = {name: [] for name in cluster.names}

    def delay(self) -> float:
        return self.cluster.draw(self.cluster.conditions.network_delay)

    def open_at(self, node: Node) -> list[OpenCall]:
        return self._open.setdefault(node.name, [])

    def begin(
        self,
        loop: SimulatedLoop,
        address: str,
        method: str,
        raw: bytes = b"",
        timeout_s: float | None = None,
        *,
        no_forward: bool = True,
        origin: str = "",
    ) -> OpenCall:
        """Begin a call to the node at `host:port`."""
        node = self.cluster.nodes[address.partition(":")[0]]
        return OpenCall(self, loop, node, method, raw, timeout_s, no_forward=no_forward, origin=origin)

    async def unary(
        self,
        loop: SimulatedLoop,
        address: str,
        method: str,
        raw: bytes,
        timeout_s: float,
        *,
        no_forward: bool = True,
    ) -> tuple[bytes, tuple[str, str] | None]:
        """Call once; return the answer and who leads. Raises QuorumlogError (too late: OutcomeUnknown)."""
        call = self.begin(loop, address, method, raw, timeout_s, no_forward=no_forward)
        try:
            async with asyncio.timeout(timeout_s):
                answer, leader = await call.arrived.get()
        except TimeoutError:
            cause = "no answer in time"
            raise errors.OutcomeUnknown(cause, attempts=[Attempt(address, cause)]) from None
        finally:
            call.cancel()
        if isinstance(answer, QuorumlogError):
            raise answer
        assert answer is not None
        return answer, leader

    def leader_of(self, node: Node) -> tuple[str, str] | None:
        """Return id and client address of who leads, as the node knows it: its trailing metadata."""
        if node.process is None:
            return None
        engine = node.process.engine
        if engine.leader_id is None or engine.leader_client_address is None:
            return None
        return engine.leader_id, engine.leader_client_address

    def died(self, node: Node) -> None:
        """A node's process is gone. Where the machine is there, its kernel resets the connections."""
        calls = self._open.pop(node.name, [])
        if node.powered:
            for call in calls:
                call.broken()

    def reset(self, node: Node) -> None:
        """All connections of clients to a node break."""
        calls = self._open.pop(node.name, [])
        for call in calls:
            call.broken()
            node.loop.call_soon(call._hang_up)


def _refused(node: Node) -> QuorumlogError:
    cause = "connection refused"
    return errors.ConnectionFailed(cause, attempts=[Attempt(_address(node), cause)])


def _lost(node: Node) -> QuorumlogError:
    cause = "connection lost"
    return errors.Unavailable(cause, attempts=[Attempt(_address(node), cause)])


def _address(node: Node) -> str:
    return f"{node.name}:9650"
