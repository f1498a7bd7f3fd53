"""Who asks over HTTP, and what of the topics it may be shown.

Without TLS everybody is shown everything, as over gRPC. With it a certificate is not asked for, since probes
have none; who shows none is told nothing about topics. Who shows one is judged as its gRPC calls would be:
ListTopics for names and sizes, Consume for records.
"""

from __future__ import annotations

from functools import lru_cache

from cryptography import x509

from quorumlog.node.access import Access, Certified, audit
from quorumlog.node.grants import Grants
from quorumlog.node.reasons import Reason, Refusal
from quorumlog.node.tls import identity_of
from quorumlog.proto.identity import BadIdentity

_LIST = "/quorumlog.v1.Topics/ListTopics"
_CONSUME = "/quorumlog.v1.Log/Consume"
_PARSED_MAX = 1024


class Viewer:
    """One request's caller. `everything`: there is no TLS."""

    def __init__(self, listing: Access | None, consuming: Access | None, *, everything: bool = False) -> None:
        self._listing = listing
        self._consuming = consuming
        self._everything = everything

    @property
    def is_known(self) -> bool:
        """Whether anything of topics may be shown at all."""
        return self._everything or self._listing is not None

    def sees(self, topic: str) -> bool:
        """Whether the topic's name and sizes may be shown."""
        return self._everything or (self._listing is not None and self._listing.sees(topic))

    def require_sight(self, topic: str) -> None:
        """Raise Refusal unless the topic may be shown."""
        if not self._everything:
            _known(self._listing).require(topic)

    def require_records(self, topic: str) -> None:
        """Raise Refusal unless the topic's records may be shown, now."""
        if not self._everything:
            _known(self._consuming).require(topic)


class Viewers:
    """Makes a Viewer of each request."""

    def __init__(self, cluster: str, grants: Grants, *, tls: bool) -> None:
        self._grants = grants
        self._tls = tls
        self._certified = lru_cache(_PARSED_MAX)(lambda der: _certified(cluster, der))

    def of(self, certificate: bytes | None, peer: str) -> Viewer:
        """Return who shows this certificate (DER; None: nobody known).

        Raises Refusal (UNAUTHENTICATED) where it has expired or names nobody.
        """
        if not self._tls:
            return Viewer(None, None, everything=True)
        if certificate is None:
            return Viewer(None, None)
        try:
            certified = self._certified(certificate)
        except (BadIdentity, ValueError) as error:
            audit.warning("denied: peer=%s: %s", peer, error)
            raise Refusal(Reason.UNAUTHENTICATED, str(error)) from error
        if certified.identity.is_node:
            return Viewer(None, None)  # a node has nothing to look for here but what everybody is shown
        listing, consuming = (
            Access(method, certified, peer, self._grants, None) for method in (_LIST, _CONSUME)
        )
        listing.check_fresh()
        return Viewer(listing, consuming)


def _known(access: Access | None) -> Access:
    if access is None:
        raise Refusal(Reason.UNAUTHENTICATED, "topics are shown to those who show a client certificate")
    return access


def _certified(cluster: str, der: bytes) -> Certified:
    certificate = x509.load_der_x509_certificate(der)
    return Certified(identity_of(cluster, certificate), certificate.not_valid_after_utc.timestamp())
