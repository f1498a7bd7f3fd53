"""Which replica a consumer reads: any, the leader, the nearest, or one that is named."""

from __future__ import annotations

import asyncio
import time

from quorumlog.client.connection import Connection

# The nearest stays so for this long, unless it fails: a measurement costs a few round trips to each node.
_MEASURE_AGAIN_S = 60.0


class Source:
    """Tells each stream where to go when it starts; a stream that runs stays where it is.

    None or "any": whatever node answers, another one for each reader. "leader": the node that leads when a
    stream starts. "nearest": the one whose round trip is smallest. Else a node's id or address, and no other.
    """

    def __init__(self, connection: Connection, name: str | None) -> None:
        self._connection = connection
        self._name = name or "any"
        self._spread = int(connection.random() * 1000)  # so that consumers do not all read the same node
        self._named = ""
        self._nearest = ""
        self._measured_s = 0.0
        self._measuring = asyncio.Lock()

    async def address(self) -> str:
        """Return whom to read from now. Raises UnknownOption, NoLeader, ConnectionFailed."""
        if self._name == "any":
            return self._connection.endpoints.for_read(time.monotonic(), self._spread)
        return await self.chosen()

    async def chosen(self) -> str:
        """Return the same, but "" where any node will do."""
        if self._name == "any":
            return ""
        if self._name == "leader":
            return await self._connection.leader_address()
        if self._name == "nearest":
            return await self._nearest_address()
        self._named = self._named or await self._connection.address_of(self._name)
        return self._named

    def failed(self) -> None:
        """Take note that who was read from has failed: the nearest is looked for anew."""
        self._nearest = ""

    async def _nearest_address(self) -> str:
        async with self._measuring:
            if not self._nearest or time.monotonic() - self._measured_s > _MEASURE_AGAIN_S:
                round_trips = await self._connection.round_trips_s()
                self._nearest = min(round_trips, key=lambda address: round_trips[address])
                self._measured_s = time.monotonic()
            return self._nearest
