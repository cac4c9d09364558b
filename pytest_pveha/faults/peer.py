"""Power cut by another node, as it would fence: what a fence path is worth is known when it was used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pytest_pveha.errors import NotMet, PreflightRefused, SiteError
from pytest_pveha.faults.fault import Danger, DeadMan, Reach
from pytest_pveha.faults.power import BMC, PowerCut
from pytest_pveha.handles.fence_path import STDIN, FencePath
from pytest_pveha.observe.answer import Answer
from pytest_pveha.observe.identity import compared, in_band
from pytest_pveha.observe.observer import Observer


@dataclass(frozen=True, slots=True)
class PowerCutByPeer:
    """Cut a node's power at its BMC, by a command typed on another node.

    Blast radius: the node and its guests. Undo: power on, by ourselves.
    """

    kind: ClassVar[str] = "power-cut-by-peer"
    family: ClassVar[str] = "power"
    danger: ClassVar[Danger] = Danger.POWER
    undo: ClassVar[str] = PowerCut.undo

    node: str
    peer: str

    @property
    def reach(self) -> Reach:
        return self._cut.reach

    @property
    def _cut(self) -> PowerCut:
        return PowerCut(self.node)

    def preflight(self, observer: Observer) -> None:
        """As any power cut, and by the peer's own way too: it answers there, and is that node's own."""
        self._cut.preflight(observer)
        node = observer.site.nodes[self.node]
        try:
            path = self._path(observer)
            reply = path.power_state(round(BMC))
            own = compared(node, path.tells(round(BMC)), in_band(observer, node)) if reply.power else None
        except SiteError as error:
            raise PreflightRefused(f"{self.peer} cannot cut the power of {self.node}: {error}") from error
        if own is None:
            raise PreflightRefused(f"from {self.peer} the BMC of {self.node} is out of reach: {reply.trouble}")
        if own.verdict != "yes":
            raise PreflightRefused(f"power is not touched from {self.peer}: {own.saw}")

    def dead_man(self, observer: Observer, kept: str) -> DeadMan:
        return self._cut.dead_man(observer, kept)

    def inject(self, observer: Observer) -> None:
        path = self._path(observer)
        path.power_state(round(BMC))  # how this BMC wants to be spoken to, and that it listens now
        if refusal := path.off(round(BMC)):
            raise NotMet(f"the BMC of {self.node} refused the power command of {self.peer}: {refusal}", refusal)

    def took_effect(self, observer: Observer) -> Answer:
        return self._cut.took_effect(observer)

    def heal(self, observer: Observer) -> None:
        self._cut.heal(observer)

    def healed(self, observer: Observer) -> Answer:
        return self._cut.healed(observer)

    def _path(self, observer: Observer) -> FencePath:
        site = observer.site
        bmc = site.nodes[self.node].bmc
        assert bmc is not None  # without one its power is not cut at all
        commands = bmc.from_a_node(STDIN, site.clock.deadline(BMC))
        return FencePath(site.nodes[self.peer], self.node, commands, site.clock)
