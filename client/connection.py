"""Calls to the cluster: chooses the node, follows the leader, retries, and keeps what the answers told."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, TypeAlias

import grpc.aio

from quorumlog.client import errors
from quorumlog.client.channels import Channels, OpenChannel, Stubs
from quorumlog.client.endpoints import Endpoints, Route, Target, parse_servers
from quorumlog.client.errors import Attempt, QuorumlogError
from quorumlog.client.options import check_numbers
from quorumlog.client.reaching import reach
from quorumlog.client.retries import Backoff, Retry, was_silent
from quorumlog.client.tls import Tls
from quorumlog.client.translate import CLOSED_BY_IT, from_rpc, leader_of
from quorumlog.proto import service_pb2

log = logging.getLogger("quorumlog.client")

Rpc: TypeAlias = Callable[[Stubs], Any]

NO_FORWARD = (("x-no-forward", "1"),)

# What a node says that has better not be asked next.
_ASK_ANOTHER = (errors.ShuttingDown, errors.NotCaughtUp, errors.NotConfirmed, errors.DataDamaged)

# A node that does not answer at all is given up after this, however long the request may take in total.
MIN_ATTEMPT_S = 0.25
# For the status of all nodes: a node waits a second for those that do not answer.
_LOOK_S = 1.5
# How long a node may take to say whom it follows: it is a look into its memory.
_PROBE_S = 0.5
# The first of them opens the connection; the smallest counts.
_ROUND_TRIPS = 4


@dataclass(frozen=True, slots=True)
class ConnectionOptions:
    """Where to begin; timeouts and routing of a client."""

    bootstrap_servers: str | Sequence[str] = "localhost:9650"
    client_id: str = "quorumlog"
    route: Route = "leader"
    connect_timeout_ms: int = 5_000
    request_timeout_ms: int = 30_000  # one call, all retries included
    attempt_timeout_ms: int = 5_000  # one node's time to answer
    tls: Tls | None = None  # None: plain text
    require_leader: bool = True  # to connect, a node must know who leads

    def __post_init__(self) -> None:
        if self.route not in ("leader", "any"):
            raise errors.UnknownOption(f"route: expected 'leader' or 'any', got {self.route!r}")
        timeouts = ("connect_timeout_ms", "request_timeout_ms", "attempt_timeout_ms")
        check_numbers(self, dict.fromkeys(timeouts, 1))


class Closable(Protocol):
    """A producer or consumer."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it, as when its block is left by `error`."""


