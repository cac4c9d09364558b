"""A service's life: from each state, what the master makes of it in a round.

A round goes on until nothing changes, so that an acknowledged fence is a recovery and a start in the same round.
Source: pve-ha-manager 5.2 (Manager.pm); its test scenarios, replayed in tests/sim.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import TYPE_CHECKING

from pytest_pveha.sim.world.model import Facts
from pytest_pveha.sim.world.placement import BEST, NEXT, STAY
from pytest_pveha.sim.world.service import MAX_RELOCATE, MOVING

if TYPE_CHECKING:
    from pytest_pveha.sim.world.manager import Manager


class Lifecycle:
    """The states and the ways between them, for the services of one manager."""

    def __init__(self, manager: Manager) -> None:
        self._manager = manager
        self._say = manager.say
        self._next: dict[str, Callable[[str, Facts], object]] = {
            "request_start": self._request_start,
            "request_start_balance": self._moving,
            "started": self._started,
            "request_stop": self._request_stop,
            "stopped": self._stopped,
            "migrate": self._moving,
            "relocate": self._moving,
            "freeze": self._freeze,
            "fence": self._follow_configuration,
            "recovery": self._recovery,
            "error": self._error,
        }

    def settle(self, only: Container[str] | None = None) -> None:
        """No service has anywhere to go in this round any more; ``only``: those alone."""
        manager = self._manager
        changed = True
        while changed:
            changed = False
            for sid in sorted(manager.services):
                if only is not None and sid not in only:
                    continue
                before = manager.services[sid]["state"]
                self._next[before](sid, manager.services[sid])
                self._freeze_with_lrm(sid)
                changed |= manager.services[sid]["state"] != before
            changed |= self._fence()

    def _fence(self) -> bool:
        manager = self._manager
        fenced: dict[str, bool] = {}
        for sid, service in sorted(manager.services.items()):
            if service["state"] == "fence":
                node = service["node"]
                if node not in fenced:
                    fenced[node] = manager.watch.fence(node)
                if fenced[node]:
                    manager.change(sid, "recovery")
        for node in sorted(name for name, state in manager.watch.states.items() if state == "fence"):
            if node not in fenced:
                self._say(f"node '{node}' in fence state but no services to-fence! admin interference?!")
                fenced[node] = manager.watch.fence(node)
        return any(fenced.values())

    def _freeze_with_lrm(self, sid: str) -> None:
        service = self._manager.services[sid]
        restarting = self._manager.modes.get(service["node"]) == "restart"
        if restarting and service["state"] in ("started", "stopped", "request_stop"):
            self._manager.change(sid, "freeze")

    def _lost(self, sid: str, service: Facts) -> bool:
        """Whether the service is to be fenced with its node, and now is."""
        if self._manager.watch.gone_long_enough(service["node"]):
            self._manager.change(sid, "fence")
            return True
        return False

    def _result(self, service: Facts) -> int | None:
        """How the LRM's last act for this state ended, None if it has not."""
        lrm = self._manager.world.pmxcfs.store.lrm.get(service["node"], {})
        result = lrm.get("results", {}).get(service["uid"])
        return None if result is None else int(result["exit_code"])

    def _alive(self, sid: str) -> str:
        """The state of a service that was interrupted."""
        return "started" if self._manager.wanted(sid) == "started" else "request_stop"

    # the states

    def _request_start(self, sid: str, service: Facts) -> None:
        node = service["node"]
        if self._manager.world.pmxcfs.store.options.get("crs", {}).get("ha-rebalance-on-start"):
            target = self._manager.choose(sid, BEST) or node
            which = "current" if target == node else "new"
            self._say(f"service {sid}: re-balance selected {which} node {target} for startup")
            if target != node:
                self._manager.change(sid, "request_start_balance", node=node, target=target)
                return
        self._manager.change(sid, "started", node=node)

    def _started(self, sid: str, service: Facts) -> None:
        watch, node = self._manager.watch, service["node"]
        if not watch.online(node):
            if self._lost(sid, service) or watch.states.get(node) != "maintenance":
                return
            service["maintenance_node"] = node
        if self._manager.wanted(sid) != "started":
            self._manager.change(sid, "request_stop")
        elif "cmd" in service:
            self._obey(sid, service)
        else:
            self._place(sid, service)

    def _obey(self, sid: str, service: Facts) -> None:
        verb, argument = service.pop("cmd")
        if verb != "stop":
            self._move_if_possible(sid, service, verb, argument)
            return
        if argument:
            self._say(f"request graceful stop with timeout '{argument}' for service '{sid}'")
        else:
            self._say(f"request immediate service hard-stop for service '{sid}'")
        self._manager.change(sid, "request_stop", timeout=argument)
        self._manager.world.pmxcfs.store.resources[sid]["state"] = "stopped"

    def _move_if_possible(self, sid: str, service: Facts, verb: str, target: str) -> bool:
        if not self._manager.watch.online(target):
            self._say(f"ignore service '{sid}' {verb} request - node '{target}' not online")
        elif service["node"] == target:
            self._say(f"ignore service '{sid}' {verb} request - service already on node '{target}'")
        else:
            if service["state"] == "started":
                self._say(f"{verb} service '{sid}' to node '{target}'")
            self._manager.change(sid, verb, node=service["node"], target=target)
            return True
        return False

    def _place(self, sid: str, service: Facts) -> None:
        wanted, code = STAY, self._result(service)
        if code == 0:
            if failed := service.pop("failed_nodes", None):
                where = f"on node '{service['node']}', failed nodes: {', '.join(failed)}"
                self._say(f"relocation policy successful for '{sid}' {where}")
            service["running"] = 1
        elif code is not None:
            if not self._may_relocate(sid, service):
                return
            wanted = NEXT
        target = self._manager.choose(sid, wanted)
        if target is not None and target != service["node"]:
            self._send(sid, service, target)
            return
        if wanted == NEXT and target is None:
            tried = ", ".join(service["failed_nodes"])
            self._say(
                f"Start Error Recovery: Tried all available nodes for service '{sid}', retry start on current node. "
                f"Tried nodes: {tried}"
            )
        self._forget_maintenance(sid, service)
        if code is not None:
            service["uid"] = self._manager.world.uid()

    def _may_relocate(self, sid: str, service: Facts) -> bool:
        """Whether a service that could not be started may be tried elsewhere; else it is in error."""
        node = service["node"]
        service.pop("running", None)
        failed = service.setdefault("failed_nodes", [])
        failed.append(node)
        if len(failed) <= self._manager.setting(sid, "max_relocate", MAX_RELOCATE):
            self._say(f"starting service {sid} on node '{node}' failed, relocating service.")
            return True
        self._say(f"recovery policy for service {sid} failed, entering error state. Failed nodes: {', '.join(failed)}")
        self._manager.change(sid, "error")
        return False

    def _send(self, sid: str, service: Facts, target: str) -> None:
        if fallback := service.get("maintenance_node"):
            if target == fallback:
                self._say(f"moving service '{sid}' back to '{fallback}', node came back from maintenance.")
                del service["maintenance_node"]
            elif service["node"] != fallback:
                self._say(f"dropping maintenance fallback node '{fallback}' for '{sid}'")
                del service["maintenance_node"]
        if sid.startswith("vm:"):
            self._say(f"migrate service '{sid}' to node '{target}' (running)")
            self._manager.change(sid, "migrate", node=service["node"], target=target)
        else:
            self._say(f"relocate service '{sid}' to node '{target}'")
            self._manager.change(sid, "relocate", node=service["node"], target=target)

    def _forget_maintenance(self, sid: str, service: Facts) -> None:
        home = service.get("maintenance_node")
        if home == service["node"] and self._manager.watch.online(home):
            self._say(f"service '{sid}': clearing stale maintenance node '{home}' setting (is current node)")
            del service["maintenance_node"]

    def _moving(self, sid: str, service: Facts) -> None:
        code = self._result(service)
        if self._follow_configuration(sid, service):
            return
        if code is None:
            self._lost(sid, service)
        elif code == 0:
            self._manager.change(sid, self._alive(sid), node=service["target"])
        else:
            self._say(f"service '{sid}' - migration failed (exit code {code})")
            self._manager.change(sid, self._alive(sid), node=service["node"])

    def _follow_configuration(self, sid: str, service: Facts) -> bool:
        """Whether the service is elsewhere already, and now is so for the manager too.

        The real manager waits for the LRM's word and tries in vain to recover a configuration that is no longer there
        if that node dies in between; it takes an administrator then, and a site nobody heals proves nothing.
        """
        home = self._manager.world.guest_of(sid).config_node
        if home == service["node"] or service["state"] not in ("fence", *MOVING):
            return False
        self._manager.change(sid, self._alive(sid), node=home)
        return True

    def _request_stop(self, sid: str, service: Facts) -> None:
        code = self._result(service)
        if code is None:
            self._lost(sid, service)
        elif code == 0:
            self._manager.change(sid, "stopped")
        else:
            self._say(f"service '{sid}' stop failed (exit code {code})")
            self._manager.change(sid, "error")

    def _stopped(self, sid: str, service: Facts) -> None:
        home = self._manager.world.guest_of(sid).config_node
        if service["node"] != home:
            self._say(f"fixup service '{sid}' location ({service['node']} => {home})")
            service["node"] = home
        if "cmd" in service:
            verb, argument = service.pop("cmd")
            if verb == "stop":
                self._say(f"ignore service '{sid}' stop request - service already stopped")
            elif self._move_if_possible(sid, service, verb, argument):
                return
        wanted = self._manager.wanted(sid)
        if wanted == "disabled":
            return
        if self._manager.watch.states.get(service["node"]) != "maintenance" and self._lost(sid, service):
            return
        if wanted == "started":
            self._manager.change(sid, "request_start", node=service["node"])

    def _freeze(self, sid: str, service: Facts) -> None:
        manager, node = self._manager, service["node"]
        if manager.modes.get(node) == "active" and not manager.world.mishaps.forgets_to_thaw(node):
            manager.change(sid, self._alive(sid))

    def _recovery(self, sid: str, service: Facts) -> None:
        manager, fenced = self._manager, service["node"]
        target = manager.choose(sid, BEST)
        if target is None:
            self._say(f"recovering service '{sid}' from fenced node '{fenced}' failed, no recovery node found")
            if manager.wanted(sid) == "disabled":
                service.pop("failed_nodes", None)
                manager.change(sid, "stopped")
            return
        if target == fenced:
            self._say(f"recover service '{sid}' to previous failed and fenced node '{fenced}' again")
        else:
            self._say(f"recover service '{sid}' from fenced node '{fenced}' to node '{target}'")
        guest = manager.world.guest_of(sid)
        guest.config_node = target
        guest.recovered = True
        manager.change(sid, self._alive(sid), node=target)
        manager.world.truth("recovery", {"sid": sid, "vmid": guest.vmid, "from": fenced, "node": target})
        if manager.world.planted("recovers-before-death"):
            manager.world.hurry_lrm(target)

    def _error(self, sid: str, service: Facts) -> None:
        if self._manager.wanted(sid) == "disabled":
            service.pop("failed_nodes", None)
            self._manager.change(sid, "stopped")
