"""Sessions over real sockets on loopback."""

from __future__ import annotations

import asyncio
import pickle
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest

from quorumlog.proto.peer_pb2 import AppendEntries, Hello, PeerMessage
from quorumlog.raft import transport as module
from quorumlog.raft.interfaces import Standing
from quorumlog.raft.transport import Transport, TransportConfig
from quorumlog.raft.wire import encode


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Listener:
    """Remembers what it was told, and wakes whoever waits for it."""

    def __init__(self, members: set[str]) -> None:
        self.members = members
        self.refused: list[str] = []
        self.opened: list[tuple[str, int]] = []
        self.closed: list[tuple[str, int]] = []
        self.messages: list[tuple[str, int, PeerMessage, bytes | None]] = []
        self._changed = asyncio.Event()

    def standing(self) -> Standing:
        return Standing(b"d" * 16, 7)

    def why_refuse(self, peer_id: str, standing: Standing) -> str | None:
        return None if peer_id in self.members else f"{peer_id!r} is not a member"

    def session_refused(self, peer_id: str, reason: str) -> None:
        self.refused.append(reason)
        self._changed.set()

    def session_opened(self, peer_id: str, session: int, hello: Hello, standing: Standing) -> None:
        assert standing.term == 7
        self.opened.append((peer_id, session))
        self._changed.set()

    def session_closed(self, peer_id: str, session: int) -> None:
        self.closed.append((peer_id, session))
        self._changed.set()

    def message_received(
        self, peer_id: str, session: int, message: PeerMessage, attachment: bytearray | None
    ) -> None:
        self.messages.append((peer_id, session, message, None if attachment is None else bytes(attachment)))
        self._changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


class Pair:
    """Two transports that know each other; the first one dials."""

    def __init__(self) -> None:
        ports = [free_port(), free_port()]
        names = ["n1", "n2"]
        self.configs = [
            TransportConfig(
                name, b"c" * 16, 0, bytes([number]) * 16, f"client-{name}", "127.0.0.1", ports[number]
            )
            for number, name in enumerate(names)
        ]  # fmt: skip
        self.peers = [{names[1 - number]: f"127.0.0.1:{ports[1 - number]}"} for number in range(2)]
        self.listeners = [Listener({"n1", "n2"}), Listener({"n1", "n2"})]
        self.transports: list[Transport] = []

    async def start(self, number: int) -> Transport:
        transport = Transport(self.configs[number], self.listeners[number])
        transport.set_peers(self.peers[number], [])
        await transport.start()
        self.transports.append(transport)
        return transport


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    made = Pair()
    yield made
    for transport in made.transports:
        await transport.stop()


async def both_up(pair: Pair) -> tuple[Transport, Transport]:
    first, second = await pair.start(0), await pair.start(1)
    await pair.listeners[0].until(lambda: bool(pair.listeners[0].opened))
    await pair.listeners[1].until(lambda: bool(pair.listeners[1].opened))
    return first, second


async def test_messages_go_both_ways_with_their_attachments(pair: Pair) -> None:
    first, second = await both_up(pair)
    body = bytes(range(256)) * 4096
    first.send("n2", PeerMessage(term=1, append_entries=AppendEntries(count=2)), [body, memoryview(body)])
    second.send("n1", PeerMessage(term=2))
    await pair.listeners[1].until(lambda: bool(pair.listeners[1].messages))
    await pair.listeners[0].until(lambda: bool(pair.listeners[0].messages))
    peer, _, message, attachment = pair.listeners[1].messages[0]
    assert (peer, message.append_entries.count, attachment) == ("n1", 2, body + body)
    assert pair.listeners[0].messages[0][2].term == 2


async def test_a_lost_connection_is_dialled_again_with_a_new_session_number(pair: Pair) -> None:
    """Hazard 14: as shipped, after five seconds."""
    _, second = await both_up(pair)
    await second.stop()
    pair.transports.remove(second)
    await pair.listeners[0].until(lambda: bool(pair.listeners[0].closed))
    await pair.start(1)
    await pair.listeners[0].until(lambda: len(pair.listeners[0].opened) == 2)
    assert pair.listeners[0].opened[0][1] < pair.listeners[0].opened[1][1]


