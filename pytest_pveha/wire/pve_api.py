"""The PVE REST API over proxmoxer: several endpoints, one token, a deadline for every call.

Reads go to the endpoint that answered last and on to the next when it is gone. Writes happen at most once: they open
their own connection, may choose another endpoint while none stands, and are never sent twice.
"""

from __future__ import annotations

import json
import re
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from itertools import chain
from typing import Any, NoReturn
from urllib.parse import quote

import requests
import tenacity

from pytest_pveha.clock import Clock, Deadline, Instant
from pytest_pveha.errors import AuthRefused, ProtocolError, SiteError, TimedOut, Unreachable, UsageError, printable
from pytest_pveha.wire import redaction
from pytest_pveha.wire.https import Adapter, Line, bracketed, hung_up, looks_like_page, protocol_error, root
from pytest_pveha.wire.tcp import BACKSTOP, Address, reason
from pytest_pveha.wire.tls import Trust

with warnings.catch_warnings():  # importing the backend switches urllib3's warnings off for the whole process
    from proxmoxer.backends.https import Backend, ProxmoxHTTPApiTokenAuth
    from proxmoxer.core import ProxmoxResource, ResourceException

LARGEST_REPLY = 16 * 1024 * 1024
"""Bytes of one reply that we are ready to hold: twenty times what a cluster of a thousand guests says. Python's objects
take as much as twenty times the text."""

_LONGEST_TEXT = 1000
"""Characters of an error's text that go into a message."""

TRY_SECONDS = 5.0
"""The longest one endpoint is waited for while another one could be asked."""

NODE_UNREACHABLE = frozenset({595, 596, 597, 599})
"""What a PVE proxy answers, with an empty body, when the node it forwards to is not there (AnyEvent::HTTP)."""

_NOT_CONNECTED = 595

_PROXY_PHASE = {
    595: "it cannot be connected to",
    596: "the connection to it broke before an answer",
    597: "the connection to it broke within the answer",
    599: "the request to it failed",
}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One node's API: ``name`` is what replies and ``at=`` call it."""

    name: str
    host: str
    port: int = 8006


@dataclass(frozen=True, slots=True)
class Reply:
    """What one endpoint answered, and between which moments it must have been so."""

    value: Any
    endpoint: str
    asked_at: Instant
    answered_at: Instant


def api_path(*segments: str | int) -> str:
    """The path of these segments, each quoted: ``api_path("nodes", "pve1", "status")``.

    The one place where a name becomes part of a path. ``:`` stays, so that ``vm:101`` reads as people write it.
    """
    if any(str(segment) in ("", ".", "..") for segment in segments):
        raise UsageError(f"API: {segments!r} is no path: a segment is empty or dots")
    return "".join(f"/{quote(str(segment), safe=':@!,')}" for segment in segments)


