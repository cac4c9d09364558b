"""``/cluster/ha``: status, resources, their moves, and disarming.

Field by field as recorded on a PVE 9.1.9 control plane; error texts: pve-ha-manager 5.2, API2/HA/*.pm.
"""

from __future__ import annotations

from typing import Any

from pytest_pveha.sim.servers.api_registry import AUDIT, CONSOLE, PARAMETERS, ApiError, Call, asked, route
from pytest_pveha.sim.world import versions
from pytest_pveha.sim.world.model import Facts
from pytest_pveha.sim.world.rules import compiled, groups_as_rules, listed

_STATES = ("started", "stopped", "enabled", "disabled", "ignored")
_NUMBERS = ("max_restart", "max_relocate", "failback")
_CRM_LOCK = "file-ha_crm_commands"


@route("GET", "/cluster/ha", AUDIT)
def ha_index(call: Call) -> list[dict[str, str]]:
    """What lies below."""
    names = ["status", "resources", "groups"] + (["rules"] if _has(call, versions.RULES) else [])
    return [{"id": name} for name in names]


@route("GET", "/cluster/ha/status")
def ha_status_index(call: Call) -> list[dict[str, str]]:
    """What lies below."""
    names = ["current", "manager_status"] + (["disarm-ha", "arm-ha"] if _has(call, versions.DISARM) else [])
    return [{"name": name} for name in names]


@route("GET", "/cluster/ha/status/current", AUDIT)
def ha_current(call: Call) -> list[dict[str, Any]]:
    """Quorum, master, fencing, one entry an LRM, one a service."""
    return call.facts.ha_current


@route("GET", "/cluster/ha/status/manager_status", AUDIT)
def ha_manager_status(call: Call) -> dict[str, Any]:
    """The master's and the LRMs' files; ``quorate`` is a string here."""
    return call.facts.ha_status


@route("POST", "/cluster/ha/status/disarm-ha", CONSOLE, lock=_CRM_LOCK, since=versions.DISARM)
def disarm(call: Call) -> None:
    """The master will disarm the whole stack in its next rounds."""
    call.only("resource-mode")
    _queue(call, f"disarm-ha {call.one_of('resource-mode', 'freeze', 'ignore')}")


@route("POST", "/cluster/ha/status/arm-ha", CONSOLE, lock=_CRM_LOCK, since=versions.DISARM)
def arm(call: Call) -> None:
    """The master will arm the stack again in its next round."""
    call.only()
    _queue(call, "arm-ha")


# --- resources --------------------------------------------------------------------------------------------------------


@route("GET", "/cluster/ha/resources", AUDIT)
def ha_resources(call: Call) -> list[dict[str, Any]]:
    """The HA resources' configuration."""
    wanted = call.params.get("type")
    return [resource for resource in call.facts.ha_resources if wanted in (None, resource["type"])]


@route("POST", "/cluster/ha/resources", CONSOLE)
def add_resource(call: Call) -> None:
    """A guest is under HA from the master's next round on."""
    call.only("sid", "type", *_settings(call))
    sid = _sid(call, call.needed("sid"))
    call.writing()
    resources = call.world.pmxcfs.store.resources
    if sid in resources:
        raise ApiError(500, f"resource ID '{sid}' already defined")
    resources[sid] = {"sid": sid, "state": "started", "type": sid.partition(":")[0], **_given(call)}


@route("GET", "/cluster/ha/resources/{sid}", AUDIT)
def ha_resource(call: Call, sid: str) -> dict[str, Any]:
    """One HA resource's configuration; a bare number is taken too."""
    return _managed(call, sid)


@route("PUT", "/cluster/ha/resources/{sid}", CONSOLE)
def set_resource(call: Call, sid: str) -> None:
    """What was given is set, what ``delete`` names is as by default again."""
    call.only("delete", "digest", *_settings(call))
    found = _managed(call, sid)
    call.writing()
    resource = call.world.pmxcfs.store.resources[found["sid"]]
    resource.update(_given(call))
    for key in listed(call.params.get("delete", "")):
        if key in ("sid", "type", "state"):
            raise ApiError(500, f"unable to delete required option '{key}'")
        resource.pop(key, None)


