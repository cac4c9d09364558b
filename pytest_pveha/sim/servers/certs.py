"""The site's own certificate authority and one server certificate per node, strict enough for Python's X.509 checks.

P-256 throughout. Every extension that RFC 5280 §4.2 wants is there (key identifiers, key usage, critical basic
constraints), so that clients with VERIFY_X509_STRICT accept the chain.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

# Handshakes are checked against the real date while the site's own may be any: valid for all of them.
_NOT_BEFORE = datetime(2020, 1, 1, tzinfo=UTC)
_CA_YEARS = 100
_LEAF_YEARS = 80


@dataclass(frozen=True, slots=True)
class NodeCertificate:
    """What a node's API proxy shows: certificate, key, and the fingerprint /nodes tells."""

    node: str
    certificate_pem: bytes
    key_pem: bytes
    fingerprint: str
    """SHA-256, upper case, colons between bytes."""

    @property
    def pin(self) -> str:
        """SHA-256 of its public key, base64, as curl pins it."""
        key = x509.load_pem_x509_certificate(self.certificate_pem).public_key()
        info = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        return base64.b64encode(hashlib.sha256(info).digest()).decode()

    def server_context(self, folder: Path) -> ssl.SSLContext:
        """A server context with this certificate; its files are left in ``folder``, the key readable by us only."""
        certificate, key = folder / f"{self.node}.pem", folder / f"{self.node}.key"
        certificate.write_bytes(self.certificate_pem)
        key.touch(mode=0o600)
        key.chmod(0o600)
        key.write_bytes(self.key_pem)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(certificate, key)
        return context


class Authority:
    """A fresh certificate authority; its key is never written down."""

    def __init__(self, cluster: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, "PVE Cluster Manager CA"),
                x509.NameAttribute(NameOID.COMMON_NAME, f"Simulated Proxmox VE ({cluster})"),
            ]
        )
        key_id = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        self._certificate = (
            _builder(self._name, self._name, self._key.public_key(), _CA_YEARS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(ca=True), critical=True)
            .add_extension(key_id, critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(key_id), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        self.pem = self._certificate.public_bytes(serialization.Encoding.PEM)

    def issue(self, node: str) -> NodeCertificate:
        """A server certificate for ``node``, on 127.0.0.1 and its name."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Proxmox Virtual Environment"),
                x509.NameAttribute(NameOID.COMMON_NAME, node),
            ]
        )
        names = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost"), x509.DNSName(node)]
        authority_key_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        certificate = (
            _builder(subject, self._name, key.public_key(), _LEAF_YEARS)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(ca=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(authority_key_id, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return NodeCertificate(
            node,
            certificate.public_bytes(serialization.Encoding.PEM),
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
            certificate.fingerprint(hashes.SHA256()).hex(":").upper(),
        )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, years: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_NOT_BEFORE)
        .not_valid_after(_NOT_BEFORE + timedelta(days=365 * years))
    )


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )
