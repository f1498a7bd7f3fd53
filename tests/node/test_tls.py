"""TLS files that cannot be used are an error of the configuration, before anything is opened."""

from __future__ import annotations

import datetime as dt
import shutil
from pathlib import Path

import pytest
from cryptography import x509

from quorumlog.node import tls as module
from quorumlog.node.config import ConfigError, TlsConfig
from quorumlog.node.tls import Certificates
from tests.support.certificates import EXPIRED, NOT_YET, TestAuthority


@pytest.fixture
def authority(tmp_path: Path) -> TestAuthority:
    return TestAuthority(tmp_path / "authority")


def test_files_that_are_no_certificates_are_refused(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("certificate.pem", "key.pem", "authority.pem")]
    for file in files:
        file.write_text("not a certificate\n")
    with pytest.raises(ConfigError, match="expected PEM files that belong together"):
        Certificates(TlsConfig(*files), "test", "n1")
    files[0].unlink()
    with pytest.raises(ConfigError, match=r"certificate\.pem"):
        Certificates(TlsConfig(*files), "test", "n1")


def test_a_key_of_another_certificate_is_refused(authority: TestAuthority) -> None:
    one, another = authority.node("n1"), authority.node("n2")
    with pytest.raises(ConfigError, match="belong together"):
        Certificates(TlsConfig(one.certificate, another.key, one.authority), "test", "n1")


@pytest.mark.parametrize(
    ("cluster", "node_id", "problem"),
    [("test", "n2", "of node n1, not of node n2"), ("another", "n1", "of cluster 'test'")],
)
def test_a_certificate_of_another_node_or_cluster_is_refused(
    authority: TestAuthority, cluster: str, node_id: str, problem: str
) -> None:
    with pytest.raises(ConfigError, match=problem):
        Certificates(authority.node("n1"), cluster, node_id)


def test_a_clients_certificate_is_refused(authority: TestAuthority) -> None:
    client = authority.client("n1", ["admin"])
    with pytest.raises(ConfigError, match="of n1, not of node n1"):
        Certificates(TlsConfig(Path(client.cert), Path(client.key), authority.file), "test", "n1")


@pytest.mark.parametrize("now", [EXPIRED, NOT_YET])
def test_a_certificate_that_is_not_valid_now_is_refused(authority: TestAuthority, now: dt.datetime) -> None:
    """Row 59: nobody would believe it, so the node says so at once."""
    authority.node("n1", now=now)
    with pytest.raises(ConfigError, match="which is not now"):
        authority.certificates("n1")


def test_replaced_files_count_once_they_fit(
    authority: TestAuthority, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Row 61: certificate and key, then the authority."""
    monkeypatch.setattr(module, "_LOOK_AGAIN_S", 0.0)
    certificates = authority.certificates("n1")
    old, new = authority.node("n1"), authority.node("n1", variant="-new")
    first = certificates.current()
    assert certificates.current() is first
    shutil.copy(new.certificate, old.certificate)
    assert certificates.current() is first
    assert "cannot be used; the old ones stay" in caplog.text
    shutil.copy(new.key, old.key)
    second = certificates.current()
    assert second.certificate == new.certificate.read_bytes()
    assert (first.generation, second.generation) == (1, 2)
    shutil.copy(authority.client("x").cert, old.certificate)
    assert certificates.current() is second, "what is no node's certificate does not take its place"


def test_one_warns_before_the_certificate_ends(
    authority: TestAuthority, caplog: pytest.LogCaptureFixture
) -> None:
    files = authority.node("n1")
    expires = x509.load_pem_x509_certificate(files.certificate.read_bytes()).not_valid_after_utc
    authority.certificates("n1")
    assert "valid until" not in "".join(r.getMessage() for r in caplog.records if r.levelname == "WARNING")
    module._WARN_BEFORE, before = (expires - EXPIRED), module._WARN_BEFORE
    try:
        authority.certificates("n1")
    finally:
        module._WARN_BEFORE = before
    assert "valid until" in "".join(r.getMessage() for r in caplog.records if r.levelname == "WARNING")
