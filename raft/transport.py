"""Sessions between the members of a cluster, over asyncio streams; mutual TLS when configured.

Of two nodes the one with the lower id dials, again and again with back-off (tens of milliseconds, resolved
anew each time), so there is one connection per pair and one session number per connection. Both sides say
Hello first: protocol, cluster, group, node and data directory must fit, or the connection ends with the
reason. A newer connection of the same peer takes the place of the older one. What is sent without a session
is lost; what waits in a session's outbound queue is bounded (`has_room`).

A connection that brings nothing for SILENCE_S (leaders send heartbeats, and every message is answered; both
sides send a Hello at least that often when there is nothing else) is taken as dead: half-open connections are
found without the kernel's help.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, cast

from quorumlog.proto.checksum import Buffer
from quorumlog.proto.peer_pb2 import Hello, HelloRefused, PeerMessage
from quorumlog.raft.wire import Decoder, WireError, encode
from quorumlog.storage.frame import BadFrame

logger = logging.getLogger(__name__)

PROTOCOL: Final = 1
OUTBOUND_BYTES: Final = 4 << 20  # waiting to be written to one peer
HELLO_TIMEOUT_S: Final = 3.0
SILENCE_S: Final = 3.0
KEEPALIVE_S: Final = 1.0
BACK_OFF_S_MIN: Final = 0.02
BACK_OFF_S_MAX: Final = 1.0
CONNECT_TIMEOUT_S: Final = 2.0
MAX_STRANGERS: Final = 64  # connections that have not said Hello yet


@dataclass(frozen=True, slots=True)
class TransportConfig:
    """Who this node is to its peers, and where they are."""

    node_id: str
    cluster_id: bytes
    group: int
    directory_id: bytes
    client_address: str  # what this node advertises to clients
    listen_host: str
    listen_port: int
    peers: dict[str, str]  # peer id -> host:port
    server_tls: ssl.SSLContext | None = None
    client_tls: ssl.SSLContext | None = None


class SessionListener(Protocol):
    """Who is told of sessions and messages; raft/engine.py."""

    def session_opened(self, peer_id: str, session: int, hello: Hello) -> None: ...
    def session_closed(self, peer_id: str, session: int) -> None: ...
    def message_received(
        self, peer_id: str, session: int, message: PeerMessage, attachment: bytearray | None
    ) -> None: ...


class Connection(asyncio.BufferedProtocol):
    """One connection, from either side. Received bytes go straight to their place in the decoder."""

    def __init__(self, owner: Transport, expected_peer: str | None) -> None:
        self._owner = owner
        self._decoder = Decoder()
        self._transport: asyncio.Transport | None = None
        self._writable = True
        self.expected_peer = expected_peer  # whom we dialled; None: it dialled us
        self.peer_id: str | None = None  # after its Hello
        self.session = 0
        self.heard_at = 0.0
        self.closed = asyncio.Event()

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=OUTBOUND_BYTES)
        self.heard_at = self._owner.loop.time()
        self._owner.connection_made(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._decoder.buffer()

    def buffer_updated(self, nbytes: int) -> None:
        self.heard_at = self._owner.loop.time()
        try:
            for message, attachment in self._decoder.received(nbytes):
                if self._transport is not None:
                    self._owner.received(self, message, attachment)
        except (WireError, BadFrame) as error:
            logger.warning("connection with %s ends: %s", self.name, error)
            self.abort()

    def eof_received(self) -> None:
        return None  # close

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        self._owner.writable(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.closed.set()
        self._owner.connection_lost(self)

    # the owner's side

    @property
    def name(self) -> str:
        if self.peer_id or self.expected_peer:
            return str(self.peer_id or self.expected_peer)
        return str(self._transport.get_extra_info("peername")) if self._transport else "a stranger"

    @property
    def has_room(self) -> bool:
        return self._writable and self._transport is not None

    def send(self, message: PeerMessage, attachment: Sequence[Buffer] = ()) -> None:
        if self._transport is not None:
            self._transport.writelines(encode(message, attachment))

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Close after what was written has gone out."""
        if self._transport is not None:
            self._transport.close()


