"""`quorumlog certs`: what it makes, what it prints, and what it refuses to do."""

from __future__ import annotations

import json
import ssl
import tomllib
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from quorumlog.client import errors
from quorumlog.client.tls import Tls
from quorumlog.command import authority
from quorumlog.command.main import main
from quorumlog.node.tls import identity_of
from quorumlog.proto.identity import Identity


def loaded(file: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(file.read_bytes())


def test_from_nothing_to_a_node_and_a_client(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = tmp_path / "certs"
    assert main(["certs", "init", "--cluster", "orders", "-d", str(directory)]) == 0
    assert "keep" in capsys.readouterr().err
    assert main(["certs", "node", "n1", "127.0.0.1", "node.example", "::1", "-d", str(directory)]) == 0
    settings = tomllib.loads(capsys.readouterr().out)["tls"]
    assert main(["certs", "client", "shop", "--role", "produce", "-d", str(directory)]) == 0
    out = capsys.readouterr().out
    assert f"export QUORUMLOG_CERT={directory}/client-shop.pem\n" in out
    assert tomllib.loads(out[out.index("[[grant]]") :])["grant"] == [
        {"clients": ["shop"], "roles": ["produce"]}
    ]
    node, client = loaded(Path(settings["certificate"])), loaded(directory / "client-shop.pem")
    assert identity_of("orders", node) == Identity("n1", is_node=True)
    assert identity_of("orders", client) == Identity("shop", roles=frozenset(("produce",)))
    names = node.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["node.example"]
    assert [str(each) for each in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]
    usages = client.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usages) == [ExtendedKeyUsageOID.CLIENT_AUTH], "no server can show a client's certificate"
    for certificate in (node, client):
        certificate.verify_directly_issued_by(loaded(Path(settings["authority"])))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(settings["certificate"], settings["key"])


def test_nobody_else_reads_the_files(tmp_path: Path) -> None:
    """Row 69."""
    directory = tmp_path / "certs"
    authority.make_authority(directory, "c")
    own = authority.Authority(directory)
    own.make_node("n1", ["localhost"])
    own.make_client("shop")
    assert directory.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in directory.iterdir()} == {0o600}
    assert len(list(directory.iterdir())) == 6


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["certs", "init", "-d", str(tmp_path)]
    assert main(arguments) == 0
    node = ["certs", "node", "n1", "localhost", "-d", str(tmp_path)]
    assert main(node) == 0
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    assert main(arguments) == 1
    assert main(node) == 1
    assert "is there already: move it away first" in capsys.readouterr().err
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before
    assert main([*node, "--out", str(tmp_path / "new")]) == 0
    assert (tmp_path / "new/node-n1.pem").read_bytes() != before[tmp_path / "node-n1.pem"]


def test_days_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["certs", "init", "-d", str(tmp_path), "--days", "2", "-o", "json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["certificate"] == str(tmp_path / "ca.pem")
    certificate = loaded(tmp_path / "ca.pem")
    assert certificate.not_valid_after_utc.isoformat() == said["expires"]
    assert (certificate.not_valid_after_utc - certificate.not_valid_before_utc).days == 2


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["node", "n1", "localhost"], "make one with `quorumlog certs init`"),
        (["init", "--cluster", "a/b"], "cluster: expected"),
        (["init", "--days", "0"], "days: expected"),
        (["init", "--days", "nan"], "days: expected"),
    ],
)
def test_what_cannot_be_made_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], problem: str
) -> None:
    assert main(["certs", *arguments, "-d", str(tmp_path)]) == 2
    assert problem in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("what", "problem"),
    [
        (("../n1", ["localhost"]), "node: expected"),
        (("n1", []), "host: "),
        (("n1", ["a b\u00e4"]), "host: expected"),
    ],
)
def test_a_node_needs_a_name_and_hosts(tmp_path: Path, what: tuple[str, list[str]], problem: str) -> None:
    authority.make_authority(tmp_path, "c")
    with pytest.raises(errors.UnknownOption, match=problem):
        authority.Authority(tmp_path).make_node(*what)


def test_tls_options_are_all_or_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["topic", "ls", "--ca", "ca.pem"]) == 2
    assert "--cert: must be given too (or QUORUMLOG_CERT)" in capsys.readouterr().err
    missing = str(tmp_path / "missing.pem")
    assert main(["topic", "ls", "--ca", missing, "--cert", missing, "--cert-key", missing]) == 2
    assert f"tls: ca: {missing}: No such file" in capsys.readouterr().err
    (tmp_path / "no.pem").write_text("no certificate")
    with pytest.raises(errors.UnknownOption, match="expected a PEM file"):
        Tls(tmp_path / "no.pem", missing, missing).credentials()
