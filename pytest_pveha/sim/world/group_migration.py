"""The groups of PVE 8 become rules: once, by a master of PVE 9, when every node is ready for it.

Source: pve-ha-manager 5.2 (Manager.pm): the third round of a master, then every sixth until it worked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_pveha.sim.world import versions
from pytest_pveha.sim.world.rules import groups_as_rules
from pytest_pveha.sim.world.service import active_count

if TYPE_CHECKING:
    from pytest_pveha.sim.world.manager import Manager

_FIRST, _AGAIN = 3, 6


class GroupMigration:
    """The tries of one master."""

    def __init__(self, manager: Manager) -> None:
        self._manager = manager
        self._rounds = _FIRST

    def round(self) -> None:
        """If there are groups and it is time, they have become rules, or the journal says why not."""
        manager = self._manager
        if not manager.world.pmxcfs.store.groups or not versions.has(manager.world.spec.version, versions.RULES):
            return
        self._rounds -= 1
        if self._rounds > 0:
            return
        self._rounds = _AGAIN
        manager.say("start ha group migration...")
        if why := self._why_not():
            manager.say(f"abort ha groups migration: {why}")
            manager.say("ha groups migration failed")
            manager.say(f"retry ha groups migration in {_AGAIN} rounds (~ {_AGAIN * 10} seconds)")
            return
        self._migrate()
        manager.say("ha groups migration successful")

    def _why_not(self) -> str | None:
        manager = self._manager
        for name in sorted(manager.world.nodes):
            state = manager.watch.states[name]
            manager.say(f"ha groups migration: node '{name}' is in state '{state}'")
            if state != "online":
                return f"node '{name}' is not online"
            lrm = manager.world.pmxcfs.store.lrm.get(name, {})
            if not lrm:
                return f"could not retrieve state for lrm '{name}'"
            manager.say(f"ha groups migration: lrm '{name}' is in state '{lrm['state']}' and mode '{lrm['mode']}'")
            idle = lrm["state"] == "wait_for_agent_lock" and not active_count(manager.services, name)
            if lrm["state"] != "active" and not idle:
                return f"lrm '{name}' is not in state 'active' or 'idle'"
            if lrm["mode"] != "active":
                return f"lrm '{name}' is not in mode 'active'"
            manager.say(f"ha groups migration: node '{name}' has version '{manager.world.spec.version}'")
        return None

    def _migrate(self) -> None:
        store = self._manager.world.pmxcfs.store
        made = groups_as_rules(store.groups, store.resources)
        first = 1 + max((rule["order"] for rule in store.rules.values()), default=0)
        for order, (name, rule) in enumerate(made.items(), first):
            store.rules[name] = rule | {"order": order}
        self._manager.say("ha groups migration: migration to rules config successful")
        for resource in store.resources.values():
            group = store.groups.get(resource.pop("group", ""), {})
            if group.get("nofailback"):
                resource["failback"] = 0
        self._manager.say("ha groups migration: migration to resources config successful")
        store.groups.clear()
        self._manager.say("ha groups migration: group config deletion successful")
