"""Who a certificate speaks for: URIs among its subject alternative names.

    quorumlog://<cluster>/node/<node id>       a member of the cluster: may open a session on the peer port
    quorumlog://<cluster>/client/<name>        a client
    quorumlog://<cluster>/role/<role>          what that client may do, where nodes have no table of grants

`quorumlog certs` writes them, nodes read them. A certificate speaks for one node or one client of one
cluster; one that contradicts itself speaks for nobody. A certificate whose maker knows nothing of these
URIs stands for a client too, named by its one URI (spiffe://...) or else its common name; never for a node.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

SCHEME: Final = "quorumlog"

ROLES: Final = ("produce", "consume", "admin")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")  # of clusters, nodes and clients
_URI = re.compile(rf"{SCHEME}://([^/]*)/([a-z]+)/(.*)", re.DOTALL)
_FOREIGN_NAME_LENGTH_MAX = 512


class BadIdentity(ValueError):
    """The certificate speaks for nobody here; the message says why."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom a certificate speaks for; `roles` are those that it names itself."""

    name: str
    is_node: bool = False
    roles: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return f"node {self.name}" if self.is_node else self.name


def is_name(text: str) -> bool:
    """Whether `text` can name a cluster, a node or a client."""
    return _NAME.fullmatch(text) is not None


def node_uri(cluster: str, node_id: str) -> str:
    """Return the URI that marks a node's certificate."""
    return _uri(cluster, "node", node_id)


def client_uri(cluster: str, name: str) -> str:
    """Return the URI that names a client."""
    return _uri(cluster, "client", name)


def role_uri(cluster: str, role: str) -> str:
    """Return the URI that gives a client's certificate a role."""
    assert role in ROLES, role
    return _uri(cluster, "role", role)


def identify(cluster: str, uris: Iterable[str], common_name: str | None = None) -> Identity:
    """Return whom a certificate with these subject alternative URIs speaks for. Raises BadIdentity."""
    uris = list(uris)
    ours = [uri for uri in uris if uri.startswith(f"{SCHEME}:")]
    if ours:
        return _ours(cluster, ours)
    if len(uris) > 1:
        raise BadIdentity("the certificate has several URIs")
    name = uris[0] if uris else common_name
    if not name:
        raise BadIdentity("the certificate has neither a URI nor a common name")
    # It goes into logs and tables as it is.
    if not name.isprintable() or len(name) > _FOREIGN_NAME_LENGTH_MAX:
        raise BadIdentity("the certificate's name is not printable, or too long")
    return Identity(name)


def _uri(cluster: str, kind: str, name: str) -> str:
    assert is_name(cluster), cluster
    assert is_name(name), name
    return f"{SCHEME}://{cluster}/{kind}/{name}"


def _ours(cluster: str, uris: list[str]) -> Identity:
    names: dict[str, list[str]] = {"node": [], "client": [], "role": []}
    for uri in uris:
        match = _URI.fullmatch(uri)
        if match is None or match[2] not in names or not is_name(match[3]):
            raise BadIdentity(f"the certificate has a URI that means nothing here: {uri[:100]!r}")
        if match[1] != cluster:
            raise BadIdentity(f"the certificate is of cluster {match[1][:64]!r}")
        names[match[2]].append(match[3])
    holders = names["node"] + names["client"]
    if len(holders) != 1 or (names["node"] and names["role"]):
        raise BadIdentity("the certificate must name one node, or one client and its roles")
    if not set(names["role"]) <= set(ROLES):
        raise BadIdentity(f"the certificate names roles that there are not: {names['role']}")
    return Identity(holders[0], bool(names["node"]), frozenset(names["role"]))
