"""A service of the HA manager: its states, and who counts as busy with it. Source: pve-ha-manager 5.2, Tools.pm."""

from __future__ import annotations

from collections.abc import Container, Mapping

from pytest_pveha.sim.world.model import Facts

MOVING = ("migrate", "relocate")
NOT_ACTIVE = ("stopped", "freeze", "error", "request_start")
"""States in which a service asks nothing of its node's LRM."""
KEPT_WHEN_DISARMED = ("state", "node", "uid", "maintenance_node")
MAX_RESTART = MAX_RELOCATE = 1


def active_count(services: Mapping[str, Facts], node: str) -> int:
    """How many services that node's LRM is busy with, or will be as the target of a move."""
    return sum(
        service["state"] not in NOT_ACTIVE and node in (service["node"], service.get("target"))
        for service in services.values()
    )


def fenced_count(services: Mapping[str, Facts], node: str) -> int:
    """How many services wait for that node to be fenced."""
    return sum(service["state"] == "fence" and service["node"] == node for service in services.values())


def used_nodes(service: Facts, online: Container[str]) -> tuple[str | None, str | None]:
    """The online nodes a service puts load on: where it is, and where it is going."""
    state, node, target = service["state"], service["node"], service.get("target")
    if state in ("stopped", "request_start"):
        return None, None
    here = node if state != "request_start_balance" and node in online else None
    going = state in (*MOVING, "request_start_balance")
    return here, target if going and target in online else None
