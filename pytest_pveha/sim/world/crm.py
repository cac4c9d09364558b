"""The cluster resource manager of one node: who is master, and when a master looks.

Rounds of a master are 10.03 s apart, of the others 5 s; a round that begins before a new membership stands waits for it
and still believes what it saw when it began. What a master does in its round is the manager's.
Sources: pve-ha-manager 5.2 (CRM.pm); measured on a PVE 9.1.9 control plane.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_pveha.sim.timeline import Event
from pytest_pveha.sim.world.daemon import Daemon
from pytest_pveha.sim.world.manager import Manager
from pytest_pveha.sim.world.model import Node
from pytest_pveha.sim.world.pmxcfs import MANAGER_LOCK
from pytest_pveha.sim.world.service import fenced_count

if TYPE_CHECKING:
    from pytest_pveha.sim.world.world import World

IDLE_ROUNDS = 90
_WAIT = 5.0
_GOODBYE = 1.0
"""A CRM that is not master ends that soon after it was asked to (measured)."""


class Crm(Daemon):
    """The daemon, from its start to its end or its node's death."""

    ident = "pve-ha-crm"

    def __init__(self, world: World, node: Node, pid: int, state: str = "wait_for_quorum") -> None:
        super().__init__(world, node, pid, state)
        self._found_free = False
        self._idle_rounds = 0
        self._disarmed = False
        self._neglect: Event | None = None
        self._manager: Manager | None = Manager(world, node, self._say) if state == "master" else None

    def round(self) -> None:
        """One round of the daemon; it plans the next one."""
        believed = self._world.members(self._node)
        if self._node.syncing:
            self._node.stalled.append(lambda: self._work(believed))
            return
        self._work(believed)

    @property
    def watched(self) -> bool:
        """Whether it has the watchdog open: a master has, unless the stack is disarmed."""
        return self.state == "master" and not self._disarmed

    def hurry(self) -> None:
        """Look at once. Only a planted defect calls it: this manager waits for nothing."""
        if self.state != "master":
            self._world.pmxcfs.seize(MANAGER_LOCK, self._node)
            self._become_master()
        self.schedule(self._rng.uniform(1.0, 2.0))

    def pause(self) -> None:
        """It has been halted, and feeds no watchdog if it has one."""
        super().pause()
        if self.watched:
            self._neglect = self._node.watchdog.neglect(self.pid)

    def resume(self) -> None:
        """It goes on, and feeds again."""
        super().resume()
        if self._neglect is not None:
            self._neglect.cancel()

    def _asked_to_stop(self) -> None:
        self._say("server received shutdown request")
        if self.state != "master":
            # a master ends in its next round
            self.schedule(_GOODBYE)

    def _work(self, believed: frozenset[str]) -> None:
        if not self.alive:
            return
        if self.stopping:
            self._leave()
        elif not self._world.quorate(self._node):
            self._without_quorum()
        elif self.state == "master":
            self._master(believed)
        else:
            self._candidate()

    def _leave(self) -> None:
        if self.state == "master" and self._world.quorate(self._node):
            self._say("voluntary release CRM lock")
            self._world.pmxcfs.release(MANAGER_LOCK, self._node)
        self._end()

    def _without_quorum(self) -> None:
        self._found_free = False
        if self.state == "master":
            self._say(f"lost lock '{MANAGER_LOCK} - cfs lock update failed - Permission denied")
            self._change("lost_manager_lock")
            if self._world.planted("idle-master-resets"):
                self._node.watchdog.neglect(self.pid)
        else:
            self._change("wait_for_quorum")
        self.schedule(_WAIT + self._rng.uniform(0.0, 0.03))

    def _candidate(self) -> None:
        if not self._needed():
            self._change("wait_for_quorum")
            self.schedule(_WAIT + self._rng.uniform(0.0, 0.03))
            return
        if self._eligible() and self._world.pmxcfs.grab(MANAGER_LOCK, self._node):
            self._become_master()
            self._master(self._world.members(self._node))
            return
        self._change("slave")
        # rounds that cannot succeed are slept through
        pause = _WAIT if self._world.may_expire(MANAGER_LOCK, 2 * _WAIT) else 2 * _WAIT
        self.schedule(pause + self._rng.uniform(0.0, 0.03))

    def _needed(self) -> bool:
        """Whether the cluster needs a master: it has services, or something is left to be done."""
        store = self._world.pmxcfs.store
        if store.resources or self.state == "lost_manager_lock":
            return True
        manager = store.manager
        master = manager.get("master_node")
        if master and master != self._node.name and manager["node_status"].get(master) == "online":
            return False
        return bool(store.commands or manager.get("service_status") or manager.get("disarm"))

    def _eligible(self) -> bool:
        """Whether this round may take the manager's lock.

        A lock that was another's is taken one round after it was found free or expired; a node that is to be fenced
        does not become master.
        """
        store = self._world.pmxcfs.store
        lock = store.locks.get(MANAGER_LOCK)
        states, services = store.manager["node_status"], store.manager["service_status"]
        if states.get(self._node.name) == "fence" or fenced_count(services, self._node.name):
            return False
        if lock is not None and lock.holder == self._node.name and lock.life == self._node.life:
            return True
        if lock is None and self._found_free:
            return True
        if lock is not None:
            self._world.pmxcfs.grab(MANAGER_LOCK, self._node)
        self._found_free = MANAGER_LOCK not in store.locks
        return False

    def _become_master(self) -> None:
        self._found_free, self._idle_rounds = False, 0
        self._manager = Manager(self._world, self._node, self._say)
        self._say(f"successfully acquired lock '{MANAGER_LOCK}'")
        self._say("watchdog active")
        self._change("master")
        self._world.truth("master", {"node": self._node.name})

    def _master(self, believed: frozenset[str]) -> None:
        manager = self._manager
        if manager is None or not self._world.pmxcfs.grab(MANAGER_LOCK, self._node):
            self._say(f"lost lock '{MANAGER_LOCK} - cfs lock update failed - File exists")
            self._change("lost_manager_lock")
            self.schedule(_WAIT)
            return
        if self._goes_idle():
            return
        manager.round(believed)
        self._follow_arming()
        pause = self._rng.uniform(2.0, 4.0) if manager.watch.in_a_hurry else 10.02 + self._rng.uniform(0.0, 0.02)
        self.schedule(pause)

    def _follow_arming(self) -> None:
        disarmed = self._world.pmxcfs.store.manager.get("disarm", {}).get("state") == "disarmed"
        if disarmed != self._disarmed:
            self._disarmed = disarmed
            self._say("HA stack fully disarmed, releasing CRM watchdog" if disarmed else "re-arming HA stack")

    def _goes_idle(self) -> bool:
        store = self._world.pmxcfs.store
        idle = not store.resources and not store.manager["service_status"] and "disarm" not in store.manager
        self._idle_rounds = self._idle_rounds + 1 if idle else 0
        if self._idle_rounds <= IDLE_ROUNDS:
            return False
        self._say(f"cluster had no service configured for {IDLE_ROUNDS} rounds, going idle.")
        self._world.pmxcfs.release(MANAGER_LOCK, self._node)
        self._change("wait_for_quorum")
        self.schedule(_WAIT)
        return True
