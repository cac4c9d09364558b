"""The REST API of the Proxmox Backup Server, read-only but for its login.

Shapes, privileges and the wording of refusals: the public API viewer and sources of Proxmox Backup 3.2 (facts only;
src/api2/admin/datastore.rs, proxmox-rest-server's formatter). Errors are plain text, not JSON; a refused login is
answered three seconds late.
"""

from __future__ import annotations

import hmac
import re
import ssl
from collections.abc import Callable
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import unquote

from pytest_pveha.sim.gate import Gate
from pytest_pveha.sim.servers.https_server import HttpsServer, Reply, Request
from pytest_pveha.sim.servers.ports import Silence, TcpPort
from pytest_pveha.sim.world.pbs import TOTAL, Pbs, Snapshot
from pytest_pveha.sim.world.world import World

BASE = "/api2/json"
REFUSAL_SECONDS = 3.0
TICKET_SECONDS = 7200.0
VERSION = {"version": "3.2", "release": "4", "repoid": "8a5d4cd2"}

_READ = ("Datastore.Audit", "Datastore.Backup")
_PREFIX = re.compile(r"PBSAPIToken[= ]")


class _Refused(Exception):
    """An error with its status; the text is the whole body."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class PbsServer:
    """The backup server's API on a port of its own."""

    def __init__(
        self, gate: Gate, tls: ssl.SSLContext, token_id: str, secret: str, *, port: TcpPort | None = None
    ) -> None:
        self.port = port or TcpPort()
        self._gate = gate
        self._token_id = token_id
        self._secret = secret
        self._tickets: dict[str, int] = {}
        self._server = HttpsServer("pbs", self.port, tls, self.answer, server="proxmox-backup")

    def start(self) -> None:
        """Requests are answered from now on."""
        self._server.start()

    def answer(self, request: Request) -> Reply:
        """The reply to one request; Silence where the server is gone."""
        with self._gate.acting(request.sock) as world:
            if not world.pbs.answering:
                raise Silence
            try:
                return Reply.of({"data": self._told(world, request)})
            except _Refused as refused:
                reply = Reply(refused.status, _REASONS.get(refused.status, ""), refused.text.encode(), "text/plain")
        if reply.status == 401:
            self._gate.park(REFUSAL_SECONDS)
        return reply

    def _told(self, world: World, request: Request) -> Any:
        path = request.path.removeprefix(BASE)
        if path == "/access/ticket" and request.method == "POST":
            return self._login(world, request)
        self._known(world, request)
        for method, pattern, needs, act in _ROUTES:
            if method == request.method and (match := re.fullmatch(pattern, path)):
                parts = [unquote(part) for part in match.groups()]
                _allowed(world.pbs, needs, parts)
                return act(world, request.params, *parts)
        raise _Refused(404, f"Path '{request.path}' not found.")

    def _login(self, world: World, request: Request) -> dict[str, str]:
        """A ticket for the one user there is, whose password is the token's secret."""
        user = self._token_id.partition("!")[0]
        given = request.params.get("username", ""), request.params.get("password", "")
        if given[0] != user or not hmac.compare_digest(given[1].encode(), self._secret.encode()):
            raise _Refused(401, "permission check failed.")
        ticket = f"PBS:{user}:{len(self._tickets):08X}::{self._secret[:8]}{len(self._tickets)}"
        self._tickets[ticket] = world.timeline.now + round(TICKET_SECONDS * 1e9)
        return {"ticket": ticket, "CSRFPreventionToken": f"{len(self._tickets):08X}:csrf", "username": user}

    def _known(self, world: World, request: Request) -> None:
        cookie = SimpleCookie(request.cookie).get("PBSAuthCookie")
        if cookie is not None and self._tickets.get(unquote(cookie.value), -1) > world.timeline.now:
            return
        token, colon, secret = _PREFIX.sub("", request.authorization, count=1).rpartition(":")
        told = _PREFIX.match(request.authorization) and colon and token == self._token_id
        if not (told and hmac.compare_digest(secret.encode(), self._secret.encode())):
            raise _Refused(401, "authentication failed")


