"""Simulated TCP between nodes: what raft.transport's connections run over.

- A connection delivers bytes of each direction in order, or breaks; what is in flight then is lost, or (an
  end
  that has not noticed yet) still arrives.
- A blocked direction holds bytes back, as TCP does by repeating them: they arrive when it heals, unless an
  end
  has given up by then.
- The ends notice a break each in its own time. An end whose other end is gone notices when it writes.
- Each direction has a bandwidth and a bounded buffer: a full one pauses the writer.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from quorumlog.proto.checksum import Buffer
from quorumlog.proto.peer_pb2 import PeerMessage
from quorumlog.raft.engine import TICK_S
from quorumlog.raft.wire import PREFIX
from tests.simulation.events import get_running
from tests.simulation.loop import SimulatedLoop
from tests.support.simulated_disk import PowerCut

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster
    from tests.simulation.node import Node

Tamper = Callable[[str, str, PeerMessage, bytes | None], bytes | None]  # sender, receiver, ...
Factory = Callable[[], asyncio.BufferedProtocol]

PORT = 9651
BYTES_PER_S = 100e6


@dataclass(slots=True)
class Conditions:
    """How the world behaves when nothing is wrong with it: (low, high) of seconds."""

    network_delay: tuple[float, float] = (0.0005, 0.003)
    disk_delay: tuple[float, float] = (0.0003, 0.002)
    reconnect_delay: tuple[float, float] = (0.001, 0.05)  # until an end notices a break


class Lost(Exception):
    """A message that does not arrive."""


class ProcessExit(BaseException):
    """The process has ended itself. Not an Exception: nothing may handle it."""


class End(asyncio.Transport):
    """One end of a connection, as asyncio's protocols know it."""

    def __init__(self, network: Network, loop: SimulatedLoop, name: str, other_name: str) -> None:
        self.loop = loop
        self.name = name
        self.other_name = other_name
        self.other: End | None = None
        self.protocol: asyncio.BufferedProtocol | None = None
        self.closed = False
        self.late = 0.0  # added to what arrives here
        self._network = network
        self._held: list[bytes] = []
        self._last_arrival = 0.0  # at the other end
        self._free_at = 0.0  # when the line has taken what was written
        self._buffered = 0
        self._high = 64 << 10
        self._is_paused = False

    # asyncio's side

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return (self.other_name, 0) if name == "peername" else default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = self._high if high is None else high

    def is_closing(self) -> bool:
        return self.closed

    def write(self, data: Any) -> None:
        self.writelines([data])

    def writelines(self, list_of_data: Any) -> None:
        if not self.closed:
            self._carry(b"".join(list_of_data))

    def abort(self) -> None:
        """Close at once; the other end hears of it, unless the line is cut."""
        if self.closed:
            return
        self._lost_here(soon=True)
        other, network = self.other, self._network
        if other is not None and not network.is_cut(self.name, other.name):
            arrival = max(self._last_arrival, network.now + network.delay())
            network.at(arrival, other.loop, other.lost)

    close = abort

    # the network's side

    def open(self, other: End, protocol: asyncio.BufferedProtocol) -> None:
        self.other, self.protocol = other, protocol
        protocol.connection_made(self)

    def lost(self) -> None:
        """The connection is gone, as far as this end knows."""
        if not self.closed:
            self._lost_here(soon=False)

    def _lost_here(self, *, soon: bool) -> None:
        self.closed = True
        self._held.clear()
        self._network.forget(self)
        assert self.protocol is not None
        if soon:  # not in the middle of what the protocol is doing
            self.loop.call_soon(self.protocol.connection_lost, None)
        else:
            self.protocol.connection_lost(None)

    def _carry(self, data: bytes) -> None:
        network, other = self._network, self.other
        assert other is not None
        if network.is_watched:
            seen = network.watch(self.name, other.name, data)
            if seen is None:
                return
            data = seen
        if other.closed:  # a reset comes back, where there is a machine to send it
            if network.answers(other.name) and not network.is_cut(self.name, other.name):
                network.at(network.now + network.delay(), self.loop, self.lost)
            return
        now = network.now
        self._free_at = max(self._free_at, now) + len(data) / network.bandwidth(self.name, other.name)
        arrival = max(self._free_at + network.delay(self.name, other.name) + other.late, self._last_arrival)
        self._last_arrival = arrival
        self._buffered += len(data)
        if self._buffered > self._high and not self._is_paused:
            self._is_paused = True
            assert self.protocol is not None
            self.protocol.pause_writing()
        network.at(arrival, other.loop, other.arrive, data, arrival)

    def arrive(self, data: bytes, at: float) -> None:
        """Bytes are here since `at` (a paused process finds them later): for the protocol, or to be held."""
        if self.closed:
            return
        assert self.other is not None
        if self._held or at >= self._network.blocked_since.get((self.other_name, self.name), math.inf):
            self._held.append(data)
            return
        self.other.left(len(data))
        self._deliver(data)

    def release(self) -> None:
        """The direction is open again: what was held back comes."""
        held, self._held = self._held, []
        for data in held:
            self.arrive(data, self._network.now)

    def left(self, size: int) -> None:
        """Some of what was written has been read."""
        self._buffered -= size
        if self._is_paused and self._buffered <= self._high // 4 and not self.closed:
            self._is_paused = False
            assert self.protocol is not None
            self.loop.call_soon(self._resume)

    def _resume(self) -> None:
        if not self.closed and self.protocol is not None:
            self.protocol.resume_writing()

    def _deliver(self, data: bytes) -> None:
        protocol = self.protocol
        assert protocol is not None
        position = 0
        while position < len(data) and not self.closed:
            room = protocol.get_buffer(-1)
            size = min(len(room), len(data) - position)
            room[:size] = data[position : position + size]
            position += size
            protocol.buffer_updated(size)