async def test_a_node_that_the_others_do_not_know_goes_to_them_to_be_told(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new node, or a removed one: whoever should dial it does not know it."""
    monkeypatch.setattr(module, "PATIENCE_S", 0.05)
    pair.peers[0], pair.listeners[0].members = {}, {"n1"}
    first, second = await pair.start(0), await pair.start(1)
    await pair.listeners[1].until(lambda: bool(pair.listeners[1].refused))
    assert pair.listeners[1].refused[0] == "'n2' is not a member"
    await pair.listeners[1].until(lambda: len(pair.listeners[1].refused) > 1)  # again and again
    assert not pair.listeners[0].opened
    assert first.why_refused("n2") == "'n2' is not a member"
    pair.listeners[0].members.add("n2")
    first.set_peers({"n2": second.address}, ["n2"])
    await pair.listeners[0].until(lambda: bool(pair.listeners[0].opened))
    assert first.why_refused("n2") == ""


async def test_what_is_sent_without_a_session_is_lost(pair: Pair) -> None:
    first = await pair.start(0)
    assert not first.has_room("n2")
    first.send("n2", PeerMessage(term=1))
    await pair.start(1)
    await pair.listeners[1].until(lambda: bool(pair.listeners[1].opened))
    assert pair.listeners[1].messages == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"cluster_id": b"x" * 16}, "another cluster"),
        ({"group": 1}, "group"),
        ({"node_id": "a stranger"}, "not a member"),
    ],
)
async def test_a_peer_that_does_not_fit_gets_no_session(
    pair: Pair, change: dict[str, object], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    pair.configs[0] = replace(pair.configs[0], **change)  # type: ignore[arg-type]
    await pair.start(1)
    await pair.start(0)
    async with asyncio.timeout(20):
        while not any(reason in record.getMessage() for record in caplog.records):  # noqa: ASYNC110
            await asyncio.sleep(0)
    assert pair.listeners[0].opened == pair.listeners[1].opened == []


async def closed_by(address: str, data: bytes) -> None:
    """Connect, send, and wait until the other side closes."""
    host, port = address.rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(data)
        async with asyncio.timeout(20):
            while await reader.read(65536):
                pass
    except ConnectionError:
        pass
    finally:
        writer.close()


class _Canary:
    run = False

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (setattr, (_Canary, "run", True))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\xff" * 100, id="huge lengths"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 4, id="http"),
        pytest.param(b"".join(encode(PeerMessage(term=9, append_entries=AppendEntries()))), id="no hello"),  # type: ignore[arg-type]
        pytest.param(pickle.dumps(_Canary()) + bytes(64), id="pickle"),
    ],
)
async def test_strangers_are_cut_off_and_the_members_stay(pair: Pair, data: bytes) -> None:
    """Row 63."""
    first, _ = await both_up(pair)
    await closed_by(first.address, data)
    first.send("n2", PeerMessage(term=3))
    await pair.listeners[1].until(lambda: bool(pair.listeners[1].messages))
    assert not _Canary.run
    assert len(pair.listeners[0].opened) == 1


async def test_connections_that_say_nothing_are_bounded(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_STRANGERS", 3)
    first, _ = await both_up(pair)
    host, port = first.address.rsplit(":", 1)
    streams = [await asyncio.open_connection(host, int(port)) for _ in range(5)]
    async with asyncio.timeout(20):
        assert await streams[0][0].read() == b""
        assert await streams[1][0].read() == b""
    for _, writer in streams:
        writer.close()


async def test_a_silent_connection_is_taken_as_dead(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 39: half-open connections are found without the kernel's help."""
    monkeypatch.setattr(module, "KEEPALIVE_S", 0.05)
    monkeypatch.setattr(module, "HELLO_TIMEOUT_S", 0.2)
    second = await pair.start(1)
    host, port = second.address.rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port))
    async with asyncio.timeout(20):
        assert await reader.read() == b""
    writer.close()


async def test_a_queue_that_nobody_empties_has_no_room(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 36: the leader's memory is bounded by what it asks before it sends."""
    monkeypatch.setattr(module, "OUTBOUND_BYTES", 1 << 20)
    first, _ = await both_up(pair)
    sent = 0
    body = bytes(1 << 20)
    while first.has_room("n2"):
        first.send("n2", PeerMessage(term=1), [body])
        sent += 1
        assert sent < 1000
    room = asyncio.Event()
    first.when_room(room.set)
    async with asyncio.timeout(20):
        await room.wait()
    await pair.listeners[1].until(lambda: len(pair.listeners[1].messages) == sent)


async def test_a_node_that_the_other_one_does_not_know_dials_whatever_their_ids(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A member that was away knows nothing of who joined meanwhile, and would dial it otherwise."""
    monkeypatch.setattr(module, "PATIENCE_S", 0.05)
    pair.peers[0] = {}
    await both_up(pair)


async def test_of_two_that_know_each_other_one_dials(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections that cross would end each other: the other one waits, much longer than dialling takes."""
    monkeypatch.setattr(module, "PATIENCE_S", 1.0)
    first, second = await both_up(pair)
    first._sessions["n2"].abort()
    for listener in pair.listeners:
        await listener.until(lambda: len(listener.opened) > len(listener.closed) > 0)  # noqa: B023
    second.send("n1", PeerMessage(term=2))
    await pair.listeners[0].until(lambda: bool(pair.listeners[0].messages))


async def test_a_name_that_no_vote_could_be_kept_for_gets_no_session(pair: Pair) -> None:
    transport = await pair.start(0)
    pair.listeners[0].members.add("x" * 300)
    reader, writer = await asyncio.open_connection(*transport.address.rsplit(":", 1))
    hello = Hello(protocol=1, cluster_id=b"c" * 16, node_id="x" * 300)
    writer.writelines(bytes(piece) for piece in encode(PeerMessage(hello=hello)))
    answer = await asyncio.wait_for(reader.read(), 20)
    assert b"too long" in answer
    writer.close()