@route("DELETE", "/cluster/ha/resources/{sid}", CONSOLE)
def remove_resource(call: Call, sid: str) -> None:
    """The guest is no longer under HA, and in no rule either unless ``purge`` is 0."""
    call.only("purge")
    sid = _sid(call, sid)
    call.writing()
    store = call.world.pmxcfs.store
    if store.resources.pop(sid, None) is None:
        raise ApiError(500, f"cannot delete service '{sid}', not HA managed!")
    if call.params.get("purge", "1") == "1":
        for name, rule in list(store.rules.items()):
            left = [one for one in listed(rule["resources"]) if one != sid]
            rule["resources"] = ",".join(left)
            if not left:
                del store.rules[name]


@route("POST", "/cluster/ha/resources/{sid}/{verb:migrate|relocate}", CONSOLE, lock=_CRM_LOCK)
def ha_move(call: Call, sid: str, verb: str) -> dict[str, Any] | None:
    """The move is queued for the master; the answer says nothing of its success."""
    call.only("node")
    target = call.needed("node")
    sid = _sid(call, sid)
    if sid not in {resource["sid"] for resource in call.facts.ha_resources}:
        raise ApiError(500, f"resource '{sid}' is not HA managed")
    services = call.facts.ha_status["manager_status"]["service_status"]
    if services.get(sid, {}).get("state") == "error":
        raise ApiError(500, f"service '{sid}' in error state, must be disabled and fixed first")
    _queue(call, f"{verb} {sid} {target}")
    if not _has(call, versions.RULES):
        return None
    return {"requested-node": target, "sid": sid, **_company(call, sid, target)}


def _company(call: Call, sid: str, target: str) -> dict[str, Any]:
    """Who moves along, and who stands in the way."""
    view = call.facts.view
    resources = {resource["sid"]: resource for resource in view.resources}
    rules, _ = compiled(view.rules | groups_as_rules(view.groups, resources), call.world.nodes)
    services: dict[str, Facts] = call.facts.ha_status["manager_status"]["service_status"]
    along = [one for one in sorted(rules.together.get(sid, ())) if one in services]
    blocking = [
        {"sid": one, "cause": "resource-affinity"}
        for one in sorted(rules.apart.get(sid, ()))
        if one in services and target in (services[one]["node"], services[one].get("target"))
    ]
    company: dict[str, Any] = {"comigrated-resources": along} if along else {}
    return company | ({"blocking-resources": blocking} if blocking else {})


def _has(call: Call, feature: tuple[int, ...]) -> bool:
    return versions.has(call.world.spec.version, feature)


def _queue(call: Call, command: str) -> None:
    def act() -> str:
        call.world.crm_command(call.node.name, command)
        return command

    asked(act)


def _settings(call: Call) -> tuple[str, ...]:
    numbers = _NUMBERS if _has(call, versions.RULES) else _NUMBERS[:2]
    return ("state", *numbers, "comment", "group")


def _given(call: Call) -> Facts:
    """The settings that were given, as they are stored."""
    store = call.world.pmxcfs.store
    given: Facts = {key: call.params[key] for key in ("comment", "group") if key in call.params}
    if "state" in call.params:
        state = call.one_of("state", *_STATES)
        given["state"] = "started" if state == "enabled" else state
    for key in _NUMBERS:
        if (number := call.number(key)) is not None:
            given[key] = number
    if "group" in given:
        if _has(call, versions.RULES) and not store.groups:
            raise ApiError(500, "invalid parameter 'group': ha groups have been migrated to rules")
        if given["group"] not in store.groups:
            raise ApiError(500, f"HA group '{given['group']}' does not exist")
    return given


def _sid(call: Call, text: str) -> str:
    """The sid of a guest that exists; a bare number is taken too."""
    kind, _, number = text.rpartition(":")
    if not number.isdigit() or kind not in ("", "vm", "ct"):
        raise ApiError(400, PARAMETERS, {"sid": f"unable to parse service id '{text}'"})
    guest = call.world.guests.get(int(number))
    if guest is None:
        if not kind:
            raise ApiError(500, f"unable to detect SID from VMID - VM/CT {number} does not exist")
        raise ApiError(500, f"resource '{text}' does not exist in cluster")
    if kind and kind != guest.kind:
        what = "VM" if kind == "vm" else "CT"
        raise ApiError(500, f"resource '{text}' - guest with ID {number} is not a {what}")
    return guest.sid


def _managed(call: Call, sid: str) -> dict[str, Any]:
    for resource in call.facts.ha_resources:
        if sid in (resource["sid"], resource["sid"].partition(":")[2]):
            return resource
    raise ApiError(500, f"no such resource '{sid}'")
