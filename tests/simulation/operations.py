"""Who looks after the cluster: moves leadership, replaces machines; one thing at a time, until it is done."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final

from quorumlog.client.errors import QuorumlogError
from quorumlog.proto import service_pb2
from tests.simulation.clients import Client
from tests.simulation.network import PORT

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster
    from tests.simulation.node import Node

CALL_S: Final = 3.0
AGAIN_S: Final = 0.3


class Operator(Client):
    """See the module. What a call to the cluster left unknown is looked up before it is asked for again."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster, "operator")
        self._task: asyncio.Task[Any] | None = None

    @property
    def is_busy(self) -> bool:
        return self._task is not None and not self._task.done()

    def begin(self, work: Coroutine[Any, Any, None]) -> bool:
        """Do it, unless something else is being done."""
        if self.is_busy:
            work.close()
            return False
        self._task = self.loop.spawn(work)
        return True

    async def transfer(self, target: str) -> None:
        """Ask for it once; that it fails is fine."""
        request = service_pb2.TransferLeadershipRequest(target=target, timeout_ms=2000)
        await self._ask("TransferLeadership", request.SerializeToString())

    async def replace(self, node: Node, after_s: float = 0.0) -> None:
        """Remove a node, and add what comes back under its name, which has an empty disk."""
        await asyncio.sleep(after_s)
        await self._until_is_member(node, wanted=False)
        node.wipe()
        node.start()
        await self.add(node)

    async def add(self, node: Node) -> None:
        """Add a node, and wait until it counts."""
        if not node.running:
            node.start()
        await self._until_is_member(node, wanted=True)
        self.cluster.trace(f"operator: {node.name} is a full member")

    async def remove_for_good(self, node: Node) -> None:
        """Remove a node; its machine goes."""
        await self._until_is_member(node, wanted=False)
        self.cluster.trace(f"operator: {node.name} is gone")
        if node.running:
            node.kill()
        node.powered = False
        self.cluster.names.remove(node.name)

    async def _until_is_member(self, node: Node, *, wanted: bool) -> None:
        if wanted:
            add = service_pb2.AddMemberRequest(
                node_id=node.name, peer_address=f"{node.name}:{PORT}", timeout_ms=int(CALL_S * 1000)
            )
            method, raw = "AddMember", add.SerializeToString()
        else:
            remove = service_pb2.RemoveMemberRequest(node_id=node.name, timeout_ms=int(CALL_S * 1000))
            method, raw = "RemoveMember", remove.SerializeToString()
        done = False
        while not done:
            done = await self._ask(method, raw, "is no member" if not wanted else None)
            await asyncio.sleep(AGAIN_S)

    async def _ask(self, method: str, raw: bytes, enough: str | None = None) -> bool:
        """Ask once. True: it is so; also where the refusal says `enough`."""
        self.cluster.trace(f"operator: {method}")
        try:
            await self.call(method, raw, CALL_S, write=True)
        except QuorumlogError as error:
            self.cluster.trace(f"operator: {method}: {error.message}")
            return enough is not None and enough in error.message
        return True
