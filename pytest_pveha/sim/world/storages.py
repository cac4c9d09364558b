"""Storages: which guest's disk lies where, when writes to it hung, and what of them is still there after a failover.

Nothing here is an event per write: whoever wants to know what was written reads the intervals. A server that is
silent is noticed by each node for itself: its guests' writes hang, and fail once the path's timeout is over, if it has
one. An ext4 of a guest whose writes fail is read-only until the guest starts anew (ext4(5), errors=remount-ro).

Sources: nfs(5), timeo, retrans, hard and soft; the kernel's net/sunrpc/xprt.c (a major timeout is timeo × (retrans + 1)
over TCP); iscsid.conf, node.session.timeo.replacement_timeout; TCP sends again after 0.2 s, and twice as late each time
(RFC 6298), so a hard mount goes on at the first of these moments after the server is back.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from pytest_pveha.clock import SECOND
from pytest_pveha.sim.spec import SERVED, StorageSpec
from pytest_pveha.sim.world.model import Guest, Node

if TYPE_CHECKING:
    from pytest_pveha.sim.world.world import World

Stall = tuple[int, int | None]
"""Since when writes hung and until when, ns; None while they still do."""

Drag = tuple[int, int | None, float]
"""Since when writes were slower and until when, ns (None while they still are), and by how many seconds."""

PORTS = {"nfs": 2049, "iscsi": 3260}
_RTO = 0.2
_LOGIN = (0.5, 2.5)
"""Seconds until iscsid, which tries every few, is logged in again."""
_FAILED = 3
"""Requests that fail before a guest's file system gives up."""
_GUESTS_OWN = 15.0
"""Seconds after which a guest with a timeout of its own gives up; only a planted defect gives it one."""


class Storage:
    """One storage of the cluster, as its guests feel it."""

    def __init__(self, world: World, spec: StorageSpec) -> None:
        self._world = world
        self.spec = spec
        self.name = spec.name
        self.kind = spec.kind
        self.shared = spec.shared
        self.served = spec.kind in SERVED
        self.server_up = True
        """Whether the machine that serves it does."""
        self.stale: set[str] = set()
        """Nodes whose mount is of a file system that is no more (ESTALE)."""
        self.stalls: tuple[Stall, ...] = ()
        self._reasons: set[str] = set()
        self.drags: tuple[Drag, ...] = ()

    @property
    def nodes(self) -> tuple[str, ...]:
        """The nodes that the configuration gives it to; none: all."""
        if not (self.served and self._world.planted("storage-not-everywhere")):
            return ()
        return tuple(self._world.nodes)[:-1]

    @property
    def stalled(self) -> bool:
        """Whether writes to it hang now."""
        return bool(self._reasons)

    def stall(self, reason: str = "") -> None:
        """Writes to it hang from now on, until every reason is gone."""
        if not self._reasons:
            self.stalls += ((self._world.timeline.now, None),)
            self._world.truth("storage_stalls", {"storage": self.name, "reason": reason})
        self._reasons.add(reason)

    def resume(self, reason: str = "") -> None:
        """That reason is gone; without another one writes go on."""
        if reason not in self._reasons:
            return
        self._reasons.discard(reason)
        if not self._reasons:
            self.stalls = (*self.stalls[:-1], (self.stalls[-1][0], self._world.timeline.now))
            self._world.truth("storage_resumes", {"storage": self.name})

    def drag(self, seconds: float) -> None:
        """Writes to it take so much longer from now on; 0: no longer than usual."""
        now, last = self._world.timeline.now, self.drags[-1] if self.drags else (0, 0, 0.0)
        if (last[2] if last[1] is None else 0.0) == seconds:
            return
        if last[1] is None:
            self.drags = (*self.drags[:-1], (last[0], now, last[2]))
        if seconds:
            self.drags += ((now, None, seconds),)

    @property
    def gives_up(self) -> float | None:
        """Seconds after which writes to a silent server fail; None: never."""
        if self.kind == "iscsi":
            return 5.0 if self._world.planted("iscsi-path-timeout-short") else self.spec.path_timeout
        return self.spec.timeo / 10 * (self.spec.retrans + 1) if self.kind == "nfs" and self.spec.soft else None


