"""watchdog-mux: resets a node whose LRM has not fed it for 60 s, and 10 s of hardware watchdog.

A client that dies without good-bye, and a multiplexer that dies or stands still, are not waited for: the hardware's
10 s alone pass. Source: pve-ha-manager's watchdog-mux.c; measured on a PVE 9.1.9 control plane: 68 s from the cut of
the network.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_pveha.clock import SECOND
from pytest_pveha.sim.timeline import Event

if TYPE_CHECKING:
    from pytest_pveha.sim.world.model import Node
    from pytest_pveha.sim.world.world import World

WARNING = 50
EXPIRY = 60
_LATE = 40.0
"""Seconds a hardware watchdog takes longer that was set to another timeout than it was told."""
_IDENT = "watchdog-mux"


class Watchdog:
    """The multiplexer of one node, with the LRM as its client."""

    def __init__(self, world: World, name: str) -> None:
        self._world = world
        self._name = name
        self.active = False
        self._client = 0
        self._fed = 0
        self._warned = False
        self._expired = False
        self._gone = False
        self._halted = False
        self._late = False
        self._look_event: Event | None = None

    @property
    def _node(self) -> Node:
        return self._world.nodes[self._name]

    def open(self, client: int) -> None:
        """The LRM with that pid is watched from now on."""
        self.active, self._client, self._fed, self._warned = True, client, self._world.timeline.now, False
        self._world.log(self._node, _IDENT, f"added new client (PID {client}) to watch")
        self._arm()

    def feed(self) -> None:
        """The client lives. Too late once the multiplexer has given up."""
        self._fed = self._world.timeline.now
        if self._warned and not self._expired:
            self._warned = False
            text = f"client (PID {self._client}) watchdog was updated before expiring"
            self._world.log(self._node, _IDENT, text)
            self._arm()

    def close(self) -> None:
        """The client has gone in good order and is no longer watched."""
        if self.active and not self._expired and not self._gone:
            self.active = False
            text = f"client (PID {self._client}) has disconnected cleanly. Removing it gracefully from the watch"
            self._world.log(self._node, _IDENT, text)
            self._world.log(self._node, _IDENT, "all watchdog client connections to the multiplexer closed")

    def forget(self) -> None:
        """The node is dead, and so is its multiplexer."""
        self.active = self._warned = self._expired = self._gone = self._halted = self._late = False

    def broken(self, client: int) -> None:
        """A client's process is gone without closing in good order: the node resets within ten seconds."""
        if self._gone or self._expired:
            return
        self._give_up(f"client (PID {client}) did not stop watchdog")
        self._starve()

    def neglect(self, client: int) -> Event:
        """The manager no longer feeds; unless the event is cancelled the node resets after a minute and ten seconds."""

        def expire() -> None:
            if not self._gone and not self._expired:
                self._give_up(f"client (PID {client}) watchdog expired")
                self._starve()

        return self._world.on(self._node, EXPIRY, expire, "watchdog-mux gives up")

    def stop(self) -> None:
        """The multiplexer has ended as told to; with a client connected it leaves the hardware watchdog running."""
        self._world.log(self._node, _IDENT, "got terminate request")
        if self.active:
            self._world.log(self._node, _IDENT, "exit watchdog-mux with active connections")
            self.die()
        else:
            self._gone = True

    def die(self) -> None:
        """The multiplexer is gone and nobody feeds the hardware: the node resets within ten seconds."""
        if not self._gone:
            self._gone = True
            self._starve()

    def start(self) -> bool:
        """Whether the multiplexer runs again: not while the mark of its earlier clients is there."""
        if self.active:
            self._world.log(self._node, _IDENT, "watchdog active - unable to restart watchdog-mux")
            return False
        self._gone = False
        self.say_driver()
        return True

    def say_driver(self) -> None:
        """The multiplexer has opened the device, and says whose it is."""
        self._world.log(self._node, _IDENT, f"Watchdog driver '{self._node.spec.watchdog_identity}', version 0")

    def halt(self) -> None:
        """The multiplexer stands still; unless it goes on in time, the node resets."""
        self._halted = True
        self._starve()

    def resume(self) -> None:
        """The multiplexer goes on, and looks at once at what it missed."""
        self._halted = False
        if self.active:
            self._arm()

    def revive(self) -> None:
        """The multiplexer runs again as if nothing had been: only where somebody 'repaired' its unit."""
        self._gone = False
        self.say_driver()

    def _give_up(self, why: str) -> None:
        """The hardware is fed no more; a second later the multiplexer ends, and its client goes on without it."""
        self._expired = True
        self._world.log(self._node, _IDENT, f"{why} - disable watchdog updates")
        self._world.on(self._node, 1.0, self._end, "watchdog-mux ends")

    def _end(self) -> None:
        if self._expired and not self._gone and not self._halted:
            self._gone = True
            self._world.log(self._node, _IDENT, "exit watchdog-mux with active connections")
            unit = self._node.units["watchdog-mux"]
            unit.active, unit.pid, unit.since = False, 0, self._world.timeline.now

    def _starve(self) -> None:
        # it feeds the hardware once a second
        left = self._world.rng(f"mux {self._name}").uniform(9.0, 10.0)
        self._world.on(self._node, left, self._bite_if_hungry, "hardware watchdog")

    def _bite_if_hungry(self) -> None:
        if self._halted and self._world.planted("half-alive-node"):
            return
        if self._expired or self._gone or self._halted:
            self._bite()

    @property
    def fed(self) -> bool:
        """Whether the multiplexer keeps the hardware from biting: it does as long as it runs, clients or not."""
        return self._node.units["watchdog-mux"].active

    def _arm(self) -> None:
        if self._look_event is not None:
            self._look_event.cancel()
        left = max(0.001, (self._fed - self._world.timeline.now) / SECOND + WARNING)
        self._look_event = self._world.on(self._node, left, self._look, "watchdog-mux looks at its client")

    def _look(self) -> None:
        if not self.active or self._expired or self._warned or self._halted:
            return
        now = self._world.timeline.now
        if now < self._fed + WARNING * SECOND:
            self._arm()
            return
        self._warned = True
        self._world.log(self._node, _IDENT, f"client (PID {self._client}) watchdog is about to expire")
        # the multiplexer looks once a second
        tick = self._world.rng(f"mux {self._name}").uniform(0.2, 0.85)
        fed = self._fed
        self._world.on(self._node, EXPIRY - WARNING + tick, lambda: self._expire(fed), "watchdog-mux gives up")

    def _expire(self, fed: int) -> None:
        if not self.active or self._fed != fed or self._halted:
            return
        self._give_up(f"client (PID {self._client}) watchdog expired")
        left = self._world.rng(f"mux {self._name}").uniform(9.9, 10.0)
        self._world.on(self._node, left, self._bite, "hardware watchdog")

    def _bite(self) -> None:
        world = self._world
        if world.planted("watchdog-never-bites"):
            return
        if world.planted("watchdog-bites-late") and not self._late:
            self._late = True
            world.on(self._node, _LATE, self._bite, "slow hardware watchdog")
            return
        self._world.truth("watchdog_reset", {"node": self._name})
        self._world.power.reset_now(self._node, "watchdog")
