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
        self.ended = False

    @property
    def halted(self) -> bool:
        """Whether its process stands still, as by SIGSTOP."""
        return self._node.stopped(self.ident)

    @property
    def alive(self) -> bool:
        """Whether it is there and does anything."""
        return not self.ended and not self.halted

    @property
    def watched(self) -> bool:
        """Whether its death without good-bye costs the node."""
        raise NotImplementedError

    def schedule(self, seconds: float) -> None:
        """The next round is that far away, whatever was planned."""
        if self._next is not None:
            self._next.cancel()
        if self.alive:
            self._next = self._world.on(self._node, seconds, self.round, f"{self.ident} round")

    def round(self) -> None:
        """One round of the daemon; it plans the next one."""
        raise NotImplementedError

    def stop(self, then: Then | None = None) -> None:
        """The daemon is asked to end in good order; ``then`` is called when it is gone. It may take its time."""
        if then is not None:
            self._then.append(then)
        if not self.stopping:
            self.stopping = True
            self._say("received signal TERM")
            self._asked_to_stop()

    def kill(self) -> None:
        """The daemon is gone without a word, as by SIGKILL: its locks stay, and its watchdog was not closed."""
        if self.watched:
            self._node.watchdog.broken(self.pid)
        self._gone()

    def pause(self) -> None:
        """The daemon has been halted: no round until it goes on."""
        if self._next is not None:
            self._next.cancel()

    def resume(self) -> None:
        """The daemon goes on where it stood."""
        self.schedule(0.01)

    def _asked_to_stop(self) -> None:
        raise NotImplementedError

    def _end(self) -> None:
        """It has ended in good order."""
        self._say("server stopped")
        self._gone()

    def _gone(self) -> None:
        self.ended = True
        if self._next is not None:
            self._next.cancel()
        if self._node.crm is self:
            self._node.crm = None
        if self._node.lrm is self:
            self._node.lrm = None
        waiting, self._then = self._then, []
        for act in waiting:
            act()

    def _change(self, state: str) -> None:
        if state != self.state:
            self._say(f"status change {self.state} => {state}")
            self._world.truth("daemon_state", {"node": self._node.name, "daemon": self.ident, "new": state})
            self.state = state

    def _say(self, text: str, pid: int | None = None) -> None:
        self._world.log(self._node, self.ident, text, self.pid if pid is None else pid)
