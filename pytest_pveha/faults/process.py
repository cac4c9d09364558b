"""Faults of daemons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pytest_pveha.errors import PreflightRefused, SiteError
from pytest_pveha.faults.fault import Danger, DeadMan, Reach, Undo
from pytest_pveha.handles.shell import quote
from pytest_pveha.observe.answer import Answer, no, yes
from pytest_pveha.observe.observer import READ, Observer

STOP = 90.0
"""Seconds a unit may take to stop: pve-ha-crm's own limit is 65, and an LRM's workers may take longer."""

NEVER = frozenset({"watchdog-mux"})
"""Stopped while it has clients, it resets the machine, and it will not start again (pve-ha-manager watchdog-mux.c)."""


@dataclass(frozen=True, slots=True)
class ServiceStopped:
    """A daemon of one node is stopped in good order.

    Blast radius: what that daemon does; corosync or pve-cluster on a node with HA guests: the node resets itself.
    Undo: it is started again; a reboot does the same.
    """

    kind: ClassVar[str] = "service-stopped"
    family: ClassVar[str] = "process"
    danger: ClassVar[Danger] = Danger.ARMED
    undo: ClassVar[str] = "on the node: systemctl start UNIT"

    node: str
    unit: str
    pid: int
    """Its main process before."""

    @property
    def reach(self) -> Reach:
        takes_node = self.unit in ("corosync", "pve-cluster")
        return Reach(frozenset({self.node}) if takes_node else frozenset(), costs_membership=takes_node)

    def preflight(self, observer: Observer) -> None:
        if self.unit in NEVER:
            raise PreflightRefused(f"{self.unit} is never stopped: while it has clients that resets the machine")
        node = observer.site.nodes[self.node]
        try:
            active = node.units.active(self.unit, observer.site.clock.deadline(READ))
        except SiteError as error:
            raise PreflightRefused(f"{self.unit} on {self.node} cannot be stopped: {error}") from error
        if not active or not self.pid:
            raise PreflightRefused(f"{self.unit} on {self.node} does not run; nothing to stop")

    def dead_man(self, observer: Observer, kept: str) -> DeadMan:
        return DeadMan.on_every(Undo(self.node, (quote("systemctl", "start", self.unit),)))

    def inject(self, observer: Observer) -> None:
        observer.site.nodes[self.node].units.stop(self.unit, observer.site.clock.deadline(STOP))

    def took_effect(self, observer: Observer) -> Answer:
        """The process is gone, by the node's process table."""
        if self.pid in observer.site.nodes[self.node].pids(observer.site.clock.deadline(READ)):
            return no(f"process {self.pid} of {self.unit} still runs on {self.node}")
        return yes(f"process {self.pid} of {self.unit} is gone on {self.node}")

    def heal(self, observer: Observer) -> None:
        observer.site.nodes[self.node].units.start(self.unit, observer.site.clock.deadline(STOP))

    def healed(self, observer: Observer) -> Answer:
        node = observer.site.nodes[self.node]
        if not node.units.active(self.unit, observer.site.clock.deadline(READ)):
            return no(f"{self.unit} on {self.node} is not active")
        return yes(f"{self.unit} on {self.node} is active")


RESTART = 150.0
"""Seconds a unit may take to stop and to start again: an LRM waits for its workers before it ends."""


@dataclass(frozen=True, slots=True)
class ServiceRestarted:
    """A daemon of one node was stopped in good order and started again, as an update of its package does.

    Blast radius: what that daemon does, for seconds; corosync or pve-cluster: the node may leave the membership then.
    Undo: it is started; a reboot does the same.
    """

    kind: ClassVar[str] = "service-restarted"
    family: ClassVar[str] = "process"
    danger: ClassVar[Danger] = Danger.ARMED
    undo: ClassVar[str] = "on the node: systemctl start UNIT"

    node: str
    unit: str
    pid: int
    """Its main process before."""

    @property
    def reach(self) -> Reach:
        takes_node = self.unit in ("corosync", "pve-cluster")
        units = frozenset({(self.node, self.unit)})
        return Reach(frozenset({self.node}) if takes_node else frozenset(), costs_membership=takes_node, units=units)

    def preflight(self, observer: Observer) -> None:
        ServiceStopped(self.node, self.unit, self.pid).preflight(observer)

    def dead_man(self, observer: Observer, kept: str) -> DeadMan:
        return DeadMan.on_every(Undo(self.node, (quote("systemctl", "start", self.unit),)))

    def inject(self, observer: Observer) -> None:
        observer.site.nodes[self.node].units.restart(self.unit, observer.site.clock.deadline(RESTART))

    def took_effect(self, observer: Observer) -> Answer:
        """Another process does its work, by the node's process table."""
        node = observer.site.nodes[self.node]
        now = node.units.main_pid(self.unit, observer.site.clock.deadline(READ))
        running = node.pids(observer.site.clock.deadline(READ))
        if self.pid in running:
            return no(f"process {self.pid} of {self.unit} still runs on {self.node}")
        if now not in running:
            return no(f"no process of {self.unit} runs on {self.node}")
        return yes(f"process {now} of {self.unit} runs on {self.node} instead of {self.pid}")

    def heal(self, observer: Observer) -> None:
        observer.site.nodes[self.node].units.start(self.unit, observer.site.clock.deadline(STOP))

    def healed(self, observer: Observer) -> Answer:
        return ServiceStopped(self.node, self.unit, self.pid).healed(observer)
