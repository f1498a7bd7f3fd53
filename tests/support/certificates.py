"""Certificates for tests: an authority in a directory of its own, and what it signs, good and bad."""

from __future__ import annotations

import datetime as dt
import ssl
from collections.abc import Sequence
from pathlib import Path

from quorumlog.client.tls import Tls
from quorumlog.command.authority import Authority, Made, make_authority
from quorumlog.node.config import TlsConfig
from quorumlog.node.tls import Certificates

LOOPBACK = ("127.0.0.1", "localhost")
EXPIRED = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
NOT_YET = dt.datetime(2200, 1, 1, tzinfo=dt.UTC)


class TestAuthority:
    """An authority. A certificate is made once per name and `variant`."""

    __test__ = False

    def __init__(self, directory: Path, cluster: str = "test") -> None:
        make_authority(directory, cluster)
        self.cluster = cluster
        self.directory = directory
        self.file = directory / "ca.pem"
        self._made: dict[tuple[str, str], Made] = {}

    def node(
        self,
        node_id: str,
        hosts: Sequence[str] = LOOPBACK,
        *,
        now: dt.datetime | None = None,
        variant: str = "",
    ) -> TlsConfig:
        """The settings of a node."""
        key = f"node {node_id}", variant
        if key not in self._made:
            self._made[key] = self._authority(variant).make_node(node_id, hosts, now=now)
        return TlsConfig(self._made[key].certificate, self._made[key].key, self.file)

    def client(
        self, name: str, roles: Sequence[str] = (), *, now: dt.datetime | None = None, variant: str = ""
    ) -> Tls:
        """What a client shows."""
        key = f"client {name}", variant
        if key not in self._made:
            self._made[key] = self._authority(variant).make_client(name, roles, now=now)
        return Tls(self.file, self._made[key].certificate, self._made[key].key)

    def certificates(self, node_id: str) -> Certificates:
        """A node's certificates as the node uses them."""
        return Certificates(self.node(node_id), self.cluster, node_id)

    def _authority(self, variant: str) -> Authority:
        return Authority(self.directory, self.directory / variant)


def dialling(tls: Tls | TlsConfig, trusted: Path | None = None) -> ssl.SSLContext:
    """A context for a dialler that shows this certificate and believes `trusted` (default: as configured)."""
    if isinstance(tls, TlsConfig):
        tls = Tls(tls.authority, tls.certificate, tls.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(trusted or tls.ca)
    context.load_cert_chain(tls.cert, tls.key)
    return context