class PveApi:
    """The API of one cluster.

    Fit for several threads: each has connections of its own, so that a deadline in one breaks nobody else's call.

    Args:
        endpoints: in the order to try them; at least two, or the loss of one node is the loss of the API.
        token_id: ``USER@REALM!TOKEN``.
        secret: gives the token's secret; asked once, at the first call.
        trust: for all endpoints, or by endpoint name.
        service: whose ways the login and the errors have, ``PVE`` or ``PBS``.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        token_id: str,
        secret: Callable[[], str],
        trust: Trust | Mapping[str, Trust],
        clock: Clock,
        *,
        service: str = "PVE",
    ) -> None:
        if not endpoints:
            raise UsageError("API: no endpoint is given")
        if not re.fullmatch(r"[^@!\s]+@[^@!\s]+![^@!\s]+", token_id):
            raise UsageError(f"API: {token_id!r} is no token id; write it as USER@REALM!TOKEN")
        redaction.install()
        self._clock = clock
        self._token = _Token(token_id, secret)
        self._service = service
        self._doors = [_Door(each, trust if isinstance(trust, Trust) else trust[each.name]) for each in endpoints]
        self._current = 0
        self._shunned: dict[str, frozenset[str]] = {}
        self._lock = threading.Lock()
        self._lines: dict[threading.Thread, list[_Line]] = {}

    def get(self, path: str, /, *, deadline: Deadline, at: str | None = None, **params: Any) -> Reply:
        """What the cluster answers to GET; the next endpoint is asked when one is gone.

        Args:
            path: below ``/api2/json``, e.g. ``/cluster/status``; names go in by ``api_path``.
            at: the one endpoint to ask. Only then, or with a single endpoint, may it take the whole deadline;
                otherwise ``TRY_SECONDS`` each.

        Raises:
            Unreachable: no endpoint answered, or the one that did says that the path's node is not there.
            AuthRefused: certificate, token or privilege.
            ProtocolError: an error of the API, with its ``status``; or something that is no API reply.
        """
        candidates = self._candidates(at)
        gone: list[str] = []
        for index in candidates:
            if deadline.expired():
                gone.append("the deadline has passed")
                break
            limit = deadline if len(candidates) == 1 else deadline.sooner(TRY_SECONDS)
            try:
                reply = self._read(self._line(index), path, params, limit)
            except _NodeGone as told:
                if told.node is not None:
                    raise Unreachable(str(told)) from None
                gone.append(str(told))
            except _Gone as told:
                gone.append(str(told))
            else:
                self._current = index
                return reply
        raise Unreachable(f"GET {path}: no API endpoint answered: {'; '.join(gone)}")

    def post(self, path: str, /, *, deadline: Deadline, at: str | None = None, **params: Any) -> Reply:
        """POST happened, once. Errors as in ``get``; Unreachable says whether it may have happened."""
        return self._act("POST", path, params, deadline, at)

    def put(self, path: str, /, *, deadline: Deadline, at: str | None = None, **params: Any) -> Reply:
        """PUT happened, once. Errors as in ``get``; Unreachable says whether it may have happened."""
        return self._act("PUT", path, params, deadline, at)

    def delete(self, path: str, /, *, deadline: Deadline, at: str | None = None, **params: Any) -> Reply:
        """DELETE happened, once. Errors as in ``get``; Unreachable says whether it may have happened."""
        return self._act("DELETE", path, params, deadline, at)

    @property
    def user(self) -> str:
        """As whom it asks: ``USER@REALM!TOKEN``, as tasks show who started them."""
        return repr(self._token)

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Whom it asks, in their order."""
        return tuple(door.endpoint for door in self._doors)

    def shun(self, because: str, names: frozenset[str]) -> None:
        """For that reason these endpoints are not asked unless named, as long as there are others; none ends it."""
        self._shunned[because] = names

    @property
    def shunned(self) -> frozenset[str]:
        """The endpoints that are not asked unless named, for whatever reason."""
        return frozenset().union(*self._shunned.values())

    def close(self) -> None:
        """No connection is left open. The next call opens one again."""
        with self._lock:
            lines, self._lines = self._lines, {}
        for line in chain.from_iterable(lines.values()):
            line.close()

    def _candidates(self, at: str | None) -> list[int]:
        count = len(self._doors)
        if at is None:
            turns = [(self._current + step) % count for step in range(count)]
            shunned = self.shunned
            return [index for index in turns if self._doors[index].endpoint.name not in shunned] or turns
        named = [index for index, door in enumerate(self._doors) if door.endpoint.name == at]
        if not named:
            known = ", ".join(door.endpoint.name for door in self._doors)
            raise UsageError(f"API: there is no endpoint {at!r}; the inventory has {known}")
        return named

    def _read(self, line: _Line, path: str, params: Mapping[str, Any], deadline: Deadline) -> Reply:
        # Only a connection that was reset is tried again at once (the server may have closed a kept one just then);
        # waits and measurements never go through tenacity, which cannot follow our Clock.
        attempts = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(3),
            retry=tenacity.retry_if_exception_type(_Reset),
            wait=tenacity.wait_none(),
            sleep=self._clock.sleep,
            reraise=True,
        )
        return attempts(self._exchange, line, "GET", path, params, deadline)

    def _act(self, method: str, path: str, params: Mapping[str, Any], deadline: Deadline, at: str | None) -> Reply:
        line, index = self._reach(f"{method} {path}", deadline, at)
        try:
            reply = self._exchange(line, method, path, params, deadline)
        except _NodeGone as told:
            carried = "was not carried out" if told.status == _NOT_CONNECTED else "may have been carried out there"
            raise Unreachable(f"{told}. {method} {path} {carried}") from None
        except _Gone as told:
            raise Unreachable(
                f"{told}. {method} {path} had gone out: it is unknown whether it was carried out; it is not repeated"
            ) from None
        self._current = index
        return reply

    def _reach(self, what: str, deadline: Deadline, at: str | None) -> tuple[_Line, int]:
        """A line with a fresh connection on which nothing was sent.

        A kept connection may have died unnoticed, and a request written into it could not be told from one that ran.
        """
        candidates = self._candidates(at)
        gone: list[str] = []
        for index in candidates:
            if deadline.expired():
                gone.append("the deadline has passed")
                break
            line = self._line(index)
            limit = deadline if len(candidates) == 1 else deadline.sooner(TRY_SECONDS)
            failure: SiteError
            try:
                with self._clock.guard(limit, line.begin(), peers=[line.door.endpoint.port]):
                    line.reopen()
            except Exception as error:
                failure = line.meaning(error)
            else:
                return line, index
            finally:
                line.end()
            if not isinstance(failure, _Gone):
                raise failure
            gone.append(str(failure))
        raise Unreachable(f"{what} was not sent: no API endpoint could be connected to: {'; '.join(gone)}")

    def _exchange(self, line: _Line, method: str, path: str, params: Mapping[str, Any], deadline: Deadline) -> Reply:
        """One request, one answer; raises a SiteError that carries nothing of the request's headers."""
        line.token.resolve()
        asked_at = self._clock.now()
        failure: SiteError
        try:
            with self._clock.guard(deadline, line.begin(), peers=[line.door.endpoint.port]):
                value = line.call(method, path, params)
        except Exception as error:
            failure = line.meaning(error, path)
        else:
            return Reply(value, line.door.endpoint.name, asked_at, self._clock.now())
        finally:
            line.end()
        raise failure  # outside of the handler: no library frame, hence no header, hangs on to it

    def _line(self, index: int) -> _Line:
        """This thread's line to that endpoint: its own, or one whose thread has ended, or a new one."""
        me = threading.current_thread()
        with self._lock:
            if me not in self._lines:
                ended = next((thread for thread in self._lines if not thread.is_alive()), None)
                self._lines[me] = (
                    self._lines.pop(ended)
                    if ended
                    else [_Line(door, self._token, self._service) for door in self._doors]
                )
            return self._lines[me][index]


