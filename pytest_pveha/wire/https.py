"""HTTPS as every client here speaks it: over sockets that we opened, whose peer we checked, and that a deadline breaks.

requests and urllib3 make the requests; where they connect to, whom they trust, how much they read and whether they
follow a redirect is decided here.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from functools import partial
from http import HTTPStatus
from http.client import HTTPException, IncompleteRead
from io import BytesIO
from typing import Any

import requests
import requests.adapters
import urllib3
import urllib3.connection
import urllib3.connectionpool
import urllib3.exceptions

from pytest_pveha.errors import ProtocolError, TimedOut, printable
from pytest_pveha.wire import redaction
from pytest_pveha.wire.tcp import Address, Hold
from pytest_pveha.wire.tls import Trust, open_tls


class Line:
    """The way to one server for one thread: at most one kept connection, one call at a time."""

    def __init__(self, address: Address, trust: Trust, context: ssl.SSLContext) -> None:
        self._address = address
        self._trust = trust
        self._context = context
        self._hold = Hold()
        self._ready: ssl.SSLSocket | None = None

    def begin(self) -> Callable[[], None]:
        """A new call has begun; returns what breaks it."""
        self._hold = Hold()
        return self._hold.sever

    def end(self) -> None:
        """The call has ended. If it was broken, so is its connection."""
        self._hold.let_go()
        if self._hold.severed:
            self.close()

    def reopen(self) -> None:
        """A fresh connection stands; the next request uses it."""
        self.close()
        self._ready = open_tls(self._address, self._trust, self._context, self._hold)

    def connection(self) -> ssl.SSLSocket:
        """The connection for the request now to be sent."""
        ready, self._ready = self._ready, None
        if ready is None:
            return open_tls(self._address, self._trust, self._context, self._hold)
        return ready

    def sending(self, sock: ssl.SSLSocket) -> None:
        """A request is about to be written to ``sock``: the deadline breaks that one."""
        self._hold.take(sock)

    def close(self) -> None:
        """No connection is open."""
        if self._ready is not None:
            self._ready.close()
            self._ready = None


class Adapter(requests.adapters.HTTPAdapter):
    """Connections are ours, answers are read whole and bounded, redirects are refused.

    Args:
        who: what messages call the server.
        largest: bytes of one reply that we are ready to hold.
        what: what ought to be there, as ``no PVE API``.
    """

    def __init__(self, line: Line, *, who: str, largest: int, what: str) -> None:
        self._line = line
        self._who = who
        self._largest = largest
        self._what = what
        super().__init__(pool_connections=1, pool_maxsize=1)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        pools = {"https": partial(_Pool, line=self._line)}
        self.poolmanager.pool_classes_by_scheme = pools

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Whom we trust is settled in ``open_tls``, not by requests' CA bundle."""

    def build_response(self, req: requests.PreparedRequest, resp: Any) -> requests.Response:
        response = super().build_response(req, resp)
        if HTTPStatus.MULTIPLE_CHOICES <= response.status_code < HTTPStatus.BAD_REQUEST:
            resp.close()
            to = redaction.scrub(response.headers.get("Location", "nowhere"))
            raise ProtocolError(f"{self._who} redirects to {to}: that is {self._what}", status=response.status_code)
        body = resp.read(self._largest + 1, decode_content=True)
        if len(body) > self._largest:
            resp.close()
            raise ProtocolError(f"{self._who} answers more than {self._largest >> 20} MiB", status=response.status_code)
        resp.release_conn()
        response.raw = BytesIO(body)
        return response


class _Pool(urllib3.connectionpool.HTTPSConnectionPool):
    def __init__(self, *args: Any, line: Line, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.ConnectionCls = partial(_Connection, line=line)  # type: ignore[assignment]


class _Connection(urllib3.connection.HTTPSConnection):
    """urllib3's, over a socket that we opened, checked, and can break."""

    def __init__(self, *args: Any, line: Line, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._line = line

    def connect(self) -> None:
        self.sock = self._line.connection()
        self.is_verified = True

    def request(self, *args: Any, **kwargs: Any) -> None:
        self._line.sending(self.sock)  # type: ignore[arg-type]
        super().request(*args, **kwargs)


def causes(error: BaseException) -> Iterator[BaseException]:
    """``error`` and what the libraries wrapped in it, outermost first."""
    seen: list[BaseException] = []
    queue = [error]
    while queue:
        here = queue.pop(0)
        if any(here is known for known in seen):
            continue
        seen.append(here)
        yield here
        inner = [getattr(here, "reason", None), *here.args, here.__cause__]
        queue.extend(each for each in inner if isinstance(each, BaseException))


def root(error: BaseException) -> BaseException:
    """What lies beneath all the wrapping."""
    *_, last = causes(error)
    return last


def protocol_error(who: str, path: str, error: BaseException) -> ProtocolError | None:
    """The ProtocolError that a library's error means, by what lies beneath it, or None if it means something else."""
    cause = root(error)
    if isinstance(cause, IncompleteRead | urllib3.exceptions.IncompleteRead):
        return ProtocolError(f"{who} cut its answer to {path} off: {cause}")
    if hung_up(cause) or isinstance(cause, TimedOut):
        return None
    strange = HTTPException | urllib3.exceptions.HTTPError | ssl.SSLError | requests.RequestException
    if isinstance(cause, strange) or (not isinstance(cause, OSError) and isinstance(error, strange)):
        text = " ".join(redaction.scrub(str(cause)).split())
        what = f"{type(cause).__name__}: {printable(text)[:200]}"
        return ProtocolError(f"{who} answered something that is not HTTP as we know it ({what})")
    return None


def hung_up(cause: BaseException) -> bool:
    """Whether the connection was refused, or ended without an answer."""
    return isinstance(cause, ConnectionError | ssl.SSLEOFError | ssl.SSLZeroReturnError)


def looks_like_page(response: requests.Response) -> bool:
    """Whether the answer is a web page, whatever its status says."""
    return "html" in response.headers.get("Content-Type", "") or response.content.lstrip()[:1] == b"<"


def bracketed(host: str) -> str:
    """The host as it stands in a URL."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


__all__ = ["Adapter", "Line", "bracketed", "causes", "hung_up", "looks_like_page", "protocol_error", "root"]