class Storages:
    """Every storage of one world, by name."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._rng = world.rng("storages")
        self._named = {name: Storage(world, spec) for name, spec in world.spec.every_storage.items()}
        self._served = [one for one in self._named.values() if one.served]
        self._silent: dict[tuple[str, str], int] = {}
        """(storage, node) whose path is lost → since when."""
        self._unheard: dict[tuple[str, str], int] = {}
        """Of these, those whose server does not answer still."""
        self._stalls: dict[int, tuple[Stall, ...]] = {}
        self._refusals: dict[int, tuple[Stall, ...]] = {}
        self._losses: dict[int, tuple[tuple[int, int], ...]] = {}

    def __getitem__(self, name: str) -> Storage:
        return self._named[name]

    def __iter__(self) -> Iterator[Storage]:
        return iter(self._named.values())

    def of(self, guest: Guest) -> Storage:
        """The storage that guest's disk lies on."""
        return self._named[guest.spec.storage or self._world.spec.default_storage]

    # what the guests feel

    def stalls(self, guest: Guest) -> tuple[Stall, ...]:
        """When that guest's writes hung, wherever it ran: in order, and not overlapping."""
        return _merged((*self.of(guest).stalls, *self._stalls.get(guest.vmid, ())))

    def dragged(self, guest: Guest, at: int) -> float:
        """By how many seconds a write of that guest's that began then took longer."""
        for since, until, seconds in reversed(self.of(guest).drags):
            if since <= at:
                return seconds if until is None or at < until else 0.0
        return 0.0

    def refusals(self, guest: Guest) -> tuple[Stall, ...]:
        """When that guest's writes were refused, as its file system was read-only after errors of its disk."""
        return self._refusals.get(guest.vmid, ())

    def losses(self, guest: Guest) -> tuple[tuple[int, int], ...]:
        """Spans (kept until, started from that at; ns) whose acknowledged writes a failover to a copy has lost."""
        return self._losses.get(guest.vmid, ())

    def kept(self, guest: Guest) -> int:
        """Up to when what that guest acknowledged before its last failover is there (ns); now, if it lost nothing."""
        losses = self.losses(guest)
        return losses[-1][0] if losses else self._world.timeline.now

    def lost(self, guest: Guest, kept: int) -> None:
        """The guest starts from a copy: what it wrote after that moment is gone."""
        span = (kept, self._world.timeline.now)
        self._losses[guest.vmid] = (*self.losses(guest), span)
        self._world.truth("writes_lost", {"vmid": guest.vmid, "kept": kept})

    # servers and paths

    def server_dies(self, name: str) -> None:
        """The machine that serves that storage is gone: no node hears it."""
        self._named[name].server_up = False
        self._world.truth("storage_server", {"storage": name, "up": False})
        self.follow()

    def server_returns(self, name: str) -> None:
        """It serves again."""
        self._named[name].server_up = True
        self._world.truth("storage_server", {"storage": name, "up": True})
        self.follow()

    def reaches(self, node: Node, storage: Storage) -> bool:
        """Whether the storage's server answers that node now."""
        if not storage.served:
            return True
        reached = self._world.network.reaches(node, storage.spec.server, port=PORTS[storage.kind])
        return storage.server_up and reached

    def active(self, node: Node, storage: Storage) -> bool:
        """What the status API of that node calls active (pve-storage 9.1: NFSPlugin.pm, ISCSIPlugin.pm)."""
        return node.running and self.reaches(node, storage) and node.name not in storage.stale

    def hangs(self, node: Node) -> float:
        """Seconds that node waits for its silent servers, when it asks for the status of all its storages."""
        patience = {"nfs": 10.0, "iscsi": 2.0}  # NFSPlugin.pm, ISCSIPlugin.pm: check_connection
        return sum(patience[one.kind] for one in self._served if not self.reaches(node, one))

    def follow(self) -> None:
        """Some server, filter or node has changed: paths are lost, and come back."""
        if not self._served:
            return
        now = self._world.timeline.now
        for storage in self._served:
            for node in self._world.nodes.values():
                path = (storage.name, node.name)
                if not node.running:
                    storage.stale.discard(node.name)
                    self._silent.pop(path, None)
                    self._unheard.pop(path, None)
                elif not self.reaches(node, storage):
                    if path not in self._unheard:
                        self._unheard[path] = now
                        self._lose(storage, node)
                elif path in self._unheard:
                    del self._unheard[path]
                    self._world.on(node, self._until_back(path, storage), partial(self._back, path), "a path is back")

    def _lose(self, storage: Storage, node: Node) -> None:
        path = (storage.name, node.name)
        if path in self._silent:
            return  # it was not back yet
        since = self._silent[path] = self._world.timeline.now
        for guest in self._on(storage, node):
            self._open(self._stalls, guest)
        patience = storage.gives_up
        if patience is not None:
            self._world.on(node, patience, partial(self._give_up, path, since), f"{storage.name}: requests fail")
        if self._world.planted("guests-give-up-on-stall"):
            self._world.on(node, _GUESTS_OWN, partial(self._give_up, path, since), "guests give up")
        if self._world.planted("ha-thrashes-in-stall"):
            self._world.on(node, _GUESTS_OWN, partial(self._thrash, path, since), "guests are taken for dead")
        if storage.kind == "nfs":
            text = f"nfs: server {storage.spec.server} not responding, still trying"
            self._world.on(node, storage.spec.timeo / 10, partial(self._say, path, since, text), "the kernel complains")

    def _say(self, path: tuple[str, str], since: int, text: str) -> None:
        if self._silent.get(path) == since:
            self._world.log(self._world.nodes[path[1]], "kernel", text)

    def _until_back(self, path: tuple[str, str], storage: Storage) -> float:
        """Seconds until the node notices that the server answers again."""
        if storage.kind == "iscsi":
            return self._rng.uniform(*_LOGIN)
        away, again, step = (self._world.timeline.now - self._silent[path]) / SECOND, _RTO, _RTO
        while again <= away:
            step *= 2
            again += step
        return min(again - away, 120.0)

    def _back(self, path: tuple[str, str]) -> None:
        if path in self._unheard or path not in self._silent:
            return
        del self._silent[path]
        storage, node = self._named[path[0]], self._world.nodes[path[1]]
        if self._world.planted("nfs-stale-after-return") and storage.kind == "nfs":
            storage.stale.add(node.name)
        for guest in self._on(storage, node):
            self._close(self._stalls, guest)
            if node.name in storage.stale:
                self._refuse(guest, node)

    def _give_up(self, path: tuple[str, str], since: int) -> None:
        if self._silent.get(path) == since:
            node = self._world.nodes[path[1]]
            for guest in self._on(self._named[path[0]], node):
                self._close(self._stalls, guest)
                self._refuse(guest, node)

    def _refuse(self, guest: Guest, node: Node) -> None:
        if not self._is_open(self._refusals, guest):
            self._open(self._refusals, guest)
            guest.processes[node.name].failed += _FAILED
            self._world.truth("guest_read_only", {"vmid": guest.vmid, "node": node.name})

    def _thrash(self, path: tuple[str, str], since: int) -> None:
        """HA takes guests that hang for dead, and starts them anew. Only a planted defect calls it."""
        if self._silent.get(path) == since:
            for guest in self._on(self._named[path[0]], self._world.nodes[path[1]]):
                self._world.kill_guest(guest.vmid, path[1])

    def _on(self, storage: Storage, node: Node) -> list[Guest]:
        return [g for g in self._world.guests.values() if node.name in g.processes and self.of(g) is storage]

    # what becomes of guests

    def why_not(self, guest: Guest, node: Node) -> str | None:
        """Why that guest's disk cannot be used on that node, in PVE's words."""
        storage = self.of(guest)
        if storage.served and not self.active(node, storage):
            return f"storage '{storage.name}' is not online"
        if storage.shared or guest.disk_node == node.name:
            return None
        if storage.kind == "zfs":
            return self._world.replication.why_not(guest, node)
        return f"no such logical volume pve/vm-{guest.vmid}-disk-0"

    def starts(self, guest: Guest, node: Node) -> None:
        """The guest's process runs there from now on, with what its storage has there."""
        if not self.of(guest).shared and (guest.vmid, node.name) in self._world.replication.copies:
            self.lost(guest, self._world.replication.fail_over(guest, node))
            guest.disk_node = node.name

    def left(self, guest: Guest) -> None:
        """A process of the guest is no more: what hung in it, or was refused there, does so no longer."""
        for spans in (self._stalls, self._refusals):
            if self._is_open(spans, guest):
                self._close(spans, guest)

    def _open(self, spans: dict[int, tuple[Stall, ...]], guest: Guest) -> None:
        spans[guest.vmid] = (*spans.get(guest.vmid, ()), (self._world.timeline.now, None))

    def _close(self, spans: dict[int, tuple[Stall, ...]], guest: Guest) -> None:
        if self._is_open(spans, guest):
            *before, (since, _) = spans[guest.vmid]
            spans[guest.vmid] = (*before, (since, self._world.timeline.now))

    @staticmethod
    def _is_open(spans: dict[int, tuple[Stall, ...]], guest: Guest) -> bool:
        known = spans.get(guest.vmid, ())
        return bool(known) and known[-1][1] is None


def _merged(spans: tuple[Stall, ...]) -> tuple[Stall, ...]:
    found: list[Stall] = []
    for since, until in sorted(spans, key=lambda span: span[0]):
        last = found[-1][1] if found else 0
        if found and (last is None or since <= last):
            found[-1] = (found[-1][0], None if last is None or until is None else max(last, until))
        else:
            found.append((since, until))
    return tuple(found)
