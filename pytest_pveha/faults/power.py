"""Power faults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pytest_pveha.errors import PreflightRefused, SiteError, Unreachable
from pytest_pveha.faults.fault import Danger, DeadMan, Reach, Undo
from pytest_pveha.handles.bmc import Bmc, PowerReading
from pytest_pveha.handles.node import Node
from pytest_pveha.handles.shell import one_of, quote
from pytest_pveha.handles.site import Site
from pytest_pveha.observe.answer import Answer, no, yes
from pytest_pveha.observe.identity import own_bmc
from pytest_pveha.observe.observer import Observer
from pytest_pveha.observe.reachable import answering

BMC = 20.0
"""Seconds a BMC may take for one answer (typical 0.3–2 s; slow ones need more)."""

TWICE = 2.0
"""Seconds between the two readings that prove a chassis off: the first may come before the effect
(known of fence agents: the command returns early)."""

LINGERING = 10.0
"""Seconds after which no earlier power command is still under way (hard off is effective after 1–6 s)."""

TRIES = 3
"""How often a dead-man asks the BMC: a single packet may be lost."""


@dataclass(frozen=True, slots=True)
class PowerCut:
    """Cut a node's power at its BMC, as a failed PDU would.

    Blast radius: the node and its guests. Undo: power on.
    Source: IPMI 2.0 §28.3, Chassis Control, power down.
    """

    kind: ClassVar[str] = "power-cut"
    family: ClassVar[str] = "power"
    danger: ClassVar[Danger] = Danger.POWER
    undo: ClassVar[str] = "power the node on at its BMC: ipmitool … chassis power on"

    node: str

    @property
    def reach(self) -> Reach:
        return Reach(frozenset({self.node}))

    def preflight(self, observer: Observer) -> None:
        node = observer.site.nodes[self.node]
        if node.bmc is None:
            raise PreflightRefused(
                f"node {self.node} has no BMC in the inventory: its power cannot be cut; add nodes.{self.node}.bmc"
            )
        try:
            reading = node.bmc.power_state(observer.site.clock.deadline(BMC))
        except SiteError as error:
            raise PreflightRefused(f"the BMC of {self.node} cannot be used, so nothing was broken: {error}") from error
        note_chassis(observer, self.node, reading)
        if not reading.on:
            raise PreflightRefused(f"the BMC of {self.node} says its chassis is off already; nothing to cut")
        own = own_bmc(observer, node)
        if own.verdict != "yes":
            raise PreflightRefused(f"power is not touched: {own.saw}")

    def dead_man(self, observer: Observer, kept: str) -> DeadMan:
        """Two other nodes, in other failure domains where there are any, can switch the victim on again."""
        site = observer.site
        command = bmc_of(site.nodes[self.node]).from_a_node(f"{kept}.secret", site.clock.deadline(BMC))
        undos = tuple(
            Undo(
                name,
                (one_of(*[quote(*words) for words in command.on] * TRIES),),
                outlives_reboot=True,
                secret=command.secret,
                checks=(command.status,) if command.status else (),
            )
            for name in rescuers(site, self.node)
        )
        return DeadMan(undos, min(2, len(undos)))

    def inject(self, observer: Observer) -> None:
        bmc_of(observer.site.nodes[self.node]).set_power("off", observer.site.clock.deadline(BMC))

    def took_effect(self, observer: Observer) -> Answer:
        """A machine is dead when its BMC says off twice, 2 s apart, it is silent on all its addresses, and it left
        the membership."""
        site, node = observer.site, observer.site.nodes[self.node]
        for _ in range(2):
            reading = bmc_of(node).fresh_power_state(site.clock.deadline(BMC))
            note_chassis(observer, self.node, reading)
            if reading.on:
                return no(f"the BMC of {self.node} still says the chassis is on")
            observer.look()  # so that the membership's loss is bounded from below, too
            site.clock.sleep(TWICE)
        if there := answering(site.clock, node.addresses):
            return no(f"{self.node} still answers at {', '.join(f'{host}:{port}' for host, port in there)}")
        view = observer.look()
        if view.membership is None:
            return view.unseen()
        if view.membership.online.get(self.node):
            return no(f"{self.node} is off and silent, and still a member")
        # it died when the chassis went off; the rest only proves it
        bounds = observer.change(f"chassis/{self.node}")
        return yes(f"{self.node}: BMC says off twice, silent on all addresses, left the membership", bounds)

    def heal(self, observer: Observer) -> None:
        # Always sent: a chassis that still says on may have an off under way. On an on chassis it does nothing.
        site = observer.site
        bmc_of(site.nodes[self.node]).set_power("on", site.clock.deadline(BMC))

    def healed(self, observer: Observer) -> Answer:
        """On, and on again after any command still under way has had its effect."""
        clock = observer.site.clock
        for pause in (0.0, LINGERING):
            clock.sleep(pause)
            reading = bmc_of(observer.site.nodes[self.node]).fresh_power_state(clock.deadline(BMC))
            note_chassis(observer, self.node, reading)
            if not reading.on:
                return no(f"the BMC of {self.node} says off")
        return yes(f"the BMC of {self.node} says on, twice")


def rescuers(site: Site, victim: str) -> list[str]:
    """The other nodes, in the order in which they are asked to bring that one back: other failure domains first."""
    own = site.nodes[victim].room
    rooms: dict[str, int] = {}
    others = []
    for node in site.nodes - {site.nodes[victim]}:
        turn = rooms[node.room] = rooms.get(node.room, -1) + 1
        others.append((turn, node.room == own, node.name))
    return [name for _, _, name in sorted(others)]


def note_chassis(observer: Observer, node: str, reading: PowerReading) -> None:
    observer.note(f"chassis/{node}", "on" if reading.on else "off", reading.asked_at, reading.answered_at, "bmc")


def bmc_of(node: Node) -> Bmc:
    if node.bmc is None:
        raise Unreachable(f"node {node.name} has no BMC in the inventory; add nodes.{node.name}.bmc")
    return node.bmc
