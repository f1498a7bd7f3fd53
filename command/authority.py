"""A development authority and the certificates that it signs: what `quorumlog certs` makes.

    <directory>/ca.pem, ca.key                      the authority; it keeps the cluster's name
    <directory>/node-<id>.pem, node-<id>.key        a node: its URI, and the hosts under which it is reached
    <directory>/client-<name>.pem, client-<name>.key

Keys are P-256, which every TLS library here speaks. All files are readable by their owner alone, and none is
ever overwritten: a new certificate for an old name goes into another directory (`out`), and from there to its
node.

A node's certificate serves both sides of a connection, since nodes dial each other; a client's cannot be
shown by a server. What a certificate speaks for stands in its URIs: proto/identity.py.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from quorumlog.client.errors import UnknownOption
from quorumlog.proto import identity

AUTHORITY_DAYS = 3650
CERTIFICATE_DAYS = 365
_DAYS_MAX = 36500
# Clocks differ: a certificate made here and now shall be valid on a machine that is a little behind.
_BACKDATED = dt.timedelta(minutes=5)
_AUTHORITY = "ca"

Name = x509.DNSName | x509.IPAddress | x509.UniformResourceIdentifier


@dataclass(frozen=True, slots=True)
class Made:
    """A certificate and its key, in files; valid until `expires`."""

    certificate: Path
    key: Path
    expires: dt.datetime


def make_authority(
    directory: Path, cluster: str, *, days: float = AUTHORITY_DAYS, now: dt.datetime | None = None
) -> Made:
    """Make the authority of a cluster. Raises UnknownOption, FileExistsError."""
    _check_name("cluster", cluster)
    key = ec.generate_private_key(ec.SECP256R1())
    name = _subject(f"quorumlog authority of {cluster}", cluster)
    builder = _begun(name, name, key, days, now)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_key_usage(signs_certificates=True), critical=True)
    return _written(directory, _AUTHORITY, builder.sign(key, hashes.SHA256()), key)


class Authority:
    """The authority in a directory, ready to sign."""

    def __init__(self, directory: Path, out: Path | None = None) -> None:
        """`out`: where certificates go (default: beside it). Raises UnknownOption: there is no authority."""
        self._out = out or directory
        self.certificate_file = directory / f"{_AUTHORITY}.pem"
        try:
            certificate = x509.load_pem_x509_certificate(self.certificate_file.read_bytes())
            key = serialization.load_pem_private_key((directory / f"{_AUTHORITY}.key").read_bytes(), None)
        except FileNotFoundError as error:
            problem = f"{directory} holds no authority: make one with `quorumlog certs init`"
            raise UnknownOption(f"directory: {problem}") from error
        except ValueError as error:
            raise UnknownOption(
                f"directory: {directory}: the authority's files are no PEM: {error}"
            ) from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise UnknownOption(f"directory: {directory}: not an authority made by `quorumlog certs init`")
        self._certificate, self._key = certificate, key
        organizations = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
        self.cluster = str(organizations[0].value) if organizations else ""
        if not identity.is_name(self.cluster):
            raise UnknownOption(f"directory: {directory}: the authority names no cluster")

    def make_node(
        self,
        node_id: str,
        hosts: Sequence[str],
        *,
        days: float = CERTIFICATE_DAYS,
        now: dt.datetime | None = None,
    ) -> Made:
        """Make the certificate of a node that is reached as `hosts` (names or addresses, without ports)."""
        _check_name("node", node_id)
        if not hosts:
            raise UnknownOption("host: a node's certificate needs the hosts under which it is reached")
        names = [identity.node_uri(self.cluster, node_id), *hosts]
        usages = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)
        return self._make(f"node-{node_id}", node_id, map(_san, names), usages, days, now)

    def make_client(
        self,
        name: str,
        roles: Iterable[str] = (),
        *,
        days: float = CERTIFICATE_DAYS,
        now: dt.datetime | None = None,
    ) -> Made:
        """Make the certificate of a client; the roles count where nodes have no table of grants."""
        _check_name("client", name)
        uris = [identity.client_uri(self.cluster, name)]
        for role in sorted(set(roles)):
            if role not in identity.ROLES:
                raise UnknownOption(f"role: expected {', '.join(identity.ROLES)}, got {role!r}")
            uris.append(identity.role_uri(self.cluster, role))
        usages = (ExtendedKeyUsageOID.CLIENT_AUTH,)
        return self._make(f"client-{name}", name, map(_san, uris), usages, days, now)

    def _make(
        self,
        file: str,
        common_name: str,
        names: Iterable[Name],
        usages: Iterable[x509.ObjectIdentifier],
        days: float,
        now: dt.datetime | None,
    ) -> Made:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _subject(common_name, self.cluster)
        builder = _begun(subject, self._certificate.subject, key, days, now)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_key_usage(signs_certificates=False), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = builder.add_extension(issuer, critical=False)
        return _written(self._out, file, builder.sign(self._key, hashes.SHA256()), key)


def _check_name(what: str, name: str) -> None:
    if not identity.is_name(name):
        expected = "1 to 64 letters, digits, '.', '_' or '-', beginning with a letter or digit"
        raise UnknownOption(f"{what}: expected {expected}, got {name!r}")


def _subject(common_name: str, cluster: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, cluster),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64]),  # X.509's own bound
        ]
    )


def _begun(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    days: float,
    now: dt.datetime | None,
) -> x509.CertificateBuilder:
    if not 0 < days <= _DAYS_MAX:
        raise UnknownOption(f"days: expected more than 0 and at most {_DAYS_MAX}, got {days:g}")
    now = now or dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer)
    builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - _BACKDATED).not_valid_after(now + dt.timedelta(days=days))
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _san(name: str) -> Name:
    if name.startswith(f"{identity.SCHEME}://"):
        return x509.UniformResourceIdentifier(name)
    try:
        return x509.IPAddress(ipaddress.ip_address(name.strip("[]")))
    except ValueError:
        pass
    try:
        return x509.DNSName(name)
    except ValueError as error:
        raise UnknownOption(f"host: expected a name or an address without a port, got {name!r}") from error


def _written(
    directory: Path, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey
) -> Made:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    files = directory / f"{name}.pem", directory / f"{name}.key"
    for file in files:
        if file.exists():
            raise FileExistsError(f"{file} is there already: move it away first")
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _write(files[1], secret)
    _write(files[0], certificate.public_bytes(serialization.Encoding.PEM))
    return Made(*files, certificate.not_valid_after_utc)


def _write(file: Path, content: bytes) -> None:
    # O_EXCL: nothing is overwritten even if somebody else makes the same file at this moment.
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as opened:
        opened.write(content)
