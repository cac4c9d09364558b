"""Whom we believe to be the site: one CA file, or the fingerprints of its certificates. Never nobody."""

from __future__ import annotations

import base64
import hashlib
import re
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from pytest_pveha.errors import AuthRefused, ProtocolError, UsageError
from pytest_pveha.wire.tcp import Address, Hold


@dataclass(frozen=True, slots=True)
class Trust:
    """Either a CA that signed the certificate, or the certificate's own SHA-256 fingerprint; exactly one of them.

    Args:
        ca_file: PEM file of the CA; the certificate must also be for the host we ask. A PVE cluster's own is
            ``/etc/pve/pve-root-ca.pem``.
        fingerprints: SHA-256, 64 hexadecimal digits with or without colons, as ``pvenode cert info`` and the GUI print
            them; any one may match.
        shown_by: where the peer's owner reads the fingerprint of a renewed certificate.
    """

    ca_file: Path | None = None
    fingerprints: tuple[str, ...] = ()
    shown_by: str = "`pvenode cert info` there"

    def __post_init__(self) -> None:
        if (self.ca_file is None) == (not self.fingerprints):
            raise UsageError("TLS: name either a CA file or SHA-256 fingerprints, and not both")
        object.__setattr__(self, "fingerprints", tuple(_plain(given) for given in self.fingerprints))

    def context(self) -> ssl.SSLContext:
        """A client context for connections that ``check`` then looks at."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.ca_file is None:
            # not unverified: open_tls compares the certificate with the pin before it hands the connection out
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            return context
        # PVE's default CA has no key usage extension (RFC 5280 §4.2.1.3), which Python >= 3.13 refuses by default
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        try:
            context.load_verify_locations(cafile=self.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise UsageError(f"{self.ca_file}: cannot be read as a CA file in PEM: {error}") from None
        return context

    def check(self, who: str, certificate: bytes | None) -> None:
        """The certificate (DER) is a pinned one; with a CA file OpenSSL has decided already.

        Raises:
            AuthRefused: it is another one; the message shows both fingerprints.
        """
        if not self.fingerprints:
            return
        shown = hashlib.sha256(certificate or b"").hexdigest()
        if shown not in self.fingerprints:
            raise AuthRefused(
                f"certificate of {who} is not the one in the inventory: it shows SHA-256 {_colons(shown)}, the "
                f"inventory has {' or '.join(_colons(pin) for pin in self.fingerprints)}. Nothing was sent to it. "
                f"If the certificate was renewed, compare with {self.shown_by}, then change the inventory."
            )


def open_tls(address: Address, trust: Trust, context: ssl.SSLContext, hold: Hold) -> ssl.SSLSocket:
    """A TLS connection to whom we trust; nothing has been sent over it yet.

    Raises:
        OSError: nobody there, or gone during the handshake.
        AuthRefused: the certificate is not the one in the inventory.
        ProtocolError: the port speaks no TLS that we accept.
    """
    who = f"{address.host}:{address.port}"
    plain = address.connect(hold)
    try:
        # shaking hands apart from wrapping: the wrapped socket is the one to break at the deadline
        tls = context.wrap_socket(plain, server_hostname=address.host, do_handshake_on_connect=False)
    except BaseException:
        plain.close()
        raise
    try:
        hold.take(tls)
        tls.do_handshake()
        trust.check(who, tls.getpeercert(binary_form=True))
    except BaseException as error:
        tls.close()
        told = _told(who, error)
        if told is None:
            raise
    else:
        return tls
    raise told


def _told(who: str, error: BaseException) -> AuthRefused | ProtocolError | OSError | None:
    if isinstance(error, ssl.SSLCertVerificationError):
        return AuthRefused(
            f"certificate of {who} is not the one in the inventory: {error.verify_message}. Nothing was sent to it. "
            f"Check the inventory's CA file, or pin the certificate's SHA-256 fingerprint."
        )
    if isinstance(error, ssl.SSLError):
        if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError | ssl.SSLSyscallError):
            return ConnectionResetError(f"{who} hung up during the TLS handshake")
        return ProtocolError(f"{who} speaks no TLS that we accept: {error.reason or error}")
    return None


def public_key_pin(certificate: bytes) -> str:
    """SHA-256 of a certificate's public key, base64, as curl(1) pins it (RFC 7469 §2.4)."""
    key = x509.load_der_x509_certificate(certificate).public_key()
    info = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(info).digest()).decode()


def _plain(fingerprint: str) -> str:
    digits = fingerprint.strip().replace(":", "").lower()
    if not re.fullmatch("[0-9a-f]{64}", digits):
        raise UsageError(f"TLS: {fingerprint!r} is no SHA-256 fingerprint (64 hexadecimal digits, colons allowed)")
    return digits


def _colons(digits: str) -> str:
    return ":".join(digits[i : i + 2] for i in range(0, len(digits), 2)).upper()


__all__ = ["Trust", "open_tls"]