class Acceptor:
    """Stands for raft.accepting.Acceptor: a node that listens."""

    def __init__(self, make: Factory, tls: object) -> None:
        assert tls is None
        self._make = make
        self._loop = cast(NodeLoop, get_running())

    async def start(self, host: str, port: int) -> str:
        """See raft.accepting."""
        self._loop.network.listening[self._loop.node.name] = (self._loop, self._make)
        return f"{host}:{port}"

    async def stop(self) -> None:
        """See raft.accepting."""
        self._loop.network.listening.pop(self._loop.node.name, None)


class NodeLoop(SimulatedLoop):
    """The loop of a node: it can connect."""

    network: Network
    node: Node

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> Any:
        # Idle ticks would be most of a quiet run's work: the engine's timer is coarser here.
        return super().call_later(self.node.cluster.tick_s if delay == TICK_S else delay, callback, *args)

    def execute(self, callback: Callable[..., object], args: tuple[Any, ...]) -> None:
        """See Owner. What ends the process is looked at afterwards; any other exception is a violation."""
        try:
            callback(*args)
        except (ProcessExit, PowerCut):
            pass
        except Exception as error:  # noqa: BLE001 (nothing may escape from a node)
            self.node.cluster.fail_with(self.node, error)
        self.node.after_each()

    async def create_connection(
        self, protocol_factory: Any, host: Any = None, port: Any = None, **options: Any
    ) -> Any:
        return await self.network.connect(self, self.node.name, str(host), protocol_factory)