class _Gone(Unreachable):
    """This endpoint did not answer; another one may."""


class _Reset(_Gone):
    """The connection was reset before an answer."""


class _NodeGone(Unreachable):
    """The endpoint answered that the node it forwards to is not there."""

    def __init__(self, message: str, node: str | None, status: int) -> None:
        super().__init__(message)
        self.node = node
        self.status = status


class _Refused(Exception):
    """An answer with an error status, with both places where PVE puts its text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class _Token:
    """The API token; shows its id, never its secret."""

    def __init__(self, token_id: str, secret: Callable[[], str]) -> None:
        self.user, _, self.name = token_id.partition("!")
        self._secret = secret
        self._resolved: str | None = None

    def resolve(self) -> None:
        """The secret is known, and hidden from everything we write."""
        if self._resolved is None:
            # never in a local variable: tracebacks may show those
            self._resolved = self._secret()
            redaction.hide(self._resolved)
            if not re.fullmatch("[!-~]+", self._resolved):
                self._resolved = None
                # requests would refuse it too, and print it
                raise UsageError(
                    f"API token {self}: its secret is empty, or has a space, a line end or a special character in it"
                )

    def forget(self) -> None:
        """It was refused: the next call asks for it anew."""
        self._resolved = None

    def value(self) -> str:
        self.resolve()
        return self._resolved or ""

    def __repr__(self) -> str:
        return f"{self.user}!{self.name}"


class _TokenAuth(ProxmoxHTTPApiTokenAuth):  # type: ignore[misc]
    """proxmoxer's own, with the secret looked up when a request is made."""

    def __init__(self, token: _Token, service: str) -> None:
        self._token = token
        super().__init__(token.user, token.name, None, timeout=BACKSTOP, verify_ssl=True, service=service)

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        # the frames of requests, urllib3 and http.client hold the headers, and pytest may show those with -l
        super().__call__(request)
        request.headers["Authorization"] = redaction.Hidden(request.headers["Authorization"])
        return request

    @property
    def token_value(self) -> str:
        return self._token.value()

    @token_value.setter
    def token_value(self, value: object) -> None:
        """proxmoxer's constructor stores it; ours lives in the _Token."""


