"""Sessions between the members of a cluster, over asyncio streams; mutual TLS when configured.

Of two nodes the one with the lower id dials, again and again with back-off (tens of milliseconds, resolved
anew each time), so there is one connection per pair and one session number per connection. It may not know
the other one: a learner is dialled by all, and where no session comes about for PATIENCE_S the node with the
higher id dials too. Both sides say Hello first: protocol, cluster, group, node
and data directory must fit, or the connection ends with the reason. A newer connection of the same peer takes
the place of the older one. What is sent without a session is lost; what waits in a session's outbound queue
is bounded (`has_room`).

A connection that brings nothing for SILENCE_S (leaders send heartbeats, and every message is answered; both
sides send a Hello at least that often when there is nothing else) is taken as dead: half-open connections are
found without the kernel's help.
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, cast

from quorumlog.proto.checksum import Buffer
from quorumlog.proto.identity import BadIdentity
from quorumlog.proto.peer_pb2 import Hello, HelloRefused, PeerMessage
from quorumlog.raft.accepting import Acceptor
from quorumlog.raft.hardstate import MAX_VOTE_BYTES
from quorumlog.raft.interfaces import Standing
from quorumlog.raft.wire import MAX_ATTACHMENT_BYTES, Decoder, WireError, encode
from quorumlog.storage.frame import BadFrame

logger = logging.getLogger(__name__)

PROTOCOL: Final = 1
OUTBOUND_BYTES: Final = 4 << 20  # waiting to be written to one peer
HELLO_TIMEOUT_S: Final = 3.0
SILENCE_S: Final = 3.0
KEEPALIVE_S: Final = 1.0
BACK_OFF_S_MIN: Final = 0.02
BACK_OFF_S_MAX: Final = 1.0
# Where nobody listens: the node is most likely being started again, and the next election may need it.
ABSENT_BACK_OFF_S_MAX: Final = 0.1
PATIENCE_S: Final = 2.0  # how long the node with the higher id waits to be dialled
CONNECT_TIMEOUT_S: Final = 2.0
MAX_STRANGERS: Final = 64  # connections that have not said Hello yet
_REASON_LENGTH_MAX: Final = 500  # of what others write into our log


class PeerTls(Protocol):
    """Mutual TLS between peers; node/tls.py. Asked for each connection, since files may be replaced."""

    def accepting(self) -> ssl.SSLContext:
        """For the side that was dialled; asks for a certificate."""

    def dialling(self) -> ssl.SSLContext:
        """For the side that dials."""

    def node_of(self, certificate: Mapping[str, Any]) -> str:
        """Return which node a certificate (as ssl's getpeercert gives it) is of. Raises BadIdentity."""


@dataclass(frozen=True, slots=True)
class TransportConfig:
    """Who this node is to its peers, and where they are."""

    node_id: str
    cluster_id: bytes
    group: int
    directory_id: bytes
    client_address: str  # what this node advertises to clients
    listen_host: str  # empty: nobody is heard
    listen_port: int
    tls: PeerTls | None = None


class SessionListener(Protocol):
    """Who is told of sessions and messages; raft/engine.py."""

    def standing(self) -> Standing: ...
    def why_refuse(self, peer_id: str, standing: Standing) -> str | None: ...
    def session_opened(self, peer_id: str, session: int, hello: Hello, standing: Standing) -> None: ...
    def session_refused(self, peer_id: str, reason: str) -> None: ...
    def session_closed(self, peer_id: str, session: int) -> None: ...
    def message_received(
        self, peer_id: str, session: int, message: PeerMessage, attachment: bytearray | None
    ) -> None: ...


class Connection(asyncio.BufferedProtocol):
    """One connection, from either side. Received bytes go straight to their place in the decoder."""

    def __init__(self, owner: Transport, expected_peer: str | None) -> None:
        self._owner = owner
        # A Hello has no attachment, and a stranger may say nothing else: its word allocates nothing.
        self._decoder = Decoder(0 if expected_peer is None else MAX_ATTACHMENT_BYTES)
        self._transport: asyncio.Transport | None = None
        self._writable = True
        self._ending = False  # nothing is heard any more
        self.expected_peer = expected_peer  # whom we dialled; None: it dialled us
        self.certified: str | None = None  # the node that its certificate names; None without TLS
        self.peer_id: str | None = None  # after its Hello
        self.standing: Standing | None = None
        self.session = 0
        self.heard_at = 0.0
        self.closed = asyncio.Event()

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=OUTBOUND_BYTES)
        self.heard_at = self._owner.loop.time()
        self._owner.connection_made(self, self._transport.get_extra_info("peercert"))

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._decoder.buffer()

    def buffer_updated(self, nbytes: int) -> None:
        self.heard_at = self._owner.loop.time()
        try:
            for message, attachment in self._decoder.received(nbytes):
                if not self._ending:
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
        self._ending = True
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

    def believe(self) -> None:
        """Take attachments from now on: it has said who it is."""
        self._decoder.attachment_bytes_max = MAX_ATTACHMENT_BYTES

    def abort(self) -> None:
        self._ending = True
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Close after what was written has gone out."""
        self._ending = True
        if self._transport is not None:
            self._transport.close()


class Transport:
    """All connections of one node.

    - At most one session per peer; `listener` hears of its opening first and of its closing last.
    - Only those whom the listener does not refuse get a session.
    """

    def __init__(self, config: TransportConfig, listener: SessionListener) -> None:
        self.config = config
        self.loop = asyncio.get_running_loop()
        self.address = ""
        self._listener = listener
        self._peers: dict[str, str] = {}  # id -> host:port
        self._learners: frozenset[str] = frozenset()
        self._diallers: dict[str, asyncio.Task[None]] = {}
        self._sessions: dict[str, Connection] = {}
        self._connections: dict[Connection, None] = {}  # oldest first
        self._refused: dict[str, str] = {}  # the newest reason, by what they call themselves
        self._next_session = 1
        self._acceptor = Acceptor(
            lambda: Connection(self, None), config.tls.accepting if config.tls is not None else None
        )
        self._tasks: list[asyncio.Task[None]] = []
        self._on_room: list[Callable[[], None]] = []

    async def start(self) -> None:
        """Listen and begin to dial. Raises OSError where the address cannot be had."""
        config = self.config
        if not config.listen_host:
            return
        self.address = await self._acceptor.start(config.listen_host, config.listen_port)
        self._tasks.append(self._spawn(self._watch()))
        self._dial_peers()

    async def stop(self) -> None:
        """Close everything and wait until it is."""
        await self._acceptor.stop()
        tasks = [*self._tasks, *self._diallers.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        connections = list(self._connections)
        for connection in connections:
            connection.abort()
        await asyncio.gather(*(connection.closed.wait() for connection in connections))

    def why_refused(self, peer_id: str) -> str:
        """Why the peer was refused when it came last; empty: it was not, or has a session."""
        return "" if peer_id in self._sessions else self._refused.get(peer_id, "")

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

    def set_peers(self, addresses: Mapping[str, str], learners: Iterable[str]) -> None:
        """See interfaces.Network. Dialling begins with `start`."""
        self._peers = dict(addresses)
        self._learners = frozenset(learners)
        for peer_id in [name for name in self._diallers if name not in self._peers]:
            self._diallers.pop(peer_id).cancel()
        for peer_id, connection in list(self._sessions.items()):
            standing = connection.standing
            if standing is not None and (reason := self._listener.why_refuse(peer_id, standing)):
                logger.info("session with %s ends: %s", peer_id, reason)
                connection.send(PeerMessage(hello_refused=HelloRefused(reason=reason)))
                connection.close()
        if self.address:
            self._dial_peers()

    # Connection's side

    def connection_made(self, connection: Connection, certificate: Mapping[str, Any] | None) -> None:
        self._connections[connection] = None
        if not self._certified(connection, certificate):
            connection.abort()
            return
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
        self._connections.pop(connection, None)
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
            if kind == "hello_refused":
                self._refused_by(connection, message)
                return
            if kind != "hello" and self._sessions.get(connection.peer_id) is connection:
                self._listener.message_received(connection.peer_id, connection.session, message, attachment)
        elif kind == "hello":
            self._greet(connection, message.hello, message.term)
        elif kind == "hello_refused":
            self._refused_by(connection, message)
        else:
            raise WireError(f"{kind} before a Hello")

    # Inside

    def _certified(self, connection: Connection, certificate: Mapping[str, Any] | None) -> bool:
        """Note which node the certificate is of; False: of none, or not of the one that was dialled."""
        tls = self.config.tls
        if tls is None:
            return True
        try:
            connection.certified = tls.node_of(certificate or {})
        except BadIdentity as error:
            logger.warning("no session for %s: %s", connection.name, error)
            return False
        if connection.expected_peer not in (None, connection.certified):
            logger.warning(
                "%s was dialled, the certificate is of node %s", connection.name, connection.certified
            )
            return False
        return True

    def _refused_by(self, connection: Connection, message: PeerMessage) -> None:
        """The peer wants no session: the listener says so, once, however often it is tried again."""
        if connection.peer_id is not None or connection.expected_peer is not None:
            # A stranger's opinion of this node is no news; and what others say goes into our log.
            said = message.hello_refused.reason[:_REASON_LENGTH_MAX]
            reason = said if said.isprintable() else repr(said)
            self._listener.session_refused(connection.name, reason)
        connection.abort()

    def _greet(self, connection: Connection, hello: Hello, term: int) -> None:
        standing = Standing(hello.directory_id, term, hello.configuration)
        reason = self._why_not(connection, hello, standing)
        if reason is not None:
            connection.send(PeerMessage(hello_refused=HelloRefused(reason=reason)))
            connection.close()
            if self._refused.get(hello.node_id) != reason:  # it will come again, and again
                logger.warning("refused a peer that calls itself %r: %s", hello.node_id, reason)
            if len(self._refused) >= MAX_STRANGERS:
                self._refused.clear()
            self._refused[hello.node_id] = reason
            return
        self._refused.pop(hello.node_id, None)
        if connection.expected_peer is None:
            connection.send(self._hello())
        older = self._sessions.get(hello.node_id)
        if older is not None:
            self.connection_lost(older)
            older.abort()
        connection.peer_id = hello.node_id
        connection.standing = standing
        connection.believe()
        connection.session, self._next_session = self._next_session, self._next_session + 1
        self._sessions[hello.node_id] = connection
        logger.info("session %d with %s opened", connection.session, hello.node_id)
        self._listener.session_opened(hello.node_id, connection.session, hello, standing)

    def _why_not(self, connection: Connection, hello: Hello, standing: Standing) -> str | None:
        config = self.config
        if hello.protocol != PROTOCOL:
            return f"protocol {hello.protocol}, this node speaks {PROTOCOL}"
        if hello.cluster_id != config.cluster_id:
            return "another cluster"
        if hello.group != config.group:
            return f"group {hello.group}, {config.group} expected"
        if not 0 < len(hello.node_id.encode()) <= MAX_VOTE_BYTES:
            return "the name is empty or too long"
        if hello.node_id == config.node_id:
            return f"both are called {config.node_id!r}"
        if connection.certified not in (None, hello.node_id):
            return f"the certificate is of node {connection.certified!r}"
        if connection.expected_peer not in (None, hello.node_id):
            return f"{connection.expected_peer!r} was dialled, {hello.node_id!r} answers"
        return self._listener.why_refuse(hello.node_id, standing)

    def _hello(self) -> PeerMessage:
        config = self.config
        standing = self._listener.standing()
        return PeerMessage(
            term=standing.term,
            hello=Hello(
                protocol=PROTOCOL,
                cluster_id=config.cluster_id,
                group=config.group,
                node_id=config.node_id,
                directory_id=config.directory_id,
                client_address=config.client_address,
                session=self._next_session,
                configuration=standing.configuration,
            ),
        )

    def _goes_first(self, peer_id: str) -> bool:
        """Is it this node that dials that one, where both know each other?"""
        return self.config.node_id < peer_id or peer_id in self._learners

    def _dial_peers(self) -> None:
        for peer_id in self._peers:
            if peer_id not in self._diallers:
                self._diallers[peer_id] = self._spawn(self._keep_dialling(peer_id))

    async def _keep_dialling(self, peer_id: str) -> None:
        back_off = BACK_OFF_S_MIN
        while True:
            if not self._goes_first(peer_id) and peer_id not in self._sessions:
                await asyncio.sleep(PATIENCE_S)
            started = self.loop.time()
            longest = BACK_OFF_S_MAX
            address = self._peers[peer_id]
            host, _, port = address.rpartition(":")
            try:
                # Both sides may dial: whoever finds a session leaves it alone.
                connection = self._sessions.get(peer_id) or await self._dial(
                    peer_id, host.strip("[]"), int(port)
                )
                await connection.closed.wait()
            except (TimeoutError, OSError) as error:
                if not isinstance(error, ssl.SSLError):  # somebody who does not fit will not fit in a moment
                    longest = ABSENT_BACK_OFF_S_MAX
                logger.debug("no connection to %s at %s: %s", peer_id, address, error)
            lasted = self.loop.time() - started
            back_off = BACK_OFF_S_MIN if lasted > BACK_OFF_S_MAX else min(2 * back_off, longest)
            await asyncio.sleep(back_off * random.uniform(0.5, 1.0))

    async def _dial(self, peer_id: str, host: str, port: int) -> Connection:
        tls = self.config.tls.dialling() if self.config.tls is not None else None
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

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        return self.loop.create_task(work)
