"""``/cluster/ha/rules`` of PVE 9 and ``/cluster/ha/groups`` of PVE 8.

Field by field as recorded on a PVE 9.1.9 control plane; error texts: pve-ha-manager 5.2, API2/HA/*.pm.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_pveha.sim.servers.api_registry import AUDIT, CONSOLE, ApiError, Call, route
from pytest_pveha.sim.servers.facts import digest
from pytest_pveha.sim.world import versions
from pytest_pveha.sim.world.model import Facts
from pytest_pveha.sim.world.rules import NODE, RESOURCE, Problems, groups_as_rules, listed, priorities, problems

_MIGRATED = "ha groups have been migrated to rules"
_COMMON = ("rule", "type", "resources", "nodes", "strict", "affinity", "disable", "comment")


# --- rules ------------------------------------------------------------------------------------------------------------


@route("GET", "/cluster/ha/rules", AUDIT, since=versions.RULES)
def ha_rules(call: Call) -> list[dict[str, Any]]:
    """Every rule, in order, with what is wrong with it; ``type`` and ``resource`` filter."""
    kind, sid = call.params.get("type"), call.params.get("resource")
    wrong = _problems(call, call.facts.view.rules)
    return [
        _rule(call, name, wrong)
        for name, rule in sorted(call.facts.view.rules.items(), key=lambda pair: pair[1]["order"])
        if kind in (None, rule["type"]) and (sid is None or sid in listed(rule["resources"]))
    ]


@route("GET", "/cluster/ha/rules/{rule}", AUDIT, since=versions.RULES)
def ha_rule(call: Call, rule: str) -> dict[str, Any]:
    """One rule."""
    if rule not in call.facts.view.rules:
        raise ApiError(500, f"no such ha rule '{rule}'")
    return _rule(call, rule, _problems(call, call.facts.view.rules))


@route("POST", "/cluster/ha/rules", CONSOLE, since=versions.RULES)
def add_rule(call: Call) -> None:
    """The rule is in force from the master's next round on, if it can be kept beside the others."""
    call.only(*_COMMON)
    name = call.needed("rule")
    kind = call.one_of("type", NODE, RESOURCE)
    _migrated(call, "create")
    rules = call.world.pmxcfs.store.rules
    if name in rules:
        raise ApiError(500, f"HA rule '{name}' already defined")
    call.needed("resources")
    call.needed("nodes" if kind == NODE else "affinity")
    order = 1 + max((rule["order"] for rule in rules.values()), default=0)
    _enter(call, name, {"rule": name, "type": kind, "order": order, **_given(call)})


@route("PUT", "/cluster/ha/rules/{rule}", CONSOLE, since=versions.RULES)
def set_rule(call: Call, rule: str) -> None:
    """What was given is set, what ``delete`` names is gone, if the rule can be kept beside the others."""
    call.only(*_COMMON, "delete", "digest")
    _migrated(call, "update")
    known = call.world.pmxcfs.store.rules.get(rule)
    if known is None:
        raise ApiError(500, f"HA rule '{rule}' does not exist")
    kind = call.one_of("type", NODE, RESOURCE)
    if kind != known["type"]:
        raise ApiError(500, "types does not match")
    left = {key: value for key, value in known.items() if key not in listed(call.params.get("delete", ""))}
    _enter(call, rule, left | _given(call))


@route("DELETE", "/cluster/ha/rules/{rule}", CONSOLE, since=versions.RULES)
def remove_rule(call: Call, rule: str) -> None:
    """There is no such rule any more."""
    call.only()
    _migrated(call, "delete")
    call.world.pmxcfs.store.rules.pop(rule, None)


def _rule(call: Call, name: str, wrong: Problems) -> dict[str, Any]:
    rules = call.facts.view.rules
    whole = digest("rules.cfg", sorted((key, sorted(rule.items())) for key, rule in rules.items()))
    shown = {"digest": whole, **rules[name]}
    return shown if name not in wrong else {**shown, "errors": _texts(wrong[name])}


def _texts(wrong: Mapping[str, list[str]]) -> dict[str, str]:
    return {key: ", ".join(texts) for key, texts in wrong.items()}


