"""The cluster file system: what the HA daemons share, and the locks whose age decides who may act.

A lock lives 120 s after its last renewal. Its age is judged by one member alone, the one with the lowest node id, and
that one counts from its own start if it started later. Taking an expired lock needs two tries: the first only has it
deleted. Sources: pve-cluster's pmxcfs, pve-ha-manager's Env/PVE2.pm; measured on a PVE 9.1.9 control plane.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_pveha.clock import SECOND
from pytest_pveha.sim.world.files import Entry
from pytest_pveha.sim.world.model import Facts, Node, Report

if TYPE_CHECKING:
    from pytest_pveha.sim.world.world import World

LOCK_LIFETIME = 120
MANAGER_LOCK = "ha_manager_lock"


def agent_lock(node: str) -> str:
    """The name of that node's agent lock."""
    return f"ha_agent_{node}_lock"


@dataclass(slots=True)
class Lock:
    """A lock: who made it (and in which of its lives), and when it last changed (ns)."""

    name: str
    holder: str
    life: int
    changed: int


@dataclass(slots=True)
class Store:
    """What the quorate partition shares. Survives on disk when every node is off."""

    manager: Facts = field(default_factory=dict)
    lrm: dict[str, Facts] = field(default_factory=dict)
    resources: dict[str, Facts] = field(default_factory=dict)
    rules: dict[str, Facts] = field(default_factory=dict)
    groups: dict[str, Facts] = field(default_factory=dict)
    """PVE 8's, until a master of PVE 9 has made rules of them."""
    options: Facts = field(default_factory=dict)
    """The datacenter's: ``ha``, ``crs``, ``max_workers`` and the like; what is not there has its default."""
    reports: dict[int, Report] = field(default_factory=dict)
    commands: list[str] = field(default_factory=list)
    """What the CRM is asked to do, one command a line, such as ``migrate vm:101 pve2``."""
    locks: dict[str, Lock] = field(default_factory=dict)
    files: dict[str, Entry] = field(default_factory=dict)
    """What somebody wrote below /etc/pve, by its whole path."""
    places: dict[int, str] = field(default_factory=dict)
    """In a snapshot: where each guest's configuration lay."""


class Pmxcfs:
    """The cluster file system of one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.store = Store()

    def snapshot(self) -> Store:
        """A copy of the readable content."""
        copy = deepcopy(self.store)
        copy.places = self.places()
        return copy

    def read(self, node: Node) -> Store:
        """What that node reads: the present with quorum, else what it last saw. Not a copy, not to be changed."""
        return node.frozen if node.frozen is not None else self.store

    def places(self, node: Node | None = None) -> dict[int, str]:
        """Where each guest's configuration lies; as that node reads it, if one is given."""
        if node is not None and node.frozen is not None:
            return dict(node.frozen.places)
        return {guest.vmid: guest.config_node for guest in self._world.guests.values()}

    def expires(self, name: str) -> int | None:
        """When (ns) the judge will call that lock expired; None if there is no such lock."""
        lock = self.store.locks.get(name)
        if lock is None:
            return None
        judges = [n for n in self._world.nodes.values() if self._world.quorate(n) and n.cfs_started is not None]
        judge = min(judges, key=lambda n: n.nodeid, default=None)
        seen = lock.changed if judge is None else max(lock.changed, judge.cfs_started or 0)
        return seen + LOCK_LIFETIME * SECOND

    def holds(self, name: str, node: Node) -> bool:
        """Whether that node, in its present life, holds the lock."""
        lock = self.store.locks.get(name)
        return lock is not None and lock.holder == node.name and lock.life == node.life

    def grab(self, name: str, node: Node) -> bool:
        """Whether that node now holds the lock: renewed, or newly made. An expired one of others is only deleted."""
        world = self._world
        if not world.quorate(node):
            return False
        lock = self.store.locks.get(name)
        if lock is None:
            self.store.locks[name] = Lock(name, node.name, node.life, world.timeline.now)
            world.truth("lock", {"lock": name, "node": node.name, "what": "taken"})
            return True
        if lock.holder == node.name and lock.life == node.life:
            lock.changed = world.timeline.now
            return True
        expires = self.expires(name)
        if expires is not None and world.timeline.now > expires:
            del self.store.locks[name]
            world.truth("lock", {"lock": name, "node": lock.holder, "what": "expired", "renewed": lock.changed})
        return False

    def release(self, name: str, node: Node) -> None:
        """That node no longer holds the lock, if it did."""
        if self.holds(name, node):
            del self.store.locks[name]
            self._world.truth("lock", {"lock": name, "node": node.name, "what": "released"})

    def seize(self, name: str, node: Node) -> None:
        """That node holds the lock, whoever held it. No healthy cluster does that: only a planted defect."""
        self.store.locks[name] = Lock(name, node.name, node.life, self._world.timeline.now)
        self._world.truth("lock", {"lock": name, "node": node.name, "what": "seized"})
