"""Doors between the nodes of a cluster: who dialled whom is known, and what they say is delayed, held or cut.

Each node has one door: peers dial the door, the door dials the node. Who dialled is read from the first
frame, the Hello (nodes keep one connection per pair, so that both directions of a link go over it). A link is
a directed pair; what can be done to it:

    delay_s, jitter_s   each piece is passed on that much later, in order
    stall               a share of the pieces waits for a retransmission (200 ms): what loss is to TCP
    rate                bytes per second
    hold                nothing is passed on, nothing is lost: dropped packets, retransmitted when it ends
    command "cut"       the connections of a pair break, with what was in flight; with "refuse" new ones too

Reordered or repeated packets do not exist above TCP.
"""

from __future__ import annotations

import asyncio
import random
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from quorumlog.proto.peer_pb2 import PeerMessage

_PREFIX: Final = struct.Struct("<III")
_PIECE_BYTES: Final = 64 * 1024
_PIECES_MAX: Final = 64  # waiting in one direction: what a socket's buffers would hold, about
_RETRANSMISSION_S: Final = 0.2  # Linux' shortest
_HELLO_BYTES_MAX: Final = 64 * 1024

Link = tuple[str, str]  # from, to


@dataclass(slots=True)
class Shape:
    """What happens to the pieces of one direction."""

    delay_s: float = 0.0
    jitter_s: float = 0.0
    stall: float = 0.0
    rate: float = 0.0
    hold: bool = False


@dataclass(eq=False, slots=True)
class Pipe:
    """A connection between two nodes, through here."""

    dialler: str
    door: str
    writers: tuple[asyncio.StreamWriter, asyncio.StreamWriter]

    def abort(self) -> None:
        """Break it, with what is in flight."""
        for writer in self.writers:
            writer.transport.abort()


@dataclass(slots=True)
class Switchboard:
    """All doors, links and connections."""

    dice: random.Random
    shapes: dict[Link, Shape] = field(default_factory=dict)
    refused: set[Link] = field(default_factory=set)
    pipes: set[Pipe] = field(default_factory=set)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    _servers: list[asyncio.Server] = field(default_factory=list)
    _joining: set[asyncio.Task[None]] = field(default_factory=set)

    def shape(self, link: Link) -> Shape:
        """Return what happens on a link."""
        return self.shapes.setdefault(link, Shape())

    async def serve(self, node: str, listen: str, target: str) -> None:
        """Open the door of one node."""
        host, _, port = listen.rpartition(":")

        async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None, "asyncio makes one for each connection"
            self._joining.add(task)
            try:
                await self._join(node, target, reader, writer)
            except (OSError, asyncio.IncompleteReadError, ValueError):
                pass  # either end went away, or is no node: both will try again
            except asyncio.CancelledError:
                pass  # close(); a stream's task that ends so would be logged as a mistake
            finally:
                self._joining.discard(task)
                writer.transport.abort()

        self._servers.append(await asyncio.start_server(accepted, host, int(port), limit=_PIECE_BYTES))

    async def close(self) -> None:
        """Close all doors, and break what goes through them."""
        for server in self._servers:
            server.close()
        joining = list(self._joining)
        for task in joining:
            task.cancel()
        await asyncio.gather(*joining, return_exceptions=True)

    async def _join(
        self, door: str, target: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        first, dialler = await _hello(reader)
        if {(dialler, door), (door, dialler)} & self.refused:
            return
        await self._released((dialler, door))  # a dropped SYN: nobody is reached before it is over
        if reader.at_eof():  # whoever dialled has given up meanwhile
            return
        host, _, port = target.rpartition(":")
        node_reader, node_writer = await asyncio.open_connection(host, int(port), limit=_PIECE_BYTES)
        node_writer.write(first)
        pipe = Pipe(dialler, door, (writer, node_writer))
        self.pipes.add(pipe)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pass_on((dialler, door), reader, node_writer))
                both.create_task(self._pass_on((door, dialler), node_reader, writer))
        except* (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self.pipes.discard(pipe)
            pipe.abort()

    async def _pass_on(self, link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass pieces on, each at its time; ends by an exception, which ends the other direction too."""
        pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_PIECES_MAX)
        async with asyncio.TaskGroup() as both:
            both.create_task(self._take(link, reader, pieces))
            both.create_task(self._give(link, pieces, writer))

    async def _take(
        self, link: Link, reader: asyncio.StreamReader, pieces: asyncio.Queue[tuple[float, bytes]]
    ) -> None:
        loop = asyncio.get_running_loop()
        due_s = 0.0
        while piece := await reader.read(_PIECE_BYTES):
            shape = self.shape(link)
            late_s = shape.delay_s + self.dice.uniform(0, shape.jitter_s)
            if self.dice.random() < shape.stall:
                late_s += _RETRANSMISSION_S
            if shape.rate:
                late_s += len(piece) / shape.rate
                due_s = max(due_s, loop.time())
            due_s = max(due_s + (len(piece) / shape.rate if shape.rate else 0.0), loop.time() + late_s)
            await pieces.put((due_s, piece))
        raise ConnectionResetError("end of the stream")

    async def _give(
        self, link: Link, pieces: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter
    ) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due_s, piece = await pieces.get()
            if (late_s := due_s - loop.time()) > 0:
                await asyncio.sleep(late_s)
            await self._released(link)
            writer.write(piece)
            await writer.drain()

    async def _released(self, link: Link) -> None:
        async with self.changed:
            await self.changed.wait_for(lambda: not self.shape(link).hold)

    async def obey(self, command: Mapping[str, Any]) -> int:
        """Do what a command says; returns how many connections it broke."""
        if command.get("heal"):
            self.shapes.clear()
            self.refused.clear()
        links = [tuple(link) for link in command.get("links", [])]
        for link in links:
            for name, value in command.get("shape", {}).items():
                setattr(self.shape(link), name, value)
        if "refuse" in command:
            change = self.refused.update if command["refuse"] else self.refused.difference_update
            change(links)
        broken = (
            [pipe for pipe in self.pipes if (pipe.dialler, pipe.door) in links] if command.get("cut") else []
        )
        for pipe in broken:
            pipe.abort()
        async with self.changed:
            self.changed.notify_all()
        return len(broken)


async def _hello(reader: asyncio.StreamReader) -> tuple[bytes, str]:
    """The first frame, and who sent it."""
    prefix = await reader.readexactly(_PREFIX.size)
    size, attached, _ = _PREFIX.unpack(prefix)
    if size > _HELLO_BYTES_MAX or attached:
        raise ValueError(f"no Hello: a header of {size} bytes with {attached} attached")
    header = await reader.readexactly(size)
    return prefix + header, PeerMessage.FromString(header).hello.node_id