class Transport:
    """All connections of one node.

    - At most one session per peer; `listener` hears of its opening first and of its closing last.
    - Only members (`config.peers`) get a session.
    """

    def __init__(self, config: TransportConfig, listener: SessionListener) -> None:
        self.config = config
        self.loop = asyncio.get_running_loop()
        self.address = ""
        self._listener = listener
        self._sessions: dict[str, Connection] = {}
        self._connections: set[Connection] = set()
        self._next_session = 1
        self._server: asyncio.Server | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._on_room: list[Callable[[], None]] = []

    async def start(self) -> None:
        """Listen and begin to dial. Raises OSError where the address cannot be had."""
        config = self.config
        self._server = await self.loop.create_server(
            lambda: Connection(self, None), config.listen_host, config.listen_port, ssl=config.server_tls
        )
        host, port = self._server.sockets[0].getsockname()[:2]
        self.address = f"{host}:{port}"
        for peer_id, address in config.peers.items():
            if config.node_id < peer_id:
                self._spawn(self._keep_dialling(peer_id, address))
        self._spawn(self._watch())

    async def stop(self) -> None:
        """Close everything and wait until it is."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        connections = list(self._connections)
        for connection in connections:
            connection.abort()
        await asyncio.gather(*(connection.closed.wait() for connection in connections))

    def when_room(self, callback: Callable[[], None]) -> None:
        """Call back when a session's outbound queue has room again."""
        self._on_room.append(callback)

    # raft.replica.Network

    def send(self, peer_id: str, message: PeerMessage, attachment: Sequence[Buffer] = ()) -> None:
        connection = self._sessions.get(peer_id)
        if connection is not None:
            connection.send(message, attachment)

    def has_room(self, peer_id: str) -> bool:
        connection = self._sessions.get(peer_id)
        return connection is not None and connection.has_room

    # Connection's side

    def connection_made(self, connection: Connection) -> None:
        self._connections.add(connection)
        if connection.expected_peer is not None:
            connection.send(self._hello())
            return
        strangers = [
            other for other in self._connections if other.peer_id is None and other.expected_peer is None
        ]
        if len(strangers) > MAX_STRANGERS:
            oldest = min(strangers, key=lambda other: other.heard_at)
            logger.warning("too many connections that say nothing: dropping %s", oldest.name)
            oldest.abort()

    def connection_lost(self, connection: Connection) -> None:
        self._connections.discard(connection)
        peer_id = connection.peer_id
        if peer_id is not None and self._sessions.get(peer_id) is connection:
            del self._sessions[peer_id]
            logger.info("session %d with %s closed", connection.session, peer_id)
            self._listener.session_closed(peer_id, connection.session)

    def writable(self, connection: Connection) -> None:
        for callback in self._on_room:
            callback()

    def received(self, connection: Connection, message: PeerMessage, attachment: bytearray | None) -> None:
        kind = message.WhichOneof("message")
        if connection.peer_id is not None:
            if kind != "hello" and self._sessions.get(connection.peer_id) is connection:
                self._listener.message_received(connection.peer_id, connection.session, message, attachment)
        elif kind == "hello":
            self._greet(connection, message.hello)
        elif kind == "hello_refused":
            raise WireError(f"refused: {message.hello_refused.reason}")
        else:
            raise WireError(f"{kind} before a Hello")

    # Inside

    def _greet(self, connection: Connection, hello: Hello) -> None:
        reason = self._why_not(connection, hello)
        if reason is not None:
            connection.send(PeerMessage(hello_refused=HelloRefused(reason=reason)))
            connection.close()
            logger.warning("refused a peer that calls itself %r: %s", hello.node_id, reason)
            return
        if connection.expected_peer is None:
            connection.send(self._hello())
        older = self._sessions.get(hello.node_id)
        if older is not None:
            self.connection_lost(older)
            older.abort()
        connection.peer_id = hello.node_id
        connection.session, self._next_session = self._next_session, self._next_session + 1
        self._sessions[hello.node_id] = connection
        logger.info("session %d with %s opened", connection.session, hello.node_id)
        self._listener.session_opened(hello.node_id, connection.session, hello)

    def _why_not(self, connection: Connection, hello: Hello) -> str | None:
        config = self.config
        if hello.protocol != PROTOCOL:
            return f"protocol {hello.protocol}, this node speaks {PROTOCOL}"
        if hello.cluster_id != config.cluster_id:
            return "another cluster"
        if hello.group != config.group:
            return f"group {hello.group}, {config.group} expected"
        if hello.node_id not in config.peers:
            return f"{hello.node_id!r} is not a peer of {config.node_id!r}"
        if connection.expected_peer not in (None, hello.node_id):
            return f"{connection.expected_peer!r} was dialled, {hello.node_id!r} answers"
        return None

    def _hello(self) -> PeerMessage:
        config = self.config
        return PeerMessage(
            hello=Hello(
                protocol=PROTOCOL,
                cluster_id=config.cluster_id,
                group=config.group,
                node_id=config.node_id,
                directory_id=config.directory_id,
                client_address=config.client_address,
                session=self._next_session,
            )
        )

    async def _keep_dialling(self, peer_id: str, address: str) -> None:
        back_off = BACK_OFF_S_MIN
        host, _, port = address.rpartition(":")
        while True:
            started = self.loop.time()
            try:
                connection = await self._dial(peer_id, host.strip("[]"), int(port))
                await connection.closed.wait()
            except (TimeoutError, OSError) as error:
                logger.debug("no connection to %s at %s: %s", peer_id, address, error)
            lasted = self.loop.time() - started
            back_off = BACK_OFF_S_MIN if lasted > BACK_OFF_S_MAX else min(2 * back_off, BACK_OFF_S_MAX)
            await asyncio.sleep(back_off * random.uniform(0.5, 1.0))

    async def _dial(self, peer_id: str, host: str, port: int) -> Connection:
        tls = self.config.client_tls
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            _, connection = await self.loop.create_connection(
                lambda: Connection(self, peer_id), host, port, ssl=tls, server_hostname=host if tls else None
            )
        return connection

    async def _watch(self) -> None:
        """Drop what is silent, and say something where there is nothing to say."""
        while True:
            await asyncio.sleep(KEEPALIVE_S)
            now = self.loop.time()
            for connection in list(self._connections):
                limit = SILENCE_S if connection.peer_id else HELLO_TIMEOUT_S
                if now - connection.heard_at > limit:
                    logger.warning("connection with %s is silent for %.1f s: dropped", connection.name, limit)
                    connection.abort()
                elif connection.peer_id is not None:
                    connection.send(self._hello())

    def _spawn(self, work: Awaitable[None]) -> None:
        async def run() -> None:
            with contextlib.suppress(asyncio.CancelledError):
                await work

        self._tasks.append(self.loop.create_task(run()))
