"""Watching a cluster: every node is asked again and again, each by a task of its own, each answer bounded.

A node that hangs or is killed holds up nobody: `look()` waits for nothing and puts together what was answered
last. Nodes whose advertised address cannot be reached from here are known through the others.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from types import TracebackType

import grpc.aio

from quorumlog.client.channels import Channels
from quorumlog.client.core import policy_name
from quorumlog.client.describe import NodeStatus, Topic, node_status, topic_description
from quorumlog.client.endpoints import MAX_ENDPOINTS
from quorumlog.client.translate import from_rpc
from quorumlog.command.top_view import Look
from quorumlog.proto import service_pb2

PULSE_S = 0.05  # between two questions to one node: a failover is seen to twice as much
_ANSWER_S = 0.5  # a node says who it is from memory
_PEERS_MS = 250  # what the asked node gives the others
_SILENT_S = 2.5  # what other nodes said of one counts so long
_FIRST_S = 1.5


class Watcher:
    """See the module. `async with` it; use it from one event loop only."""

    def __init__(self, channels: Channels, addresses: Iterable[str], survey_s: float) -> None:
        """`survey_s`: how often topics, and the nodes that are not reached directly, are asked for."""
        self._channels = channels
        self._given = list(addresses)
        self._survey_s = survey_s
        self._tasks: dict[str, asyncio.Task[None]] = {}  # by address; that of the surveys under ""
        self._answers: dict[str, service_pb2.StatusResponse | str] = {}  # by address; or why there is none
        self._node_at: dict[str, str] = {}  # address -> node id, where it has answered once
        self._said: dict[str, NodeStatus] = {}  # by node id: what it said of itself last
        self._said_at_s: dict[str, float] = {}  # and when it was asked for that
        self._newest: service_pb2.StatusResponse | None = None  # of the highest term, or the last there was
        self._survey: dict[str, NodeStatus] = {}  # by node id: what another node said last
        self._survey_at_s = float("-inf")
        self._topics: tuple[Topic, ...] = ()
        self._topics_at_s = 0.0
        self._surveyed = asyncio.Event()
        self._heard = asyncio.Event()  # everybody that was given has answered, or has not in time

    async def __aenter__(self) -> Watcher:
        for address in self._given:
            self._watch(address)
        self._tasks[""] = asyncio.create_task(self._survey_again_and_again())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        await self._channels.close()

    async def first(self) -> None:
        """Return when there is something to look at, or it takes too long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_FIRST_S):
                await self._heard.wait()
                await self._surveyed.wait()

    @property
    def failures(self) -> dict[str, str]:
        """Why addresses do not answer."""
        return {address: said for address, said in self._answers.items() if isinstance(said, str)}

    def look(self) -> Look:
        """Return what is known at this moment; it waits for nothing."""
        now_s = time.monotonic()
        newest = self._newest = max(self._answering(), key=lambda answer: answer.term, default=self._newest)
        nodes = {name: self._indirect(node, now_s) for name, node in self._survey.items()}
        for address, name in self._node_at.items():
            answer = self._answers.get(address, "")
            if not isinstance(answer, str):
                nodes[name] = self._said[name]
            elif name in self._survey:  # of a node that was removed and is gone nothing is left
                nodes[name] = replace(_silent(self._said[name]), error=answer)
        return Look(
            now_s,
            time.time_ns() // 1_000_000,
            newest.cluster if newest is not None else "",
            policy_name(newest.sync_policy) if newest is not None else "?",
            tuple(nodes[name] for name in sorted(nodes)),
            self._topics,
            self._topics_at_s,
            dict(self._said_at_s),
        )

    def _indirect(self, node: NodeStatus, now_s: float) -> NodeStatus:
        is_fresh = now_s - self._survey_at_s <= _SILENT_S
        return node if is_fresh or not node.reachable else replace(_silent(node), error="no node tells of it")

    def _answering(self) -> list[service_pb2.StatusResponse]:
        return [answer for answer in self._answers.values() if not isinstance(answer, str)]

    # One node

    def _watch(self, address: str) -> None:
        if address and address not in self._tasks and len(self._tasks) <= MAX_ENDPOINTS:
            self._tasks[address] = asyncio.create_task(self._ask_again_and_again(address))

    async def _ask_again_and_again(self, address: str) -> None:
        request = service_pb2.StatusRequest(local=True)
        while True:
            asked_s = time.monotonic()
            try:
                answer = await self._channels.stubs(address).cluster.Status(request, timeout=_ANSWER_S)
            except grpc.aio.AioRpcError as error:
                self._answers[address] = from_rpc(error, address).message
            else:
                self._take(address, answer, asked_s)
            if len(self._answers) >= len(self._given):
                self._heard.set()
            await asyncio.sleep(PULSE_S)

    def _take(self, address: str, answer: service_pb2.StatusResponse, asked_s: float) -> None:
        self._answers[address] = answer
        for node in answer.nodes:
            self._node_at[address] = node.node_id
            self._said[node.node_id] = node_status(node)
            self._said_at_s[node.node_id] = asked_s

    # All nodes, through one

    async def _survey_again_and_again(self) -> None:
        await self._heard.wait()
        while True:
            for address in self._in_order():
                try:
                    await self._ask_about_all(address)
                except grpc.aio.AioRpcError:
                    continue
                break
            self._surveyed.set()
            await asyncio.sleep(self._survey_s if self._answering() else PULSE_S)

    def _in_order(self) -> list[str]:
        """Return the addresses that answer, the leader's first: it knows all others."""
        answering = [at for at, answer in self._answers.items() if not isinstance(answer, str)]
        return sorted(answering, key=lambda at: self._said[self._node_at[at]].role != "leader")

    async def _ask_about_all(self, address: str) -> None:
        stubs = self._channels.stubs(address)
        everyone, topics = await asyncio.gather(
            stubs.cluster.Status(service_pb2.StatusRequest(timeout_ms=_PEERS_MS), timeout=_ANSWER_S),
            stubs.topics.ListTopics(service_pb2.ListTopicsRequest(), timeout=_ANSWER_S),
        )
        self._survey_at_s = self._topics_at_s = time.monotonic()
        self._survey = {node.node_id: node_status(node) for node in everyone.nodes}
        self._topics = tuple(map(topic_description, topics.topics))
        for node in everyone.nodes:
            if node.node_id not in self._node_at.values():
                self._watch(node.client_address)


def _silent(node: NodeStatus) -> NodeStatus:
    return replace(node, reachable=False, role="", peers=(), alarms=(), not_voting="")
