"""HTTPS/1.1 on a TcpPort: one thread a connection, keep-alive, PVE's own status codes and reason phrases.

The TLS handshake happens in the connection's thread, so that a client that stalls in it blocks nobody else.
Nothing here knows PVE's API: ``Answer`` does.
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from logging import getLogger
from typing import Any, cast
from urllib.parse import parse_qsl, urlsplit

from pytest_pveha.sim.gate import Gone
from pytest_pveha.sim.servers.ports import Silence, State, TcpPort

log = getLogger(__name__)

_HANDSHAKE_SECONDS = 30.0
_LARGEST_BODY = 1 << 20


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request."""

    method: str
    path: str
    params: dict[str, str]
    """Query and body together, as PVE treats them; of a repeated key the last."""
    authorization: str
    sock: socket.socket
    token: str = ""
    """The header X-Auth-Token, of a Redfish session."""
    cookie: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """What goes back. The reason phrase carries PVE's error text."""

    status: int
    reason: str = "OK"
    body: bytes = b""
    content_type: str = "application/json;charset=UTF-8"
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, document: Any, *, status: int = 200, reason: str = "OK") -> Reply:
        """A JSON document."""
        return cls(status, reason, json.dumps(document, separators=(",", ":")).encode())


Answer = Callable[[Request], Reply]


class HttpsServer:
    """Serves ``answer`` on ``port`` until closed. Raising Silence in it leaves the client hanging, Gone hangs up."""

    def __init__(
        self, name: str, port: TcpPort, tls: ssl.SSLContext, answer: Answer, *, server: str = "pve-api-daemon/3.0"
    ) -> None:
        self.name = name
        self._server = server
        self.port = port
        self._tls = tls
        self._answer = answer

    def start(self) -> None:
        """Connections are accepted from now on."""
        threading.Thread(target=self._accept, name=f"api-{self.name}", daemon=True).start()

    def _accept(self) -> None:
        while (sock := self.port.accept()) is not None:
            threading.Thread(target=self._serve, args=(sock,), name=f"api-{self.name}-client", daemon=True).start()

    def _serve(self, raw: socket.socket) -> None:
        sock = self._wrapped(raw)
        if sock is None:
            return
        handler: _Handler | None = None
        try:
            sock.settimeout(_HANDSHAKE_SECONDS)
            sock.do_handshake()
            sock.settimeout(None)
            handler = _Handler(sock, self._answer, self._server)
        except OSError as error:  # ssl.SSLError is one: a client that is gone, or speaks no TLS
            log.debug("%s: connection ended: %s", self.name, error)
        except Exception:
            log.exception("%s: a connection's thread failed", self.name)
        if (handler is not None and handler.silenced) or self.port.state is State.SILENT:
            # closing would send a FIN, and a dead machine sends nothing
            self.port.abandon(sock)
        else:
            self.port.forget(sock)
            with contextlib.suppress(OSError):
                sock.close()

    def _wrapped(self, raw: socket.socket) -> ssl.SSLSocket | None:
        """The connection as TLS will use it, followed by the port in the plain socket's place."""
        try:
            sock = self._tls.wrap_socket(raw, server_side=True, do_handshake_on_connect=False)
        except OSError:  # reset before it was served
            self.port.forget(raw)
            raw.close()
            return None
        self.port.track(sock)
        self.port.forget(raw)
        return sock


class _Handler(BaseHTTPRequestHandler):
    """One connection's requests, one after the other."""

    protocol_version = "HTTP/1.1"
    sys_version = ""
    wbufsize = -1

    def __init__(self, sock: ssl.SSLSocket, answer: Answer, server: str) -> None:
        self.server_version = server
        self._sock = sock
        self._answer = answer
        self.silenced = False
        super().__init__(sock, sock.getpeername(), cast("Any", None))

    def handle_one_request(self) -> None:
        """Read one request and answer it; every method goes the same way, PVE decides what it implements."""
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        try:
            reply = self._answer(self._request())
        except Silence:
            self.silenced = self.close_connection = True
            return
        except Gone:
            self.close_connection = True
            return
        self._send(reply)

    def _request(self) -> Request:
        url = urlsplit(self.path)
        params = dict(parse_qsl(url.query, keep_blank_values=True))
        length = min(int(self.headers.get("Content-Length") or 0), _LARGEST_BODY)
        if length:
            body = self.rfile.read(length).decode("utf-8", "replace")
            if "json" in self.headers.get("Content-Type", ""):
                with contextlib.suppress(ValueError, AttributeError):  # what is no object has no parameters
                    params |= {key: str(value) for key, value in json.loads(body).items()}
            else:
                for key, value in parse_qsl(body, keep_blank_values=True):
                    # an array comes as its key again and again; PVE joins them with NUL as well (AnyEvent.pm)
                    params[key] = f"{params[key]}\0{value}" if key in params else value
        token = self.headers.get("X-Auth-Token", "")
        cookie, authorization = self.headers.get("Cookie", ""), self.headers.get("Authorization", "")
        return Request(self.command, url.path, params, authorization, self._sock, token, cookie)

    def _send(self, reply: Reply) -> None:
        self.send_response_only(reply.status, reply.reason)
        self.send_header("Server", self.server_version)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("Cache-Control", "max-age=0")
        self.send_header("Pragma", "no-cache")
        if reply.body:
            self.send_header("Content-Type", reply.content_type)
        self.send_header("Content-Length", str(len(reply.body)))
        self.send_header("Connection", "close" if self.close_connection else "Keep-Alive")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body)
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not logged; the site's truth is."""
