"""A node in maintenance, as before work on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pytest_pveha.errors import PreflightRefused, SiteError
from pytest_pveha.faults.fault import Danger, DeadMan, Reach, Undo
from pytest_pveha.handles.shell import ShellLine, quote
from pytest_pveha.observe.answer import Answer, no, yes
from pytest_pveha.observe.observer import READ, Observer


@dataclass(frozen=True, slots=True)
class Maintenance:
    """The HA manager empties a node and keeps it empty; it still votes.

    Blast radius: the node's HA guests move away. Undo: maintenance is left, and the guests come home. Survives reboots.
    Source: ha-manager(1), crm-command node-maintenance; there is no API for it.
    """

    kind: ClassVar[str] = "maintenance"
    family: ClassVar[str] = "maintenance"
    danger: ClassVar[Danger] = Danger.MAINTENANCE
    undo: ClassVar[str] = "on any node: ha-manager crm-command node-maintenance disable NODE"

    node: str
    guests: tuple[str, ...] = ()
    """Its containers under HA: they cannot move live, and are down for a moment."""

    @property
    def reach(self) -> Reach:
        emptied = frozenset({self.node})
        return Reach(frozenset(), costs_membership=False, guests=frozenset(self.guests), emptied=emptied)

    def preflight(self, observer: Observer) -> None:
        view = observer.look()
        if view.manager is None:
            raise PreflightRefused(f"the HA manager cannot be asked, so nothing was broken: {view.trouble}")
        state = view.manager.nodes.get(self.node)
        if state != "online":
            raise PreflightRefused(f"HA calls {self.node} {state or 'unknown'}; maintenance begins with a node online")

    def dead_man(self, observer: Observer, kept: str) -> DeadMan:
        """Two nodes, in different failure domains where there are any, leave maintenance for it."""
        nodes = observer.site.nodes
        own = nodes[self.node].room
        others = sorted(nodes - {nodes[self.node]}, key=lambda node: node.room == own)
        undos = tuple(Undo(node.name, (_command(self.node, "disable"),), outlives_reboot=True) for node in others)
        return DeadMan(undos, min(2, len(undos)))

    def inject(self, observer: Observer) -> None:
        self._ask(observer, "enable")

    def took_effect(self, observer: Observer) -> Answer:
        view = observer.look()
        if view.manager is None:
            return view.unseen()
        state = view.manager.nodes.get(self.node)
        return yes(f"HA calls {self.node} {state}") if state == "maintenance" else no(f"HA calls {self.node} {state}")

    def heal(self, observer: Observer) -> None:
        # asked even where nothing shows: the enabling may still wait in the master's queue, and this waits behind it
        self._ask(observer, "disable")

    def healed(self, observer: Observer) -> Answer:
        view = observer.look()
        if view.manager is None:
            return view.unseen()
        if self.node in view.manager.maintenance or view.manager.nodes.get(self.node) == "maintenance":
            return no(f"{self.node} is still in maintenance")
        return yes(f"HA calls {self.node} {view.manager.nodes.get(self.node)}")

    def _ask(self, observer: Observer, verb: str) -> None:
        """Any node can ask the master; the first that answers does."""
        trouble: SiteError | None = None
        for node in observer.site.nodes:
            try:
                node.act(
                    observer.site.clock.deadline(READ), "ha-manager", "crm-command", "node-maintenance", verb, self.node
                )
            except SiteError as error:
                trouble = error
                continue
            return
        assert trouble is not None
        raise trouble


def _command(node: str, verb: str) -> ShellLine:
    return quote("ha-manager", "crm-command", "node-maintenance", verb, node)