class Network:
    """All connections, and what is wrong with the lines."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.conditions = cluster.conditions
        self.blocked_since: dict[tuple[str, str], float] = {}  # directions in which nothing arrives
        self.slow: dict[tuple[str, str], float] = {}  # bytes per second
        self.lag: dict[str, tuple[float, float]] = {}  # further delay of a node's lines
        self.listening: dict[str, tuple[NodeLoop, Factory]] = {}
        self.ends: list[End] = []
        self.intercept: Callable[[str, str, PeerMessage], bool] | None = None  # True: lose this message
        self.tamper: Tamper | None = None  # gives the attachment that arrives, or raises Lost
        self.trace_messages = False

    @property
    def now(self) -> float:
        return self._cluster.events.now

    def at(self, moment: float, loop: SimulatedLoop, callback: Callable[..., object], *args: Any) -> None:
        self._cluster.events.at(moment, loop, callback, *args)

    def delay(self, sender: str = "", receiver: str = "") -> float:
        delay = self._cluster.draw(self.conditions.network_delay)
        for name in (sender, receiver):
            if name in self.lag:
                delay += self._cluster.draw(self.lag[name])
        return delay

    def bandwidth(self, sender: str, receiver: str) -> float:
        return self.slow.get((sender, receiver), BYTES_PER_S)

    def is_cut(self, one: str, other: str) -> bool:
        """Does a connection between them stall, in either direction?"""
        return (one, other) in self.blocked_since or (other, one) in self.blocked_since

    def answers(self, name: str) -> bool:
        """Is there a machine that would answer to a stray packet with a reset?"""
        return name in self._cluster.nodes and self._cluster.nodes[name].powered

    @property
    def is_watched(self) -> bool:
        return self.trace_messages or self.intercept is not None or self.tamper is not None

    def watch(self, sender: str, receiver: str, data: bytes) -> bytes | None:
        """Show a message (each write is one) to whoever watches; return what is sent, None: nothing."""
        end = PREFIX.size + PREFIX.unpack_from(data)[0]
        message, attachment = PeerMessage.FromString(data[PREFIX.size : end]), data[end:]
        if self.trace_messages and not message.HasField("hello"):
            text = " ".join(str(message).split())
            more = f" + {len(attachment)} bytes" if attachment else ""
            self._cluster.tell(f"{sender} -> {receiver}: {text}{more}")
        if message.HasField("hello") or message.HasField("hello_refused"):
            return data
        if self.intercept is not None and self.intercept(sender, receiver, message):
            return None
        if self.tamper is not None:
            try:
                changed = self.tamper(sender, receiver, message, attachment or None)
            except Lost:
                return None
            return data[:end] + (changed or b"")
        return data

    async def connect(self, loop: NodeLoop, name: str, other_name: str, factory: Factory) -> Any:
        """A handshake, a round trip long. Raises ConnectionRefusedError; a cut line never answers."""
        await asyncio.sleep(2 * self.delay(name, other_name))
        if self.is_cut(name, other_name) or not self.answers(other_name):
            await loop.create_future()
        if other_name not in self.listening:
            raise ConnectionRefusedError(f"{other_name} does not listen")
        other_loop, other_factory = self.listening[other_name]
        near, far = End(self, loop, name, other_name), End(self, other_loop, other_name, name)
        self.ends += [near, far]
        protocol, other_protocol = factory(), other_factory()
        far.other, far.protocol = near, other_protocol
        near.open(far, protocol)
        self.at(self.now, other_loop, other_protocol.connection_made, far)
        return near, protocol

    def forget(self, end: End) -> None:
        if end in self.ends:
            self.ends.remove(end)

    def between(self, one: str, other: str) -> list[End]:
        """The open ends of connections between two nodes, the first one's ends first."""
        pair = [end for end in self.ends if {end.name, end.other_name} == {one, other}]
        return sorted(pair, key=lambda end: end.name != one)

    def break_between(self, one: str, other: str, *, half_open_s: float = 0.0) -> None:
        """Break the connections between two nodes; each end notices in its own time.

        `half_open_s`: only `one` notices; what it has sent still arrives at `other`, so much later.
        """
        for end in self.between(one, other):
            if half_open_s and end.name == other:
                end.late = half_open_s
                continue
            self.at(self.now + self._cluster.draw(self.conditions.reconnect_delay), end.loop, end.lost)

    def died(self, name: str, *, silently: bool) -> None:
        """A process is gone: its kernel closes its connections, or the machine is gone too."""
        self.listening.pop(name, None)
        for end in [end for end in self.ends if end.name == name]:
            end.closed = True
            self.ends.remove(end)
            other = end.other
            if other is not None and not silently and not self.is_cut(name, other.name):
                self.at(self.now + self.delay(), other.loop, other.lost)

    def block(self, directions: Iterable[tuple[str, str]]) -> None:
        """From now on nothing arrives in these directions; it is held back."""
        for direction in directions:
            self.blocked_since.setdefault(direction, self.now)

    def unblock(self, directions: Sequence[tuple[str, str]]) -> None:
        """Open directions again; what was held back comes in a moment."""
        for direction in directions:
            self.blocked_since.pop(direction, None)
        for end in list(self.ends):
            if (end.other_name, end.name) in directions:
                self.at(self.now + self.delay(), end.loop, end.release)


__all__ = ["Buffer", "Conditions", "End", "Network", "NodeLoop"]
