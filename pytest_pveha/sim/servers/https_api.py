"""One node's pveproxy: who may ask, which node answers, and how long that takes.

A request acts on the world at one moment of site time. Where PVE makes its client wait (a wrong token, a dead node
behind the proxy, a membership that is changing) the wait is site time, taken with ``gate.park``.

Source: pve-http-server's behaviour as measured on a PVE 9.1.9 control plane.
"""

from __future__ import annotations

import hmac
import random
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from pytest_pveha.sim.gate import Gate, Gone
from pytest_pveha.sim.servers.api_routes import ApiError, Call, Listing, Route, find
from pytest_pveha.sim.servers.facts import Facts
from pytest_pveha.sim.servers.https_server import HttpsServer, Reply, Request
from pytest_pveha.sim.servers.ports import Silence, TcpPort
from pytest_pveha.sim.world import versions
from pytest_pveha.sim.world.model import Node
from pytest_pveha.sim.world.network import API_PORT
from pytest_pveha.sim.world.world import World

BASE = "/api2/json"
REFUSAL_SECONDS = 3.0
"""Every 401 is held back that long, against guessing."""

NO_ROUTE_SECONDS = (1.9, 3.1)
"""How long the proxy tries a dead node before it says No route to host (measured)."""
DROPPED_SECONDS = 30.0
"""How long it tries one whose packets are dropped: the proxy's own patience."""

HANG_SECONDS = 30.0
"""How long the proxy waits for the first byte of another node's answer."""

LOCK_SECONDS = 10.0
"""How long a write tries to get its cluster-wide lock without quorum (measured)."""