class _Serializer:
    """Gives ``data`` of a reply, or says what came instead."""

    def __init__(self, who: str, service: str) -> None:
        self._who = who
        self._service = service

    def get_accept_types(self) -> str:
        return "application/json"

    def loads(self, response: requests.Response) -> Any:
        try:
            body = _decoded(response.content)
        except ValueError:
            raise self._no_reply(response, "not JSON") from None
        if not isinstance(body, dict):
            raise self._no_reply(response, f"JSON, but no object: {type(body).__name__}")
        if "data" not in body:
            raise self._no_reply(response, "JSON without 'data'")
        return body["data"]

    def loads_errors(self, response: requests.Response) -> dict[str, Any]:
        try:
            body = _decoded(response.content)
        except ValueError:
            if looks_like_page(response):
                return {"html": True}
            # the backup server's errors are plain text (proxmox-rest-server, its JSON formatter)
            text = response.content[:_LONGEST_TEXT].decode("utf-8", "replace") if self._service == "PBS" else ""
            return {"message": printable(" ".join(text.split()))}
        return body if isinstance(body, dict) else {}

    def _no_reply(self, response: requests.Response, what: str) -> ProtocolError:
        kind = response.headers.get("Content-Type", "no content type")
        begins = redaction.scrub(response.content[:80].decode("utf-8", "replace"))
        return ProtocolError(
            f"{self._who} answered {response.status_code} with something that is no {self._service} reply ({what}; "
            f"{kind}): {begins!r}. Is another web server or a reverse proxy listening there?",
            status=response.status_code,
        )


def _decoded(content: bytes) -> Any:
    """The JSON. ValueError also where it is nested without end, or has a NaN, which Perl's encoder never writes."""

    def refuse(name: str) -> NoReturn:
        raise ValueError(name)

    try:
        return json.loads(content, parse_constant=refuse)
    except RecursionError:
        raise ValueError("nested too deeply") from None


class _Door:
    """One endpoint, whom to expect behind it, and where it is."""

    def __init__(self, endpoint: Endpoint, trust: Trust) -> None:
        self.endpoint = endpoint
        self.trust = trust
        self.context = trust.context()
        self.address = Address(endpoint.host, endpoint.port)
        self.who = f"{endpoint.name} ({endpoint.host}:{endpoint.port})"


