"""Switches and power feeds: what they take with them when they fail.

A network goes over one switch, or over several (a bond): one that runs is enough. A node hangs on one power feed or on
several: one that carries power is enough; without any it is as dead as with its cords pulled, its BMC too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_pveha.sim.world.world import World


class Switches:
    """The switches of one world, all of them running at first."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._networks = dict(world.spec.switches)
        self._down: set[str] = set()

    def set(self, name: str, *, up: bool) -> None:
        """That switch runs, or is without power."""
        (self._down.discard if up else self._down.add)(name)
        self._world.truth("switch", {"switch": name, "up": up})
        self._world.corosync.follow()
        self._world.storages.follow()
        self._world.disturb_ceph()

    def restore(self) -> None:
        """Every switch runs again."""
        for name in sorted(self._down):
            self.set(name, up=True)

    @property
    def any_down(self) -> bool:
        """Whether one does not run."""
        return bool(self._down)

    @property
    def names(self) -> list[str]:
        """All of them, as the inventory has them."""
        device = self._world.spec.qdevice_switch
        every = [switch for over in self._networks.values() for switch in over] + [device] * bool(device)
        return list(dict.fromkeys(every))

    def carries(self, network: str) -> bool:
        """Whether that network works; one that names no switch does."""
        switches = self._networks.get(network, ())
        if network == "guest" and self._world.planted("guests-on-one-switch"):
            switches = switches[:1]
        return not switches or not self._down.issuperset(switches)

    @property
    def carry_device(self) -> bool:
        """Whether the quorum device's machine is reached over its switch."""
        return self._world.spec.qdevice_switch not in self._down


class Feeds:
    """The power feeds of one world, all of them carrying power at first."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._dark: set[str] = set()

    def set(self, name: str, *, on: bool) -> None:
        """That feed carries power, or none: nodes that hang on no other lose the mains, or have them again."""
        (self._dark.discard if on else self._dark.add)(name)
        self._world.truth("feed", {"feed": name, "on": on})
        for node in self._world.nodes.values():
            if name in node.spec.feeds:
                self._world.power.mains(node.name, not self._dark.issuperset(node.spec.feeds))
