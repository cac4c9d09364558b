"""HTTPS servers that give scripted answers: good ones, and what broken or hostile servers send."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import ipaddress
import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

Answer = bytes | Callable[[socket.socket], None]


def made_ca(name: str = "Test CA") -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """A CA like a default PVE one: basic constraints, but no key usage extension."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    today = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - datetime.timedelta(days=3650))
        .not_valid_after(today + datetime.timedelta(days=36500))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return certificate, key


class Site:
    """A CA, a server certificate for 127.0.0.1, and the context to serve with it."""

    def __init__(self, folder: Path, days: tuple[int, int] | None = None) -> None:
        """``days``: from and to when the certificate is valid, from today; otherwise as long as the CA."""
        ca, ca_key = made_ca()
        today = datetime.datetime.now(datetime.UTC)
        begins, ends = (
            (ca.not_valid_before_utc, ca.not_valid_after_utc)
            if days is None
            else (today + datetime.timedelta(days=days[0]), today + datetime.timedelta(days=days[1]))
        )
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "pve1")]))
            .issuer_name(ca.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(ends)
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
            .sign(ca_key, hashes.SHA256())
        )
        self.ca_file = folder / "pve-root-ca.pem"
        self.ca_file.write_bytes(ca.public_bytes(serialization.Encoding.PEM))
        self.other_ca_file = folder / "other.pem"
        self.other_ca_file.write_bytes(made_ca("Other CA")[0].public_bytes(serialization.Encoding.PEM))
        pem = folder / "node.pem"
        pem.write_bytes(
            leaf.public_bytes(serialization.Encoding.PEM)
            + key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        self.fingerprint = hashlib.sha256(leaf.public_bytes(serialization.Encoding.DER)).hexdigest()
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(pem)


class Server:
    """One endpoint on loopback that gives scripted answers, in order; the last one for ever."""

    def __init__(self, site: Site, *answers: Answer, port: int = 0) -> None:
        self._context = site.context
        self._answers = list(answers)
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port: int = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self.connections += 1
                self._open.append(sock)
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError):
            tls = self._context.wrap_socket(sock, server_side=True)
            self._open.append(tls)
            with tls, tls.makefile("rb") as lines:
                while first := lines.readline().decode():
                    headers: dict[str, str] = {}
                    while (line := lines.readline().decode().strip()) != "":
                        name, _, value = line.partition(":")
                        headers[name.lower()] = value.strip()
                    body = lines.read(int(headers.get("content-length", "0")))
                    self.requests.append((first.rsplit(" ", 1)[0], headers, body))
                    answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
                    if callable(answer):
                        answer(tls)
                        return
                    tls.sendall(answer)

    def close(self) -> None:
        """Nobody listens there any more."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # a close alone would leave the accepting thread a listener
        self._listener.close()
        for sock in self._open:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)


def reply(status: str, body: bytes | dict[str, Any] | list[Any], kind: str = "application/json") -> bytes:
    """An HTTP answer."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data


def reset(sock: socket.socket) -> None:
    """The connection dies before an answer."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def stall(sock: socket.socket) -> None:
    """No answer until the client goes away."""
    with contextlib.suppress(OSError):
        sock.recv(1)


def drip(sock: socket.socket) -> None:
    """A byte every 50 ms: every single read is quick, the whole never ends."""
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n")
    with contextlib.suppress(OSError):
        for _ in range(200):
            sock.sendall(b" ")
            time.sleep(0.05)
