"""What the CRM is asked to do: a line each in a file, taken once a round. Source: pve-ha-manager 5.2 (Manager.pm)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_pveha.sim.world import disarm

if TYPE_CHECKING:
    from pytest_pveha.sim.world.manager import Manager


def take(manager: Manager) -> None:
    """Every command that was waiting has been understood, refused or ignored, and the journal says which."""
    store = manager.world.pmxcfs.store
    lines, store.commands = store.commands, []
    for line in lines:
        match line.split():
            case ["migrate" | "relocate" as verb, sid, target]:
                _move(manager, line, verb, sid, target)
            case ["stop", sid, timeout] if timeout.isdigit():
                _stop(manager, line, sid, int(timeout))
            case ["enable-node-maintenance", node]:
                _enter_maintenance(manager, line, node)
            case ["disable-node-maintenance", node]:
                _leave_maintenance(manager, node)
            case ["disarm-ha", "freeze" | "ignore" as mode]:
                disarm.begin(manager, mode)
            case ["arm-ha"]:
                disarm.end(manager)
            case _:
                manager.say(f"unable to parse crm command: {line}")


def _move(manager: Manager, line: str, verb: str, sid: str, target: str) -> None:
    service = manager.services.get(sid)
    if service is None:
        manager.say(f"crm command error - no such service: {line}")
    elif not manager.watch.online(target):
        manager.say(f"crm command error - node not online: {line}")
    elif service["node"] == target:
        manager.say(f"ignore crm command - service already on target node: {line}")
    else:
        _queue_move(manager, line, verb, sid, target)


def _queue_move(manager: Manager, line: str, verb: str, sid: str, target: str) -> None:
    services, rules = manager.services, manager.rules
    for rival in sorted(rules.apart.get(sid, ())):
        if rival in services and target in (services[rival]["node"], services[rival].get("target")):
            manager.say(
                f"crm command '{line}' error - service '{rival}' on node '{target}' in negative affinity with "
                f"service '{sid}'"
            )
            return
    manager.say(f"got crm command: {line}")
    services[sid]["cmd"] = [verb, target]
    for partner in sorted(rules.together.get(sid, ())):
        if partner in services and target not in (services[partner]["node"], services[partner].get("target")):
            manager.say(
                f"crm command '{line}' - {verb} service '{partner}' to node '{target}' (service '{partner}' in "
                f"positive affinity with service '{sid}')"
            )
            services[partner]["cmd"] = [verb, target]


def _stop(manager: Manager, line: str, sid: str, timeout: int) -> None:
    if sid not in manager.services:
        manager.say(f"crm command error - no such service: {line}")
        return
    manager.say(f"got crm command: {line}")
    manager.services[sid]["cmd"] = ["stop", timeout]


def _enter_maintenance(manager: Manager, line: str, node: str) -> None:
    state = manager.watch.states.get(node)
    if "disarm" in manager.status:
        manager.say(f"ignoring maintenance command for node {node} - HA stack is disarmed")
    elif state == "online":
        manager.status.setdefault("node_request", {}).setdefault(node, {})["maintenance"] = 1
    elif state == "maintenance":
        manager.say(f"ignoring crm command - node {node} is already in maintenance state")
    else:
        manager.say(f"crm command error - node not online: {line}")


def _leave_maintenance(manager: Manager, node: str) -> None:
    state = manager.watch.states.get(node)
    if state != "maintenance":
        manager.say(f"clearing maintenance of node {node} requested, but it's in state {state}")
    manager.status.get("node_request", {}).get(node, {}).pop("maintenance", None)
