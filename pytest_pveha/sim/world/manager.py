"""One round of the master: the nodes, the services that came and went, the commands, and each service's next state.

Sources: pve-ha-manager 5.2 (Manager.pm); measured on a PVE 9.1.9 control plane.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_pveha.sim.world import commands, disarm
from pytest_pveha.sim.world.group_migration import GroupMigration
from pytest_pveha.sim.world.lifecycle import Lifecycle
from pytest_pveha.sim.world.model import Facts, Node
from pytest_pveha.sim.world.node_watch import NodeWatch
from pytest_pveha.sim.world.placement import BEST, STAY, Load, Size, choose
from pytest_pveha.sim.world.rules import Compiled, compiled, failback, groups_as_rules

if TYPE_CHECKING:
    from pytest_pveha.sim.world.daemon import Say
    from pytest_pveha.sim.world.world import World

NODE_CPUS = 8


class Manager:
    """The manager of one master, from its election to its end."""

    def __init__(self, world: World, node: Node, say: Say) -> None:
        self.world = world
        self.node = node
        self.say = say
        self.watch = NodeWatch(world, node, say)
        self.rules = Compiled()
        self.load = Load({}, {})
        self.modes: dict[str, str] = {}
        """Each LRM's mode, as it last wrote it."""
        self._dropped: list[str] = []
        self._recovered = False
        self._groups = GroupMigration(self)
        self._lifecycle = Lifecycle(self)

    @property
    def status(self) -> Facts:
        """The manager's file."""
        return self.world.pmxcfs.store.manager

    @property
    def services(self) -> dict[str, Facts]:
        """What the manager knows of each service."""
        found: dict[str, Facts] = self.status["service_status"]
        return found

    def round(self, members: frozenset[str]) -> None:
        """One round, by what its node saw when it began."""
        store = self.world.pmxcfs.store
        self.status["master_node"] = self.node.name
        self.modes = {name: lrm["mode"] for name, lrm in store.lrm.items()}
        self.watch.look(members, self.modes)
        if self.node.name not in members:
            self.say("master seems offline")
            return
        self._groups.round()
        if "disarm" not in self.status:
            self._adopt()
        self._weigh()
        self._compile()
        commands.take(self)
        waiting = disarm.proceed(self) if "disarm" in self.status else None
        if waiting is None or waiting:
            self._lifecycle.settle(waiting)
        self.status["timestamp"] = int(self.world.utc(self.node))

    # the services there are

    def _adopt(self) -> None:
        resources = self.world.pmxcfs.store.resources
        for sid in sorted(resources.keys() - self.services.keys()):
            wanted = resources[sid]["state"]
            if wanted != "ignored":
                node = self.world.guest_of(sid).config_node
                self.say(f"adding new service '{sid}' on node '{node}'")
                state = "request_start" if wanted == "started" else "request_stop"
                self.services[sid] = {"state": state, "node": node, "uid": self.world.uid()}
        for sid in sorted(self.services):
            if sid not in resources or resources[sid]["state"] == "ignored":
                reason = "ignored state requested" if sid in resources else "no config"
                self.say(f"removing stale service '{sid}' ({reason})")
                del self.services[sid]

    def wanted(self, sid: str) -> str:
        """The state that is asked for."""
        found: str = self.world.pmxcfs.store.resources.get(sid, {"state": "disabled"})["state"]
        return found

    def setting(self, sid: str, key: str, default: int) -> int:
        """A number of the service's configuration."""
        return int(self.world.pmxcfs.store.resources.get(sid, {}).get(key, default))

    # where they belong

    def _weigh(self) -> None:
        world = self.world
        nodes = {name: Size(NODE_CPUS, world.nodes[name].spec.memory_bytes) for name in self.watch.all_online()}
        sizes = {guest.sid: Size(guest.spec.cpus, guest.spec.memory_bytes) for guest in world.guests.values()}
        static = world.pmxcfs.store.options.get("crs", {}).get("ha") == "static"
        self.load = Load(nodes, sizes, static)
        for sid, service in self.services.items():
            self.load.change(sid, service)
        for guest in world.guests.values():
            if guest.sid not in self.services and guest.processes:
                self.load.add(guest.sid, guest.config_node)

    def _compile(self) -> None:
        store = self.world.pmxcfs.store
        rules = store.rules | groups_as_rules(store.groups, store.resources)
        if self.world.planted("rules-not-obeyed"):
            rules = {}
        self.rules, dropped = compiled(rules, self.world.nodes)
        for line in dropped:
            if line not in self._dropped:
                self.say(line)
        self._dropped = dropped

    def choose(self, sid: str, wanted: str = STAY) -> str | None:
        """The node that service should be on; None if no online node will do."""
        store = self.world.pmxcfs.store
        home = failback(sid, store.resources, store.groups) if sid in store.resources else True
        home = home or self.world.planted("nofailback-ignored")
        if wanted == BEST and self.world.planted("recovery-piles-up"):
            return min(self.load.nodes, default=None)
        rules = self.rules
        self._recovered = self._recovered or wanted == BEST
        if self._recovered and self.world.planted("pair-parted"):
            rules = replace(rules, together={}, apart=rules.together if wanted == BEST else rules.apart)
        return choose(sid, self.services, rules, self.load, failback=home, wanted=wanted)

    # words

    def change(self, sid: str, state: str, **params: str | int) -> None:
        """The service has that state from now on; only where it failed and where it fled from is remembered."""
        old = self.services[sid]
        fresh: Facts = {"state": state, "node": old["node"]}
        fresh |= {key: old[key] for key in ("failed_nodes", "maintenance_node") if key in old}
        fresh |= params | {"uid": self.world.uid()}
        self.services[sid] = fresh
        self.load.change(sid, fresh)
        said = ", ".join(f"{key} = {params[key]}" for key in sorted(params))
        extra = f"  ({said})" if said else ""
        self.say(f"service '{sid}': state changed from '{old['state']}' to '{state}'{extra}")
        self.world.truth("service_state", {"sid": sid, "old": old["state"], "new": state, "node": fresh["node"]})