def _given(call: Call) -> Facts:
    given: Facts = {key: call.params[key] for key in ("comment",) if key in call.params}
    if "resources" in call.params:
        sids = sorted(set(listed(call.params["resources"])))
        if not sids:
            raise ApiError(500, "no resources were specified")
        if foreign := [sid for sid in sids if sid not in call.world.pmxcfs.store.resources]:
            raise ApiError(500, f"cannot use unmanaged resource(s) {', '.join(foreign)}.")
        given["resources"] = ",".join(sids)
    if "nodes" in call.params:
        given["nodes"] = _nodes(call)
    if "affinity" in call.params:
        given["affinity"] = call.one_of("affinity", "positive", "negative")
    for key in ("strict", "disable"):
        if (number := call.number(key)) is not None:
            given[key] = number
    return given


def _nodes(call: Call) -> str:
    """The nodes that were given, by name, as they are stored."""
    nodes = priorities(call.params["nodes"])
    if not nodes:
        raise ApiError(500, "no nodes were specified")
    if foreign := sorted(nodes.keys() - call.world.nodes.keys()):
        raise ApiError(500, f"cannot use non-existent node(s) {', '.join(foreign)}.")
    return ",".join(f"{node}:{nodes[node]}" if nodes[node] else node for node in sorted(nodes))


def _enter(call: Call, name: str, rule: Facts) -> None:
    rules = call.world.pmxcfs.store.rules
    wrong = _problems(call, rules | {name: rule}).get(name)
    if wrong:
        raise ApiError(400, f"Rule '{name}' is invalid.", _texts(wrong))
    rules[name] = rule


def _problems(call: Call, rules: Mapping[str, Facts]) -> Problems:
    view = call.facts.view
    resources = {resource["sid"]: resource for resource in view.resources}
    return problems({**rules, **groups_as_rules(view.groups, resources)}, call.world.nodes)


def _migrated(call: Call, what: str) -> None:
    call.writing()
    if call.world.pmxcfs.store.groups:
        raise ApiError(500, f"cannot {what} ha rule: ha groups have not been migrated yet")


# --- groups -----------------------------------------------------------------------------------------------------------


@route("GET", "/cluster/ha/groups", AUDIT)
def ha_groups(call: Call) -> list[dict[str, Any]]:
    """Every group. A PVE 9 whose groups have been migrated, or that never had any, refuses."""
    _still_groups(call, "index groups")
    return [_group(call, name) for name in sorted(call.facts.view.groups)]


@route("GET", "/cluster/ha/groups/{group}", AUDIT)
def ha_group(call: Call, group: str) -> dict[str, Any]:
    """One group."""
    _still_groups(call, "read group")
    if group not in call.facts.view.groups:
        raise ApiError(500, f"no such ha group '{group}'")
    return _group(call, group)


@route("POST", "/cluster/ha/groups", CONSOLE)
def add_group(call: Call) -> None:
    """There is such a group."""
    call.only("group", "type", "nodes", "restricted", "nofailback", "comment")
    _still_groups(call, "create group")
    call.writing()
    name, groups = call.needed("group"), call.world.pmxcfs.store.groups
    if name in groups:
        raise ApiError(500, f"ha group ID '{name}' already defined")
    call.needed("nodes")
    groups[name] = {"group": name, "type": "group", **_group_given(call)}


@route("DELETE", "/cluster/ha/groups/{group}", CONSOLE)
def remove_group(call: Call, group: str) -> None:
    """There is no such group any more; nobody was in it."""
    call.only()
    _still_groups(call, "delete group")
    call.writing()
    for sid, resource in sorted(call.world.pmxcfs.store.resources.items()):
        if resource.get("group") == group:
            raise ApiError(500, f"ha group is used by service '{sid}'")
    call.world.pmxcfs.store.groups.pop(group, None)


def _group_given(call: Call) -> Facts:
    given: Facts = {"nodes": _nodes(call)}
    given |= {key: call.params[key] for key in ("comment",) if key in call.params}
    return given | {key: 1 for key in ("restricted", "nofailback") if call.number(key)}


def _group(call: Call, name: str) -> dict[str, Any]:
    groups = call.facts.view.groups
    whole = digest("groups.cfg", sorted((key, sorted(group.items())) for key, group in groups.items()))
    return {"digest": whole, **groups[name]}


def _still_groups(call: Call, what: str) -> None:
    if versions.has(call.world.spec.version, versions.RULES) and not call.facts.view.groups:
        raise ApiError(500, f"cannot {what}: {_MIGRATED}")
