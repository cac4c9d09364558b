"""The master's view of the nodes: online, in maintenance, unknown, to be fenced; and the fencing itself.

There is no fence action: taking the dead node's agent lock is the acknowledgement. When a node was last seen online is
known to this master alone, so a new one waits its own 60 s. Sources: pve-ha-manager 5.2 (NodeStatus.pm); measured on a
PVE 9.1.9 control plane.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pytest_pveha.clock import SECOND
from pytest_pveha.sim.world.model import Facts, Node
from pytest_pveha.sim.world.pmxcfs import agent_lock

if TYPE_CHECKING:
    from pytest_pveha.sim.world.daemon import Say
    from pytest_pveha.sim.world.world import World

FENCE_DELAY = 60


class NodeWatch:
    """What one master knows of the nodes."""

    def __init__(self, world: World, node: Node, say: Say) -> None:
        self._world = world
        self._node = node
        self._say = say
        self._last_online: dict[str, int] = {}
        self._marked_now: set[str] = set()
        self._taken: set[str] = set()
        """Nodes whose lock this daemon has, as far as it knows: it is told of a loss when it wants it again."""
        self.members: frozenset[str] = frozenset()
        self.in_a_hurry = False
        """Whether the next round should come soon. Only a planted defect says so."""

    @property
    def states(self) -> Facts:
        """The nodes' states, as the whole cluster reads them."""
        found: Facts = self._world.pmxcfs.store.manager["node_status"]
        return found

    def look(self, members: frozenset[str], modes: Mapping[str, str]) -> None:
        """The states are those of a round that saw these members and these LRM modes."""
        self.members, self._marked_now, self.in_a_hurry = members, set(), False
        now = self._world.timeline.now
        for name in sorted(self._world.nodes):
            state = self.states.setdefault(name, "online")
            leaving = modes.get(name) == "maintenance"
            if name in members:
                self._last_online[name] = now
                if state == "online" and leaving:
                    self.change(name, "maintenance")
                elif state == "unknown" or (state == "maintenance" and not leaving):
                    self.change(name, "online")
            else:
                self._last_online.setdefault(name, now)
                if state == "online" or (state == "maintenance" and not leaving):
                    self.change(name, "unknown")

    def online(self, name: str) -> bool:
        """Whether services may be put there."""
        return bool(self.states.get(name) == "online")

    def all_online(self) -> list[str]:
        """The nodes that services may be put on."""
        return sorted(name for name, state in self.states.items() if state == "online")

    def gone_long_enough(self, name: str) -> bool:
        """Whether that node's services may be fenced: it has not been seen for 60 s."""
        if name in self.members or self._world.planted("never-fences"):
            return False
        if "maintenance" in self.states.values() and self._world.planted("maintenance-blocks-fencing"):
            return False
        # the real manager compares whole seconds
        gone = (self._world.timeline.now - self._last_online[name]) // SECOND
        return self._world.planted("recovers-before-death") or gone >= FENCE_DELAY

    def fence(self, name: str) -> bool:
        """Whether that node is now known to be fenced. Asked for the first time, it is marked."""
        if self.states[name] != "fence":
            self.change(name, "fence")
            self._world.truth("fence", {"node": name})
            self._marked_now.add(name)
        if not self._got_lock(name):
            if name in self._taken:
                self._taken.discard(name)
                self._say(f"lost lock '{agent_lock(name)} - can't get cfs lock")
            return False
        if name not in self._taken:
            self._taken.add(name)
            self._say(f"successfully acquired lock '{agent_lock(name)}'")
        self._say(f"fencing: acknowledged - got agent lock for node '{name}'")
        self._world.truth("acknowledged", {"node": name, "by": self._node.name})
        self.change(name, "unknown")
        self._world.mishaps.acknowledged(self._node, name)
        return True

    def _got_lock(self, name: str) -> bool:
        lock = agent_lock(name)
        if not self._world.planted("recovers-before-death"):
            return self._world.pmxcfs.grab(lock, self._node)
        if name in self._marked_now:
            self.in_a_hurry = True
            return False
        self._world.pmxcfs.seize(lock, self._node)
        return True

    def change(self, name: str, state: str) -> None:
        """The node has that state from now on."""
        old, self.states[name] = self.states[name], state
        self._say(f"node '{name}': state changed from '{old}' => '{state}'")
        self._world.truth("node_state", {"node": name, "old": old, "new": state})