CEPH_SECONDS = 5.0
"""PVE's patience with Ceph's mons."""
SYNC_SECONDS = 5.0
_SYNC_STEP = 0.5


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What is already decided when a request arrives, and how long until it is told."""

    reply: Reply | None = None
    wait: float = 0.0
    until_synced: bool = False


class ApiServer:
    """The REST API of one node, on a port that shares the node's fate.

    Args:
        tls: a server context with the node's certificate.
        token_id, secret: the only API token there is, as user@realm!id and its value.
        port: where to serve; an open one of its own if None.
        fingerprints: of the nodes' certificates, for /nodes.
    """

    def __init__(
        self,
        node_name: str,
        gate: Gate,
        tls: ssl.SSLContext,
        token_id: str,
        secret: str,
        *,
        port: TcpPort | None = None,
        fingerprints: Mapping[str, str] | None = None,
    ) -> None:
        self.node_name = node_name
        self.port = port or TcpPort()
        self._gate = gate
        self._token_id = token_id
        self._secret = secret
        self._fingerprints = dict(fingerprints or {})
        self._random = random.Random(f"{gate.world.spec.seed}/{node_name}/api")
        self._asked_while_syncing = 0
        self._server = HttpsServer(node_name, self.port, tls, self.answer)

    def start(self) -> None:
        """Requests are answered from now on."""
        self._server.start()

    def close(self) -> None:
        """The port is given back; connections are reset."""
        self.port.close()

    def answer(self, request: Request) -> Reply:
        """The reply to one request, after the time it takes; Silence if the node died meanwhile."""
        with self._gate.acting(request.sock) as world:
            boot = self._boot(world)
            if world.nodes[self.node_name].api_hung:
                raise Silence
            try:
                route, parts = self._authorised(world, request)
                target = self._target(world, parts)
            except ApiError as error:
                verdict = _Verdict(_refusal(error, world.spec.version), REFUSAL_SECONDS if error.status == 401 else 0.0)
            else:
                verdict = self._verdict(world, route, target)
                if not verdict.wait and not verdict.until_synced:
                    return verdict.reply or self._execute(world, target, route, parts, request)
        if verdict.wait:
            self._wait(verdict.wait, request, boot)
        if verdict.reply is not None:
            return verdict.reply
        self._wait_for_sync(request, boot)
        with self._gate.acting(request.sock) as world:
            self._still(world, boot)
            return self._execute(world, target, route, parts, request)

    # --- before it is executed -----------------------------------------------------------------------------------

    def _authorised(self, world: World, request: Request) -> tuple[Route, dict[str, str]]:
        if not request.path.startswith(BASE):
            raise ApiError(501, f"Method '{request.method} {request.path}' not implemented")
        scheme, _, token = request.authorization.partition("=")
        if scheme != "PVEAPIToken":
            raise ApiError(401, "No ticket")
        token_id, _, secret = token.partition("=")
        if token_id != self._token_id:
            user, _, name = token_id.partition("!")
            raise ApiError(401, f"no such token '{name}' for user '{user}'")
        if not hmac.compare_digest(secret.encode(), self._secret.encode()):
            raise ApiError(401, "invalid token value!")
        path = request.path.removeprefix(BASE) or "/"
        route, parts = find(request.method, path, world.spec.version)
        parts = {name: unquote(value) for name, value in parts.items()}
        if refusal := route.refused(world.spec.token_lacks, parts):
            raise refusal
        return route, parts

    def _target(self, world: World, parts: Mapping[str, str]) -> Node:
        """The node that executes: this one, unless the path names another."""
        name = parts.get("node", self.node_name)
        if name == "localhost":
            name = self.node_name
        if name not in world.nodes:
            reason = f"failed to get address info for: {name}: Name or service not known"
            raise ApiError(500, f"hostname lookup '{name}' failed - {reason}")
        return world.nodes[name]

    def _verdict(self, world: World, route: Route, target: Node) -> _Verdict:
        """Whether the request can be executed now, later, or not at all."""
        if target.name != self.node_name:
            if target.running and target.api_hung:
                return _Verdict(_unreachable("Connection timed out", 596), HANG_SECONDS)
            if not target.running or not (world.nodes[self.node_name].link_up and target.link_up):
                return _Verdict(_unreachable("No route to host"), self._random.uniform(*NO_ROUTE_SECONDS))
            if not world.network.talks(world.nodes[self.node_name], target, API_PORT):
                return _Verdict(_unreachable("Connection timed out"), DROPPED_SECONDS)
            if not target.api_up:
                return _Verdict(_unreachable("Connection refused"))
        if route.reads_cluster and world.cluster_view(target).syncing:
            # some worker processes have what they need in hand, others hang in pmxcfs
            self._asked_while_syncing += 1
            return _Verdict(until_synced=self._asked_while_syncing % 2 == 1)
        if route.lock and not world.quorate(target) and not target.syncing:
            error = ApiError(500, f"cfs-lock '{route.lock}' error: no quorum!")
            return _Verdict(_refusal(error, world.spec.version), LOCK_SECONDS)
        if route.asks_ceph and world.ceph is not None and not world.ceph.answers(target):
            return _Verdict(wait=CEPH_SECONDS)
        return _Verdict(wait=route.slow(world, target)) if route.slow is not None else _Verdict()

    # --- waiting -------------------------------------------------------------------------------------------------

    def _boot(self, world: World) -> str:
        """Which boot answers; Silence from a node that runs none."""
        node = world.nodes[self.node_name]
        if not node.running:
            raise Silence
        return node.boot_id

    def _still(self, world: World, boot: str) -> None:
        if self._boot(world) != boot:
            raise Silence

    def _wait(self, seconds: float, request: Request, boot: str) -> None:
        """Return that much later, if the node still lives and somebody still waits."""
        try:
            self._gate.park(seconds)
        except Gone:
            with self._gate.acting() as world:
                self._still(world, boot)
            raise
        with self._gate.acting(request.sock) as world:
            self._still(world, boot)

    def _wait_for_sync(self, request: Request, boot: str) -> None:
        waited = 0.0
        while waited < SYNC_SECONDS:
            with self._gate.acting(request.sock) as world:
                self._still(world, boot)
                if not world.cluster_view(world.nodes[self.node_name]).syncing:
                    return
            self._wait(_SYNC_STEP, request, boot)
            waited += _SYNC_STEP

    # --- executing -----------------------------------------------------------------------------------------------

    def _execute(self, world: World, target: Node, route: Route, parts: Mapping[str, str], request: Request) -> Reply:
        call = Call(Facts(world, target), self._token_id, request.params, self._fingerprints)
        try:
            data = route.function(call, **parts)
        except ApiError as error:
            return _refusal(error, world.spec.version)
        if isinstance(data, Listing):
            return Reply.of({"data": data.data, "total": data.total})
        return Reply.of({"data": data})


def _refusal(error: ApiError, version: str) -> Reply:
    """An error as PVE tells it: in the reason phrase, and since libpve-http-server-perl 5.2.0 in the body too."""
    document: dict[str, object] = {"data": None}
    if versions.has(version, versions.MESSAGE):
        document["message"] = error.message + "\n"
    if error.errors:
        document["errors"] = dict(error.errors)
    return Reply.of(document, status=error.status, reason=error.message)


def _unreachable(reason: str, status: int = 595) -> Reply:
    """What a proxying node says of one it cannot reach, or that does not answer: no body."""
    return Reply(status, reason)
