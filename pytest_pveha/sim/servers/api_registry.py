"""How the REST API's functions are entered and found: path, method, version, privilege, and what they are called with.

Error texts as recorded on a PVE 9.1.9 control plane.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pytest_pveha.sim.servers.facts import Facts
from pytest_pveha.sim.world import versions
from pytest_pveha.sim.world.model import Node, Refused
from pytest_pveha.sim.world.world import World

PARAMETERS = "Parameter verification failed."
AUDIT, CONSOLE = ("Sys.Audit",), ("Sys.Console",)


class ApiError(Exception):
    """PVE refuses: its status code, and the text that becomes reason phrase and body."""

    def __init__(self, status: int, message: str, errors: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.errors = errors


@dataclass(frozen=True, slots=True)
class Call:
    """One request at the node that executes it."""

    facts: Facts
    user: str
    """As tasks show it: user@realm!tokenid."""
    params: Mapping[str, str] = field(default_factory=dict)
    fingerprints: Mapping[str, str] = field(default_factory=dict)

    @property
    def node(self) -> Node:
        """The node that executes."""
        return self.facts.node

    @property
    def world(self) -> World:
        """What it acts on."""
        return self.facts.world

    def number(self, name: str) -> int | None:
        """That parameter as a number, None if it is not given."""
        text = self.params.get(name)
        if text is None:
            return None
        if not text.isdigit():
            raise ApiError(400, PARAMETERS, {name: f"type check ('integer') failed - got '{text}'"})
        return int(text)

    def needed(self, name: str) -> str:
        """That parameter, which must be given."""
        if name not in self.params:
            raise ApiError(400, PARAMETERS, {name: "property is missing and it is not optional"})
        return self.params[name]

    def one_of(self, name: str, *known: str) -> str:
        """That parameter, which must be given and be one of these."""
        text = self.needed(name)
        if text not in known:
            message = f"value '{text}' does not have a value in the enumeration '{', '.join(known)}'"
            raise ApiError(400, PARAMETERS, {name: message})
        return text

    def only(self, *known: str) -> None:
        """No other parameters than these are given."""
        message = "property is not defined in schema and the schema does not allow additional properties"
        if unknown := sorted(self.params.keys() - set(known)):
            raise ApiError(400, PARAMETERS, dict.fromkeys(unknown, message))

    def may(self, privilege: str) -> bool:
        """Whether the token has that privilege."""
        return privilege not in self.world.spec.token_lacks

    def writing(self) -> None:
        """The cluster file system may be written."""
        if not self.facts.view.quorate:
            raise ApiError(500, "cluster not ready - no quorum?")


Function = Callable[..., Any]
"""Takes the Call and the path's parts by name; returns what goes into ``data``, or Listing."""


@dataclass(frozen=True, slots=True)
class Listing:
    """A list with its ``total`` beside ``data``."""

    data: list[dict[str, Any]]
    total: int


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path."""

    method: str
    pattern: re.Pattern[str]
    function: Function
    reads_cluster: bool
    """Answered from pmxcfs or corosync, so it may hang while the membership changes."""
    needs: tuple[str, ...] = ()
    """Privileges of which one suffices."""
    on: str = "/"
    """Where they are needed; the path's parts in braces."""
    lock: str = ""
    """The cluster-wide lock it takes: without quorum it tries for ten seconds, and fails."""
    since: tuple[int, ...] = ()
    slow: Callable[[World, Node], float] | None = None
    """Seconds until that node has found out what it is asked, where that depends on others."""
    asks_ceph: bool = False
    """Whether it needs Ceph's mons, and waits for them."""

    def refused(self, lacks: tuple[str, ...], parts: Mapping[str, str]) -> ApiError | None:
        """PVE's refusal, if a token that lacks these privileges may not do this."""
        if not self.needs or not set(self.needs) <= set(lacks):
            return None
        return ApiError(403, f"Permission check failed ({self.on.format(**parts)}, {'|'.join(self.needs)})")


ROUTES: list[Route] = []
_PART = re.compile(r"\{(\w+)(?::([^}]+))?\}")


def route(
    method: str,
    path: str,
    needs: tuple[str, ...] = (),
    on: str = "/",
    *,
    lock: str = "",
    since: tuple[int, ...] = (),
    slow: Callable[[World, Node], float] | None = None,
    asks_ceph: bool = False,
) -> Callable[[Function], Function]:
    """The decorated function answers that method of that path."""
    pattern = re.compile(_PART.sub(lambda part: f"(?P<{part[1]}>{part[2] or '[^/]+'})", path) + "/?")

    def enter(function: Function) -> Function:
        reads_cluster = method == "GET" and (path.startswith("/cluster") or path == "/nodes")
        ROUTES.append(Route(method, pattern, function, reads_cluster, needs, on, lock, since, slow, asks_ceph))
        return function

    return enter


def find(method: str, path: str, version: str) -> tuple[Route, dict[str, str]]:
    """The route for a path below /api2/json, and its parts; ApiError 501 if that version has none."""
    for entry in ROUTES:
        match = entry.pattern.fullmatch(path)
        if match and entry.method == method and versions.has(version, entry.since):
            return entry, match.groupdict()
    raise ApiError(501, f"Method '{method} {path}' not implemented")


def asked(act: Callable[[], str]) -> str:
    """What the act returned; PVE's refusals are plain 500s."""
    try:
        return act()
    except Refused as refused:
        raise ApiError(500, str(refused)) from None
