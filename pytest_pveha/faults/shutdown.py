"""A node that goes down in good order, as before work on it: what becomes of its guests is the shutdown policy's.

The API tells the node, which acts two seconds later (POST /nodes/{node}/status, Sys.PowerMgmt). How long it takes is
the policy's too: under ``migrate`` the node stays until it is empty, without any limit (pve-ha-manager 5.2, LRM.pm).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pytest_pveha.clock import SECOND
from pytest_pveha.errors import PreflightRefused, SiteError
from pytest_pveha.faults.fault import Danger, DeadMan, Reach
from pytest_pveha.faults.power import LINGERING, PowerCut
from pytest_pveha.handles import system
from pytest_pveha.observe.answer import Answer, no, yes
from pytest_pveha.observe.observer import READ, Observer

HELD_UP = 300.0
"""Seconds after which a service that still keeps a node from going down is stopped, when all is to be put back."""

_ASKED = "got shutdown request with shutdown policy"
"""How the LRM begins (wording: pve-ha-manager 5.2, LRM.pm)."""

_LOOK_BACK = 7200.0
"""Seconds in which that was: whoever heals may have come later."""

IN_SERVICE = frozenset({"online", "maintenance"})
"""What HA calls a node that is up; one that was emptied first is in maintenance before and after."""

_HOLDING = frozenset({"started", "migrate", "relocate"})


@dataclass(frozen=True, slots=True)
class CleanReboot:
    """A node reboots in good order, as after an update.

    Blast radius: the node, and its guests as the shutdown policy says. Undo: none is needed, it comes back by itself.
    """

    kind: ClassVar[str] = "clean-reboot"
    family: ClassVar[str] = "maintenance"
    danger: ClassVar[Danger] = Danger.MAINTENANCE
    undo: ClassVar[str] = (
        "wait until the node is back; if a guest keeps it from going down: ha-manager set SID --state stopped"
    )

    node: str
    boot_id: str
    """Its kernel's before."""

    @property
    def reach(self) -> Reach:
        return Reach(frozenset({self.node}), privileges=frozenset({(f"/nodes/{self.node}", "Sys.PowerMgmt")}))

    def preflight(self, observer: Observer) -> None:
        _ready(observer, self.node)

    def dead_man(self, observer: Observer, kept: str) -> DeadMan:
        """Nobody is needed: it comes back by itself."""
        return DeadMan.on_every()

    def inject(self, observer: Observer) -> None:
        observer.site.cluster.go_down(self.node, "reboot", observer.site.clock.deadline(READ))

    def took_effect(self, observer: Observer) -> Answer:
        return _going_down(observer, self.node, self.boot_id)

    def heal(self, observer: Observer) -> None:
        _let_go(observer, self.node)

    def healed(self, observer: Observer) -> Answer:
        return _back(observer, self.node)


@dataclass(frozen=True, slots=True)
class CleanPowerOff:
    """A node powers off in good order, as before work on its hardware.

    Blast radius: the node, and its guests as the shutdown policy says. Undo: power on at its BMC.
    """

    kind: ClassVar[str] = "clean-power-off"
    family: ClassVar[str] = "maintenance"
    danger: ClassVar[Danger] = Danger.POWER
    undo: ClassVar[str] = "power the node on at its BMC, once it is off: ipmitool … chassis power on"

    node: str
    boot_id: str
    """Its kernel's before."""

    @property
    def reach(self) -> Reach:
        return Reach(frozenset({self.node}), privileges=frozenset({(f"/nodes/{self.node}", "Sys.PowerMgmt")}))

    def preflight(self, observer: Observer) -> None:
        PowerCut(self.node).preflight(observer)  # nothing goes off that could not be switched on again
        _ready(observer, self.node)

    def dead_man(self, observer: Observer, kept: str) -> DeadMan:
        """As for a power cut: two other nodes switch it on again."""
        return PowerCut(self.node).dead_man(observer, kept)

    def inject(self, observer: Observer) -> None:
        observer.site.cluster.go_down(self.node, "shutdown", observer.site.clock.deadline(READ))

    def took_effect(self, observer: Observer) -> Answer:
        return _going_down(observer, self.node, self.boot_id)

    def heal(self, observer: Observer) -> None:
        # on a chassis that is still on it does nothing; the session asks again until the node is back
        PowerCut(self.node).heal(observer)
        _let_go(observer, self.node)

    def healed(self, observer: Observer) -> Answer:
        return _back(observer, self.node)