class _Line(Line):
    """One thread's session with one endpoint: one kept connection, one call at a time."""

    def __init__(self, door: _Door, token: _Token, service: str) -> None:
        super().__init__(door.address, door.trust, door.context)
        self.door = door
        self.token = token
        backend = Backend(
            bracketed(door.endpoint.host),
            port=door.endpoint.port,
            user=token.user,
            token_name=token.name,
            token_value="",
            timeout=BACKSTOP,
        )
        self._base = backend.get_base_url()
        self._session: requests.Session = backend.get_session()
        self._session.auth = _TokenAuth(token, service)
        self._session.trust_env = False  # no proxy, no .netrc, no REQUESTS_CA_BUNDLE
        self._session.headers["Accept-Encoding"] = "identity"
        self._session.mount("https://", Adapter(self, who=door.who, largest=LARGEST_REPLY, what=f"no {service} API"))
        self._serializer = _Serializer(door.who, service)

    def call(self, method: str, path: str, params: Mapping[str, Any]) -> Any:
        """``data`` of the answer."""
        if not path.startswith("/"):
            raise UsageError(f"API: {path!r} is no path: it begins with /, below /api2/json")
        resource = ProxmoxResource(base_url=self._base + path, session=self._session, serializer=self._serializer)
        try:
            return getattr(resource, method.lower())(**{key: _plain(value) for key, value in params.items()})
        except ResourceException as error:
            status, text = int(error.status_code), _words(error.content, error.errors)
        raise _Refused(status, text)

    def meaning(self, error: Exception, path: str = "") -> SiteError:
        """What ``error`` says about the site, in our words; programming errors are raised as they are."""
        who = self.door.who
        if isinstance(error, _Refused):
            if error.status == HTTPStatus.UNAUTHORIZED:
                self.token.forget()
            return _refusal(who, self.token, path, error.status, error.text)
        if isinstance(error, SiteError):
            error.__context__ = None  # a decoder's error holds the whole answer
            return error.with_traceback(None)
        if isinstance(error, TimedOut):
            return _Gone(f"{who} did not answer within the deadline")
        if told := protocol_error(who, path, error):
            return told
        cause = root(error)
        if hung_up(cause):
            return (
                _Reset(f"{who} closed the connection without an answer")
                if path and not isinstance(cause, ConnectionRefusedError)
                else _Gone(f"{who}: {reason(cause)}")
            )
        if isinstance(cause, OSError):
            return _Gone(f"{who}: {reason(cause)}")
        raise error

    def close(self) -> None:
        """No connection is open."""
        self._session.close()
        super().close()


def _refusal(who: str, token: _Token, path: str, status: int, text: str) -> SiteError:
    """What an error status means. Source: pve-http-server AnyEvent.pm; texts as PVE words them."""
    text = redaction.scrub(text)
    if status in NODE_UNREACHABLE:
        found = re.match(r"/nodes/([^/]+)", path)
        node = found[1] if found else None
        where = f"node {node}" if node else "the node that answers it"
        return _NodeGone(f"{where} is unreachable: {who} says {status} {text}: {_PROXY_PHASE[status]}", node, status)
    if status == HTTPStatus.UNAUTHORIZED:
        return AuthRefused(f"{who} refused the API token {token!r}: {text}. Check its id, secret and expiry.")
    if status == HTTPStatus.FORBIDDEN:
        return AuthRefused(
            f"{who} refused {path} to the API token {token!r}: {text}. "
            f"A token has the rights that both it and its user have."
        )
    return ProtocolError(f"{who} answered {path} with {status} {text}".rstrip(), status=status)


def _words(phrase: str | None, body: Mapping[str, Any]) -> str:
    """The error's text from the status line and the body; either may hold it, depending on the version."""
    if body.get("html"):
        return f"{phrase or ''} (an HTML page)".strip()
    words = [(phrase or "").strip()]
    message = str(body.get("message") or "").strip()
    if message and message != words[0]:
        words.append(message)
    errors = body.get("errors")
    if isinstance(errors, Mapping):
        words.append("; ".join(f"{key}: {str(text).strip()}" for key, text in sorted(errors.items())))
    elif errors:
        words.append(str(errors))
    return " - ".join(word for word in words if word)[:_LONGEST_TEXT]


def _plain(value: Any) -> Any:
    """PVE's forms know no True: booleans are 1 and 0."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(each) for each in value]
    return value


__all__ = ["Endpoint", "PveApi", "Reply", "Trust", "api_path"]
