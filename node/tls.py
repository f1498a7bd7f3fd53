"""A node's certificate: for the peer port, for the client port, and for the calls that it forwards.

All three files are looked at again now and then, and a certificate that was replaced serves every new
connection; those that are open stay. Files that do not fit, because only one of them has been replaced yet,
change nothing but the log.
"""

from __future__ import annotations

import datetime as dt
import logging
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from cryptography import x509
from cryptography.x509.oid import NameOID

from quorumlog.node.config import ConfigError, TlsConfig
from quorumlog.proto.identity import BadIdentity, Identity, identify

logger = logging.getLogger(__name__)

_LOOK_AGAIN_S = 1.0
_WARN_BEFORE = dt.timedelta(days=14)

_Stamp = tuple[tuple[int, int, int], ...]  # what changes when a file is replaced


class Unfit(Exception):
    """The files are not what a node of this name needs."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """The files as they were at one moment."""

    generation: int  # grows with every change
    certificate: bytes
    key: bytes
    authority: bytes
    expires_s: float  # of the certificate, since 1970
    accepting: ssl.SSLContext
    dialling: ssl.SSLContext
    serving: ssl.SSLContext  # HTTP: as accepting, but whoever has no certificate may come without


class Certificates:
    """The files of one node. Called from the event loop and from gRPC's threads."""

    def __init__(self, files: TlsConfig, cluster: str, node_id: str) -> None:
        """Raises ConfigError where the files cannot be used."""
        self._files = files
        self._cluster = cluster
        self._node_id = node_id
        self._lock = threading.Lock()
        self._looked_s = time.monotonic()
        try:
            self._stamp = _stamp(files)
            self._loaded = self._load(1)
        except (OSError, Unfit) as error:
            named = f"{files.certificate}, {files.key}, {files.authority}"
            raise ConfigError(
                "configuration", "tls", f"expected PEM files that belong together ({named}): {error}"
            ) from error

    def current(self) -> Loaded:
        """Return what new connections use."""
        with self._lock:
            now_s = time.monotonic()
            if now_s - self._looked_s >= _LOOK_AGAIN_S:
                self._looked_s = now_s
                self._look()
            return self._loaded

    # raft.transport.PeerTls

    def accepting(self) -> ssl.SSLContext:
        """See PeerTls."""
        return self.current().accepting

    def dialling(self) -> ssl.SSLContext:
        """See PeerTls."""
        return self.current().dialling

    def node_of(self, certificate: Mapping[str, Any]) -> str:
        """See PeerTls."""
        names = certificate.get("subjectAltName", ())
        identity = identify(self._cluster, [value for kind, value in names if kind == "URI"], "somebody")
        if not identity.is_node:
            raise BadIdentity(f"the certificate is not of a node: {identity}")
        return identity.name

    # HTTP

    def serving(self) -> ssl.SSLContext:
        """Return what a new connection to the HTTP port uses."""
        return self.current().serving

    # gRPC

    def server_credentials(self) -> grpc.ServerCredentials:
        """Return credentials for the client port, which ask every client for its certificate."""
        given = first = self.current()

        def fetch() -> grpc.ServerCertificateConfiguration | None:
            nonlocal given
            loaded = self.current()
            if loaded is given:
                return None
            given = loaded
            return _server_configuration(loaded)

        return grpc.dynamic_ssl_server_credentials(
            _server_configuration(first),
            fetch,  # type: ignore[arg-type]  # None, which the stubs forget: go on with what there is
            require_client_authentication=True,
        )

    def channel_credentials(self) -> tuple[int, grpc.ChannelCredentials]:
        """Return the generation, and credentials for calls to other nodes."""
        loaded = self.current()
        credentials = grpc.ssl_channel_credentials(loaded.authority, loaded.key, loaded.certificate)
        return loaded.generation, credentials

    def _look(self) -> None:
        try:
            stamp = _stamp(self._files)
            if stamp == self._stamp:
                return
            self._loaded = self._load(self._loaded.generation + 1)
        except (OSError, Unfit) as error:
            logger.error("the TLS files have changed and cannot be used; the old ones stay: %s", error)
            return
        self._stamp = stamp
        logger.info("the TLS files have changed: new connections use them")

    def _load(self, generation: int) -> Loaded:
        stamp = _stamp(self._files)
        certificate, key, authority = (path.read_bytes() for path in _paths(self._files))
        accepting, dialling = self._context(ssl.PROTOCOL_TLS_SERVER), self._context(ssl.PROTOCOL_TLS_CLIENT)
        serving = self._context(ssl.PROTOCOL_TLS_SERVER)
        serving.verify_mode = ssl.CERT_OPTIONAL
        if _stamp(self._files) != stamp:
            raise Unfit("they are being replaced at this moment")
        expires_s = self._check(certificate)
        return Loaded(generation, certificate, key, authority, expires_s, accepting, dialling, serving)

    def _context(self, protocol: int) -> ssl.SSLContext:
        context = ssl.SSLContext(protocol)
        context.minimum_version = ssl.TLSVersion.TLSv1_3  # both sides are ours
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_cert_chain(self._files.certificate, self._files.key)
        context.load_verify_locations(self._files.authority)
        return context

    def _check(self, pem: bytes) -> float:
        """Return when the certificate expires, in seconds since 1970.

        Raises Unfit where others would not believe it: better now than at each connection.
        """
        certificate = _parsed(pem)
        try:
            identity = identity_of(self._cluster, certificate)
        except BadIdentity as error:
            raise Unfit(str(error)) from error
        if identity != Identity(self._node_id, is_node=True):
            raise Unfit(f"the certificate is of {identity}, not of node {self._node_id}")
        now = dt.datetime.now(dt.UTC)
        begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        if not begins <= now < ends:
            raise Unfit(f"the certificate is valid from {begins} to {ends}, which is not now")
        level = logging.WARNING if ends - now < _WARN_BEFORE else logging.INFO
        logger.log(level, "the certificate of node %s is valid until %s", self._node_id, ends)
        return ends.timestamp()


def identity_of(cluster: str, certificate: x509.Certificate) -> Identity:
    """Return whom the certificate speaks for. Raises BadIdentity."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    except x509.ExtensionNotFound:
        uris = []
    except ValueError as error:
        raise BadIdentity(f"the certificate's extensions cannot be read: {error}") from error
    common_names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return identify(cluster, uris, str(common_names[0].value) if len(common_names) == 1 else None)


def _parsed(pem: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise Unfit(str(error)) from error


def _server_configuration(loaded: Loaded) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(loaded.key, loaded.certificate)], root_certificates=loaded.authority
    )


def _paths(files: TlsConfig) -> tuple[Path, Path, Path]:
    return files.certificate, files.key, files.authority


def _stamp(files: TlsConfig) -> _Stamp:
    stats = [path.stat() for path in _paths(files)]
    return tuple((stat.st_ino, stat.st_size, stat.st_mtime_ns) for stat in stats)