def _ready(observer: Observer, name: str) -> None:
    """PreflightRefused unless the node is up and HA's."""
    view = observer.look()
    if view.manager is None:
        raise PreflightRefused(f"the HA manager cannot be asked, so nothing was broken: {view.trouble}")
    state = view.manager.nodes.get(name)
    if state not in IN_SERVICE:
        raise PreflightRefused(f"HA calls {name} {state or 'unknown'}; what its policy does begins with a node online")
    try:
        told = system.state(observer.site.nodes[name], observer.site.clock.deadline(READ))
    except SiteError as error:
        raise PreflightRefused(f"whether {name} goes down could not be told, so nothing was broken: {error}") from error
    if told == system.STOPPING:
        raise PreflightRefused(f"{name} is going down already; wait until it is back")


def _going_down(observer: Observer, name: str, boot_id: str) -> Answer:
    """By the node's own word over SSH, not by the API's that was asked for it; or it is down already."""
    view = observer.look()
    if view.membership is not None and view.membership.online.get(name) is False:
        return yes(f"{name} left the membership")
    node = observer.site.nodes[name]
    told = system.state(node, observer.site.clock.deadline(READ))
    if told == system.STOPPING:
        return yes(f"systemd on {name} says {told}")
    if observer.boot_id(node) != boot_id:
        return yes(f"{name} was rebooted")
    return no(f"systemd on {name} says {told}")


def _let_go(observer: Observer, name: str) -> None:
    """Services that have kept the node from going down for five minutes are asked to stop; restoring starts them.

    A shutdown cannot be called back, and one that waits for a guest which cannot leave waits for ever.
    """
    view = observer.look()
    if view.manager is None or view.membership is None or not view.membership.online.get(name):
        return
    node, deadline = observer.site.nodes[name], observer.site.clock.deadline
    holding = sorted(sid for sid, row in view.manager.services.items() if row.node == name and row.state in _HOLDING)
    if not holding or system.state(node, deadline(READ)) != system.STOPPING:
        return
    now = observer.site.clock.now().utc / SECOND + node.clock_offset(deadline(READ)).offset
    lines = node.journal(now - _LOOK_BACK, ("pve-ha-lrm",), deadline(READ))
    asked = [line.at for line in lines if _ASKED in line.text]
    if not asked or now - asked[-1] < HELD_UP:
        return
    for sid in holding:
        observer.write("note", {"text": f"{sid} keeps {name} from going down, so HA is asked to stop it"})
        observer.site.cluster.request(sid, "stopped", deadline(READ))


def _back(observer: Observer, name: str) -> Answer:
    """Up and HA's again, and so still when a command under way would have had its effect."""
    clock = observer.site.clock
    for pause in (0.0, LINGERING):
        clock.sleep(pause)
        answer = _up(observer, name)
        if answer.verdict != "yes":
            return answer
    return answer


def _up(observer: Observer, name: str) -> Answer:
    view = observer.look()
    if view.membership is None or view.manager is None:
        return view.unseen()
    if not view.membership.online.get(name):
        return no(f"{name} is no member")
    if system.state(observer.site.nodes[name], observer.site.clock.deadline(READ)) == system.STOPPING:
        return no(f"{name} is still going down")
    state = view.manager.nodes.get(name)
    if state not in IN_SERVICE:
        return no(f"HA calls {name} {state}")
    lrm = view.manager.lrms.get(name)
    if lrm is None or not view.manager.fresh(name):
        return no(f"the LRM of {name} has not written a fresh stamp")
    placed = sorted(sid for sid, row in view.manager.services.items() if (row.state, row.node) == ("started", name))
    if placed and not lrm.guarded:
        return no(f"the LRM of {name} is {lrm.state}, and does not guard {', '.join(placed)} yet")
    return yes(f"{name} is online, LRM {lrm.state}")