_REASONS = {400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found"}


def _allowed(pbs: Pbs, needs: tuple[str, ...], parts: list[str]) -> None:
    assert pbs.spec is not None
    if parts and parts[0] != pbs.spec.datastore:
        raise _Refused(400, f"no such datastore '{parts[0]}'")
    if needs and set(needs) <= set(pbs.spec.token_lacks):
        path = f"/datastore/{parts[0]}" if parts else "/system/tasks"
        raise _Refused(403, f"permission check failed - missing {'|'.join(needs)} on {path}")


def _version(world: World, params: dict[str, str]) -> dict[str, str]:
    return VERSION


def _permissions(world: World, params: dict[str, str]) -> dict[str, dict[str, bool]]:
    """What the token may do: by path, each privilege and whether it holds below."""
    spec = world.pbs.spec
    assert spec is not None
    held = {privilege: True for privilege in _READ if privilege not in spec.token_lacks}
    return {params.get("path") or f"/datastore/{spec.datastore}": held}


def _stores(world: World, params: dict[str, str]) -> list[dict[str, Any]]:
    spec = world.pbs.spec
    assert spec is not None
    return [] if set(_READ) <= set(spec.token_lacks) else [{"store": spec.datastore, "comment": "guests"}]


def _status(world: World, params: dict[str, str], store: str) -> dict[str, Any]:
    used = world.pbs.used
    return {"total": TOTAL, "used": used, "avail": TOTAL - used}


def _namespaces(world: World, params: dict[str, str], store: str) -> list[dict[str, str]]:
    spec = world.pbs.spec
    assert spec is not None
    return [{"ns": ""}, *([{"ns": spec.namespace}] if spec.namespace else [])]


def _chosen(world: World, params: dict[str, str]) -> list[Snapshot]:
    spec = world.pbs.spec
    assert spec is not None
    space = params.get("ns", "")
    if space not in ("", spec.namespace):
        raise _Refused(400, f"namespace '{space}' does not exist")
    kind, number = params.get("backup-type"), params.get("backup-id")
    return [
        one
        for one in world.pbs.snapshots
        if space == spec.namespace and kind in (None, one.kind) and number in (None, str(one.vmid))
    ]


def _snapshots(world: World, params: dict[str, str], store: str) -> list[dict[str, Any]]:
    return [_entry(one) for one in _chosen(world, params)]


def _groups(world: World, params: dict[str, str], store: str) -> list[dict[str, Any]]:
    found: dict[tuple[str, int], list[Snapshot]] = {}
    for one in _chosen(world, params):
        found.setdefault((one.kind, one.vmid), []).append(one)
    return [
        {
            "backup-type": kind,
            "backup-id": str(vmid),
            "last-backup": max(one.time for one in kept),
            "backup-count": len(kept),
            "files": list(kept[0].files),
            "owner": kept[0].owner,
        }
        for (kind, vmid), kept in found.items()
    ]


def _tasks(world: World, params: dict[str, str]) -> list[dict[str, Any]]:
    return []


def _entry(one: Snapshot) -> dict[str, Any]:
    mode = "encrypt" if one.fingerprint else "none"
    entry: dict[str, Any] = {
        "backup-type": one.kind,
        "backup-id": str(one.vmid),
        "backup-time": one.time,
        "files": [{"filename": name, "crypt-mode": mode, "size": one.size // 100 + 1} for name in one.files],
        "size": one.size,
        "owner": one.owner,
        "protected": one.protected,
        "comment": one.config.get("name") or one.config.get("hostname", ""),
    }
    if one.fingerprint:
        entry["fingerprint"] = one.fingerprint + ":00" * 24
    if one.verification is not None:
        upid = f"UPID:pbs:00000A10:0000B000:00000000:{one.time + 7200:08X}:verificationjob:main:root@pam:"
        entry["verification"] = {"state": one.verification, "upid": upid}
    return entry


_ROUTES: tuple[tuple[str, str, tuple[str, ...], Callable[..., Any]], ...] = (
    ("GET", "/version", (), _version),
    ("GET", "/access/permissions", (), _permissions),
    ("GET", "/admin/datastore", (), _stores),
    ("GET", "/admin/datastore/([^/]+)/status", _READ, _status),
    ("GET", "/admin/datastore/([^/]+)/snapshots", _READ, _snapshots),
    ("GET", "/admin/datastore/([^/]+)/groups", _READ, _groups),
    ("GET", "/admin/datastore/([^/]+)/namespace", _READ, _namespaces),
    ("GET", "/nodes/localhost/tasks", ("Sys.Audit",), _tasks),
)
