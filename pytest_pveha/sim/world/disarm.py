"""Disarming: all watchdogs of the HA stack are let go, its services frozen or left alone, until it is armed again.

Source: pve-ha-manager 5.2 (Manager.pm); measured on a PVE 9.1.9 control plane: disarmed after 15 s, armed after 28 s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_pveha.sim.world.service import KEPT_WHEN_DISARMED, MOVING

if TYPE_CHECKING:
    from pytest_pveha.sim.world.manager import Manager

_FROZEN = ("started", "stopped", "request_stop", "request_start", "request_start_balance")


def begin(manager: Manager, mode: str) -> None:
    """The stack is disarming from now on."""
    if present := manager.status.get("disarm"):
        manager.say(f"ignoring disarm-ha command - already in disarm state ({present['state']})")
        return
    manager.say(f"got crm command: disarm-ha {mode}")
    if mode == "ignore":
        for sid in sorted(manager.services):
            manager.say(f"disarm: suspending HA tracking for service '{sid}'")
    manager.status["disarm"] = {"mode": mode, "state": "disarming"}


def end(manager: Manager) -> None:
    """The stack arms itself again; what moved meanwhile is where it is."""
    present = manager.status.get("disarm")
    if present is None:
        manager.say("ignoring arm-ha command - HA stack is not disarmed")
        return
    manager.say("got crm command: arm-ha")
    if present["mode"] == "ignore":
        for sid, service in sorted(manager.services.items()):
            home = manager.world.guest_of(sid).config_node
            if home != service["node"]:
                manager.say(f"service '{sid}': updating node '{service['node']}' => '{home}' (changed while disarmed)")
                service["node"] = home
    del manager.status["disarm"]


def proceed(manager: Manager) -> set[str]:
    """One round of a stack that is disarming or disarmed; the services that must be settled before it can go on."""
    services, mode = manager.services, manager.status["disarm"]["mode"]
    waiting = {sid for sid, service in services.items() if service["state"] in ("fence", "recovery", *MOVING)}
    for sid in sorted(waiting):
        manager.say(f"deferring disarm - service '{sid}' is in '{services[sid]['state']}' state")
    if waiting:
        return waiting
    for sid, service in sorted(services.items()):
        state = service["state"]
        kept = {key: service[key] for key in KEPT_WHEN_DISARMED if key in service}
        if mode == "ignore":
            services[sid] = kept
        elif state in _FROZEN:
            manager.say(f"disarm: freezing service '{sid}' (was '{state}')")
            services[sid] = kept | {"state": "freeze", "uid": manager.world.uid()}
            truth = {"sid": sid, "old": state, "new": "freeze", "node": service["node"]}
            manager.world.truth("service_state", truth)
    if all(manager.modes.get(name) == "disarm" for name in manager.watch.all_online()):
        _disarmed(manager)
    return set()


def _disarmed(manager: Manager) -> None:
    present = manager.status["disarm"]
    if present["state"] != "disarmed":
        manager.say("all LRMs disarmed, HA stack is now fully disarmed")
        present["state"] = "disarmed"
        manager.world.truth("disarmed", {"mode": present["mode"]})
