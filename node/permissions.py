"""Which role each RPC asks for: one table, in which every method of every service must stand.

    OPEN      any certificate of the authority
    ROLE      one of the roles, whatever topics it is given for
    TOPIC     one of the roles for each topic that the call names; the service asks `Access.require`
    CLUSTER   one of the roles for all topics: what concerns everybody

Roles are apart from each other: who may administer may not read, unless that is granted too. A node may make
the calls marked `nodes` on its own behalf; whatever else it sends, it sends for a client whom it names.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

PRODUCE: Final = "produce"
CONSUME: Final = "consume"
ADMIN: Final = "admin"
_ANY: Final = frozenset((PRODUCE, CONSUME, ADMIN))


class Scope(enum.Enum):
    """See the module."""

    OPEN = enum.auto()
    ROLE = enum.auto()
    TOPIC = enum.auto()
    CLUSTER = enum.auto()


@dataclass(frozen=True, slots=True)
class Permission:
    """What one method asks for: any of `roles`, within `scope`."""

    scope: Scope
    roles: frozenset[str] = _ANY
    nodes: bool = False


def _of(scope: Scope, *roles: str) -> Permission:
    return Permission(scope, frozenset(roles))


PERMISSIONS: Final[dict[str, Permission]] = {
    "/quorumlog.v1.Log/Produce": _of(Scope.TOPIC, PRODUCE),
    "/quorumlog.v1.Log/ProduceStream": _of(Scope.TOPIC, PRODUCE),
    "/quorumlog.v1.Log/OpenProducer": _of(Scope.ROLE, PRODUCE),
    "/quorumlog.v1.Log/Fetch": _of(Scope.TOPIC, CONSUME),
    "/quorumlog.v1.Log/Consume": _of(Scope.TOPIC, CONSUME),
    "/quorumlog.v1.Log/ListOffsets": _of(Scope.TOPIC, CONSUME),
    "/quorumlog.v1.Topics/CreateTopic": _of(Scope.TOPIC, ADMIN),
    "/quorumlog.v1.Topics/DeleteTopic": _of(Scope.TOPIC, ADMIN),
    "/quorumlog.v1.Topics/DescribeTopic": Permission(Scope.TOPIC),
    "/quorumlog.v1.Topics/ListTopics": Permission(Scope.ROLE),  # shows the topics of the caller's grants
    "/quorumlog.v1.Cluster/Status": Permission(Scope.ROLE, nodes=True),
    "/quorumlog.v1.Cluster/SetSyncPolicy": _of(Scope.CLUSTER, ADMIN),
    "/quorumlog.v1.Cluster/AddMember": _of(Scope.CLUSTER, ADMIN),
    "/quorumlog.v1.Cluster/RemoveMember": _of(Scope.CLUSTER, ADMIN),
    "/quorumlog.v1.Cluster/TransferLeadership": _of(Scope.CLUSTER, ADMIN),
    "/quorumlog.v1.Cluster/CheckStop": _of(Scope.CLUSTER, ADMIN),
    "/quorumlog.v1.Cluster/SumSegments": _of(Scope.CLUSTER, ADMIN),
    # What a container engine asks, with whatever certificate it has.
    "/grpc.health.v1.Health/Check": Permission(Scope.OPEN, nodes=True),
    "/grpc.health.v1.Health/Watch": Permission(Scope.OPEN, nodes=True),
    "/grpc.health.v1.Health/List": Permission(Scope.OPEN, nodes=True),
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": Permission(Scope.ROLE),
}
