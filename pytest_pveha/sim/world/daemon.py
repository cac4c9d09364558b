"""What the two HA daemons have in common: rounds one after the other, a state, and how they end."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pytest_pveha.sim.timeline import Event
from pytest_pveha.sim.world.model import Node

if TYPE_CHECKING:
    from pytest_pveha.sim.world.world import World

Then = Callable[[], None]
Say = Callable[[str], None]


class Daemon:
    """A daemon of one node, from its start to its end or its node's death."""

    ident = ""

    def __init__(self, world: World, node: Node, pid: int, state: str) -> None:
        self._world = world
        self._node = node
        self._rng = world.rng(f"{self.ident} {node.name}")
        self._next: Event | None = None
        self._then: list[Then] = []
        self.pid = pid
        self.state = state
        self.stopping = False
        self.halted = False
        """Whether the process stands still, or is gone without a word: it does nothing any more."""
        self.ended = False

    def schedule(self, seconds: float) -> None:
        """The next round is that far away, whatever was planned."""
        if self._next is not None:
            self._next.cancel()
        if not self.ended and not self.halted:
            self._next = self._world.on(self._node, seconds, self.round, f"{self.ident} round")

    def round(self) -> None:
        """One round of the daemon; it plans the next one."""
        raise NotImplementedError

    def stop(self, then: Then | None = None) -> None:
        """The daemon is asked to end in good order; ``then`` is called when it has. It may take its time."""
        if then is not None:
            self._then.append(then)
        if not self.stopping:
            self.stopping = True
            self._say("received signal TERM")
            self._asked_to_stop()

    def _asked_to_stop(self) -> None:
        raise NotImplementedError

    def _end(self) -> None:
        """It has ended in good order."""
        self._say("server stopped")
        self._gone()
        waiting, self._then = self._then, []
        for act in waiting:
            act()

    def _gone(self) -> None:
        self.ended = True
        if self._next is not None:
            self._next.cancel()
        if self._node.crm is self:
            self._node.crm = None
        if self._node.lrm is self:
            self._node.lrm = None
        unit = self._node.units.get(self.ident)
        if unit is not None and unit.pid == self.pid:
            unit.active, unit.pid, unit.since = False, 0, self._world.timeline.now

    def _change(self, state: str) -> None:
        if state != self.state:
            self._say(f"status change {self.state} => {state}")
            self.state = state

    def _say(self, text: str, pid: int | None = None) -> None:
        self._world.log(self._node, self.ident, text, self.pid if pid is None else pid)