class Connection:
    """What a client and its producers and consumers share. Used from one event loop only.

    `session` is the highest raft index that an acknowledgement has given: a read at or above it sees
    everything that this client has written.
    """

    def __init__(self, options: ConnectionOptions, open_channel: OpenChannel | None = None) -> None:
        self.options = options
        self.random = random.random
        self.endpoints = Endpoints(parse_servers(options.bootstrap_servers), self.random, Backoff(most_s=1.0))
        self.session = 0
        self.closed = False
        self.producers: set[Closable] = set()  # those at work: close() of the client closes them
        self.consumers: set[Closable] = set()
        self._channels = Channels(f"{options.client_id} quorumlog-python", options.tls, open_channel)
        self._partitions: dict[str, int] = {}
        self._described_at: dict[str, int] = {}  # topic -> raft index of the newest description
        self._describing = asyncio.Lock()
        self._asking: Counter[str] = Counter()  # callers of partitions(), by topic
        self._discovery: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        """Reach one node. Raises ConnectionFailed, NoLeader, ... with every endpoint tried and the cause."""
        addresses = [endpoint.address for endpoint in self.endpoints]
        timeout_s = self.options.connect_timeout_ms / 1000
        try:
            await reach(self, addresses, timeout_s, require_leader=self.options.require_leader)
        except QuorumlogError as error:
            if self.options.tls is None and any(each.cause == CLOSED_BY_IT for each in error.attempts):
                error.hint = "a node that speaks TLS closes connections without it: give Tls(ca, cert, key)"
            raise
        self.discover()

    async def look_at(self, address: str, timeout_s: float) -> service_pb2.StatusResponse:
        """Return what a node says of itself. Raises QuorumlogError."""
        request = service_pb2.StatusRequest(local=True)
        target = Target(address, no_forward=False)
        timeout_s = min(timeout_s, self.options.attempt_timeout_ms / 1000)
        answer: service_pb2.StatusResponse = await self._attempt(
            lambda stubs: stubs.cluster.Status, request, target, timeout_s
        )
        return answer

    def discover(self) -> None:
        """Learn, in the background, the addresses of all nodes, so that losing those given is survived."""
        if self._discovery is None or self._discovery.done():
            self._discovery = asyncio.get_running_loop().create_task(self._discover())

    async def close(self) -> None:
        """Close all channels. Nothing works afterwards."""
        self.closed = True
        if self._discovery is not None:
            self._discovery.cancel()
            await asyncio.gather(self._discovery, return_exceptions=True)
        await self._channels.close()

    async def call(
        self, rpc: Rpc, request: Any, *, write: bool = False, timeout_s: float | None = None, node: str = ""
    ) -> Any:
        """Call until one node answers well, or the time is up, or the answer is final."""
        timeout_s = self.options.request_timeout_ms / 1000 if timeout_s is None else timeout_s
        retry = Retry(time.monotonic() + timeout_s, self.random)
        while True:
            target = self._target(write, node)
            try:
                return await self._attempt(rpc, request, target, self._attempt_s(retry.deadline_s))
            except QuorumlogError as error:
                pause_s = retry.after(error, time.monotonic())
                if pause_s is None:
                    raise retry.verdict(error, write=write) from error.__cause__
            await asyncio.sleep(pause_s)

    def stubs(self, address: str) -> Stubs:
        """Return the stubs of one node, for streams."""
        if self.closed:
            raise errors.ClientClosed("the client is closed")
        return self._channels.stubs(address)

    def good(self, target: Target) -> None:
        """Take note that a node answered a request well."""
        self.endpoints.succeeded(target.address)
        if target.no_forward:
            self.endpoints.leads(target.address)

    def bad(self, target: Target, error: QuorumlogError) -> None:
        """Take note of why a node did not answer well, for the choice of the next."""
        log.debug("%s: %s: %s", target.address, error.code, error.message)
        if isinstance(error, errors.NotLeader):
            self.endpoints.succeeded(target.address)
            if error.leader_address:
                self.endpoints.leads(error.leader_address, error.leader_id)
                return
        if isinstance(error, errors.NotLeader | errors.NoLeader):
            self.endpoints.leads_not(target.address)
        elif error.answered and not isinstance(error, _ASK_ANOTHER):
            self.endpoints.succeeded(target.address)
        else:
            self.endpoints.failed(target.address, time.monotonic(), silent=was_silent(error))

    def saw(self, raft_index: int) -> None:
        """Remember the newest write of this client."""
        self.session = max(self.session, raft_index)

    async def partitions(self, topic: str, *, fresh: bool = False) -> int:
        """Return how many partitions a topic has. Raises UnknownTopic."""
        self._asking[topic] += 1
        try:
            async with self._describing:  # first come, first served: senders stay in order
                if fresh or topic not in self._partitions:
                    self._partitions[topic] = await self._count_partitions(topic)
                return self._partitions[topic]
        finally:
            self._asking[topic] -= 1

    async def _count_partitions(self, topic: str) -> int:
        request = service_pb2.DescribeTopicRequest(name=topic, min_raft_index=self.session)
        try:
            answer = await self.call(lambda stubs: stubs.topics.DescribeTopic, request)
        except errors.UnknownTopic:
            # Whoever was asked may lag behind the topic's creation, or have just started: only what a
            # majority confirms is a No. Reads that follow, on any replica, must be as fresh.
            request.consistency = service_pb2.CONSISTENCY_LINEARIZABLE
            answer = await self.call(lambda stubs: stubs.topics.DescribeTopic, request)
            self.saw(answer.raft_index)
        self._described_at[topic] = answer.raft_index
        return len(answer.topic.partitions)

    def described_at(self, topic: str) -> int:
        """Return a raft index at which the topic is known to be there; 0: none."""
        return self._described_at.get(topic, 0)

    def known_partitions(self, topic: str) -> int | None:
        """Return the same where it is known already; the fast path of every send.

        While others still wait to be told, whoever comes later has to wait behind them.
        """
        return None if self._asking[topic] else self._partitions.get(topic)

    def forget_topic(self, topic: str) -> None:
        """Ask again how many partitions a topic has."""
        self._partitions.pop(topic, None)
        self._described_at.pop(topic, None)

    async def address_of(self, node: str) -> str:
        """Return the address of a node given by id or address. Raises UnknownOption where there is none."""
        address = self.endpoints.address_of(node)
        if address is None and ":" in node:
            self.endpoints.learn(address := parse_servers(node)[0])
        if address is None:
            await self._learn_nodes()
            address = self.endpoints.address_of(node)
        if address is None:
            known = ", ".join(sorted(each.node_id for each in self.endpoints if each.node_id))
            raise errors.UnknownOption(f"node: no node {node!r}; the cluster has {known or 'none known'}")
        return address

    async def leader_address(self) -> str:
        """Return the leader's address, as the first node that answers knows it. Raises NoLeader."""
        request = service_pb2.StatusRequest(local=True)
        answer = await self.call(lambda stubs: stubs.cluster.Status, request)
        if answer.leader_id and self.endpoints.address_of(answer.leader_id) is None:
            await self._learn_nodes()
        address = self.endpoints.address_of(answer.leader_id) if answer.leader_id else None
        if address is None:
            raise errors.NoLeader(f"no leader that can be reached is known (leader: {answer.leader_id!r})")
        return address

    async def round_trips_s(self) -> dict[str, float]:
        """Return the smallest of a few measured round trips to each node that answers, by address.

        Raises ConnectionFailed where none does.
        """
        await self._learn_nodes()
        addresses = [endpoint.address for endpoint in self.endpoints]
        measured = await asyncio.gather(*(self._round_trip_s(address) for address in addresses))
        found = {address: trip for address, trip in zip(addresses, measured, strict=True) if trip is not None}
        if not found:
            raise errors.ConnectionFailed(
                "no node answered", attempts=[Attempt(a, "no answer") for a in addresses]
            )
        return found

    async def _round_trip_s(self, address: str) -> float | None:
        trips = []
        for _ in range(_ROUND_TRIPS):
            start_s = time.monotonic()
            try:
                await self.look_at(address, _PROBE_S)
            except QuorumlogError:
                return None
            trips.append(time.monotonic() - start_s)
        return min(trips)

    async def status_of_others(self, request: service_pb2.StatusRequest) -> Any | None:
        """Return what the first node says that knows a leader; None where none does."""
        for address in [endpoint.address for endpoint in self.endpoints]:
            target = Target(address, no_forward=False)
            try:
                answer = await self._attempt(lambda stubs: stubs.cluster.Status, request, target, _LOOK_S)
            except QuorumlogError:
                continue
            if answer.leader_id:
                return answer
        return None

    async def leader_besides(self, address: str) -> str | None:
        """Return the address of another leader, as the first other node that knows one says; None: none does.

        Asked when the node at `address` is silent: it may be asleep, and replaced.
        """
        request = service_pb2.StatusRequest(local=True)
        for other in [endpoint.address for endpoint in self.endpoints if endpoint.address != address]:
            try:
                answer = await self._attempt(
                    lambda stubs: stubs.cluster.Status, request, Target(other, no_forward=False), _PROBE_S
                )
            except QuorumlogError:
                continue
            leader = other if any(node.role == "leader" for node in answer.nodes) else None
            leader = leader or self.endpoints.address_of(answer.leader_id) if answer.leader_id else None
            return leader if leader != address else None
        return None

    def _target(self, write: bool, node: str) -> Target:
        now_s = time.monotonic()
        if node:
            return Target(node, no_forward=False)
        if write:
            return self.endpoints.for_write(now_s, self.options.route)
        return Target(self.endpoints.for_read(now_s), no_forward=False)

    def _attempt_s(self, deadline_s: float) -> float:
        remaining_s = deadline_s - time.monotonic()
        return max(MIN_ATTEMPT_S, min(remaining_s, self.options.attempt_timeout_ms / 1000))

    async def _attempt(self, rpc: Rpc, request: Any, target: Target, timeout_s: float) -> Any:
        metadata = NO_FORWARD if target.no_forward else None
        call = rpc(self.stubs(target.address))(request, timeout=timeout_s, metadata=metadata)
        try:
            answer = await call
        except grpc.aio.AioRpcError as error:
            translated = from_rpc(error, target.address)
            self.bad(target, translated)
            raise translated from error
        except asyncio.CancelledError:
            if self.closed and not being_cancelled():
                raise errors.ClientClosed("the client was closed") from None
            raise
        log.debug("%s answered %s", target.address, type(request).__name__.removesuffix("Request"))
        self.good(target)
        leader = leader_of(await call.trailing_metadata())
        if leader is not None:
            self.endpoints.leads(leader[1], leader[0])
        return answer

    async def _discover(self) -> None:
        try:
            await self._learn_nodes()
        except QuorumlogError:
            return  # what was given must do; the next failover tries again

    async def _learn_nodes(self) -> None:
        request = service_pb2.StatusRequest()
        status = await self.call(lambda stubs: stubs.cluster.Status, request)
        for node in status.nodes:
            self.endpoints.learn(node.client_address, node.node_id)


def being_cancelled() -> bool:
    """Say whether a CancelledError is meant for the current task, not for the gRPC call that it awaits."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def lost(address: str, cause: str) -> errors.Unavailable:
    """Return the error of a stream that ended without a status."""
    return errors.Unavailable(cause, attempts=[Attempt(address, cause)])
