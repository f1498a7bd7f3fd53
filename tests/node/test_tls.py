"""TLS files that cannot be used are an error of the configuration, before anything is opened."""

from __future__ import annotations

from pathlib import Path

import pytest

from quorumlog.node.config import ConfigError, TlsConfig
from quorumlog.node.tls import peer_contexts


def test_files_that_are_no_certificates_are_refused(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("certificate.pem", "key.pem", "authority.pem")]
    for file in files:
        file.write_text("not a certificate\n")
    with pytest.raises(ConfigError, match="expected PEM files that belong together"):
        peer_contexts(TlsConfig(*files))
    files[0].unlink()
    with pytest.raises(ConfigError, match=r"certificate\.pem"):
        peer_contexts(TlsConfig(*files))
