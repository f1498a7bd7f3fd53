"""TLS contexts for the connections between peers: both sides show a certificate of the same authority."""

from __future__ import annotations

import ssl

from quorumlog.node.config import ConfigError, TlsConfig


def peer_contexts(tls: TlsConfig) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return the contexts for accepting and for dialling. Raises ConfigError where the files do not fit."""
    try:
        return _context(tls, ssl.PROTOCOL_TLS_SERVER), _context(tls, ssl.PROTOCOL_TLS_CLIENT)
    except (OSError, ssl.SSLError) as error:
        files = f"{tls.certificate}, {tls.key}, {tls.authority}"
        raise ConfigError(
            "configuration", "tls", f"expected PEM files that belong together ({files}): {error}"
        ) from error


def _context(tls: TlsConfig, protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3  # both sides are ours
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(tls.certificate, tls.key)
    context.load_verify_locations(tls.authority)
    return context
