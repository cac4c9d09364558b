"""Storage faults: the server of a shared storage is silent."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from pytest_pveha.errors import PreflightRefused, SiteError
from pytest_pveha.faults import rules
from pytest_pveha.faults.fault import Danger, DeadMan, Reach, Undo
from pytest_pveha.faults.network import Partition, check_free, none_left, take_back
from pytest_pveha.handles import corosync, storages
from pytest_pveha.observe.answer import Answer, no, yes
from pytest_pveha.observe.observer import READ, Observer

MARGIN = 5.0
"""Seconds that must be left between the nodes undoing the cut by themselves and the first request that fails."""


@dataclass(frozen=True, slots=True)
class StorageCut:
    """Make the server of an NFS or iSCSI storage unreachable for every node, as if it or its switch were dead.

    Blast radius: the guests whose disks lie there; their writes hang. Undo: the rules are taken back, as by a reboot.
    """

    kind: ClassVar[str] = "storage-cut"
    family: ClassVar[str] = "storage"
    danger: ClassVar[Danger] = Danger.NETWORK
    undo: ClassVar[str] = Partition.undo

    tag: str
    nodes: tuple[str, ...]
    storage: str
    servers: tuple[tuple[str, int], ...]
    """Addresses and ports of the server, as the nodes' kernels have them."""
    guests: tuple[str, ...]
    """Guests of which a disk lies there."""
    lasting: float
    """Seconds for which it is meant to be silent."""
    undone_by: float
    """Seconds after which the nodes have undone it, whoever dies."""
    gives_up: float | None
    """Seconds after which the first node fails requests; None: none ever does."""
    gives_up_by: str = ""
    """Which node that is, and where that was read."""

    @property
    def reach(self) -> Reach:
        return Reach(frozenset(), costs_membership=False, hung=frozenset(self.guests))

    def preflight(self, observer: Observer) -> None:
        self._check_patience()
        self._check_address(observer)
        check_free(observer, self.tag, self.nodes)
        for name in self.nodes:
            for server, port in self.servers:
                if not storages.reaches(observer.site.nodes[name], server, port, observer.site.clock.deadline(READ)):
                    raise PreflightRefused(
                        f"{name} does not reach {server}, port {port}, the server of storage {self.storage}, before "
                        f"anything is broken"
                    )

    def _check_patience(self) -> None:
        if self.gives_up is not None and self.undone_by + MARGIN >= self.gives_up:
            raise PreflightRefused(
                f"storage {self.storage}: a cut that the nodes undo by themselves after {self.undone_by:g} s + "
                f"{MARGIN:g} s of margin = {self.undone_by + MARGIN:g} s is not below {self.gives_up:g} s, after which "
                f"{self.gives_up_by}: guests would get errors and go read-only; cut it for less long, or have the "
                f"nodes wait longer"
            )

    def _check_address(self, observer: Observer) -> None:
        site = observer.site
        for server, _ in self.servers:
            others = [
                f"{name} on a corosync link"
                for name, known in site.cluster.ring_addresses(site.clock.deadline(READ)).items()
                if server in known
            ]
            for node in site.nodes:
                way = node.way(site.clock.deadline(READ))
                own = node.own_addresses(site.clock.deadline(READ))
                others += [f"an address of {node.name}"] * (server in own | {way.at})
                others += [f"where {node.name} sees us come from"] * (server == way.seen_from)
            if server == self._device(observer):
                others.append("the quorum device's machine")
            if others:
                raise PreflightRefused(
                    f"the server of storage {self.storage} is at {server}, which is also {', '.join(others)}: cutting "
                    f"it would take more than the storage"
                )

    def _device(self, observer: Observer) -> str:
        """The quorum device's address, as a node's daemon has it; empty where none runs."""
        first = observer.site.nodes[self.nodes[0]]
        try:
            return corosync.device_host(first, observer.site.clock.deadline(READ))[0]
        except SiteError:
            return ""

    def dead_man(self, observer: Observer, kept: str) -> DeadMan:
        """Every node takes its own rules back."""
        return DeadMan.on_every(*(Undo(name, rules.undo_script(self.tag)) for name in self.nodes))

    def inject(self, observer: Observer) -> None:
        traffic = rules.Traffic(tuple(sorted({server for server, _ in self.servers})))
        for name in self.nodes:
            rules.put(observer.site.nodes[name], self.tag, traffic, observer.site.clock.deadline(READ))

    def took_effect(self, observer: Observer) -> Answer:
        """No node's TCP connection to the server comes about."""
        observer.look()
        if reached := list(self._reached(observer)):
            return no(f"{', '.join(reached)} still reaches the server of {self.storage}")
        return yes(f"{', '.join(self.nodes)} do not reach the server of {self.storage}")

    def heal(self, observer: Observer) -> None:
        take_back(observer, self.tag, self.nodes, ())

    def healed(self, observer: Observer) -> Answer:
        return none_left(observer, self.tag, self.nodes, ())

    def _reached(self, observer: Observer) -> Iterable[str]:
        for name in self.nodes:
            for server, port in self.servers:
                if storages.reaches(observer.site.nodes[name], server, port, observer.site.clock.deadline(READ)):
                    yield name
