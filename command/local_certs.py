"""The certificates of `quorumlog local --tls`: made in <directory>/certs once, used again by later runs."""

from __future__ import annotations

from pathlib import Path

from quorumlog.client.tls import Tls
from quorumlog.command.authority import Authority, Made, make_authority

_HOSTS = ("127.0.0.1", "::1", "localhost")
_CLIENT = "local"


class LocalCertificates:
    """The authority of a local cluster, a certificate per node, and one for whoever tries it."""

    def __init__(self, directory: Path, cluster: str) -> None:
        self._directory = directory
        if not (directory / "ca.pem").exists():
            make_authority(directory, cluster)
        self._authority = Authority(directory)

    def client(self) -> Tls:
        """Return what the trial itself shows; it may do everything."""
        certificate, key = self._files(f"client-{_CLIENT}")
        if not certificate.exists():
            self._authority.make_client(_CLIENT)
        return Tls(self._authority.certificate_file, certificate, key)

    def settings(self, node_id: str) -> dict[str, Path]:
        """Return the settings of a node's section `tls`."""
        certificate, key = self._files(f"node-{node_id}")
        if not certificate.exists():
            made: Made = self._authority.make_node(node_id, _HOSTS)
            assert (made.certificate, made.key) == (certificate, key)
        return {"certificate": certificate, "key": key, "authority": self._authority.certificate_file}

    def _files(self, name: str) -> tuple[Path, Path]:
        return self._directory / f"{name}.pem", self._directory / f"{name}.key"
