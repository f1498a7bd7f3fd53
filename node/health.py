"""grpc.health.v1: what this node can do, by service name.

    ""                 serves reads
    quorumlog.v1.Log   the same
    voter              its votes and copies count; `cluster status` says why they do not (a new directory)
    intact             nothing that it stores is damaged (what is damaged is fenced, all else served)
    leader             leads: writes sent here need no forwarding

None of them depends on a majority being there but the last: a node that restarts because its peers are
away helps nobody.
"""

from __future__ import annotations

import asyncio

from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio

from quorumlog.node import log_service
from quorumlog.node.listening import Server
from quorumlog.raft.alarms import DAMAGE
from quorumlog.raft.engine import Engine

SERVICE_NAME = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
LEADER = "leader"
VOTER = "voter"
INTACT = "intact"
_READS = ("", log_service.NAME)

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Health:
    """Keeps the health service in step with the engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._servicer = health_aio.HealthServicer()
        self._tasks: set[asyncio.Task[None]] = set()
        self._said: dict[str, bool] = {}  # of leader, voter and intact

    def add_to(self, server: Server) -> None:
        """Register the service; nothing is SERVING yet."""
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)

    async def start(self) -> None:
        """Say NOT_SERVING, and follow leadership from now on."""
        await self._set_reads(_NOT_SERVING)
        self._engine.on_role.append(lambda role, term, leader_id: self._look_who_leads())
        # A leader is one only when its first entry is applied, which is no change of role.
        self._engine.on_applied.append(self._look_who_leads)
        self._engine.on_voting.append(self._look_who_votes)
        self._engine.on_alarms.append(self._look_what_is_damaged)
        self._look_who_leads()
        self._look_who_votes()
        self._look_what_is_damaged()

    async def serving(self) -> None:
        """Reads are served from now on."""
        await self._set_reads(_SERVING)

    async def stop(self) -> None:
        """Say NOT_SERVING for good."""
        await self._servicer.enter_graceful_shutdown()

    async def _set_reads(self, status: health_pb2.HealthCheckResponse.ServingStatus) -> None:
        for service in _READS:
            await self._servicer.set(service, status)

    def _look_who_leads(self) -> None:
        self._say(LEADER, self._engine.is_leader)

    def _look_who_votes(self) -> None:
        self._say(VOTER, self._engine.why_not_voting is None)

    def _look_what_is_damaged(self) -> None:
        self._say(INTACT, not any(alarm.startswith(DAMAGE) for alarm in self._engine.alarms))

    def _say(self, service: str, serves: bool) -> None:
        if self._said.get(service) is serves:
            return
        self._said[service] = serves
        task = asyncio.ensure_future(self._servicer.set(service, _SERVING if serves else _NOT_SERVING))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
