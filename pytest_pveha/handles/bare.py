"""A cluster of corosync alone: what a Proxmox site is told by its API, as far as corosync's own tools tell it.

The one place that knows how a site without Proxmox is read. Whatever nobody there can say is refused by ``NoApi``.
Sources: corosync-cmapctl(8), cmap_keys(7), votequorum(5); wording seen of corosync 3.1.7.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, ClassVar, Final, TypeVar

from pytest_pveha.clock import Deadline
from pytest_pveha.errors import NoProxmox, ProtocolError, SiteError, Unreachable
from pytest_pveha.handles import corosync
from pytest_pveha.handles.cluster import NOBODY, Asked, Cluster, GuestRow, Manager, Membership, Totem
from pytest_pveha.handles.guest import Nodes
from pytest_pveha.handles.node import Node
from pytest_pveha.handles.reading import Said, once
from pytest_pveha.handles.shell import ending_by, quote
from pytest_pveha.wire.pve_api import Endpoint, PveApi, Reply

TRY: Final = 4.0
"""Seconds one node may take to answer, where another could be asked."""

_KEY = re.compile(r"^(?P<key>\S+) \((?P<type>\w+)\) = (?P<value>.*)$")
_RING = re.compile(r"ring[0-7]_addr")
_T = TypeVar("_T")


class NoApi(PveApi):
    """The API of a site that has none: every call is NoProxmox, and nobody is contacted."""

    def __init__(self) -> None:
        self._shunned: dict[str, frozenset[str]] = {}

    def get(self, path: str, /, *, deadline: Deadline, at: str | None = None, **params: Any) -> Reply:
        raise NoProxmox

    post = put = delete = get

    @property
    def user(self) -> str:
        raise NoProxmox

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        return ()

    def close(self) -> None:
        """There is nothing to close."""


class BareCluster(Cluster):
    """The cluster by its nodes' corosync, over SSH. Whatever else is asked of a cluster raises NoProxmox."""

    proxmox: ClassVar[bool] = False

    def __init__(self, nodes: Nodes, api: NoApi) -> None:
        super().__init__(api)
        self._nodes = nodes

    @property
    def endpoints(self) -> tuple[str, ...]:
        return self._nodes.names

    def membership(self, deadline: Deadline, at: str | None = None) -> Membership:
        """Quorum and members as that node's corosync (or the first that answers) has them."""
        if at is not None:
            return self._seen_by(self._nodes[at], deadline)
        return self._first(deadline, self._seen_by)

    def leading(self, deadline: Deadline) -> Manager:
        return NOBODY

    def guests(self, deadline: Deadline) -> dict[str, GuestRow]:
        """Every guest that runs on a member, by its process there: one that is stopped is not seen."""
        online = self.membership(deadline).online
        return {
            sid: GuestRow(sid, "", node.name, "running", None, 0)
            for node in self._nodes
            if online.get(node.name)
            for sid in sorted(node.processes(deadline).ages)
        }

    def votes(self, deadline: Deadline) -> dict[str, int]:
        return {row.name("name"): row.count("quorum_votes", 1) for row in self._list(deadline)}

    def node_ids(self, deadline: Deadline) -> dict[str, int]:
        return {row.name("name"): row.count("nodeid") for row in self._list(deadline)}

    def ring_addresses(self, deadline: Deadline) -> dict[str, tuple[str, ...]]:
        return {
            row.name("name"): tuple(row.word(key) for key in sorted(row.values) if _RING.fullmatch(key))
            for row in self._list(deadline)
        }

    def totem(self, deadline: Deadline, nodes: int) -> Totem:
        """The times that corosync itself made of its configuration and the number of nodes."""
        told = self._map(deadline)
        return Totem(
            told.count("runtime.config.totem.token") / 1000,
            told.count("runtime.config.totem.consensus", 0) / 1000 or None,
        )

    def qdevice_connected(self, deadline: Deadline) -> bool:
        return self._first(deadline, corosync.device_state) == "Connected"

    # --- reading ---------------------------------------------------------------------------------------------------

    def _first(self, deadline: Deadline, ask: Callable[[Node, Deadline], _T]) -> _T:
        """What the first of the nodes says that is not shunned and answers."""
        shunned = self.shunned
        turns = [node for node in self._nodes if node.name not in shunned] or list(self._nodes)
        gone = []
        for node in turns:
            try:
                return ask(node, deadline if len(turns) == 1 else deadline.sooner(TRY))
            except SiteError as error:
                gone.append(str(error))
        raise Unreachable(f"no node answers: {'; '.join(gone)}")

    def _map(self, deadline: Deadline) -> Said:
        return self._first(deadline, cmap)

    def _list(self, deadline: Deadline) -> list[Said]:
        return nodelist(self._map(deadline))

    def _seen_by(self, node: Node, deadline: Deadline) -> Membership:
        clock = deadline.clock
        asked = clock.now()
        told = cmap(node, deadline)
        quorate = corosync.quorum(node, deadline).quorate
        here = [row.name("name") for row in nodelist(told) if row.word("nodeid") == _own_id(told)]
        if here != [node.name]:
            raise ProtocolError(
                f"{told.where}: at the address of {node.name} the corosync of {' and '.join(here) or 'nobody'} "
                f"answers; nothing it says is believed"
            )
        joined = {row.name("name"): _joined(told, row.word("nodeid")) for row in nodelist(told)}
        when = Asked(asked, clock.now(), node.name)
        return Membership(told.word("totem.cluster_name"), quorate, joined, when, node.name)


def cmap(node: Node, deadline: Deadline) -> Said:
    """The node's corosync's own map of keys, as texts. ProtocolError where it names none."""
    words = quote(*ending_by(deadline), "corosync-cmapctl")
    result = node.ssh.run(words, deadline=deadline)
    lines = result.stdout.decode(errors="replace").split("\n")
    found = {match["key"]: match["value"] for line in lines if (match := _KEY.match(line))}
    if not found:
        said = (result.stdout + result.stderr).decode(errors="replace").strip()[:200]
        raise ProtocolError(f"node {node.name}: `corosync-cmapctl` names no key: {said}")
    return Said(f"node {node.name}: corosync-cmapctl", found)


def nodelist(told: Said) -> list[Said]:
    """Each node that the configuration names."""
    rows: dict[str, dict[str, str]] = {}
    for key, value in told.values.items():
        if key.startswith("nodelist.node.") and key.count(".") == 3:
            number, name = key.split(".")[2:]
            rows.setdefault(number, {})[name] = value
    found = [Said(f"{told.where} nodelist.node.{number}", row) for number, row in sorted(rows.items())]
    once(((row.name("name"), row) for row in found), told.where)
    return found


def _own_id(told: Said) -> str:
    return told.word("runtime.votequorum.this_node_id")


def _joined(told: Said, number: str) -> bool:
    return told.word(f"runtime.members.{number}.status", "left") == "joined"
